#!/usr/bin/python3
# Make and look into qcow version 1 images in ways that no current tool
# offers, tapdisk's above all.
#
# usage: qcow-image.py plain RAW IMAGE [options]
#                      tapdisk RAW IMAGE [options]
#                      get IMAGE FIELD
#                      set IMAGE FIELD VALUE
#                      entry IMAGE GUEST
#                      l1 IMAGE
#                      check IMAGE
#                      count IMAGE
#                      repeats FILE SIZE
#                      digest FILE...
#
# 'plain' stores the raw file in an image like QEMU's; 'tapdisk' in one like
# Xen's tapdisk wrote them, with its extended header, whole extents and an L1
# table in the byte order of its host, or in one of the states that programs
# left behind which converted that table.  --help lists the options.  With
# --converted the image that a correct conversion leaves is made too.
#
# 'get' and 'set' know the fields of both headers by name, 'entry' prints
# where the L2 entry of a guest offset lies, 'l1' the L1 table as it would
# read in big endian.  'check' judges the structure of an image: places,
# overlaps; 'count' prints how many clusters are plain, compressed, and how
# many streams are shared.  'repeats' makes a file in which everything comes
# back at distances far beyond 4 KiB.  'digest' hashes what is data in files,
# and where it lies, in no time even where holes are huge.
#
# Only what is published about the format is used here.
#
# SPDX-License-Identifier: BSD-3-Clause

import argparse
import hashlib
import os
import random
import struct
import sys
import zlib

SECTOR = 512
PAGE = 4096
PACKED = 1 << 63
BIG_ENDIAN = 2                  # bits of tapdisk's flags
SPARSE = 1
NONSENSE = 0x0102030405060701   # makes no sense in either order

FIELDS = {
    "magic": (0, 4), "version": (4, 4), "name-at": (8, 8),
    "name-len": (16, 4), "mtime": (20, 4), "size": (24, 8),
    "cluster-bits": (32, 1), "l2-bits": (33, 1), "padding": (34, 2),
    "crypt": (36, 4), "l1-at": (40, 8), "xmagic": (48, 4),
    "cksum": (52, 4), "min-alloc": (56, 4), "flags": (60, 4),
}


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


def number(text):
    return int(text, 0)


def numbers(text):
    """A list like 0,3,5-7."""
    out = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        out |= set(range(int(first), int(last or first) + 1))
    return out


class Geometry:
    def __init__(self, cluster_bits, l2_bits, size):
        self.cluster_bits = cluster_bits
        self.l2_bits = l2_bits
        self.size = size
        self.cluster = 1 << cluster_bits
        self.entries = 1 << l2_bits
        self.table = 8 << l2_bits
        self.span = self.cluster << l2_bits
        self.nr_l1 = round_up(size, self.span) // self.span

    def header(self, l1_at, name_at=0, name_len=0, mtime=0, crypt=0,
               padding=0):
        return b"QFI\xfb" + struct.pack(
            ">IQIIQBBHIQ", 1, name_at, name_len, mtime, self.size,
            self.cluster_bits, self.l2_bits, padding, crypt, l1_at)


def shuffled(n, how):
    """The numbers below n: seq, reverse, or in an order from a seed."""
    if how == "seq":
        return range(n)
    order = list(range(n))
    if how == "reverse":
        order.reverse()
    else:
        random.Random(number(how)).shuffle(order)
    return order


class Disk:
    """The raw disk that goes into an image, and the base it lies on."""

    def __init__(self, raw, base):
        self.f = open(raw, "rb")
        self.size = os.fstat(self.f.fileno()).st_size
        self.base = open(base, "rb") if base else None

    @staticmethod
    def part(f, at, length):
        f.seek(at)
        return f.read(length).ljust(length, b"\0")

    def read(self, at, length):
        return self.part(self.f, at, length)

    def is_needed(self, at, data):
        """Does the image have to hold these bytes itself?"""
        if self.base:
            return data != self.part(self.base, at, len(data))
        return any(data)


# ---------------------------------------------------------------------
# Images like QEMU's.

class PlainWriter:
    def __init__(self, args):
        self.args = args
        self.disk = Disk(args.raw, args.base)
        size = self.disk.size if args.size is None else args.size
        self.g = Geometry(args.cluster_bits, args.l2_bits, size)
        self.out = open(args.image, "w+b")
        self.rnd = random.Random(args.seed)
        self.tables = {}        # L1 index: (place, entries)
        self.streams = {}
        self.place_header()

    def place_header(self):
        args = self.args
        name = os.fsencode(args.name) if args.name else b""
        name_at = args.name_at if args.name_at is not None else 48
        l1_at = args.l1_at
        if l1_at is None:
            l1_at = 48
            if name and name_at < 48 + 8 * self.g.nr_l1:
                l1_at = round_up(name_at + len(name), 8)
        self.put(0, self.g.header(l1_at, name_at if name else 0, len(name),
                                  args.mtime, padding=args.padding))
        if name:
            self.put(name_at, name)
        self.l1_at = l1_at
        l1_end = l1_at + 8 * self.g.nr_l1
        self.end = max(48, name_at + len(name) if name else 0)
        # A table far away does not carry the data with it.
        if l1_at < 1 << 20:
            self.end = max(self.end, l1_end)
        if args.data_at:
            self.end = max(self.end, args.data_at)
        self.length = max(self.end, l1_end)

    def put(self, at, data):
        self.out.seek(at)
        self.out.write(data)

    def take(self, length, unit):
        """Room in the file; what is skipped is filled with rubbish."""
        at = round_up(self.end, unit)
        l1_end = self.l1_at + 8 * self.g.nr_l1
        if at < l1_end and at + length > self.l1_at:
            at = round_up(l1_end, unit)
        elif self.args.rubbish and at > self.end:
            self.put(self.end, b"\xa5" * (at - self.end))
        self.end = at + length
        self.length = max(self.length, self.end)
        return at

    def table(self, i):
        if i not in self.tables:
            at = self.take(self.g.table, self.args.align or self.g.cluster)
            self.tables[i] = (at, [0] * self.g.entries)
        return self.tables[i][1]

    def store(self, data):
        """Store a cluster; its L2 entry."""
        kind = self.args.clusters
        if kind == "mixed":
            kind = self.rnd.choice(("plain", "packed"))
        if kind == "packed":
            entry = self.store_packed(data)
            if entry:
                return entry
        at = self.take(self.g.cluster, self.args.align or self.g.cluster)
        self.put(at, data)
        return at

    def store_packed(self, data):
        c = zlib.compressobj(9, zlib.DEFLATED, -self.args.window)
        stream = c.compress(data) + c.flush()
        if len(stream) >= self.g.cluster:
            return None
        at = self.streams.get(stream) if self.args.share else None
        if at is None:
            at = self.take(len(stream), self.args.pack)
            self.put(at, stream)
            self.streams[stream] = at
        bits = 63 - self.g.cluster_bits
        assert at < 1 << bits
        return PACKED | len(stream) << bits | at

    def run(self):
        g = self.g
        nr = round_up(g.size, g.cluster) // g.cluster
        if not (self.args.full or self.args.tables or self.disk.base):
            # The rest is zero.
            nr = min(nr, round_up(self.disk.size, g.cluster) // g.cluster)
        for n in shuffled(nr, self.args.order):
            data = self.disk.read(n * g.cluster, g.cluster)
            if self.args.full or self.disk.is_needed(n * g.cluster, data):
                i, k = divmod(n, g.entries)
                table = self.table(i)   # before the data, as QEMU does
                table[k] = self.store(data)
            elif self.args.tables:
                self.table(n // g.entries)
        for i, (at, entries) in self.tables.items():
            self.put(at, struct.pack(">%dQ" % g.entries, *entries))
            self.put(self.l1_at + 8 * i, struct.pack(">Q", at))
        if self.args.length is not None:
            self.length = self.args.length
        self.out.truncate(self.length)
        self.out.close()


# ---------------------------------------------------------------------
# Images like tapdisk's.

def cksum_bytes(table, host):
    """What tapdisk stores for a table, as four bytes of the file."""
    word = hashlib.md5(table).digest()[:4]
    return word[::-1] if host == "little" else word


class TapdiskWriter:
    def __init__(self, args):
        self.args = args
        self.disk = Disk(args.raw, args.base)
        overlay = args.base is not None
        if args.cluster_bits is None:
            args.cluster_bits = 9 if overlay else 12
        if args.l2_bits is None:
            args.l2_bits = 12 if overlay else 9
        size = self.disk.size // SECTOR * SECTOR
        self.g = Geometry(args.cluster_bits, args.l2_bits, size)
        self.out = open(args.image, "w+b")
        self.name = os.fsencode(args.name or
                                (os.path.realpath(args.base)
                                 if overlay else ""))
        self.head_end = 48 + args.header + len(self.name)
        self.l1_at = round_up(self.head_end, PAGE)
        self.block_end = self.l1_at + round_up(8 * self.g.nr_l1, PAGE)
        self.l1 = [0] * self.g.nr_l1

    def put(self, at, data):
        self.out.seek(at)
        self.out.write(data)

    def store_extents(self):
        """Tables and data; where the file ends."""
        g = self.g
        end = max(self.block_end + self.args.gap, self.args.first or 0)
        for i in shuffled(g.nr_l1, self.args.extents):
            start = i * g.span
            # An overlay holds single clusters, all else whole extents.
            used = [n for n in range(g.entries)
                    if start + n * g.cluster < g.size and
                    self.disk.is_needed(start + n * g.cluster,
                                        self.disk.read(start + n * g.cluster,
                                                       g.cluster))]
            if not used and not (self.args.full and not self.disk.base):
                continue
            if not self.disk.base:
                used = range(g.entries)
            table_at = round_up(end, g.cluster)
            end = round_up(table_at + g.table, g.cluster)
            entries = [0] * g.entries
            for n in used:
                entries[n] = end
                data = self.disk.read(start + n * g.cluster, g.cluster)
                if any(data):
                    self.put(end, data)
                end += g.cluster
            self.put(table_at, struct.pack(">%dQ" % g.entries, *entries))
            self.l1[i] = table_at
        return end

    def length(self, end):
        args = self.args
        length = max(end, self.block_end)
        if args.reserve:
            # tapdisk's own sum, with its slip.
            length = max(length,
                         round_up(self.l1_at + 8 * self.g.nr_l1, PAGE) +
                         512 * self.g.nr_l1 + self.g.size)
        if args.stray:
            length = max(length, self.block_end + args.gap + SECTOR)
        return max(length, args.length or 0)

    def pack(self, which):
        """The table, with the entries in the set 'which' in big endian."""
        return b"".join(struct.pack(">Q" if i in which else "<Q", v)
                        for i, v in enumerate(self.l1))

    def flags(self):
        args = self.args
        if args.flags is not None:
            return args.flags
        flags = 0 if args.reserve else SPARSE
        return flags | (BIG_ENDIAN if args.flag else 0)

    def cksum(self, native):
        args = self.args
        zero = bytes(8 * self.g.nr_l1)
        if args.cksum == "created":
            return cksum_bytes(zero, args.host)
        good = cksum_bytes(native, args.host)
        if args.cksum == "good":
            return good
        if args.cksum == "stale":
            return bytes(b ^ 0xff for b in good)
        return struct.pack(">I", number(args.cksum))

    def extended(self, cksum, flags, is_reversed):
        length = self.args.header
        if length == 0:
            return b""
        magic = b"\xfbNEX" if is_reversed else b"XEN\xfb"
        alloc = self.args.min_alloc
        if alloc is None:
            alloc = 1 if self.disk.base else self.g.entries
        ext = magic + cksum + struct.pack(">II", alloc, flags)
        return ext[:length].ljust(length, b"\0")

    def head(self, l1_at, cksum, flags, is_reversed):
        name_at = 48 + self.args.header if self.name else 0
        return self.g.header(l1_at, name_at, len(self.name),
                             self.args.mtime) + \
            self.extended(cksum, flags, is_reversed) + self.name

    def stray_header(self, flags):
        """What Xen 3.3 and 3.4 wrote behind the L1 table from memory."""
        g = self.g
        name_at = 48 + self.args.header if self.name else 0
        stray = b"\xfbIFQ" + struct.pack(
            "<IQIIQBBHIQ", 1, name_at, len(self.name), self.args.mtime,
            g.size, g.cluster_bits, g.l2_bits, 0, 0, self.l1_at)
        ext = self.extended(cksum_bytes(bytes(8 * g.nr_l1), self.args.host),
                            0, True)
        raw_flags = struct.pack(">I", flags)
        return (stray + ext[:12] +
                bytes([raw_flags[0] | BIG_ENDIAN]) + raw_flags[1:]
                ).ljust(SECTOR, b"\0")

    def run(self):
        args = self.args
        everything = set(range(self.g.nr_l1))
        length = self.length(self.store_extents())
        if args.behind is not None:
            self.l1[args.behind] = round_up(length, self.g.cluster)
        if args.damage:
            for i in args.damage:
                self.l1[i] = NONSENSE
        native = self.pack(everything if args.order == "big" else set())
        big = {"little": set(), "big": everything,
               "first": set(range(args.count)),
               "alternate": {i for i in everything if i % 2},
               "these": args.these or set()}[args.table or args.order]
        cksum = self.cksum(native)
        flags = self.flags()
        self.put(self.l1_at, self.pack(big))
        self.put(0, self.head(self.l1_at, cksum, flags, args.reversed))
        if args.stray:
            self.put(self.block_end + args.gap, self.stray_header(flags))
        self.out.truncate(length)
        self.out.flush()
        if args.converted or args.growing is not None:
            self.convert(length, native, cksum, flags)
        self.out.close()

    def convert(self, length, native, cksum, flags):
        """What a correct conversion leaves; and, for --growing, the state
        in which it is interrupted."""
        args = self.args
        table = self.pack(set(range(self.g.nr_l1)))
        forms = {cksum_bytes(f, host): host
                 for f in (native, self.pack(set()))
                 for host in ("big", "little")}
        if cksum in forms and any(native):
            cksum = cksum_bytes(table, forms[cksum])
        if flags & 3 == BIG_ENDIAN and native != table:
            flags |= SPARSE     # that was what the bit meant in 3.0.4
        if args.header == 12 and not self.name:
            # Nothing says then that the flags are not there.
            args.header = 16
            flags = 0
        head = self.head(self.l1_at, cksum, flags | BIG_ENDIAN, False)
        self.out.seek(self.l1_at)
        if self.out.read(len(table)) == table and \
           self.flags() & BIG_ENDIAN and not args.reversed:
            self.out.seek(0)    # there is nothing to convert
            head = self.out.read(len(head))
        if args.converted:
            with open(args.converted, "wb") as f:
                copy_sparse(self.out, f, length)
                f.seek(self.l1_at)
                f.write(table)
                f.seek(0)
                f.write(head)
                f.truncate(length)
        if args.growing is not None:
            self.interrupt(round_up(length, PAGE), table, cksum,
                           flags | BIG_ENDIAN, head)

    def interrupt(self, at, table, cksum, flags, head):
        step, _, part = self.args.growing.partition(":")
        part = 8 * int(part) if part else None
        if step == "copied":
            self.put(at, table[:part])
            return
        self.put(at, table)
        self.put(0, self.head(at, cksum, flags, False))
        if step == "switched":
            return
        self.put(self.l1_at, table[:part])
        if step == "restored":
            return
        if step != "home":
            sys.exit("--growing: what is " + step)
        self.put(0, head)


def data_of(f, length):
    """(place, bytes) of what is not a hole."""
    at = 0
    while at < length:
        try:
            at = os.lseek(f.fileno(), at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
        while at < end:
            data = os.pread(f.fileno(), min(1 << 20, end - at), at)
            yield at, data
            at += len(data)


def copy_sparse(src, dst, length):
    for at, data in data_of(src, length):
        dst.seek(at)
        dst.write(data)
    dst.flush()


def digest(names):
    for name in names:
        with open(name, "rb") as f:
            length = f.seek(0, os.SEEK_END)
            h = hashlib.sha256()
            for at, data in data_of(f, length):
                # Zeroes may be data now and a hole then, or the other way.
                for i in range(0, len(data), PAGE):
                    page = data[i:i + PAGE]
                    if any(page):
                        h.update(b"%d " % (at + i) + page)
            print(h.hexdigest(), length, name)


# ---------------------------------------------------------------------
# Looking into images.

class Image:
    def __init__(self, name):
        self.f = open(name, "r+b" if os.access(name, os.W_OK) else "rb")
        self.length = self.f.seek(0, os.SEEK_END)
        self.g = Geometry(self.get("cluster-bits"), self.get("l2-bits"),
                          self.get("size"))
        self.l1_at = self.get("l1-at")

    def read(self, at, length):
        self.f.seek(at)
        return self.f.read(length).ljust(length, b"\0")

    def get(self, field):
        at, length = FIELDS[field]
        return int.from_bytes(self.read(at, length), "big")

    def l1(self):
        return struct.unpack(">%dQ" % self.g.nr_l1,
                             self.read(self.l1_at, 8 * self.g.nr_l1))

    def table(self, at):
        return struct.unpack(">%dQ" % self.g.entries,
                             self.read(at, self.g.table))

    def unpack(self, entry):
        """Place and length of a compressed cluster."""
        bits = 63 - self.g.cluster_bits
        return entry & ((1 << bits) - 1), \
            entry >> bits & (self.g.cluster - 1)

    def entries(self):
        """(guest offset, entry) of all that is mapped."""
        for i, at in enumerate(self.l1()):
            if at == 0:
                continue
            for k, entry in enumerate(self.table(at)):
                if entry:
                    yield i * self.g.span + k * self.g.cluster, entry


def check(name):
    """Structure only: where things lie, and that nothing lies on another.
    Prints the bytes of the file that nothing refers to."""
    image = Image(name)
    g = image.g
    faults = []
    used = {(0, 48, "the header"): 1,
            (image.l1_at, image.l1_at + 8 * g.nr_l1, "the L1 table"): 1}
    name_at = image.get("name-at")
    if name_at:
        used[name_at, name_at + image.get("name-len"), "the name"] = 1
    for i, at in enumerate(image.l1()):
        if not at:
            continue
        key = (at, at + g.table, "L2 table %d" % i)
        used[key] = 1
        if at % SECTOR:
            faults.append("L1 entry %d is 0x%x" % (i, at))
    if faults:
        sys.exit("%s: %s" % (name, "; ".join(faults[:9])))
    for guest, entry in image.entries():
        if entry & PACKED:
            at, length = image.unpack(entry)
            if length == 0 or at + length > image.length:
                faults.append("stream %d+%d for %d" % (at, length, guest))
            if length and not inflates(image.read(at, length), g.cluster):
                faults.append("stream at %d for %d is no stream"
                              % (at, guest))
            used[at, at + length, "a stream"] = 1
        else:
            if entry % SECTOR:
                faults.append("entry 0x%x for %d" % (entry, guest))
            key = (entry, entry + g.cluster, "the data of %d" % guest)
            used[key] = 1
            if entry >= image.length:
                faults.append("data for %d at %d, file of %d"
                              % (guest, entry, image.length))
    ranges = sorted(used)
    reach = leaked = 0
    before = None
    for r in ranges:
        if r[0] < reach:
            faults.append("%s at %d lies on %s" % (r[2], r[0], before[2]))
        else:
            leaked += r[0] - reach
        if r[1] > reach:
            reach = r[1]
            before = r
    leaked += max(0, image.length - reach)
    if faults:
        sys.exit("%s: %d faults: %s"
                 % (name, len(faults), "; ".join(faults[:9])))
    print(leaked)


def inflates(stream, length):
    d = zlib.decompressobj(-15)
    try:
        return len(d.decompress(stream, length + 1)) == length
    except zlib.error:
        return False


def count(name):
    image = Image(name)
    plain = packed = inside = 0
    streams = {}
    for _, entry in image.entries():
        if entry & PACKED:
            packed += 1
            place = image.unpack(entry)
            streams[place] = streams.get(place, 0) + 1
            inside += place[0] % SECTOR != 0
        else:
            plain += 1
    print(plain, packed, inside, sum(1 for n in streams.values() if n > 1))


def entry_place(name, guest):
    image = Image(name)
    i, rest = divmod(guest, image.g.span)
    table = image.l1()[i]
    if not table:
        sys.exit("%s: no L2 table for %d" % (name, guest))
    print(table + rest // image.g.cluster * 8)


def set_field(name, field, value):
    at, length = FIELDS[field]
    with open(name, "r+b") as f:
        f.seek(at)
        f.write((value & (1 << 8 * length) - 1).to_bytes(length, "big"))


def repeats(name, size):
    rnd = random.Random(size)
    with open(name, "wb") as f:
        at = 0
        while at < size:
            piece = rnd.randbytes(rnd.choice((5000, 9001, 20000, 30000)))
            data = (piece * 4)[:min(65536, size - at)]
            f.write(data)
            at += len(data)


# ---------------------------------------------------------------------

def add_plain(sub):
    p = sub.add_parser("plain")
    p.add_argument("raw")
    p.add_argument("image")
    p.add_argument("--cluster-bits", type=number, default=12)
    p.add_argument("--l2-bits", type=number, default=9)
    p.add_argument("--size", type=number, help="of the disk, if not that of "
                   "the raw file; any number of bytes")
    p.add_argument("--l1-at", type=number)
    p.add_argument("--name", help="of the backing file, as stored")
    p.add_argument("--name-at", type=number)
    p.add_argument("--base", help="raw file: store only what differs")
    p.add_argument("--mtime", type=number, default=0)
    p.add_argument("--padding", type=number, default=0)
    p.add_argument("--data-at", type=number, help="first table, at least")
    p.add_argument("--align", type=number, help="of tables and data, if not "
                   "to clusters")
    p.add_argument("--clusters", choices=("plain", "packed", "mixed"),
                   default="plain")
    p.add_argument("--pack", type=number, default=1,
                   help="streams begin at multiples of this")
    p.add_argument("--share", action="store_true",
                   help="equal clusters share one stream")
    p.add_argument("--window", type=number, default=12, help="9..15")
    p.add_argument("--full", action="store_true", help="store zeroes too")
    p.add_argument("--tables", action="store_true", help="L2 tables for "
                   "everything, even where there is no data")
    p.add_argument("--rubbish", action="store_true",
                   help="between all that is referred to")
    p.add_argument("--order", default="seq", help="seq, reverse, or a seed")
    p.add_argument("--seed", type=number, default=1)
    p.add_argument("--length", type=number, help="of the file in the end")


def add_tapdisk(sub):
    p = sub.add_parser("tapdisk")
    p.add_argument("raw")
    p.add_argument("image")
    p.add_argument("--order", choices=("little", "big"), default="little",
                   help="of the L1 table when the image was written")
    p.add_argument("--table",
                   choices=("little", "big", "first", "alternate", "these"),
                   help="what of it is big endian now, if it was converted "
                   "in whole or in part: the first --count entries, every "
                   "other one, those of --these; the checksum is the old one")
    p.add_argument("--count", type=number, default=0)
    p.add_argument("--these", type=numbers, help="0,3,5-7")
    p.add_argument("--flag", action="store_true",
                   help="set the one that says big endian")
    p.add_argument("--flags", type=number, help="this word")
    p.add_argument("--header", type=number, default=16,
                   choices=(0, 12, 16, 20), help="bytes of extended header")
    p.add_argument("--reversed", action="store_true", help="its magic is")
    p.add_argument("--cksum", default="good",
                   help="good, created (for an empty table), stale, a number")
    p.add_argument("--host", choices=("little", "big"), default="little",
                   help="which stored the checksum")
    p.add_argument("--min-alloc", type=number)
    p.add_argument("--reserve", action="store_true", help="not sparse")
    p.add_argument("--full", action="store_true",
                   help="extents that are all zero too")
    p.add_argument("--base", help="raw file of the same size")
    p.add_argument("--name", help="of the base; the default is its path")
    p.add_argument("--mtime", type=number, default=0)
    p.add_argument("--cluster-bits", type=number)
    p.add_argument("--l2-bits", type=number)
    p.add_argument("--extents", default="seq", help="their order in the "
                   "file: seq, reverse, or a seed")
    p.add_argument("--gap", type=number, default=0,
                   help="behind the L1 table; 512 in Xen 3.4")
    p.add_argument("--first", type=number, help="where the first extent is")
    p.add_argument("--length", type=number, help="of the file, at least")
    p.add_argument("--stray", action="store_true",
                   help="the second header of Xen 3.3 and 3.4")
    p.add_argument("--behind", type=number, metavar="INDEX",
                   help="this entry points just behind the end of the file")
    p.add_argument("--damage", type=numbers, metavar="INDICES",
                   help="these entries make no sense")
    p.add_argument("--converted", metavar="FILE",
                   help="make what a correct conversion leaves too")
    p.add_argument("--growing", metavar="STEP[:ENTRIES]",
                   help="a conversion by way of a copy, interrupted: copied, "
                   "switched, restored, home; 'copied' and 'restored' can "
                   "end after some entries")


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="command", required=True)
    add_plain(sub)
    add_tapdisk(sub)
    sub.add_parser("digest").add_argument("files", nargs="+")
    for command, names in (("get", ("image", "field")),
                           ("set", ("image", "field", "value")),
                           ("entry", ("image", "guest")),
                           ("l1", ("image",)), ("check", ("image",)),
                           ("count", ("image",)),
                           ("repeats", ("file", "size"))):
        q = sub.add_parser(command)
        for name in names:
            q.add_argument(name, type=number
                           if name in ("value", "guest", "size") else str)
    a = p.parse_args()
    if a.command == "plain":
        PlainWriter(a).run()
    elif a.command == "tapdisk":
        TapdiskWriter(a).run()
    elif a.command == "get":
        print(Image(a.image).get(a.field))
    elif a.command == "set":
        set_field(a.image, a.field, a.value)
    elif a.command == "entry":
        entry_place(a.image, a.guest)
    elif a.command == "l1":
        print(*Image(a.image).l1())
    elif a.command == "check":
        check(a.image)
    elif a.command == "count":
        count(a.image)
    elif a.command == "digest":
        digest(a.files)
    elif a.command == "repeats":
        repeats(a.file, a.size)


if __name__ == "__main__":
    main()
