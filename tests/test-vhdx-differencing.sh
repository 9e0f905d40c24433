#!/usr/bin/env bash
# Differencing disks: chains of any depth, with blocks in every state, of
# other block sizes and other lengths, with dirty logs anywhere.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

cat > chain.py <<'END'
def layer (name, size, seed, block=MIB, sector=512, parent=None,
           logged=False):
    rnd = random.Random (seed)
    i = Image (size, block=block, sector=sector, parent=parent)
    states = [NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, PRESENT, PRESENT]
    if parent:
        states += [NOT_PRESENT] * 3 + [PARTIAL] * 5
    for n in range (i.nr):
        state = rnd.choice (states)
        own = None
        if state == PARTIAL:
            own = some_runs (rnd, block // sector)
        else:
            i.stale[n] = some_runs (rnd, block // sector)
        i.set (n, state, seed=seed * 1000 + n, own=own,
               anchor=state in (UNDEFINED, UNMAPPED) and rnd.random () < .5)
    i.build ()
    if logged:
        log = Log (i, seq=seed)
        pages = log.steal (i.bat_at) + log.steal (i.bat_at + 4096 * 8)
        for at in i.bitmaps.values ():
            pages += log.steal (at, 16 * PAGE)
        log.entry (pages)
        log.announce ()
    i.save (name)
END

# Chains of one to six files; every second chain has dirty logs.
{ cat chain.py; cat <<'END'; } | make
for depth in range (1, 6):
    parent = None
    for n in range (depth + 1):
        name = "depth%d-%d.vhdx" % (depth, n)
        layer (name, 7 * MIB, depth * 10 + n, parent=parent,
               logged=depth % 2 == 1 and n % 2 == 1)
        parent = name
END
before="$(digest *.vhdx)"
for depth in 1 2 3 4 5; do
  quietly same depth$depth-$depth.vhdx
done
for n in 0 1 2 3 4; do
  quietly same depth5-$n.vhdx check=open
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
rm *.vhdx *.raw

# Other block sizes below, and above; children larger and smaller than what
# is below them; not on a boundary of anything.
{ cat chain.py; cat <<'END'; } | make
sizes = [(5 * MIB, MIB, 3 * MIB + 512, 2 * MIB),
         (3 * MIB + 1024, 2 * MIB, 6 * MIB + 512, MIB),
         (5 * MIB + 512, 4 * MIB, 5 * MIB + 512 * 3, MIB),
         (4 * MIB, MIB, 9 * MIB - 512, 8 * MIB)]
for n, (below, below_block, size, block) in enumerate (sizes):
    layer ("below%d.vhdx" % n, below, n + 7, below_block)
    layer ("over%d.vhdx" % n, size, n + 60, block,
           parent="below%d.vhdx" % n)
# Three of them, with a short one in the middle: what is behind its end
# reads as zeroes, not as what is below it.
layer ("long.vhdx", 6 * MIB, 1)
layer ("short.vhdx", 2 * MIB + 512 * 5, 2, parent="long.vhdx")
layer ("top.vhdx", 6 * MIB, 3, 2 * MIB, parent="short.vhdx")
# Blocks of 32 MiB.
layer ("large-below.vhdx", 70 * MIB, 4, 32 * MIB)
layer ("large-over.vhdx", 100 * MIB, 5, 16 * MIB, parent="large-below.vhdx",
       logged=True)
END
for n in 0 1 2 3; do
  quietly same over$n.vhdx
done
for image in short top large-over; do
  quietly same $image.vhdx
done
rm *.vhdx *.raw

# Sectors of 4096 bytes: a bit each.
{ cat chain.py; cat <<'END'; } | make
parent = None
for n in range (3):
    layer ("sector%d.vhdx" % n, (5 + n) * MIB + 4096, n + 5, MIB << n % 2,
           sector=4096, parent=parent, logged=n > 0)
    parent = "sector%d.vhdx" % n
END
quietly same sector1.vhdx
quietly same sector2.vhdx

# The layers of a chain, each by itself.
{ cat chain.py; cat <<'END'; } | make
parent = None
for n in range (4):
    layer ("c%d.vhdx" % n, 4 * MIB + n * 512, n + 30, parent=parent)
    parent = "c%d.vhdx" % n
END
for n in 0 1 2 3; do
  nbdkit -r -U - vhdx c3.vhdx --run "
    exec '$PYTHON' '$srcdir/vhdx-compare.py' \
         \"nbd+unix:///layer:$n?socket=\$unixsocket\" c$((3 - n)).raw" ||
    fail "layer:$n"
done
