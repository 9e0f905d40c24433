#!/usr/bin/python3
# Hold an NBD export against the disk it must be.
#
# usage: vhdx-compare.py [--whole] NBD-URI RAW-FILE
#        vhdx-compare.py --qemu IMAGE RAW-FILE
#
# Size, bytes and extents are looked at: what the export calls zero must be
# zero in the raw file; everything that is not, and everything where the raw
# file has data, is read and compared, by requests of many lengths.  With
# --whole all of the disk is read, as is done anyway where it is small.
# With --qemu it is not an export but what QEMU reads from a VHDX image.
#
# SPDX-License-Identifier: BSD-3-Clause

import os
import random
import sys

import nbd

MIB = 1 << 20
SMALL = 64 * MIB


def need(is_so, *what):
    if not is_so:
        sys.exit("vhdx-compare.py: " + " ".join(str(w) for w in what))


class Comparison:
    def __init__(self, h, raw, align=1):
        self.h = h
        self.align = align
        self.fd = os.open(raw, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size
        self.rnd = random.Random(self.size)

    def raw_data(self, start, end):
        """Where the raw file may differ from zero."""
        while start < end:
            try:
                data = os.lseek(self.fd, start, os.SEEK_DATA)
            except OSError:
                return
            if data >= end:
                return
            hole = min(os.lseek(self.fd, data, os.SEEK_HOLE), end)
            yield data, hole
            start = hole

    def extents(self):
        at = 0
        while at < self.size:
            found = []

            def note(context, offset, entries, err):
                found.extend(zip(entries[::2], entries[1::2]))
            self.h.block_status(min(self.size - at, (1 << 32) - 512), at,
                                note)
            need(found, "no block status at", at)
            for length, flags in found:
                need(length > 0, "empty extent at", at)
                yield at, min(at + length, self.size), flags
                at += length
        need(at >= self.size, "block status ends at", at)

    def read(self, start, end, length=MIB):
        while start < end:
            n = min(end - start, length)
            want = os.pread(self.fd, n, start)
            got = self.h.pread(n, start)
            if got != want:
                bad = next(i for i in range(n) if got[i] != want[i])
                need(False, "byte", start + bad, "is", got[bad:bad + 16],
                     "instead of", want[bad:bad + 16])
            start += n

    def is_zero(self, start, end):
        for a, z in self.raw_data(start, end):
            while a < z:
                data = os.pread(self.fd, min(z - a, MIB), a)
                if data.count(0) != len(data):
                    return False
                a += len(data)
        return True

    def run(self, whole, has_extents):
        need(self.h.get_size() == self.size, "size", self.h.get_size(),
             "instead of", self.size)
        whole = whole or self.size <= SMALL
        edges = [0, self.size]
        for start, end, flags in self.extents() if has_extents else []:
            edges += [start, end]
            if flags & 2:
                need(self.is_zero(start, end), "data called zero within",
                     start, end)
            elif not whole:
                self.read(start, end)
        if whole:
            self.read(0, self.size)
        else:
            for start, end in self.raw_data(0, self.size):
                edges += [start, end]
                self.read(start, end)
        if len(edges) > 60:
            edges = self.rnd.sample(edges, 60)
        edges += [self.rnd.randrange(self.size) for _ in range(20)]
        for edge in edges:
            # Over an edge, on no boundary of anything.
            start = max(edge - self.rnd.choice((1, 513, 5000)), 0)
            end = edge + self.rnd.choice((1, 777, 9000))
            self.read(start // self.align * self.align,
                      min(-(-end // self.align) * self.align, self.size))


def main():
    option = sys.argv[1] if len(sys.argv) > 3 else None
    where, raw = sys.argv[-2:]
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    if option == "--qemu":
        h.connect_systemd_socket_activation(
            ["qemu-nbd", "-r", "-f", "vhdx", where])
    else:
        h.connect_uri(where)
    try:
        if option == "--qemu":
            Comparison(h, raw, 512).run(False, False)
        else:
            Comparison(h, raw).run(option == "--whole", True)
    finally:
        h.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
