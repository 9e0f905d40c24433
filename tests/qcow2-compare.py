#!/usr/bin/python3
# Compare an NBD export with what QEMU reads from the same qcow2 image.
#
# usage: qcow2-compare.py [options] NBD-URI IMAGE
#
# QEMU's tools are the oracle: 'qemu-img convert' for the bytes and
# 'qemu-img map' for the extents.  Checked are the size, every byte, reads
# at odd places on several connections at once, what the server
# advertises, and block status asked for in windows of every kind: whole
# disk, odd windows, and one extent at a time.
#
# Extents: zero must read as zero; what QEMU knows to be zero must be
# called zero and a hole exactly when no host space stands behind it; what
# QEMU calls data may be called zero only where the host file has a hole.
#
# Everything random comes from a fixed seed.  The first difference ends
# the program with status 1; the connections are closed in order first.
#
# SPDX-License-Identifier: BSD-3-Clause

import argparse
import errno
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import nbd

HOLE = 1
ZERO = 2
MAX_STATUS = 2 ** 32 - 1        # the most that one request can ask for
CHUNK = 1000 * 1000 + 7         # on purpose not aligned to anything
WHOLE = 256 << 20               # disks up to this size are read completely
MARGIN = 3 << 20                # beside data, on disks larger than that
IN_FLIGHT = 8                   # requests per connection


class Difference(Exception):
    """The export is not what it has to be."""


def need(true, *message):
    if not true:
        raise Difference(" ".join(str(m) for m in message))


# ---------------------------------------------------------------------
# The oracle.

class Header:
    """The fields of the image's header that the checks depend on."""

    def __init__(self, image):
        with open(image, "rb") as f:
            raw = f.read(112).ljust(112, b"\0")
        need(raw[:4] == b"QFI\xfb", image, "is not a qcow2 image")
        self.version = struct.unpack(">I", raw[4:8])[0]
        self.cluster = 1 << struct.unpack(">I", raw[20:24])[0]
        self.size = struct.unpack(">Q", raw[24:32])[0]
        self.extended = self.version == 3 and bool(raw[79] & 16)


class Oracle:
    """What QEMU says about an image: raw bytes and a map of extents."""

    def __init__(self, args, tmpdir):
        self.header = Header(args.image)
        self.image = args.image
        self.host_file = args.host_file
        self.raw = args.raw or self.convert(tmpdir)
        self.fd = os.open(self.raw, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size
        self.exact = args.raw is not None
        self.extents = self.map() if args.map else None
        self.files = None

    def convert(self, tmpdir):
        raw = os.path.join(tmpdir, "oracle.raw")
        subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2",
                        "-O", "raw", self.image, raw],
                       check=True, stdin=subprocess.DEVNULL)
        return raw

    def map(self):
        out = subprocess.run(["qemu-img", "map", "-U", "-f", "qcow2",
                              "--output=json", self.image],
                             check=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout
        return json.loads(out)

    def known(self, size):
        """QEMU leaves the end of a disk of an odd size to others."""
        return size if self.exact else min(size, self.size)

    def bytes(self, offset, length):
        """Raw bytes; zeroes follow the end of the raw file."""
        data = b""
        if offset < self.size:
            data = os.pread(self.fd, length, offset)
        return data.ljust(length, b"\0")

    def data_ranges(self, fd=None, start=0, end=None):
        """Ranges of a sparse file that are not holes."""
        fd = self.fd if fd is None else fd
        end = self.size if end is None else end
        while start < end:
            try:
                start = os.lseek(fd, start, os.SEEK_DATA)
            except OSError as e:
                if e.errno == errno.ENXIO:
                    return
                raise
            if start >= end:
                return
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
            yield start, stop
            start = stop

    def reads_as_zero(self, start, end):
        for a, b in self.data_ranges(start=start, end=end):
            for at in range(a, b, 1 << 20):
                n = min(1 << 20, b - at)
                if self.bytes(at, n) != bytes(n):
                    return False
        return True

    def host_is_hole(self, depth, host, length):
        """Is this part of the host file at 'depth' free of data?"""
        if self.files is None:
            out = subprocess.run(["qemu-img", "info", "-U", "-f", "qcow2",
                                  "--backing-chain", "--output=json",
                                  self.image],
                                 check=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE).stdout
            self.files = [i["filename"] for i in json.loads(out)]
        name = self.files[depth]
        if depth == 0 and self.host_file:
            name = self.host_file
        fd = os.open(name, os.O_RDONLY)
        try:
            return not any(True for _ in
                           self.data_ranges(fd, host, host + length))
        finally:
            os.close(fd)


# ---------------------------------------------------------------------
# The export.

class Export:
    """Several connections to one export."""

    def __init__(self, uri, nr):
        self.handles = []
        try:
            for _ in range(nr):
                h = nbd.NBD()
                h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
                h.connect_uri(uri)
                self.handles.append(h)
        except BaseException:
            self.close()
            raise
        self.first = self.handles[0]
        self.size = self.first.get_size()

    def close(self):
        """A vanishing client is bad manners: end every connection."""
        for h in self.handles:
            try:
                while h.aio_in_flight() > 0:
                    h.poll(-1)
                h.shutdown()
            except nbd.Error as e:
                print("%s: shutdown: %s" % (sys.argv[0], e.string),
                      file=sys.stderr)
        self.handles = []

    def read_many(self, requests, expected):
        """Read all the requests spread over the connections; compare."""
        bad = []

        def submit(h, offset, length):
            buf = nbd.Buffer(length)

            def done(err):
                err = getattr(err, "value", err)
                if err:
                    bad.append("read of %d bytes at %d: %s"
                               % (length, offset, os.strerror(err)))
                    return 1
                got = buf.to_bytearray()
                want = expected(offset, length)
                if got != want:
                    at = next(i for i in range(length) if got[i] != want[i])
                    bad.append("read of %d bytes at %d: byte %d is 0x%02x, "
                               "QEMU has 0x%02x"
                               % (length, offset, offset + at,
                                  got[at], want[at]))
                return 1

            h.aio_pread(buf, offset, done)

        for i, (offset, length) in enumerate(requests):
            h = self.handles[i % len(self.handles)]
            while h.aio_in_flight() >= IN_FLIGHT and not bad:
                h.poll(-1)
            if bad:
                break
            submit(h, offset, length)
        for h in self.handles:
            while h.aio_in_flight() > 0:
                h.poll(-1)
        need(not bad, "\n".join(bad))

    def status(self, offset, length, flags=0):
        """One block status request, as [(start, end, flags)]."""
        reply = []

        def extents(context, at, entries, err):
            if context != nbd.CONTEXT_BASE_ALLOCATION:
                return
            for i in range(0, len(entries), 2):
                reply.append((at, at + entries[i], entries[i + 1]))
                at += entries[i]

        self.first.block_status(length, offset, extents, flags)
        where = "block status of %d bytes at %d:" % (length, offset)
        need(len(reply) > 0, where, "nothing came back")
        need(reply[0][0] == offset, where, "begins at", reply[0][0])
        for start, end, kind in reply:
            need(end > start, where, "empty extent at", start)
            need(kind in (0, HOLE, ZERO, HOLE | ZERO),
                 where, "flags", kind, "at", start)
        need(reply[-1][1] <= self.size, where, "extent ends at",
             reply[-1][1], "beyond the disk")
        if flags & nbd.CMD_FLAG_REQ_ONE:
            need(len(reply) == 1, where, len(reply), "extents, asked for one")
            need(reply[0][1] <= offset + length, where,
                 "extent longer than asked for")
        else:
            need(all(e <= offset + length for _, e, _ in reply[:-1]),
                 where, "more extents than asked for")
        return reply


def merge(extents):
    merged = []
    for start, end, kind in extents:
        if merged and merged[-1][2] == kind and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end, kind)
        else:
            merged.append((start, end, kind))
    return merged


# ---------------------------------------------------------------------
# The checks.

def check_advertised(export, oracle, args):
    h = export.first
    size = oracle.header.size
    if args.size is not None:
        size = args.size
    need(export.size == size, "the size is", export.size, "not", size)
    if args.raw is None:
        need(size // 512 * 512 == oracle.size,
             "QEMU sees", oracle.size, "bytes, the header says", size)
    if args.read_only:
        need(h.is_read_only(), "the export is not read-only")
    if not args.filtered:
        need(h.can_multi_conn(), "multi-conn is not advertised")
        preferred = oracle.header.cluster
        if oracle.header.extended:
            preferred //= 32
        preferred = min(preferred, 65536)
        need(h.get_block_size(nbd.SIZE_MINIMUM) == 1, "minimum block size")
        got = h.get_block_size(nbd.SIZE_PREFERRED)
        need(got == preferred, "preferred block size is", got, "not",
             preferred)
        need(h.get_block_size(nbd.SIZE_MAXIMUM) >= 32 << 20,
             "maximum block size is below 32 MiB")


def chunks(start, end):
    for at in range(start, end, CHUNK):
        yield at, min(CHUNK, end - at)


def check_content(export, oracle):
    """Every byte of a small disk; of a large one all that is data, with
    a margin on both sides."""
    size = oracle.known(export.size)
    if size <= WHOLE:
        ranges = [(0, size)]
    else:
        ranges = []
        for start, end in list(oracle.data_ranges()) + [(0, 1),
                                                         (size - 1, size)]:
            ranges.append((max(start - MARGIN, 0), min(end + MARGIN, size)))
        ranges = [(a, b) for a, b, _ in
                  merge_overlaps(sorted(ranges))]
    export.read_many([c for a, b in ranges for c in chunks(a, b)],
                     oracle.bytes)


def merge_overlaps(ranges):
    out = []
    for a, b in ranges:
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(b, out[-1][1]), 0)
        else:
            out.append((a, b, 0))
    return out


def check_odd_reads(export, oracle, boundaries, rnd):
    """Small reads across boundaries, odd reads anywhere, tiny ones."""
    size = oracle.known(export.size)
    requests = []
    if len(boundaries) > 200:
        boundaries = sorted(rnd.sample(boundaries, 200))
    for b in boundaries:
        start = max(0, b - rnd.randrange(1, 700))
        end = min(size, b + rnd.randrange(1, 700))
        requests.append((start, end - start))
    for _ in range(200 if size else 0):
        offset = rnd.randrange(size)
        longest = rnd.choice((3, 513, 4096, 3 * oracle.header.cluster + 9))
        length = rnd.randrange(1, 1 + min(longest, size - offset, 1 << 20))
        requests.append((offset, length))
    if size:
        requests += [(0, 1), (size - 1, 1), (max(size - 600, 0),
                                             min(600, size))]
    rnd.shuffle(requests)
    export.read_many([r for r in requests if r[1] > 0], oracle.bytes)


def full_map(export):
    """Walk the disk in the largest requests that the protocol has."""
    extents = []
    at = 0
    while at < export.size:
        reply = export.status(at, min(MAX_STATUS, export.size - at))
        extents += reply
        at = reply[-1][1]
    return merge(extents)


def slice_of(extents, start, end):
    return merge([(max(a, start), min(b, end), k) for a, b, k in extents
                  if b > start and a < end])


def check_windows(export, full, args, rnd):
    """Odd windows and single extents must tell the same story."""
    size = export.size
    places = [a for a, _, _ in full]
    if len(places) > 60:
        places = sorted(rnd.sample(places, 60))
    windows = []
    for p in places:
        start = min(size - 1, max(0, p + rnd.choice((-513, -1, 0, 1, 77))))
        windows.append((start, rnd.choice((1, 511, 65537, 1 << 30,
                                           MAX_STATUS))))
    for _ in range(40):
        windows.append((rnd.randrange(size), rnd.randrange(1, 10 << 20)))
    for start, length in windows:
        length = min(length, size - start)
        got = merge(export.status(start, length))
        end = got[-1][1]
        need(got == slice_of(full, start, end),
             "block status of", length, "bytes at", start, "is", got,
             "but the whole map has", slice_of(full, start, end))
        one = export.status(start, length, nbd.CMD_FLAG_REQ_ONE)
        end = one[0][1]
        need(one == slice_of(full, start, end),
             "one extent of", length, "bytes at", start, "is", one,
             "but the whole map has", slice_of(full, start, end))
        run = slice_of(full, start, start + length)
        if args.coalesced:
            need(one == run[:1], "one extent of", length, "bytes at", start,
                 "is", one, "and not the whole run", run[0])


def check_against_qemu(export, full, oracle):
    """Hold every extent against every extent of QEMU's map."""
    at = 0
    for e in oracle.extents:
        start, end = e["start"], e["start"] + e["length"]
        need(start == at, "QEMU's map has a gap at", at)
        at = end
        for a, b, kind in slice_of(full, start, end):
            check_one_extent(oracle, e, a, b, kind)
    need(at == export.size // 512 * 512, "QEMU's map ends at", at)


def check_one_extent(oracle, e, a, b, kind):
    where = "extent %d..%d has flags %d: QEMU has %s:" % (a, b, kind, e)
    if e["zero"] and not e["data"]:
        need(kind & ZERO, where, "zero expected")
        if e["depth"] > 0 and "offset" in e:
            return              # a hole of a raw base, or reserved there
        if not e["present"]:
            # Reserved, but not in use: either answer is true.
            need(kind & HOLE or "offset" in e, where, "hole expected")
        elif "offset" in e:
            need(not kind & HOLE, where, "host space is reserved, no hole")
        else:
            need(kind & HOLE, where, "hole expected")
    elif kind & ZERO and not e["zero"]:
        need("offset" in e, where, "data that has no host offset")
        host = e["offset"] + a - e["start"]
        need(oracle.host_is_hole(e["depth"], host, b - a),
             where, "the host file has data there")
    else:
        need(kind & ZERO or not kind & HOLE, where, "hole with unknown data")


def check_extents(export, oracle, args, rnd):
    if export.size == 0:
        return []
    full = full_map(export)
    need(full[0][0] == 0 and full[-1][1] == export.size,
         "the map does not cover the disk")
    for a, b, kind in full:
        if kind & ZERO:
            need(oracle.reads_as_zero(a, b), "extent", a, b,
                 "is called zero and is not")
    if oracle.extents is not None:
        check_against_qemu(export, full, oracle)
    check_windows(export, full, args, rnd)
    return full


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("uri")
    p.add_argument("image")
    p.add_argument("--raw", help="expected bytes, instead of QEMU's")
    p.add_argument("--size", type=int, help="expected size, if not the "
                   "header's")
    p.add_argument("--host-file", help="the file QEMU's offsets are in")
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--writable", dest="read_only", action="store_false",
                   help="do not insist on a read-only export")
    p.add_argument("--no-map", dest="map", action="store_false",
                   help="do not hold the extents against qemu-img map")
    p.add_argument("--filtered", action="store_true",
                   help="a filter answers for block sizes and the like")
    p.add_argument("--coalesced", action="store_true",
                   help="one extent must cover the whole run")
    return p.parse_args()


def main():
    args = parse_args()
    rnd = random.Random(20110714)
    with tempfile.TemporaryDirectory() as tmpdir:
        try:
            oracle = Oracle(args, tmpdir)
            export = Export(args.uri, args.connections)
            try:
                check_advertised(export, oracle, args)
                check_content(export, oracle)
                full = check_extents(export, oracle, args, rnd)
                boundaries = {a for a, _, _ in full}
                boundaries |= {e["start"] for e in oracle.extents or []}
                check_odd_reads(export, oracle, sorted(boundaries), rnd)
            finally:
                export.close()
        except (Difference, nbd.Error) as e:
            print("%s: %s: %s" % (sys.argv[0], args.image, e),
                  file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
