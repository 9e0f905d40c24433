#!/usr/bin/env bash
# Every state of a block reads as it must, with what lies in the file where
# nobody may look, and reads alone or together with others.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# All states in turn, those that may keep their place with and without; the
# file is full of what must not be seen.
make <<'END'
for block in 1, 2:
    for sector in 512, 4096:
        i = Image (14 * block * MIB, block=block * MIB, sector=sector)
        for n in range (14):
            i.set (n, (PRESENT, UNDEFINED, ZERO, UNMAPPED, NOT_PRESENT)[n % 5],
                   anchor=n in (1, 8, 11))
        i.save ("all-%d-%d.vhdx" % (block, sector))
i = Image (40 * MIB, fixed=True)
for n in range (40):
    i.set (n, (PRESENT, PRESENT, UNMAPPED, ZERO, UNDEFINED)[n % 5],
           anchor=n % 10 == 2)
i.save ("fixed.vhdx")
END
for image in all-1-512 all-2-512 fixed; do
  qemu_same $image.vhdx
done
for image in all-1-512 all-2-512 all-1-4096 all-2-4096 fixed; do
  quietly same $image.vhdx
  quietly same $image.vhdx check=open
done

# In a differencing disk only NOT_PRESENT shows the parent; blocks that are
# partly there by the bit; bits of other blocks mean nothing.
make <<'END'
for sector in 512, 4096:
    base = Image (16 * MIB, sector=sector)
    base.fill (77)
    base.save ("base%d.vhdx" % sector)
    i = Image (16 * MIB, sector=sector, parent="base%d.vhdx" % sector)
    n = MIB // sector
    own = {4: [(0, n)], 9: [(0, 1)], 10: [(n - 1, 1)],
           11: [(1, 7), (9, 8), (31, 2), (n // 2, n // 4)],
           12: [(s, 1) for s in range (0, n, 2)], 13: []}
    for b in range (16):
        if b in own:
            i.set (b, PARTIAL, own=own[b])
        elif b != 15:
            i.set (b, (NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, 4,
                       PRESENT, PRESENT, UNDEFINED, UNMAPPED)[b % 9],
                   anchor=b in (7, 8))
    for b in 0, 1, 2, 3, 5, 6, 7, 8:
        i.stale[b] = [(0, n // 2), (n - 1, 1)]
    i.save ("child%d.vhdx" % sector)
END
for sector in 512 4096; do
  quietly same child$sector.vhdx
  quietly same child$sector.vhdx check=open
done

# The bitmaps of several chunks, each with its own place; blocks on both
# sides of where they meet.
make <<'END'
B = 256 * MIB
base = Image (40 * B, block=B)
for n in 0, 14, 15, 16, 17, 31, 32, 39:
    base.set (n, seed=n + 50)
base.save ("base.vhdx")
i = Image (40 * B, block=B, parent="base.vhdx")
n = B // 512
for b in 0, 15, 16, 31, 32, 39:
    i.set (b, PARTIAL, own=[(0, 3), (n - 100, 99)],
           pieces=[(0, fill (b, b * B, 4096)),
                   (B - 65536, fill (b, b * B + B - 65536, 65536))])
i.set (14)
i.set (17, ZERO)
i.save ("chunks.vhdx")
END
same chunks.vhdx
same chunks.vhdx check=open
