#!/usr/bin/env bash
# Which header counts: with one of them damaged, in whatever way, with any
# sequence numbers, with two that are equal.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# The header that must not count describes a log that would be refused, or
# replayed over the data; so reading right means that it did not count.
make <<'END'
def disk (first, second, current, name):
    i = Image (4 * MIB, log=2 * MIB)
    i.fill (5)
    for h, seq in zip (i.headers, (first, second)):
        h.seq = seq
    i.headers[1 - current].version = 3
    i.headers[1 - current].log_at = 5 * MIB + 512
    i.save (name)

# Unsigned numbers, and no distance is too far.
top = (1 << 64) - 1
for n, (a, b, current) in enumerate ([
        (1, 0, 0), (0, 1, 1), (7, 8, 1), (8, 7, 0), (top, 1, 0),
        (1, top, 1), (top - 1, top, 1), (1 << 63, (1 << 63) - 1, 0),
        (0, 1 << 63, 1), (1 << 32, 0xffffffff, 0)]):
    disk (a, b, current, "seq%d.vhdx" % n)

# One that is damaged, though its number is the greater one.
def damaged (which, how, name):
    i = Image (4 * MIB)
    i.fill (6)
    i.headers[which].seq = 100
    i.headers[1 - which].seq = 99
    bad, at = i.headers[which], HEADERS[which]
    bad.log = b"\x77" * 16
    bad.log_at = 3 * MIB
    if how == "crc":
        bad.wrong_crc = True
    elif how == "signature":
        bad.signature = b"headd"[1:]
    elif how == "gone":
        i.headers[which] = None
    i.seal ()
    if how == "torn":
        i.file.put (at + 512, b"\x99" * 3584)
    elif how == "bit":
        i.file.flip (at + 4095, 0x80)
    elif how == "first":
        i.file.flip (at + 8)
    elif how == "random":
        i.file.put (at, fill (1, 0, 4096))
    i.save (name)

for which in 0, 1:
    for how in ("crc", "signature", "gone", "torn", "bit", "first",
                "random"):
        damaged (which, how, "damaged%d-%s.vhdx" % (which, how))

# Equal headers, as Disk2vhd leaves them.
i = Image (4 * MIB)
i.fill (8)
i.headers[1].seq = i.headers[0].seq
i.save ("equal.vhdx")

# What is reserved may hold anything; where nobody looks, too.
i = Image (4 * MIB)
i.fill (9)
i.headers[1].reserved = b"\xff" * 4016
i.identifier = b"vhdxfile" + "Überall".encode ("utf-16-le") + b"\xff" * 600
i.seal ()
i.file.put (HEADERS[0] + 4096, b"\xaa" * 61440)
i.file.put (HEADERS[1] + 4096, b"\xbb" * 61440)
i.file.put (320 * KIB, b"\xcc" * (704 * KIB))
i.save ("reserved.vhdx")

# No log at all, or one that nobody needs; another log version with it.
for n, (length, at, version) in enumerate ([
        (0, 0, 0), (0, 900 * MIB, 0), (MIB, MIB, 5), (MIB, MIB, 0xffff)]):
    i = Image (4 * MIB)
    i.fill (10)
    for h in i.headers:
        h.log_length, h.log_at, h.log_version = length, at, version
    i.save ("log%d.vhdx" % n)

# A file that does not end on 1 MiB.
i = Image (4 * MIB)
i.fill (11)
i.build ()
i.length = i.next + 12345
i.save ("odd.vhdx")
END
for image in seq?.vhdx equal reserved log?.vhdx odd damaged*.vhdx; do
  image="${image%.vhdx}"
  quietly same $image.vhdx
done

# QEMU agrees where it reads such files at all.
for image in seq?.vhdx equal damaged0-crc damaged1-crc damaged1-gone; do
  qemu_same ${image%.vhdx}.vhdx
done

# A header that cannot be used is no reason to use the older one: what it
# says of the log may be long over.
make <<'END'
i = Image (4 * MIB)
i.fill (1)
i.headers[1].log_at = 1 << 40
i.save ("newer.vhdx")
i.headers[0].seq = 3
i.put_headers ()
i.save ("older.vhdx")
END
refused_once 'log.*not within' newer.vhdx
quietly same older.vhdx
