#!/usr/bin/env bash
# libvhdi, a reader that has nothing in common with us or with QEMU, reads
# the same: from whole disks of every form, and from differencing disks,
# which QEMU cannot read at all.
#
# Left out is what libvhdi 20210425 is known not to do:
# - replay a log: it reads the file as it is;
# - use one header when the other has a wrong signature or version;
# - tell items of the user from those of the system, or read a table with
#   an empty item at offset 0;
# - know parent_linkage2;
# - read zeroes behind the end of a parent: it fails;
# - stop at a block of a child that is UNDEFINED, ZERO or UNMAPPED: it shows
#   the parent.  So these are here only where the parent has zeroes;
# - believe that a block of a child is NOT_PRESENT: it asks the sector
#   bitmap, and takes the beginning of the file for one where there is none.
#   So bits of such blocks are clear here, and where a bitmap may be missing
#   the first block of the chunk, for which the identifier would be the
#   bits, is present.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"
"$PYTHON" -c 'import pyvhdi' 2> no-pyvhdi.log ||
  skip "$PYTHON has no module pyvhdi (package python3-libvhdi)"

# libvhdi_reads SERVED IMAGE [PARENT...]: the export of the first is what
# libvhdi reads from IMAGE, over the images below, nearest first.
libvhdi_reads () {
  serve "$1" -- "
    exec '$PYTHON' '$srcdir/vhdx-libvhdi.py' \"\$uri\" ${*:2}"
}

# like_libvhdi IMAGE [PARENT...]
like_libvhdi () {
  libvhdi_reads "$1" "$@" || fail "$*: libvhdi reads something else"
}

# all_like_libvhdi: all images that are there, which then go.
all_like_libvhdi () {
  local image

  for image in *.vhdx; do
    like_libvhdi $image
  done
  rm *.vhdx
}

# Every size of blocks, with a last block that is not whole, and both sizes
# of sectors; with none, some or all of the blocks, in any order.
make <<'END'
for bits in range (20, 29):
    i = Image (3 * (1 << bits) + 512 * 3, block=1 << bits)
    i.set (3)
    i.set (0)
    i.set (2)
    i.save ("block%d.vhdx" % bits, raw=False)
    i = Image (2 * (1 << bits) + 4096 * 5, block=1 << bits, sector=4096)
    i.fill (3, order=bits)
    i.save ("sector%d.vhdx" % bits, raw=False)
for sector in 512, 4096:
    i = Image (5 * MIB, physical=512, sector=sector)
    i.fill ()
    i.save ("physical512-%d.vhdx" % sector, raw=False)
    i = Image (sector, sector=sector)
    i.set (0, pieces=[(0, fill (9, 0, sector))])
    i.save ("tiny%d.vhdx" % sector, raw=False)
    Image (9 * MIB, sector=sector).save ("none%d.vhdx" % sector, raw=False)
END
all_like_libvhdi

# Chunks, and what is on both sides of where they meet.
make <<'END'
B = 256 * MIB
for nr in 15, 16, 17, 33:
    for less in 0, 512:
        i = Image (nr * B - less, block=B)
        for n in {14, 15, 16, nr - 1}:
            if n < nr:
                i.set (n)
        i.save ("chunk%d-%d.vhdx" % (nr, less), raw=False)
i = Image (140 * B, block=B, sector=4096)
for n in 0, 127, 128, 129, 139:
    i.set (n)
i.save ("chunk4096.vhdx", raw=False)
END
all_like_libvhdi

# Every state; fixed disks and those that are cut off where the disk ends.
make <<'END'
for block in 1, 2:
    for sector in 512, 4096:
        i = Image (14 * block * MIB, block=block * MIB, sector=sector)
        for n in range (14):
            i.set (n, (PRESENT, UNDEFINED, ZERO, UNMAPPED, NOT_PRESENT)[n % 5],
                   anchor=n in (1, 8, 11))
        i.save ("states-%d-%d.vhdx" % (block, sector), raw=False)
for is_fixed in True, False:
    for is_short in True, False:
        i = Image (4 * MIB + 100 * 512, fixed=is_fixed, block=2 * MIB)
        i.fill ()
        if is_short:
            i.set (2, pieces=[(0, fill (7, 4 * MIB, 100 * 512))])
            i.length = i.next - 2 * MIB + 100 * 512
        i.save ("fixed%d-short%d.vhdx" % (is_fixed, is_short), raw=False)
END
all_like_libvhdi

# Anything anywhere in the file, and beside it what need not be known.
make <<'END'
orders = [dict (log=3, metadata=2, bat=1, data=4),
          dict (log=12, metadata=10, bat=11, data=1),
          dict (log=2, metadata=500, bat=1 << 15, data=4)]
for n, order in enumerate (orders):
    i = Image (5 * MIB, place={k: v * MIB for k, v in order.items ()})
    i.fill (n + 2, order=n)
    i.save ("place%d.vhdx" % n, raw=False)
i = Image (5 * MIB, place=dict (log=7 * MIB, metadata=3 * MIB,
                                bat=9 * MIB, data=4 * MIB), log=2 * MIB)
for n, at in (4, 10), (3, 5), (2, 1), (1, 2), (0, 900):
    i.set (n, at=at * MIB)
i.length = 901 * MIB
i.save ("mixed.vhdx", raw=False)

for flags in 0, 1, 0xffffffff:
    i = Image (4 * MIB)
    i.fill (4)
    for t in i.tables:
        for r in t.regions:
            r.flags = flags
        t.regions.reverse ()
    i.save ("flags%d.vhdx" % flags, raw=False)
i = Image (4 * MIB)
i.fill (3)
i.tables[1].find (BAT_REGION).at = i.allocate (MIB)
i.save ("differ.vhdx", raw=False)
i = Image (4 * MIB)
i.fill (5)
at = i.allocate (2045 * MIB)
for n in range (2045):
    i.add_region (at + n * MIB, MIB)
for t in i.tables:
    random.Random (1).shuffle (t.regions)
i.save ("many.vhdx", raw=False)
i = Image (4 * MIB, place=dict (metadata=2 * MIB, bat=200 * MIB,
                                data=400 * MIB))
i.fill (6)
i.region (BAT_REGION, lambda r: setattr (r, "length", 100 * MIB))
i.region (METADATA_REGION, lambda r: setattr (r, "length", 128 * MIB))
i.save ("long.vhdx", raw=False)

for seed in range (3):
    i = Image (4 * MIB)
    i.fill (7 + seed)
    rnd = random.Random (seed)
    i.items += [Item (guid (), b"user" * n, USER) for n in range (1, 5)]
    i.items += [Item (guid (), b"else" * n, rnd.choice ((0, VIRTUAL)))
                for n in range (1, 5)]
    rnd.shuffle (i.items)
    at = MIB
    for item in i.items:
        at -= len (item.data) + rnd.choice ((0, 1, 3, 4000))
        item.at = at
    rnd.shuffle (i.items)
    i.save ("items%d.vhdx" % seed, raw=False)
i = Image (4 * MIB)
i.fill (9)
i.headers[1].reserved = b"\xff" * 4016
i.seal ()
for at, length in ((HEADERS[0] + PAGE, 60 * KIB),
                   (HEADERS[1] + PAGE, 60 * KIB), (320 * KIB, 704 * KIB)):
    i.file.put (at, b"\xaa" * length)
i.save ("reserved.vhdx", raw=False)
i = Image (4 * MIB)
i.fill (11)
i.build ()
i.length = i.next + 12345
i.save ("odd.vhdx", raw=False)
END
all_like_libvhdi

# Either header the newer one, by a number without a sign.  What they differ
# in is what a child must know of its parent: libvhdi holds one against the
# other as we do.
make <<'END'
top = (1 << 64) - 1
for n, (a, b) in enumerate ([
        (1, 2), (2, 1), (top, 1), (1, top), (1 << 63, (1 << 63) - 1),
        (1 << 32, 0xffffffff), (0, 1 << 63)]):
    base = Image (3 * MIB)
    base.fill (n + 1)
    base.headers[0].seq, base.headers[1].seq = a, b
    base.headers[1 if a > b else 0].data_write = guid ()
    base.save ("seq%d.vhdx" % n, raw=False)
    i = Image (3 * MIB, parent="seq%d.vhdx" % n)
    i.set (0)
    i.set (1, PARTIAL, own=[(0, 9)])
    i.save ("on-seq%d.vhdx" % n, raw=False)
i = Image (4 * MIB)
i.fill (8)
i.headers[1].seq = i.headers[0].seq
i.save ("equal.vhdx", raw=False)
END
for n in {0..6}; do
  like_libvhdi seq$n.vhdx
  like_libvhdi on-seq$n.vhdx seq$n.vhdx
done
like_libvhdi equal.vhdx
expect_fail parent.log libvhdi_reads on-seq0.vhdx on-seq0.vhdx seq1.vhdx
expect_text parent.log 'mismatch in identifier'
refused 'DataWriteGuid' on-seq0.vhdx backing=seq1.vhdx
rm *.vhdx

# Differencing disks: chains of two to four, of both sizes of sectors and
# any sizes of blocks, with blocks that are present, partly present and not.
cat > layer.py <<'END'
def layer (name, size, seed, block=MIB, parent=None, **kwargs):
    """Bits of blocks that are present mean nothing."""
    rnd = random.Random (seed)
    i = Image (size, block=block, parent=parent, **kwargs)
    for n in range (i.nr):
        state, own = rnd.choice ((NOT_PRESENT, PRESENT)), None
        if parent:
            state = rnd.choice ((NOT_PRESENT, PARTIAL, PARTIAL, PRESENT))
            if n == 0 and state == NOT_PRESENT:
                state = PRESENT
        if state == PARTIAL:
            own = some_runs (rnd, block // i.sector)
        elif state == PRESENT:
            i.stale[n] = some_runs (rnd, block // i.sector)
        i.set (n, state, seed=seed * 1000 + n, own=own)
    i.save (name, raw=False)
END
{ cat layer.py; cat <<'END'; } | make
for sector in 512, 4096:
    for chain, blocks in enumerate (((1, 1, 1, 1), (2, 1, 4, 1),
                                     (1, 8, 2, 2), (32, 2, 16, 1))):
        parent = None
        size = 9 * MIB * (blocks[0] // 8 + 1) + 3 * sector
        for n, block in enumerate (blocks):
            name = "%d-%d-%d.vhdx" % (sector, chain, n)
            layer (name, size, n + 10 * chain, block * MIB, parent=parent,
                   sector=sector)
            parent = name
END
for sector in 512 4096; do
  for chain in 0 1 2 3; do
    c=$sector-$chain
    like_libvhdi $c-1.vhdx $c-0.vhdx
    like_libvhdi $c-2.vhdx $c-1.vhdx $c-0.vhdx
    like_libvhdi $c-3.vhdx $c-2.vhdx $c-1.vhdx $c-0.vhdx
  done
done
rm *.vhdx

# A parent that is longer, or shorter where all that is behind its end is
# the child's; a child without bitmaps; bits alone and at edges; states that
# hide the parent, where it has zeroes; the bitmaps of several chunks; and
# other ways to name the parent.
{ cat layer.py; cat <<'END'; } | make
layer ("longer.vhdx", 6 * MIB, 1)
layer ("on-longer.vhdx", 3 * MIB + 512, 2, parent="longer.vhdx")
base = Image (3 * MIB)
base.fill (2)
base.save ("shorter.vhdx", raw=False)
i = Image (6 * MIB + 512, parent="shorter.vhdx")
i.set (1, PARTIAL, own=[(5, 9)])
for n in range (3, i.nr):
    i.set (n)
i.save ("on-shorter.vhdx", raw=False)

base = Image (9 * MIB)
base.fill (3)
base.save ("full.vhdx", raw=False)
i = Image (9 * MIB, parent="full.vhdx")
for n in 0, 3, 4, 8:
    i.set (n)
i.save ("on-full.vhdx", raw=False)

for sector in 512, 4096:
    base = Image (16 * MIB, sector=sector)
    base.fill (77)
    for n in 1, 2, 3:
        base.set (n, ZERO)
    base.save ("zero%d.vhdx" % sector, raw=False)
    i = Image (16 * MIB, sector=sector, parent="zero%d.vhdx" % sector)
    n = MIB // sector
    for b, own in enumerate ([
            [(0, n)], [(0, 1)], [(n - 1, 1)],
            [(1, 7), (9, 8), (31, 2), (n // 2, n // 4)],
            [(s, 1) for s in range (0, n, 2)], []]):
        i.set (b + 4, PARTIAL, own=own)
    for b, state in (1, UNDEFINED), (2, ZERO), (3, UNMAPPED):
        i.set (b, state, anchor=b != 2)
    i.save ("on-zero%d.vhdx" % sector, raw=False)

B = 256 * MIB
base = Image (40 * B, block=B)
for n in 0, 14, 15, 16, 17, 31, 32, 39:
    base.set (n, seed=n + 50)
base.save ("chunks.vhdx", raw=False)
i = Image (40 * B, block=B, parent="chunks.vhdx")
n = B // 512
for b in 0, 15, 16, 31, 32, 39:
    i.set (b, PARTIAL, own=[(0, 3), (n - 100, 99)],
           pieces=[(0, fill (b, b * B, 4096)),
                   (B - 65536, fill (b, b * B + B - 65536, 65536))])
i.set (14)
i.save ("on-chunks.vhdx", raw=False)

base = Image (3 * MIB)
base.fill (4)
base.save ("named.vhdx", raw=False)
keys = [("absolute_win32_path", "\\\\?\\c:\\disks\\named.vhdx"),
        ("volume_path", "\\\\?\\Volume{01234567-89ab-cdef-0123-456789abcdef}"
         "\\named.vhdx"), ("relative_path", ".\\named.vhdx")]
for n in range (3):
    layer ("on-named%d.vhdx" % n, 3 * MIB, n, parent="named.vhdx",
           keys=keys[n:])
END
for image in on-*.vhdx; do
  parent=${image#on-}
  case $parent in named*) parent=named.vhdx ;; esac
  like_libvhdi $image $parent
done
rm *.vhdx

# What QEMU makes: blocks of every size, both subformats.  (A fixed disk
# takes its whole size on the host at once.)
for block in 1 2 4 8 16 32 64 128 256; do
  subformats="dynamic fixed"
  [ $block -le 32 ] || subformats=dynamic
  for subformat in $subformats; do
    create qemu.vhdx $((block * 3 + 1))M \
           -o block_size=${block}M,subformat=$subformat
    io qemu.vhdx "write -P 1 512k 1M" "write -P 2 $((block - 1))M 2M" \
       "write -P 3 $((block * 3))M 1M" "write -z $((block * 2))M 64k"
    like_libvhdi qemu.vhdx
  done
done
for options in block_state_zero=off block_state_zero=off,subformat=fixed; do
  create qemu.vhdx 10486272 -o $options,block_size=4M,log_size=4M
  io qemu.vhdx 'write -P 5 1M 3M' 'write -P 6 10485760 512'
  like_libvhdi qemu.vhdx
done
rm qemu.vhdx

# What differs is found: one byte, at the very end; another length.
make <<'END'
i = Image (3 * MIB)
i.fill (1)
i.save ("sound.vhdx", raw=False)
i.file.flip (i.blocks[2].at + MIB - 1)
i.save ("wrong.vhdx", raw=False)
i = Image (3 * MIB + 512)
i.fill (1)
i.save ("long.vhdx", raw=False)
END
like_libvhdi sound.vhdx
expect_fail wrong.log libvhdi_reads sound.vhdx wrong.vhdx
expect_text wrong.log "byte $((3 * 1048576 - 1)) of the export"
expect_fail long.log libvhdi_reads sound.vhdx long.vhdx
expect_text long.log 'has 3145728 bytes, but libvhdi finds 3146240'
