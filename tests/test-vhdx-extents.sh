#!/usr/bin/env bash
# Extents to the byte: of blocks, of the sectors in a bitmap, of holes in
# the file; and nothing cut in two.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

K=1024

# extents IMAGE [PARAMETER...] < LIST: check_extents, nbdinfo's map, and the
# content.
extents () {
  local length kind at=0
  cat > list
  check_extents "$@" < list
  while read -r length kind; do
    echo "$at $((length)) $((kind))"
    at=$((at + length))
  done < list > want.map
  serve "$@" -- 'nbdinfo --map "$uri"' > got.txt
  awk '{ print $1, $2, $3 }' got.txt | diff want.map - ||
    fail "$1: nbdinfo --map"
  same "$@"
}

# Blocks: those that lie together and those that do not are one run; states
# that read as zeroes are one hole, whatever they are called.
make <<'END'
i = Image (20 * MIB)
for n in 3, 2, 4, 9, 8, 19:
    i.set (n)
for n, state in (5, ZERO), (6, UNMAPPED), (7, UNDEFINED), (12, ZERO):
    i.set (n, state)
i.save ("blocks.vhdx")
i = Image (9 * MIB + 512, block=2 * MIB)
for n in 0, 4:
    i.set (n)
i.save ("last.vhdx")
i = Image (5 * MIB, fixed=True)
i.fill ()
i.save ("fixed.vhdx")
Image (64 * TIB, block=256 * MIB).save ("nothing.vhdx", raw=False)
END
extents blocks.vhdx <<'END'
2048*K HOLE
3072*K DATA
3072*K HOLE
2048*K DATA
9*1024*K HOLE
1024*K DATA
END
extents last.vhdx <<'END'
2048*K DATA
6144*K HOLE
1024*K+512 DATA
END
extents fixed.vhdx <<'END'
5*1024*K DATA
END
serve nothing.vhdx -- 'nbdinfo --map --totals "$uri"' > totals.txt
test "$(awk '{ print $1, $3 }' totals.txt)" = "$((1 << 46)) 3" || {
  cat totals.txt >&2
  fail "nothing.vhdx: not one hole of 64 TiB"
}

# Sectors: each bit of the bitmap tells; blocks in other states do not ask
# it.  The parent has nothing, then something.
make <<'END'
for sector in 512, 4096:
    base = Image (6 * MIB, sector=sector)
    base.save ("empty%d.vhdx" % sector)
    base = Image (6 * MIB, sector=sector)
    base.set (1)
    base.set (4)
    base.set (5)
    base.save ("some%d.vhdx" % sector)
    n = MIB // sector
    for parent in "empty", "some":
        i = Image (6 * MIB, sector=sector, parent="%s%d.vhdx" % (parent,
                                                                 sector))
        i.set (0, PARTIAL, own=[(0, 1), (2, 1), (8, 16), (n - 1, 1)])
        i.set (1, PARTIAL, own=[(0, 3)])
        i.stale[2] = [(4, 4)]
        i.set (3, PARTIAL, own=[(n // 2, n // 2)])
        i.set (4, ZERO)
        i.stale[4] = [(0, n)]
        i.set (5, PARTIAL, own=[])
        i.save ("on-%s%d.vhdx" % (parent, sector))
END
for s in 512 4096; do
  # A page is the smallest piece a host file can have or lack; so what is
  # not there in the bitmap may come from a page that is.
  extents on-empty$s.vhdx <<END
$s DATA
$s HOLE
$s DATA
5*$s HOLE
16*$s DATA
1024*K-25*$s HOLE
4*$s DATA
1024*K-3*$s+1024*K+512*K HOLE
512*K DATA
2048*K HOLE
END
  extents on-some$s.vhdx <<END
$s DATA
$s HOLE
$s DATA
5*$s HOLE
16*$s DATA
1024*K-25*$s HOLE
$s+1024*K DATA
1024*K+512*K HOLE
512*K DATA
1024*K HOLE
1024*K DATA
END
done

# A shorter parent ends where it ends.
make <<'END'
base = Image (MIB + 1536)
base.fill ()
base.save ("short.vhdx")
i = Image (4 * MIB, parent="short.vhdx")
i.set (1, PARTIAL, own=[(100, 10)])
i.set (3)
i.save ("longer.vhdx")
END
extents longer.vhdx <<END
1024*K+1536 DATA
51200-1536 HOLE
5120 DATA
1024*K-51200-5120+1024*K HOLE
1024*K DATA
END

# Holes in the file, within blocks that are present and partly present.
make <<'END'
i = Image (4 * MIB)
i.set (1, pieces=[(0, fill (1, MIB, 64 * KIB)),
                  (128 * KIB, fill (1, MIB + 128 * KIB, 4096)),
                  (MIB - 4096, fill (1, 2 * MIB - 4096, 4096))])
i.set (2, pieces=[])
i.set (3, pieces=[(8192, fill (1, 3 * MIB + 8192, 8192))])
i.save ("holes.vhdx")
base = Image (4 * MIB)
base.set (1)
base.set (2)
base.save ("full.vhdx")
i = Image (4 * MIB, parent="full.vhdx")
i.set (1, PARTIAL, own=[(0, 64), (1024, 512)],
       pieces=[(0, fill (7, MIB, 16384)), (MIB - 4096, b"x" * 4096)])
i.set (2, pieces=[])
i.save ("child-holes.vhdx")
END
printf x > probe
truncate -s 1M probe
if [ "$(stat -c %b probe)" -lt 1024 ]; then
  extents holes.vhdx <<END
1024*K HOLE
64*K DATA
64*K HOLE
4*K DATA
1024*K-136*K HOLE
4*K DATA
1024*K+8*K HOLE
8*K DATA
1024*K-16*K HOLE
END
  extents child-holes.vhdx <<END
1024*K HOLE
16*K DATA
16*K HOLE
512*K-32*K DATA
256*K HOLE
256*K DATA
2048*K HOLE
END
fi

# What a log brings, and what it makes of holes.
make <<'END'
i = Image (8 * MIB)
for n in 1, 2, 5:
    i.set (n)
i.build ()
log = Log (i)
log.entry (log.steal (i.bat_at))
dirty (i, "logged", log)
END
extents logged.vhdx <<'END'
1024*K HOLE
2048*K DATA
2048*K HOLE
1024*K DATA
2048*K HOLE
END

# nbdcopy makes a sparse file of it, with the same bytes.
serve blocks.vhdx -- 'nbdcopy "$uri" copy.raw'
cmp blocks.raw copy.raw
test $(stat -c %b copy.raw) -lt $((8 * 2048)) || fail "the copy is not sparse"
