#!/usr/bin/env bash
# Logs that mean harm: entries that are sound by themselves, and would write
# where nothing may be logged; logs that take long to judge.  (QEMU is never
# run on these: it would do what they say.)
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# The one entry of a log, or the last one of some, has such a target.
make <<'END'
targets = {
    "identifier": ("data", 0, b"\1" * PAGE),
    "header1": ("data", 64 * KIB, b"\1" * PAGE),
    "header2": ("zero", 128 * KIB, PAGE),
    "before-tables": ("data", 192 * KIB - PAGE, b"\1" * PAGE),
    "into-tables": ("zero", 128 * KIB, 128 * KIB),
    "log": ("data", MIB, b"\1" * PAGE),
    "log-end": ("data", 2 * MIB - PAGE, b"\1" * PAGE),
    "log-zero": ("zero", MIB - PAGE, 2 * PAGE),
    "log-over": ("zero", 512 * KIB, 16 * MIB),
    "endless": ("zero", 16 * MIB, 1 << 50),
    "beyond": ("zero", 1 << 40, PAGE),
    "data-beyond": ("data", 1 << 40, b"\1" * PAGE),
    "overflow": ("zero", (1 << 64) - PAGE, PAGE),
    "overflow-more": ("zero", (1 << 64) - PAGE, 4 * PAGE),
    "data-overflow": ("data", (1 << 64) - PAGE, b"\1" * PAGE),
    "sign": ("data", 1 << 63, b"\1" * PAGE),
    "everything": ("zero", 0, (1 << 64) - PAGE),
}
for name, target in targets.items ():
    i = disk ()
    log = Log (i)
    log.entry (log.steal (i.bat_at) + [target])
    dirty (i, "one-" + name, log)
    i = disk ()
    log = Log (i)
    pages = log.steal (i.bat_at)
    log.entry (pages)
    log.entry ([("zero", i.bat_at + PAGE, PAGE), target])
    dirty (i, "last-" + name, log)
END
before="$(digest *.vhdx)"
for image in one-*.vhdx; do
  refused 'log' $image
  refused 'log' $image log=strict
done
# Behind others it is no entry: the sequence ends before it.
for image in last-*.vhdx; do
  same $image
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
rm *.vhdx *.raw

# Work that would grow with the square of the log.
make <<'END'
# Entries one after the other, all sound, none of which has a tail among
# them: every place is the start of a run to the end.
i = disk (log=16 * MIB)
log = Log (i)
log.head = PAGE
for n in range (16 * MIB // PAGE - 1):
    log.entry ([], tail=0)
dirty (i, "runs", log)

# Ranges in ranges in ranges, then a page in the middle of it.
def nested (name, order):
    i = Image (3 * MIB, log=4 * MIB, place=dict (bat=5 * MIB,
               metadata=6 * MIB, data=7 * MIB))
    i.region (BAT_REGION, lambda r: None)
    i.set (0)
    far = i.allocate (GIB)
    i.build ()
    log = Log (i)
    pages = log.steal (i.bat_at)
    ranges = [("zero", far + n * PAGE, GIB - 2 * n * PAGE)
              for n in range (130000)]
    log.entry (order (ranges) + pages)
    dirty (i, name, log)

nested ("outside-in", lambda r: r)
nested ("inside-out", lambda r: r[::-1])
# The same page over and over.
i = disk (log=8 * MIB)
log = Log (i)
pages = log.steal (i.bat_at)
log.entry ([("zero", i.bat_at, PAGE)] * 200000 + pages)
dirty (i, "again", log)
# The same, but none of it counts: the last thing in it is wrong.
i = disk (log=8 * MIB)
log = Log (i)
log.entry ([("zero", i.bat_at, PAGE)] * 200000 + pages,
           after=lambda raw: raw.__setitem__ (len (raw) - 100, 0x42))
dirty (i, "nothing", log)
# A head in every sector says that the whole ring is its entry.
i = disk (log=8 * MIB)
log = Log (i)
head = log.entry ([])
raw = bytearray (i.file.get (i.headers[0].log_at, PAGE))
struct.pack_into ("<I", raw, 8, 8 * MIB)
struct.pack_into ("<I", raw, 24, 8 * MIB // 32 - 2)
for at in range (64, PAGE, 32):
    raw[at:at + 32] = struct.pack ("<4sIQQQ", b"zero", 0, PAGE,
                                   i.bat_at, 1)
for at in range (0, 8 * MIB, PAGE):
    i.file.put (i.headers[0].log_at + at, raw)
dirty (i, "heads", log)
# As long as logs may be, and nearly empty.
i = disk (log=GIB)
log = Log (i, head=GIB - PAGE)
log.entry (log.steal (i.bat_at))
dirty (i, "long", log)
i = disk (log=GIB)
dirty (i, "long-empty", Log (i))
END
before="$(digest *.vhdx)"
for image in outside-in inside-out again long long-empty; do
  bounded nbdkit -r -U - vhdx $image.vhdx --run "
    exec '$PYTHON' '$srcdir/vhdx-compare.py' \"\$uri\" $image.raw" ||
    fail "$image"
done
for image in runs heads; do
  refused 'log' $image.vhdx
done
refused 'log' nothing.vhdx log=strict
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
