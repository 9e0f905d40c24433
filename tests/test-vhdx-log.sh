#!/usr/bin/env bash
# A log that is not empty is judged whole and replayed into memory: what is
# in it is seen, what is not in its active sequence is not, and the file
# stays as it is.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Kinds of contents.
make <<'END'
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
at = i.blocks[1].at
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
           last=i.blocks[7].at + MIB + 5)
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
same one.vhdx 2> /dev/null
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

# A log that is named and has no entry.  Where it may have been just begun
# it counts as empty, with a warning; where something may be lost, or with
# log=strict, it is refused.
make <<'END'
i = disk ()
log = Log (i)
dirty (i, "empty", log)
i = disk ()
old = Log (i)
for n in range (9):
    old.entry (poison (i))
log = Log (i)
dirty (i, "empty-old", log)
# One that is torn, and its own tail.
i = disk ()
log = Log (i, head=0xc000)
log.entry (poison (i), missing=[2])
dirty (i, "empty-torn", log)
i = disk ()
log = Log (i, head=MIB - PAGE)
log.entry (poison (i), missing=[1])
dirty (i, "empty-torn-end", log)
# Not just begun: another tail; more than one.
i = disk ()
log = Log (i, head=8 * PAGE)
log.entry (poison (i), missing=[1], tail=4 * PAGE)
dirty (i, "lost-tail", log)
i = disk ()
log = Log (i)
log.entry (poison (i), missing=[1])
log.entry (poison (i), missing=[2])
dirty (i, "lost-two", log)
i = disk ()
log = Log (i)
log.entry (poison (i), missing=[1])
log.entry (poison (i))
log.entry (poison (i), tail=0)
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
