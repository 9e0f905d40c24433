#!/usr/bin/env bash
# Where entries of the log lie in its ring, and which of them are the active
# sequence.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Places in the ring: entries that cross its end at every sector; a
# sequence that began before the end; the ring anywhere, and longer.
make <<'END'
ring = MIB
for back in 1, 2, 3, 4:
    i = disk ()
    log = Log (i, seq=9, head=ring - back * PAGE)
    pages = log.steal (i.bat_at)
    log.entry (pages + [("data", i.bat_at + n * PAGE, b"\3" * PAGE)
                        for n in (1, 2, 3)])
    dirty (i, "cross%d" % back, log)

# Several entries over the end.  A run that begins at 0 is not the whole.
for back in 2, 3, 5, 7:
    i = disk ()
    log = Log (i, seq=20, head=ring - back * PAGE)
    pages = log.steal (i.bat_at) + log.steal (i.metadata_at) + \
        log.steal (i.metadata_at + 65536)
    log.entry (pages[:1] + [("data", i.metadata_at, b"\7" * PAGE)])
    log.entry (pages[1:2])
    log.entry (pages[2:])
    log.entry ([])
    dirty (i, "wrap%d" % back, log)

# The ring is full to the last sector, and begins in the middle.
i = disk ()
log = Log (i, seq=100, head=100 * PAGE)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
log.entry (pages[:1])
for n in range (252):
    log.entry ([], tail=100 * PAGE)
log.entry (pages[1:])
assert log.head == log.tail
dirty (i, "full", log)

# An entry as long as the ring.
i = disk ()
log = Log (i)
pages = log.steal (i.bat_at)
log.entry (pages + [("data", i.bat_at + PAGE * n, bytes (PAGE))
                    for n in range (1, 254)][:252])
dirty (i, "long", log)

i = disk (log=3 * MIB, place=dict (log=40 * MIB, metadata=30 * MIB,
                                   bat=50 * MIB, data=MIB))
log = Log (i, seq=5, head=3 * MIB - PAGE)
log.entry (log.steal (i.bat_at))
dirty (i, "far", log)

# Around it: entries of earlier laps with this GUID and of other GUIDs,
# right behind the last, between, before; some would follow in number.
i = disk ()
old = Log (i, seq=1000)
for n in range (40):
    old.entry (poison (i), tail=0)
log = Log (i, seq=50, head=8 * PAGE)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
first = log.entry (pages[:1])
second = log.entry (pages[1:])
# The number that would come next, but another GUID.
log.entry (poison (i), name=old.guid)
dirty (i, "other-guids", log)

for gap in 1, 5, 30:
    i = disk ()
    log = Log (i, seq=3, head=20 * PAGE)
    pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
    for n in range (12):
        log.entry (poison (i))
    log.seq = 40 + gap
    log.tail = log.head = 8 * PAGE
    for page in pages:
        log.entry ([page])
    assert log.head < 20 * PAGE
    # From the next entry of the lap before, directly behind.
    log.entry (poison (i), seq=log.seq - 1 - gap)
    dirty (i, "lap%d" % gap, log)

# Two sequences of this GUID: that which ends higher counts, wherever.
for order in 0, 1:
    i = disk ()
    log = Log (i, seq=10, head=(0, 100 * PAGE)[order])
    new = log.steal (i.bat_at)
    for n in range (6):
        log.entry (poison (i))
    log.seq, log.tail = 17, (100 * PAGE, 0)[order]
    log.head = log.tail
    log.entry (new)
    dirty (i, "two%d" % order, log)

# The tail: what is before it is over, and must not be replayed.
i = disk ()
log = Log (i, seq=7)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
for n in range (5):
    log.entry (poison (i))
log.tail = log.head
log.entry (pages[:1])
log.entry (pages[1:])
dirty (i, "tail", log)
i = disk ()
log = Log (i, seq=7, head=ring - 8 * PAGE)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
for n in range (5):
    log.entry (poison (i))
log.tail = log.head
log.entry (pages[:1])
log.entry (pages[1:])
dirty (i, "tail-wrap", log)
# The tail moves on with the entries; that of the last one counts.
i = disk ()
log = Log (i, seq=7)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
log.entry (poison (i))
log.entry ([("data", i.bat_at, bytes (PAGE))])
third = log.head
log.entry (pages[:1])
log.entry (pages[1:], tail=third)
dirty (i, "tail-moves", log)
END
before="$(digest *.vhdx)"
for image in *.vhdx; do
  quietly same $image
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
