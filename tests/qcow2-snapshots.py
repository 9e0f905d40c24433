#!/usr/bin/python3
# Give a qcow2 image a table of internal snapshots that no tool would make.
#
# usage: qcow2-snapshots.py IMAGE LIST
#
# LIST is a Python list of dictionaries, one for each snapshot, with id and
# name (text or bytes), l1 and l1_size (place and entries of its L1 table),
# size (of its disk; None: not recorded) and date.  What is left out is as in
# the active disk.  The table goes to the end of the file, where it has no
# refcount: the image is for reading only, then.
#
# SPDX-License-Identifier: BSD-3-Clause

import os
import struct
import sys


def raw(text):
    return text if isinstance(text, bytes) else text.encode()


def entry(number, active, given):
    s = dict(active, id=str(number), name="s%d" % number, date=number)
    s.update(given)
    extra = struct.pack(">Q", 0)
    if s["size"] is not None:
        extra += struct.pack(">Q", s["size"])
    names = raw(s["id"]), raw(s["name"])
    fixed = struct.pack(">QIHHIIQII", s["l1"], s["l1_size"], len(names[0]),
                        len(names[1]), s["date"], 0, 0, 0, len(extra))
    data = fixed + extra + b"".join(names)
    return data.ljust((len(data) + 7) // 8 * 8, b"\0")


def main(path, wanted):
    fd = os.open(path, os.O_RDWR)
    bits, size = struct.unpack(">IQ", os.pread(fd, 12, 20))
    l1_size, l1 = struct.unpack(">IQ", os.pread(fd, 12, 36))
    active = {"l1": l1, "l1_size": l1_size, "size": size}
    table = b"".join(entry(i + 1, active, s) for i, s in enumerate(wanted))
    at = (os.fstat(fd).st_size + (1 << bits) - 1) >> bits << bits
    os.pwrite(fd, table, at)
    os.pwrite(fd, struct.pack(">IQ", len(wanted), at), 60)


main(sys.argv[1], eval(sys.argv[2]))
