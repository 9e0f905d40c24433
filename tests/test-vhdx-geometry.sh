#!/usr/bin/env bash
# Every size of blocks, both sizes of sectors, every size of disks, all
# placed anywhere.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Every size of blocks, with a last block that is not whole, in any order;
# QEMU reads the same.
make <<'END'
for bits in range (20, 29):
    i = Image (3 * (1 << bits) + 512 * 3, block=1 << bits)
    i.set (3)
    i.set (0)
    i.set (2)
    i.save ("block%d.vhdx" % bits)
END
for bits in {20..28}; do
  qemu_same block$bits.vhdx
  same block$bits.vhdx
done
rm block*

# Sectors of 4096 bytes, which QEMU can not read; physical sectors.
make <<'END'
for bits in 20, 21, 25, 28:
    i = Image (2 * (1 << bits) + 4096 * 5, block=1 << bits, sector=4096)
    i.fill (3, order=bits)
    i.save ("sector%d.vhdx" % bits)
i = Image (5 * MIB, physical=512)
i.fill ()
i.save ("physical512.vhdx")
i = Image (5 * MIB, physical=512, sector=4096)
i.fill ()
i.save ("physical512-4096.vhdx")
END
for image in sector*.vhdx physical512.vhdx physical512-4096.vhdx; do
  same $image
done
qemu_same physical512.vhdx
rm sector* physical*

# Sizes on both sides of where a chunk ends: the entry of its bitmap comes
# between.  (A chunk is of 16 blocks here, and of 128 with 4096 bytes.)
make <<'END'
B = 256 * MIB
for nr in 1, 15, 16, 17, 32, 33:
    for less in 0, 512:
        i = Image (nr * B - less, block=B)
        i.set (nr - 1)
        if nr > 16:
            i.set (15)
            i.set (16)
        i.save ("chunk%d-%d.vhdx" % (nr, less))
i = Image (300 * B, block=B, sector=4096)
for n in 0, 127, 128, 129, 255, 256, 299:
    i.set (n)
i.save ("chunk4096.vhdx")
i = Image (512, block=B)
i.set (0, pieces=[(0, fill (9, 0, 512))])
i.save ("tiny.vhdx")
i = Image (4096, sector=4096)
i.set (0, pieces=[(0, fill (9, 0, 4096))])
i.save ("tiny4096.vhdx")
END
for image in chunk*-*.vhdx; do
  qemu_same $image
  same $image
done
same chunk4096.vhdx
qemu_same tiny.vhdx
same tiny.vhdx
same tiny4096.vhdx
rm chunk* tiny*

# A fixed disk; with all blocks; as QEMU and others leave them: cut off
# where the disk ends; with less than that the rest is zeroes.
make <<'END'
i = Image (4 * MIB + 100 * 512, fixed=True, block=2 * MIB)
i.fill ()
i.save ("fixed.vhdx")
i = Image (4 * MIB + 100 * 512, fixed=True, block=2 * MIB)
i.fill ()
i.set (2, pieces=[(0, fill (7, 4 * MIB, 100 * 512))])
i.length = i.next - 2 * MIB + 100 * 512
i.save ("short.vhdx")
# Dynamic disks may be just as short, and have states in any mixture.
i = Image (4 * MIB + 100 * 512, block=2 * MIB)
i.fill ()
i.set (2, pieces=[(0, fill (7, 4 * MIB, 100 * 512))])
i.length = i.next - 2 * MIB + 100 * 512
i.save ("dynamic-short.vhdx")
i = Image (6 * MIB, fixed=True)
i.set (1)
i.set (3, ZERO)
i.set (5, UNMAPPED)
i.save ("fixed-states.vhdx")
END
for image in fixed short dynamic-short fixed-states; do
  qemu_same $image.vhdx
  same $image.vhdx
done

# Log, metadata and BAT in any order and far away, blocks between them.
make <<'END'
orders = [dict (log=1, metadata=2, bat=3, data=4),
          dict (log=3, metadata=2, bat=1, data=4),
          dict (log=12, metadata=10, bat=11, data=1),
          dict (log=2, metadata=500, bat=1 << 15, data=4)]
for n, order in enumerate (orders):
    i = Image (5 * MIB, place={k: v * MIB for k, v in order.items ()})
    i.fill (n + 2, order=n)
    i.save ("place%d.vhdx" % n)
i = Image (5 * MIB, place=dict (log=7 * MIB, metadata=3 * MIB,
                                bat=9 * MIB, data=4 * MIB), log=2 * MIB)
for n, at in (4, 10), (3, 5), (2, 1), (1, 2), (0, 900):
    i.set (n, at=at * MIB)
i.length = 901 * MIB
i.save ("mixed.vhdx")
END
for image in place0 place1 place2 place3 mixed; do
  qemu_same $image.vhdx
  same $image.vhdx
done

# What a client may ask: sizes of blocks as for the disk's sectors.
for sector in 512 4096; do
  make <<END
i = Image (8 * MIB, sector=$sector)
i.fill ()
i.save ("ask.vhdx")
END
  serve ask.vhdx -- 'nbdinfo --size "$uri"' > size.txt
  test "$(cat size.txt)" -eq $((8 << 20)) || fail "size of ask.vhdx"
  same ask.vhdx
done
