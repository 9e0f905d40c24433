#!/usr/bin/env bash
# A log that is not empty is judged whole and replayed into memory: what is
# in it is seen, what is not in its active sequence is not, and the file
# stays as it is.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Every image here is made whole; then pages are taken out of it, into the
# log, and junk is left in their place.
cat > parts.py <<'END'
def disk (log=MIB, size=8 * MIB, seed=1, **kwargs):
    i = Image (size, log=log, **kwargs)
    i.fill (seed, order=seed)
    return i.build ()


def dirty (i, name, *logs):
    logs[-1].announce ()
    i.save (name + ".vhdx")


def poison (i, log):
    # What must never be replayed: it would destroy table and data.
    junk = b"\xbd" * PAGE
    return [("data", i.bat_at, junk), ("data", i.blocks[0].at, junk),
            ("zero", i.metadata_at, 65536)]
END

# Kinds of contents.
{ cat parts.py; cat <<'END'; } | make
# One page; every page of the metadata, through one entry and through many,
# with more descriptors than one sector holds.
i = disk ()
log = Log (i)
log.entry (log.steal (i.bat_at))
dirty (i, "one", log)

i = disk ()
log = Log (i)
i.put_headers ()
pages = log.steal (i.bat_at) + log.steal (i.metadata_at, 68 * KIB)
for table in TABLES:
    pages += log.steal (table, 65536)
i.put_headers = lambda: [i.file.put (at, h.pack ())
                         for at, h in zip (HEADERS, i.headers)]
log.entry (pages)
assert len (pages) < 126
dirty (i, "whole", log)

i = disk (log=2 * MIB)
log = Log (i)
pages = log.steal (i.bat_at, MIB)
assert len (pages) == 256
log.entry (pages[1:], last=64 * MIB)
log.entry (pages[:1])
dirty (i, "descriptors", log)

# Page by page, from the old to the new: the last one counts; empty entries
# between them.
i = disk ()
log = Log (i)
new = log.steal (i.bat_at)
log.entry ([])
for n in range (20):
    log.entry ([("data", i.bat_at, bytes ([n]) * PAGE)])
log.entry (new + [("data", i.bat_at + PAGE, b"\5" * PAGE)])
log.entry ([])
dirty (i, "newest", log)

# Within one entry too; zeroes over data, data over zeroes.
i = disk (size=2 * GIB, block=MIB, seed=4) if False else None
i = Image (2 * GIB)
for n in 0, 600, 700, 1100, 1600, 2000:
    i.set (n)
i.build ()
log = Log (i)
pages = log.steal (i.bat_at, 4 * PAGE)
i.file.put (i.bat_at, b"\xee" * MIB)
log.entry ([("zero", i.bat_at, MIB)])
log.entry (pages[2:] + [("zero", i.bat_at, 4 * PAGE)] + pages)
log.entry ([("zero", i.bat_at + 16 * PAGE, 4 * PAGE),
            ("data", i.bat_at + 18 * PAGE, b"\1" * PAGE)])
dirty (i, "zeroes", log)

i = Image (2 * GIB)
for n in 0, 700, 1100:
    i.set (n)
i.build ()
log = Log (i)
pages = log.steal (i.bat_at, PAGE)
i.file.put (i.bat_at + 3 * PAGE, b"\xff" * PAGE)
log.entry (pages + [("zero", i.bat_at + 3 * PAGE, PAGE)])
dirty (i, "zero", log)

# Pages of the data, which nobody should log: replayed all the same.
i = disk ()
log = Log (i)
at = i.blocks[3].at
pages = log.steal (at + 8 * PAGE, 3 * PAGE) + log.steal (at) + \
    log.steal (at + MIB - PAGE)
log.entry (pages + log.steal (i.bat_at))
dirty (i, "payload", log)

# Numbers with high halves; the highest one.
for seq in 0xfffffffe, 1 << 32, (1 << 63) - 1, (1 << 64) - 3:
    i = disk ()
    log = Log (i, seq=seq)
    pages = log.steal (i.bat_at)
    log.entry ([("data", i.bat_at, b"\1" * PAGE)])
    log.entry (pages)
    log.entry ([])
    dirty (i, "seq%x" % seq, log)

# The file ends before blocks that the log brings: it is as long as the log
# says, and reads as zeroes there.
i = Image (8 * MIB)
for n in range (6):
    i.set (n)
i.set (6, pieces=[])
i.set (7, pieces=[])
i.build ()
log = Log (i)
i.length = i.blocks[6].at
log.entry (log.steal (i.bat_at), flushed=i.length,
           last=i.blocks[7].at + MIB)
dirty (i, "grows", log)
# By a length that is no multiple of anything, as QEMU leaves it.
i = Image (8 * MIB)
for n in range (7):
    i.set (n)
i.set (7, pieces=[(0, fill (8, 7 * MIB, 4096))])
i.build ()
log = Log (i)
i.length = i.blocks[7].at + 4096
log.entry (log.steal (i.bat_at), flushed=i.length - 7,
           last=i.blocks[7].at + MIB - 1)
i.file.put (i.blocks[7].at, fill (8, 7 * MIB, 4096))
dirty (i, "grows-odd", log)
END
before="$(digest *.vhdx)"
for image in *.vhdx; do
  for mode in lenient strict; do
    quietly same $image log=$mode
  done
  quietly same $image check=open
done
server_flags=()
quietly same one.vhdx
server_flags=(-r)
test "$(digest *.vhdx)" = "$before" || fail "an image changed"

# QEMU, which replays into the file, sees the same.  (Not with more than 126
# descriptors.)
qemu_replayed () {
  cp --sparse=always $1.vhdx replayed.vhdx
  cp --sparse=always $1.raw replayed.raw
  qemu-io -f vhdx -c 'read 0 512' replayed.vhdx > io.log 2>&1 || {
    cat io.log >&2
    fail "$1: QEMU does not replay it"
  }
  qemu_same replayed.vhdx
}
for image in one newest zero payload; do
  qemu_replayed $image
done
rm *.vhdx *.raw

# Places in the ring: entries that cross its end at every sector; a
# sequence that began before the end; the ring anywhere, and longer.
{ cat parts.py; cat <<'END'; } | make
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
    old.entry (poison (i, old), tail=0)
log = Log (i, seq=50, head=8 * PAGE)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
first = log.entry (pages[:1])
second = log.entry (pages[1:])
# The number that would come next, but another GUID.
log.entry (poison (i, log), name=old.guid)
dirty (i, "other-guids", log)

for gap in 1, 5, 30:
    i = disk ()
    log = Log (i, seq=3, head=20 * PAGE)
    pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
    for n in range (12):
        log.entry (poison (i, log))
    log.seq = 40 + gap
    log.tail = log.head = 8 * PAGE
    for page in pages:
        log.entry ([page])
    assert log.head < 20 * PAGE
    # From the next entry of the lap before, directly behind.
    log.entry (poison (i, log), seq=log.seq - 1 - gap)
    dirty (i, "lap%d" % gap, log)

# Two sequences of this GUID: that which ends higher counts, wherever.
for order in 0, 1:
    i = disk ()
    log = Log (i, seq=10, head=(0, 100 * PAGE)[order])
    new = log.steal (i.bat_at)
    for n in range (6):
        log.entry (poison (i, log))
    log.seq, log.tail = 17, (100 * PAGE, 0)[order]
    log.head = log.tail
    log.entry (new)
    dirty (i, "two%d" % order, log)

# The tail: what is before it is over, and must not be replayed.
i = disk ()
log = Log (i, seq=7)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
for n in range (5):
    log.entry (poison (i, log))
log.tail = log.head
log.entry (pages[:1])
log.entry (pages[1:])
dirty (i, "tail", log)
i = disk ()
log = Log (i, seq=7, head=ring - 8 * PAGE)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
for n in range (5):
    log.entry (poison (i, log))
log.tail = log.head
log.entry (pages[:1])
log.entry (pages[1:])
dirty (i, "tail-wrap", log)
# The tail moves on with the entries; that of the last one counts.
i = disk ()
log = Log (i, seq=7)
pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
log.entry (poison (i, log))
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
rm *.vhdx *.raw

# A last entry that did not get there whole: the older ones count.
{ cat parts.py; cat <<'END'; } | make
def torn (name, **how):
    i = disk ()
    log = Log (i, seq=5)
    pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
    log.entry (pages)
    bad = poison (i, log)
    log.entry (bad + [("data", i.bat_at + n * PAGE, b"\6" * PAGE)
                      for n in range (130)], **how)
    dirty (i, "torn-" + name, log)


# In the file it has a header sector, another one of descriptors, and 132
# of data.
for sector in 0, 1, 2, 80, 133:
    torn ("sector%d" % sector, missing=[sector])
torn ("only-header", missing=range (1, 134))
torn ("only-data", missing=(0, 1))


def put (at, data):
    def change (raw):
        raw[at:at + len (data)] = data
    return change


# Torn within a sector; by one bit.
torn ("header", after=put (512, bytes (3584)))
torn ("descriptors", after=put (4096 + 512, bytes (3584)))
torn ("data", after=put (16384 + 2048, bytes (2048)))
torn ("bit", after=put (133 * 4096 + 100, b"\7"))
# With a right checksum and one thing that is not right.
torn ("signature", signature=b"logE")
torn ("guid", name=bytes (16))
torn ("skip", seq=7)
torn ("same", seq=5)
torn ("before", seq=4)
torn ("length-odd", length=134 * 4096 + 1)
torn ("length-short", length=133 * 4096)
torn ("length-long", length=135 * 4096)
torn ("length-zero", length=0)
torn ("length-ring", length=MIB + 4096)
torn ("length-huge", length=0xfffff000)
torn ("count-more", count=134)
torn ("count-less", count=132)
torn ("count-huge", count=0xffffffff)
torn ("tail-odd", tail=100)
torn ("tail-outside", tail=MIB)
torn ("tail-huge", tail=0xfffff000)
torn ("descriptor-signature", spoil=put (64, b"desk"))
torn ("descriptor-seq", spoil=put (64 + 24, b"\5"))
torn ("descriptor-at", spoil=put (64 + 16, b"\1"))
torn ("zero-seq", spoil=put (128 + 24, b"\5"))
torn ("zero-length", spoil=put (128 + 8, b"\1"))
torn ("data-signature", spoil=put (2 * 4096, b"dats"))
torn ("data-high", spoil=put (3 * 4096 + 4, b"\1"))
torn ("data-low", spoil=put (3 * 4096 - 4, b"\5"))
END
before="$(digest *.vhdx)"
for image in *.vhdx; do
  same $image
done
for image in torn-sector2 torn-bit torn-skip; do
  quietly same $image.vhdx log=strict
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
rm *.vhdx *.raw

# A log that is named and has no entry.  Where it may have been just begun
# it counts as empty, with a warning; where something may be lost, or with
# log=strict, it is refused.
{ cat parts.py; cat <<'END'; } | make
i = disk ()
log = Log (i)
dirty (i, "empty", log)
i = disk ()
old = Log (i)
for n in range (9):
    old.entry (poison (i, old))
log = Log (i)
dirty (i, "empty-old", log)
# One that is torn, and its own tail.
i = disk ()
log = Log (i, head=0xc000)
log.entry (poison (i, log), missing=[2])
dirty (i, "empty-torn", log)
i = disk ()
log = Log (i, head=MIB - PAGE)
log.entry (poison (i, log), missing=[1])
dirty (i, "empty-torn-end", log)
# Not just begun: another tail; more than one.
i = disk ()
log = Log (i, head=8 * PAGE)
log.entry (poison (i, log), missing=[1], tail=4 * PAGE)
dirty (i, "lost-tail", log)
i = disk ()
log = Log (i)
log.entry (poison (i, log), missing=[1])
log.entry (poison (i, log), missing=[2])
dirty (i, "lost-two", log)
i = disk ()
log = Log (i)
log.entry (poison (i, log), missing=[1])
log.entry (poison (i, log))
log.entry (poison (i, log), tail=0)
dirty (i, "lost-first", log)
# The file is shorter than it was when the entry was written.
i = disk ()
log = Log (i)
log.entry (log.steal (i.bat_at), flushed=i.next)
i.length = i.next - MIB
dirty (i, "cut", log)
# Only that of the last entry counts.
i = disk ()
log = Log (i)
log.entry ([], flushed=i.next + MIB)
log.entry (log.steal (i.bat_at), flushed=i.next)
dirty (i, "uncut", log)
END
before="$(digest *.vhdx)"
for image in empty empty-old empty-torn empty-torn-end; do
  same $image.vhdx 2> warning.log
  expect_text warning.log "$image.vhdx.*log"
  refused_once 'log' $image.vhdx log=strict
done
for image in lost-tail lost-two lost-first; do
  for mode in lenient strict; do
    refused_once 'log' $image.vhdx log=$mode
  done
done
for mode in lenient strict; do
  refused_once "$(($(stat -c %s cut.vhdx) + (1 << 20)))" cut.vhdx log=$mode
  quietly same uncut.vhdx log=$mode
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
expect_fail mode.log nbdkit -r -U - vhdx empty.vhdx log=maybe --run true
expect_text mode.log 'lenient.*strict'
