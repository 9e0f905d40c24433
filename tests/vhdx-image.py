#!/usr/bin/python3
# Make VHDX images in ways that no current tool offers, and the disks that
# must be read from them.
#
# usage: vhdx-image.py run PROGRAM-FILE
#                      fault DIRECTORY NAME...
#                      faults
#                      digest FILE...
#
# 'run' executes a Python program that finds here what it needs: Image,
# Item, Region, guid() and the constants.  An image is described by
# attributes, all of which may be changed until build(); then its bytes are
# in image.file, where they can be moved into a log or spoiled until save(),
# which writes the image and, beside it, the disk as a raw file (x.vhdx and
# x.raw).  'fault' writes images with one thing wrong, 'faults' lists them.
# 'digest' hashes what is data in files, and where it lies, in no time even
# where holes are huge.
#
# Only what is published about the format is used here (MS-VHDX).
#
# SPDX-License-Identifier: BSD-3-Clause

import hashlib
import os
import random
import struct
import sys

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
PAGE = 4096
BITMAP_SECTORS = 1 << 23

# States of a payload block; a bitmap's are the first and PRESENT.
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, RESERVED4, RESERVED5, PRESENT, \
    PARTIAL = range(8)

# Flags of a metadata item.
USER, VIRTUAL, REQUIRED = 1, 2, 4

HEADERS = (64 * KIB, 128 * KIB)
TABLES = (192 * KIB, 256 * KIB)


def text_guid(text):
    """The bytes on disk of a GUID in its usual form."""
    a, b, c, d, e = text.strip("{}").split("-")
    return (bytes.fromhex(a)[::-1] + bytes.fromhex(b)[::-1] +
            bytes.fromhex(c)[::-1] + bytes.fromhex(d + e))


def guid_text(raw):
    a, b, c = struct.unpack("<IHH", raw[:8])
    return "%08x-%04x-%04x-%s-%s" % (a, b, c, raw[8:10].hex(),
                                     raw[10:].hex())


BAT_REGION = text_guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = text_guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = text_guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = text_guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
DISK_ID = text_guid("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR = text_guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR = text_guid("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = text_guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
LOCATOR_TYPE = text_guid("b04aefb7-d19e-4a81-b789-25b8e9445913")
INCOMPLETE = text_guid("71cc85f0-1b69-4e28-9558-c3bf83ae75d3")
NO_GUID = bytes(16)

_guid_seed = b""
_guid_count = 0


def guid():
    """A new GUID: the same ones in every run of a program."""
    global _guid_count
    _guid_count += 1
    raw = bytearray(hashlib.sha256(
        _guid_seed + struct.pack("<I", _guid_count)).digest()[:16])
    raw[7] = raw[7] & 0x0f | 0x40
    raw[8] = raw[8] & 0x3f | 0x80
    return bytes(raw)


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


# ---------------------------------------------------------------------
# CRC-32C.  Shifting a register through zero bytes is linear, so that long
# runs of them are taken in steps of powers of two.

def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _crc_table()
_SHIFTS = []


def _apply(columns, value):
    out = 0
    for column in columns:
        if not value:
            break
        if value & 1:
            out ^= column
        value >>= 1
    return out


def _shift(value, zeroes):
    if not _SHIFTS:
        _SHIFTS.append([_TABLE[1 << bit & 0xff] ^ (1 << bit) >> 8
                        for bit in range(32)])
    power = 0
    while zeroes:
        if power == len(_SHIFTS):
            last = _SHIFTS[-1]
            _SHIFTS.append([_apply(last, c) for c in last])
        if zeroes & 1:
            value = _apply(_SHIFTS[power], value)
        zeroes >>= 1
        power += 1
    return value


def crc32c(data):
    crc = 0xffffffff
    for at in range(0, len(data), PAGE):
        piece = data[at:at + PAGE]
        rest = piece.rstrip(b"\0")
        for byte in rest:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xff]
        crc = _shift(crc, len(piece) - len(rest))
    return crc ^ 0xffffffff


def sealed(data, wrong=False):
    """A structure with its checksum in its place."""
    data = bytearray(data)
    data[4:8] = bytes(4)
    struct.pack_into("<I", data, 4, crc32c(data) ^ (0x10 if wrong else 0))
    return bytes(data)


assert crc32c(b"123456789") == 0xE3069283
assert crc32c(bytes(4096)) == 0x98F94189


# ---------------------------------------------------------------------
# Files.

class File:
    """The bytes of a file, those that are not zero."""

    def __init__(self):
        self.pages = {}

    def put(self, at, data):
        data = memoryview(data)
        while len(data):
            page, skip = divmod(at, PAGE)
            n = min(PAGE - skip, len(data))
            if skip == 0 and n == PAGE:
                self.pages[page] = bytearray(data[:n])
            else:
                self.pages.setdefault(page, bytearray(PAGE))[
                    skip:skip + n] = data[:n]
            at += n
            data = data[n:]

    def get(self, at, length):
        out = bytearray()
        while len(out) < length:
            page, skip = divmod(at + len(out), PAGE)
            n = min(PAGE - skip, length - len(out))
            out += self.pages.get(page, bytes(PAGE))[skip:skip + n]
        return bytes(out)

    def flip(self, at, bits=1):
        """Change one byte."""
        self.put(at, bytes([self.get(at, 1)[0] ^ bits]))

    def end(self):
        return (max(self.pages) + 1) * PAGE

    def save(self, path, length):
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "xb", buffering=0) as f:
            run, start = [], None
            for page in sorted(self.pages) + [None]:
                if run and page != start + len(run):
                    os.pwrite(f.fileno(), b"".join(run), start * PAGE)
                    run = []
                if page is not None:
                    if not run:
                        start = page
                    run.append(self.pages[page])
            os.ftruncate(f.fileno(), length)


def data_runs(fd, start, end):
    """Where a file has data, within [start, end)."""
    end = min(end, os.fstat(fd).st_size)
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:
            return
        if data >= end:
            return
        hole = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        yield data, hole
        start = hole


def make_zero(fd, start, end):
    for a, b in data_runs(fd, start, end):
        while a < b:
            n = min(b - a, MIB)
            os.pwrite(fd, bytes(n), a)
            a += n


def fill(seed, at, length):
    """What a disk may hold at guest offset 'at': every sector differs."""
    first, skip = divmod(at, 512)
    last = (at + length + 511) // 512
    return b"".join(struct.pack("<QQ", seed, s) * 32
                    for s in range(first, last))[skip:skip + length]


def some_runs(rnd, sectors):
    """Runs of sectors, in order, from one sector to most of a block."""
    at, out = 0, []
    while at < sectors:
        at += rnd.choice((0, 1, 2, 7, 8, 9, 100, sectors // 3))
        n = rnd.choice((1, 2, 7, 8, 9, 63, 64, 500, sectors // 4))
        if at + n > sectors:
            break
        out.append((at, n))
        at += n + 1
        if rnd.random() < 0.1:
            break
    return out


# ---------------------------------------------------------------------
# The parts of an image.

class Header:
    def __init__(self, seq, file_write, data_write):
        self.signature = b"head"
        self.seq = seq
        self.file_write = file_write
        self.data_write = data_write
        self.log = NO_GUID
        self.log_version = 0
        self.version = 1
        self.log_length = MIB
        self.log_at = MIB
        self.reserved = b""
        self.wrong_crc = False

    def pack(self):
        raw = struct.pack("<4sIQ16s16s16sHHIQ", self.signature, 0, self.seq,
                          self.file_write, self.data_write, self.log,
                          self.log_version, self.version, self.log_length,
                          self.log_at) + self.reserved
        return sealed(raw.ljust(PAGE, b"\0"), self.wrong_crc)


class Region:
    def __init__(self, kind, at, length, flags=1):
        self.kind = kind
        self.at = at
        self.length = length
        self.flags = flags

    def copy(self):
        return Region(self.kind, self.at, self.length, self.flags)


class Table:
    """A region table."""

    def __init__(self, regions):
        self.signature = b"regi"
        self.regions = regions
        self.count = None
        self.wrong_crc = False

    def find(self, kind):
        return next(r for r in self.regions if r.kind == kind)

    def drop(self, kind):
        self.regions = [r for r in self.regions if r.kind != kind]

    def pack(self):
        raw = bytearray(64 * KIB)
        count = len(self.regions) if self.count is None else self.count
        struct.pack_into("<4sIII", raw, 0, self.signature, 0, count, 0)
        for i, r in enumerate(self.regions):
            struct.pack_into("<16sQII", raw, 16 + 32 * i, r.kind, r.at,
                             r.length, r.flags)
        return sealed(raw, self.wrong_crc)


class Item:
    """One of the metadata.  'at' is from the start of the region."""

    def __init__(self, kind, data, flags=REQUIRED, at=None, length=None,
                 tail=0):
        self.kind = kind
        self.data = data
        self.flags = flags
        self.at = at
        self.length = length
        self.tail = tail


class Locator:
    """Names for the disk below: keys are pairs, in order."""

    def __init__(self, keys):
        self.kind = LOCATOR_TYPE
        self.keys = keys
        self.count = None
        self.places = {}    # pair: changes to (key at, value at, lengths)
        self.gap = 0

    def pack(self):
        count = len(self.keys) if self.count is None else self.count
        at = 20 + 12 * max(count, len(self.keys))
        table, strings = b"", b""
        for i, (key, value) in enumerate(self.keys):
            raw = [x if isinstance(x, bytes) else x.encode("utf-16-le")
                   for x in (key, value)]
            place = [at + len(strings), at + len(strings) + len(raw[0]),
                     len(raw[0]), len(raw[1])]
            for which, number in self.places.get(i, {}).items():
                place[which] = number
            table += struct.pack("<IIHH", *place)
            strings += raw[0] + raw[1] + bytes(self.gap)
        table = table.ljust(at - 20, b"\0")
        return struct.pack("<16sHH", self.kind, 0, count) + table + strings


class Block:
    def __init__(self, state, at, pieces, own):
        self.state = state
        self.at = at
        self.pieces = pieces    # offset in the block, bytes
        self.own = own          # sectors of it, as (first, number)


class Entry:
    """Where an entry was put into the ring."""

    def __init__(self, log, at, length, seq):
        self.log = log
        self.at = at
        self.length = length
        self.seq = seq

    def place(self, byte):
        """In the file, of a byte of the entry."""
        return self.log.at + (self.at + byte) % self.log.length


class Log:
    """The ring.  'head' is where the next entry goes."""

    def __init__(self, image, name=None, seq=1, head=0):
        self.image = image
        self.guid = guid() if name is None else name
        self.at = image.headers[0].log_at
        self.length = image.headers[0].log_length
        self.seq = seq
        self.head = head
        self.tail = head

    def steal(self, at, length=PAGE, junk=0xee):
        """Take pages out of the file, leaving junk there (None: what is
        there); descriptors that bring them back."""
        out = []
        f = self.image.file
        for page in range(at, at + length, PAGE):
            out.append(("data", page, f.get(page, PAGE)))
            if junk is not None:
                f.put(page, bytes([junk]) * PAGE)
        return out

    def entry(self, descriptors, seq=None, tail=None, at=None, name=None,
              flushed=None, last=None, length=None, count=None,
              signature=b"loge", spoil=None, after=None, missing=()):
        """Append an entry.  'spoil' may change its bytes before the
        checksum is made, 'after' afterwards; sectors in 'missing' do not
        reach the file."""
        seq = self.seq if seq is None else seq
        at = self.head if at is None else at
        end = self.image.end()
        area, sectors = bytearray(), []
        for kind, place, what in descriptors:
            if kind == "data":
                area += struct.pack("<4s4s8sQQ", b"desc", what[-4:],
                                    what[:8], place, seq)
                sectors.append(struct.pack("<4sI", b"data", seq >> 32) +
                               what[8:-4] +
                               struct.pack("<I", seq & 0xffffffff))
            else:
                area += struct.pack("<4sIQQQ", b"zero", 0, what, place, seq)
        head = struct.pack(
            "<4sIIIQII16sQQ", signature, 0, 0,
            self.tail if tail is None else tail, seq,
            len(descriptors) if count is None else count, 0,
            self.guid if name is None else name,
            end // MIB * MIB if flushed is None else flushed,
            round_up(end, MIB) if last is None else last)
        raw = bytearray((head + area).ljust(
            round_up(64 + len(area), PAGE), b"\0") + b"".join(sectors))
        struct.pack_into("<I", raw, 8, len(raw) if length is None else length)
        if spoil:
            spoil(raw)
        raw = bytearray(sealed(raw))
        if after:
            after(raw)
        for i in range(0, len(raw), PAGE):
            if i // PAGE not in missing:
                self.image.file.put(self.at + (at + i) % self.length,
                                    raw[i:i + PAGE])
        self.head = (at + len(raw)) % self.length
        self.seq = seq + 1
        return Entry(self, at, len(raw), seq)

    def announce(self):
        """Name this log in the headers."""
        for h in self.image.headers:
            h.log = self.guid


class Image:
    """A disk and its file.  'parent' is a path: a .vhdx whose .raw stands
    beside it, or any other file with the bytes of the disk below."""

    def __init__(self, size, block=MIB, sector=512, physical=4096,
                 fixed=False, parent=None, keys=None, log=MIB, place=None):
        place = dict(place or {})
        self.size = size
        self.block = block
        self.sector = sector
        self.parent = parent
        self.ratio = BITMAP_SECTORS * sector // block
        self.nr = round_up(size, block) // block
        if parent is None:
            self.entries = self.nr + (self.nr - 1) // self.ratio
        else:
            chunks = round_up(self.nr, self.ratio) // self.ratio
            self.entries = chunks * (self.ratio + 1)
        self.blocks = {}
        self.bitmaps = {}       # chunk: place
        self.stale = {}         # block: bits that mean nothing
        self.raw_entries = {}   # index: entry as it shall be
        self.file = None
        self.length = None
        self.identifier = "vhdxfile".encode() + "tests".encode("utf-16-le")

        names = guid(), guid()
        self.headers = [Header(seq, *names) for seq in (1, 2)]
        for h in self.headers:
            h.log_length = log
            h.log_at = place.get("log", MIB)
        end = h.log_at + log
        at = place.get("metadata", end)
        end = max(end, at + MIB)
        bat = place.get("bat", end)
        bat_length = max(round_up(8 * self.entries, MIB), MIB)
        self.next = place.get("data", max(end, bat + bat_length))
        self.bat_at, self.metadata_at = bat, at
        self.least = max(end, bat + bat_length)
        regions = [Region(BAT_REGION, bat, bat_length),
                   Region(METADATA_REGION, at, MIB)]
        self.tables = [Table([r.copy() for r in regions]) for _ in "12"]

        self.items = [
            Item(FILE_PARAMETERS, struct.pack(
                "<II", block, (1 if fixed else 0) | (2 if parent else 0))),
            Item(DISK_SIZE, struct.pack("<Q", size), 6),
            Item(DISK_ID, guid(), 6),
            Item(LOGICAL_SECTOR, struct.pack("<I", sector), 6),
            Item(PHYSICAL_SECTOR, struct.pack("<I", physical), 6)]
        self.metadata_signature = b"metadata"
        self.metadata_count = None
        self.locator = None
        if parent is not None:
            self.locator = Locator(self.default_keys(keys))

    def default_keys(self, keys):
        if keys is None:
            keys = [("relative_path", ".\\" + os.path.basename(self.parent))]
        if not any(k == "parent_linkage" for k, _ in keys):
            link = "{%s}" % guid_text(data_write_of(self.parent))
            keys = [("parent_linkage", link)] + keys
        return keys

    # The parts, by name.

    def region(self, kind, change):
        """Change a region in both tables."""
        for t in self.tables:
            change(t.find(kind))

    def add_region(self, at, length, kind=None, flags=0):
        kind = guid() if kind is None else kind
        for t in self.tables:
            t.regions.append(Region(kind, at, length, flags))

    def item(self, kind):
        return next(i for i in self.items if i.kind == kind)

    def drop(self, kind):
        self.items = [i for i in self.items if i.kind != kind]

    def index(self, block):
        return block + block // self.ratio

    def bitmap_index(self, chunk):
        return chunk * (self.ratio + 1) + self.ratio

    def entry_at(self, block):
        """Where in the file the entry of a payload block is."""
        return self.bat_at + 8 * self.index(block)

    def allocate(self, length, at=None):
        if at is None:
            at = self.next
            self.next = at + round_up(length, MIB)
        return at

    # What the disk holds.

    def set(self, n, state=PRESENT, seed=None, at=None, pieces=None,
            own=None, anchor=False):
        """The state of block n and, where it has some, its content: that of
        'seed', all of it or, in large blocks, some of it."""
        seed = n + 1 if seed is None else seed
        if state in (PRESENT, PARTIAL) or anchor:
            at = self.allocate(self.block, at)
            if pieces is None:
                pieces = self.some(n, seed)
        if state == PARTIAL and n // self.ratio not in self.bitmaps:
            self.bitmaps[n // self.ratio] = self.allocate(MIB)
        self.blocks[n] = Block(state, at or 0, pieces or [], own or [])

    def some(self, n, seed):
        start = n * self.block
        if self.block <= 2 * MIB:
            return [(0, fill(seed, start, self.block))]
        part = 64 * KIB
        return [(at, fill(seed, start + at, part))
                for at in (0, self.block // 2 - part // 2,
                           self.block - part)]

    def fill(self, seed=1, order=None):
        """Every block present."""
        numbers = list(range(self.nr))
        if order is not None:
            random.Random(order).shuffle(numbers)
        for n in numbers:
            self.set(n, seed=seed)

    # The bytes.

    def build(self):
        f = self.file = File()
        f.put(0, self.identifier)
        if self.locator and not any(i.kind == PARENT_LOCATOR
                                    for i in self.items):
            self.items.append(Item(PARENT_LOCATOR, self.locator.pack()))
        self.put_metadata()
        self.put_bitmaps()
        for n, b in sorted(self.blocks.items()):
            self.put_block(n, b)
        for index, entry in self.raw_entries.items():
            f.put(self.bat_at + 8 * index, struct.pack("<Q", entry))
        return self

    def put_metadata(self):
        at = 64 * KIB
        table = b""
        for i in self.items:
            length = len(i.data) if i.length is None else i.length
            place = i.at
            if place is None:
                place = at
                at += len(i.data)
            table += struct.pack("<16sIIII", i.kind, place, length, i.flags,
                                 i.tail)
            self.file.put(self.metadata_at + place, i.data)
        count = len(self.items) if self.metadata_count is None else \
            self.metadata_count
        head = struct.pack("<8sHH20x", self.metadata_signature, 0, count)
        self.file.put(self.metadata_at, head + table)

    def put_bitmaps(self):
        each = self.block // self.sector
        for chunk, at in self.bitmaps.items():
            bits = bytearray(MIB)
            for n in range(chunk * self.ratio, (chunk + 1) * self.ratio):
                base = n % self.ratio * each
                b = self.blocks.get(n)
                runs = self.stale.get(n, [])
                if b and b.state == PARTIAL:
                    runs = b.own
                for first, number in runs:
                    for s in range(base + first, base + first + number):
                        bits[s >> 3] |= 1 << (s & 7)
            for i in range(0, MIB, PAGE):
                if any(bits[i:i + PAGE]):
                    self.file.put(at + i, bits[i:i + PAGE])
            self.file.put(self.bat_at + 8 * self.bitmap_index(chunk),
                          struct.pack("<Q", at | PRESENT))

    def put_block(self, n, b):
        if n < self.nr:
            self.file.put(self.entry_at(n), struct.pack("<Q", b.at | b.state))
        pieces = b.pieces
        if b.state == PARTIAL:
            # Nobody may see what the bitmap does not show.
            if self.block <= 2 * MIB and len(b.pieces) == 1:
                self.file.put(b.at, b"\xdd" * len(b.pieces[0][1]))
            pieces = list(self.own_pieces(b))
        elif b.state != PRESENT:
            pieces = [(at, b"\xcc" * len(data)) for at, data in pieces]
        for at, data in pieces:
            self.file.put(b.at + at, data)

    def own_pieces(self, b):
        for first, number in b.own:
            start, end = first * self.sector, (first + number) * self.sector
            for at, data in b.pieces:
                a, z = max(at, start), min(at + len(data), end)
                if a < z:
                    yield a, data[a - at:z - at]

    def end(self):
        """How long the file is."""
        if self.length is not None:
            return self.length
        return round_up(max(self.next, self.least, self.file.end()), MIB)

    def put_headers(self):
        for place, h in zip(HEADERS, self.headers):
            if h is not None:
                self.file.put(place, h.pack())
        for place, t in zip(TABLES, self.tables):
            self.file.put(place, t.pack())

    def seal(self):
        """Headers and tables into the file, unless they are there: to
        spoil them after."""
        if self.file is None:
            self.build()
        self.put_headers()
        self.put_headers = lambda: None
        return self

    def save(self, path, raw=True):
        if self.file is None:
            self.build()
        self.put_headers()
        self.file.save(path, self.end())
        if raw:
            self.save_raw(os.path.splitext(path)[0] + ".raw")
        return self

    def save_raw(self, path):
        if os.path.lexists(path):
            os.unlink(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.ftruncate(fd, self.size)
        if self.parent is not None and os.path.exists(raw_of(self.parent)):
            self.copy_parent(fd)
        for n, b in self.blocks.items():
            self.put_raw(fd, n, b)
        os.ftruncate(fd, self.size)
        os.close(fd)

    def copy_parent(self, fd):
        with open(raw_of(self.parent), "rb") as f:
            for a, z in data_runs(f.fileno(), 0, self.size):
                while a < z:
                    data = os.pread(f.fileno(), min(z - a, MIB), a)
                    os.pwrite(fd, data, a)
                    a += len(data)

    def put_raw(self, fd, n, b):
        start = n * self.block
        if n >= self.nr or b.state == NOT_PRESENT:
            return
        if b.state == PARTIAL:
            for first, number in b.own:
                at = start + first * self.sector
                make_zero(fd, at, at + number * self.sector)
            pieces = self.own_pieces(b)
        else:
            make_zero(fd, start, start + self.block)
            pieces = b.pieces if b.state == PRESENT else []
        for at, data in pieces:
            os.pwrite(fd, data, start + at)


def raw_of(path):
    base, ext = os.path.splitext(path)
    return base + ".raw" if ext == ".vhdx" else path


def data_write_of(path):
    """What children have to know of a disk: from its current header."""
    try:
        with open(path, "rb") as f:
            heads = []
            for at in HEADERS:
                f.seek(at)
                raw = f.read(PAGE)
                if raw[:4] == b"head":
                    heads.append((raw[8:16][::-1], raw[32:48]))
            return max(heads)[1]
    except (OSError, ValueError):
        return guid()


# ---------------------------------------------------------------------
# What must be refused: one thing wrong in each.

FAULTS = {}


def fault(function):
    FAULTS[function.__name__.strip("_").replace("_", "-")] = function
    return function


def small(**kwargs):
    """A disk to be spoiled: three blocks, one of each kind."""
    i = Image(3 * MIB, **kwargs)
    i.set(0, pieces=[(0, b"x" * 512)])
    i.set(2, ZERO)
    return i


def roomy():
    """... with room behind its blocks."""
    i = small()
    i.next = 16 * MIB
    return i


def child(keys=None):
    """The same on a parent that does not matter."""
    return Image(3 * MIB, parent="base.vhdx", keys=keys)


def _one(name, change, make=small):
    """A fault that is one change to an image."""
    def make_it():
        i = make()
        return change(i) or i
    FAULTS[name] = make_it


def _headers(name, **fields):
    def change(i):
        for h in i.headers:
            for field, value in fields.items():
                setattr(h, field, value)
    _one(name, change)


@fault
def identifier():
    i = small()
    i.identifier = b"vhdxfild"
    return i


_headers("headers-crc", wrong_crc=True)
_headers("headers-signature", signature=b"daeh")
_headers("headers-tie", seq=7)


@fault
def headers_none():
    i = small()
    i.headers = [None, None]
    i.put_headers = lambda: [i.file.put(at, t.pack())
                             for at, t in zip(TABLES, i.tables)]
    return i


@fault
def headers_tie():
    i = small()
    i.headers[0].seq = i.headers[1].seq
    i.headers[0].data_write = guid()
    return i


@fault
def version_only_current():
    i = small()
    i.headers[1].version = 2
    return i


_headers("version-0", version=0)
_headers("version-2", version=2)
_headers("log-version", log_version=1, log=b"\1" * 16)
_headers("log-unaligned", log_at=MIB + 4096)
_headers("log-length-unaligned", log_length=MIB // 2)
_headers("log-in-section", log_at=0)
_headers("log-past-end", log_at=1 << 40)
_headers("log-half-past-end", log_length=64 * MIB)
_headers("log-overflow", log_at=(1 << 64) - MIB)
_headers("log-sign", log_at=1 << 63)
_headers("log-length-zero", log_length=0, log=b"\1" * 16)
_headers("log-on-metadata", log_at=2 * MIB)
_headers("log-on-bat", log_at=3 * MIB)
_headers("log-on-block", log_at=4 * MIB)


@fault
def log_too_long():
    return Image(3 * MIB, log=GIB + MIB)


def _tables(name, change):
    def both(i):
        for t in i.tables:
            change(t)
    _one(name, both, roomy)


def _region(name, kind, **fields):
    def change(t):
        r = t.find(kind)
        for field, value in fields.items():
            setattr(r, field, value)
    _tables(name, change)


_tables("tables-crc", lambda t: setattr(t, "wrong_crc", True))
_tables("tables-signature", lambda t: setattr(t, "signature", b"iger"))
_tables("table-count", lambda t: setattr(t, "count", 2048))
_tables("table-count-huge", lambda t: setattr(t, "count", 0xffffffff))
_tables("table-empty", lambda t: setattr(t, "count", 0))
_tables("region-twice", lambda t: t.regions.append(
    Region(BAT_REGION, 8 * MIB, MIB)))
_tables("region-unknown-twice", lambda t: t.regions.extend(
    [Region(b"\5" * 16, 4 * MIB, MIB, 0),
     Region(b"\5" * 16, 5 * MIB, MIB, 0)]))
_tables("region-unknown-required", lambda t: t.regions.append(
    Region(b"\5" * 16, 4 * MIB, MIB, 1)))
_tables("region-no-bat", lambda t: t.drop(BAT_REGION))
_tables("region-no-metadata", lambda t: t.drop(METADATA_REGION))
_region("region-unaligned", BAT_REGION, at=3 * MIB + 65536)
_region("region-length-unaligned", BAT_REGION, length=MIB + 4096)
_region("region-length-zero", BAT_REGION, length=0)
_region("region-in-section", METADATA_REGION, at=0)
_region("region-past-end", METADATA_REGION, at=1 << 45)
_region("region-overflow", METADATA_REGION, at=(1 << 64) - MIB)
_region("region-sign", BAT_REGION, at=1 << 63)
_region("region-overlap", BAT_REGION, at=2 * MIB)
_region("region-on-log", BAT_REGION, at=MIB)
_tables("region-unknown-overlap", lambda t: t.regions.append(
    Region(b"\5" * 16, 2 * MIB, 2 * MIB, 0)))


@fault
def region_half_past_end():
    i = small(place={"metadata": 2 * MIB, "data": 4 * MIB, "bat": 8 * MIB})
    i.region(BAT_REGION, lambda r: setattr(r, "length", 32 * MIB))
    i.length = 10 * MIB
    return i


def _items(name, change):
    _one(name, change)


_items("metadata-signature",
       lambda i: setattr(i, "metadata_signature", b"metadatA"))
_items("metadata-count", lambda i: setattr(i, "metadata_count", 2048))


@fault
def metadata_long():
    i = Image(3 * MIB, place={"bat": 2 * MIB, "metadata": 3 * MIB,
                              "data": 256 * MIB})
    i.region(METADATA_REGION, lambda r: setattr(r, "length", 129 * MIB))
    return i


@fault
def metadata_users():
    i = small()
    i.items += [Item(guid(), b"", USER, at=0, length=0)
                for _ in range(1025)]
    return i


_items("item-twice", lambda i: i.items.append(
    Item(DISK_SIZE, struct.pack("<Q", MIB), 6)))
_items("item-user-twice", lambda i: i.items.extend(
    [Item(b"\7" * 16, b"one", USER), Item(b"\7" * 16, b"two", USER)]))
_items("item-zero-guid", lambda i: i.items.append(
    Item(NO_GUID, b"data", 0)))
_items("item-user-required", lambda i: i.items.append(
    Item(b"\7" * 16, b"data", USER | REQUIRED)))
_items("item-unknown-required", lambda i: i.items.append(
    Item(b"\7" * 16, b"data", REQUIRED)))
_items("item-incomplete", lambda i: i.items.append(
    Item(INCOMPLETE, b"data", REQUIRED)))
_items("item-in-table", lambda i: setattr(
    i.item(DISK_SIZE), "at", 32 * KIB))
_items("item-at-table-end", lambda i: setattr(
    i.item(DISK_SIZE), "at", 64 * KIB - 1))
_items("item-outside", lambda i: i.items.append(
    Item(b"\7" * 16, b"", 0, at=MIB, length=8)))
_items("item-across-end", lambda i: i.items.append(
    Item(b"\7" * 16, b"1234", 0, at=MIB - 4, length=8)))
_items("item-overflow", lambda i: i.items.append(
    Item(b"\7" * 16, b"", 0, at=0xfffffff8, length=16)))
_items("item-overlap", lambda i: i.items.append(
    Item(b"\7" * 16, b"", 0, at=64 * KIB + 4, length=8)))
_items("item-empty-with-place", lambda i: i.items.append(
    Item(b"\7" * 16, b"", 0, at=128 * KIB, length=0)))


@fault
def item_long():
    i = Image(3 * MIB, place={"bat": 2 * MIB, "metadata": 3 * MIB,
                              "data": 8 * MIB})
    i.region(METADATA_REGION, lambda r: setattr(r, "length", 4 * MIB))
    i.items.append(Item(b"\7" * 16, b"", 0, at=MIB, length=MIB + 1))
    return i


def _known():
    names = {"parameters": FILE_PARAMETERS, "size": DISK_SIZE,
             "id": DISK_ID, "logical": LOGICAL_SECTOR,
             "physical": PHYSICAL_SECTOR}
    for name, kind in names.items():
        _items("item-no-" + name, lambda i, kind=kind: i.drop(kind))

        def longer(i, kind=kind, by=b"\0"):
            i.item(kind).data += by

        def shorter(i, kind=kind):
            i.item(kind).data = i.item(kind).data[:-1]
        _items("item-long-" + name, longer)
        _items("item-short-" + name, shorter)


_known()


def _value(name, kind, form, *values):
    _items(name, lambda i: setattr(i.item(kind), "data",
                                   struct.pack(form, *values)))


_value("block-zero", FILE_PARAMETERS, "<II", 0, 0)
_value("block-small", FILE_PARAMETERS, "<II", MIB // 2, 0)
_value("block-large", FILE_PARAMETERS, "<II", 512 * MIB, 0)
_value("block-no-power", FILE_PARAMETERS, "<II", 3 * MIB, 0)
_value("sector-logical", LOGICAL_SECTOR, "<I", 1024)
_value("sector-logical-zero", LOGICAL_SECTOR, "<I", 0)
_value("sector-physical", PHYSICAL_SECTOR, "<I", 8192)
_value("size-zero", DISK_SIZE, "<Q", 0)
_value("size-over", DISK_SIZE, "<Q", 64 * TIB + 512)
_value("size-huge", DISK_SIZE, "<Q", (1 << 64) - 512)
_value("size-unaligned", DISK_SIZE, "<Q", 3 * MIB - 1)


@fault
def size_unaligned_4096():
    i = small(sector=4096)
    i.item(DISK_SIZE).data = struct.pack("<Q", 3 * MIB - 512)
    return i


# Differencing disks.

LINK = ("parent_linkage", "{11111111-2222-4333-8444-555555555555}")
PATH = ("relative_path", ".\\base.vhdx")


def _keys(name, keys, change=None):
    def make_it():
        i = child(keys=[LINK])
        i.locator = Locator(list(keys))
        if change:
            change(i.locator)
        return i
    FAULTS[name] = make_it


@fault
def locator_missing():
    i = child()
    i.locator = None
    return i


@fault
def locator_short():
    i = child()
    i.items.append(Item(PARENT_LOCATOR, LOCATOR_TYPE + b"\0\0"))
    return i


@fault
def locator_long_count():
    i = child()
    i.items.append(Item(PARENT_LOCATOR, Locator([LINK, PATH]).pack()[:40]))
    return i


_keys("locator-kind", [LINK, PATH], lambda l: setattr(l, "kind", b"\3" * 16))
_keys("locator-no-keys", [], lambda l: setattr(l, "count", 0))
_keys("locator-many-keys",
      [LINK, PATH] + [("key%d" % n, "value") for n in range(255)])
_keys("locator-no-linkage", [PATH])
_keys("locator-bad-linkage", [("parent_linkage", "{not-a-guid}"), PATH])
_keys("locator-no-path", [LINK, ("else", "where")])
_keys("locator-twice", [LINK, PATH, ("relative_path", ".\\other.vhdx")])
_keys("locator-linkage-twice", [LINK, LINK, PATH])
_keys("locator-bounds", [LINK, PATH],
      lambda l: l.places.update({1: {1: 0xffff}}))
_keys("locator-key-bounds", [LINK, PATH],
      lambda l: l.places.update({1: {0: 0xfffffffe}}))
_keys("locator-across-end", [LINK, PATH],
      lambda l: l.places.update({1: {3: 2 * len(PATH[1]) + 2}}))
_keys("locator-odd", [LINK, PATH],
      lambda l: l.places.update({1: {3: 2 * len(PATH[1]) - 1}}))
_keys("locator-odd-key", [LINK, PATH],
      lambda l: l.places.update({1: {2: 2 * len(PATH[0]) - 1}}))
_keys("locator-empty", [LINK, PATH], lambda l: l.places.update({1: {3: 0}}))
_keys("locator-empty-key", [LINK, PATH],
      lambda l: l.places.update({1: {2: 0}}))
_keys("locator-zero-place", [LINK, PATH],
      lambda l: l.places.update({1: {1: 0}}))
_keys("locator-nul", [LINK, ("relative_path", ".\\base\0.vhdx")])
_keys("locator-surrogate",
      [LINK, ("relative_path", "base".encode("utf-16-le") + b"\0\xd8")])
_keys("locator-surrogate-low",
      [LINK, ("relative_path", b"\0\xdc" + "base".encode("utf-16-le"))])


# The block allocation table.  Each of these spoils one entry of an image
# that is made by 'make', for tests that have more in the table.

ENTRIES = {}


def _entry(name, is_child=False):
    def keep(function):
        ENTRIES[name] = (function, is_child)

        def make_it():
            if is_child:
                i = Image(64 * MIB, parent="base.vhdx", block=2 * MIB)
            else:
                i = Image(64 * MIB, block=2 * MIB)
            i.set(0, PARTIAL if is_child else PRESENT,
                  pieces=[(0, b"x" * 512)], own=[(0, 8)])
            i.set(3, pieces=[(0, b"y" * 512)])
            function(i)
            return i
        FAULTS["bat-" + name] = make_it
        return function
    return keep


def _both(name):
    """... which is as wrong in a differencing disk."""
    def keep(function):
        _entry(name)(function)
        _entry("child-" + name, True)(function)
    return keep


def _state(name, n, state, is_child=False):
    def spoil(i):
        i.set(2, pieces=[])
        i.raw_entries[i.index(2)] = i.blocks[2].at | state
    _entry(name, is_child)(spoil)


for _s in (4, 5):
    _state("state-%d" % _s, 2, _s)
    _state("child-state-%d" % _s, 2, _s, True)


@_both("reserved-low")
def _(i):
    i.raw_entries[i.index(3)] = i.blocks[3].at | 8 | PRESENT


@_both("reserved-high")
def _(i):
    i.raw_entries[i.index(3)] = i.blocks[3].at | 0x80000 | PRESENT


@_both("reserved-absent")
def _(i):
    i.raw_entries[i.index(5)] = 0x10


@_entry("partial")
def _(i):
    i.raw_entries[i.index(3)] = i.blocks[3].at | PARTIAL


@_both("at-zero")
def _(i):
    i.raw_entries[i.index(3)] = PRESENT


@_both("past-end")
def _(i):
    i.raw_entries[i.index(3)] = i.next + 64 * MIB | PRESENT


@_both("across-end")
def _(i):
    i.raw_entries[i.index(3)] = i.next - MIB | PRESENT


@_both("huge")
def _(i):
    i.raw_entries[i.index(3)] = 1 << 63 | PRESENT


@_both("overflow")
def _(i):
    i.raw_entries[i.index(3)] = (1 << 64) - MIB | PRESENT


@_both("on-log")
def _(i):
    i.raw_entries[i.index(3)] = i.headers[0].log_at | PRESENT


@_both("on-metadata")
def _(i):
    i.raw_entries[i.index(3)] = i.metadata_at | PRESENT


@_both("on-bat")
def _(i):
    i.raw_entries[i.index(3)] = i.bat_at | PRESENT


@_both("same")
def _(i):
    i.raw_entries[i.index(3)] = i.blocks[0].at | PRESENT


@_both("half")
def _(i):
    i.raw_entries[i.index(3)] = i.blocks[0].at + MIB | PRESENT


@_both("anchor")
def _(i):
    i.raw_entries[i.index(5)] = i.blocks[3].at | UNMAPPED


@_both("anchor-undefined")
def _(i):
    i.raw_entries[i.index(5)] = i.blocks[0].at + MIB | UNDEFINED


@_both("anchor-in-log")
def _(i):
    i.raw_entries[i.index(5)] = i.headers[0].log_at | UNMAPPED


@_both("anchor-past-end")
def _(i):
    i.raw_entries[i.index(5)] = 1 << 50 | UNDEFINED


@_both("on-region")
def _(i):
    at = i.allocate(2 * MIB)
    i.add_region(at, 2 * MIB)
    i.raw_entries[i.index(3)] = at | PRESENT


@_entry("no-bitmap", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = 0


@_entry("bitmap-same", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = i.blocks[3].at | PRESENT


@_entry("bitmap-half", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = i.blocks[0].at + MIB | PRESENT


@_entry("bitmap-at-zero", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = PRESENT


@_entry("bitmap-past-end", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = 1 << 50 | PRESENT


@_entry("bitmap-on-metadata", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = i.metadata_at | PRESENT


@_entry("bitmap-reserved", True)
def _(i):
    i.raw_entries[i.bitmap_index(0)] = i.bitmaps[0] | 0x100 | PRESENT


def _bitmap_state(state):
    @_entry("bitmap-state-%d" % state, True)
    def _(i):
        i.blocks[0].state = PRESENT
        i.raw_entries[i.bitmap_index(0)] = i.bitmaps[0] | state


for _s in (1, 2, 3, 4, 5, 7):
    _bitmap_state(_s)


@fault
def bat_bitmap_without_parent():
    i = Image(8 * GIB, block=256 * MIB)
    i.raw_entries[i.bitmap_index(0)] = i.allocate(MIB) | PRESENT
    return i


@fault
def bat_small():
    i = Image(256 * GIB, block=MIB)
    i.region(BAT_REGION, lambda r: setattr(r, "length", MIB))
    return i


@fault
def bat_small_child():
    """Enough for the blocks, but not for the bitmaps."""
    i = Image(127 * GIB, block=MIB, parent="base.vhdx")
    n = round_up(8 * (i.nr + (i.nr - 1) // i.ratio), MIB)
    assert n < 8 * i.entries
    i.region(BAT_REGION, lambda r: setattr(r, "length", n))
    return i


# ---------------------------------------------------------------------
# For logs: an image is made whole; then pages are taken out of it, into
# the log, and junk is left in their place.

def disk(log=MIB, size=3 * MIB, seed=1, **kwargs):
    i = Image(size, log=log, **kwargs)
    i.fill(seed, order=seed)
    return i.build()


def dirty(i, name, log):
    log.announce()
    i.save(name + ".vhdx")


def poison(i):
    """What must never be replayed: it would destroy table and data."""
    junk = b"\xbd" * PAGE
    return [("data", i.bat_at, junk), ("data", i.blocks[0].at, junk),
            ("zero", i.metadata_at, 65536)]


# ---------------------------------------------------------------------

def digest(paths):
    for path in paths:
        h = hashlib.sha256()
        with open(path, "rb") as f:
            fd = f.fileno()
            size = os.fstat(fd).st_size
            for start, end in data_runs(fd, 0, size):
                h.update(struct.pack("<QQ", start, end))
                while start < end:
                    data = os.pread(fd, min(end - start, MIB), start)
                    h.update(data)
                    start += len(data)
        print(h.hexdigest(), size, path)


def main(argv):
    global _guid_seed
    if argv[:1] == ["run"] and len(argv) == 2:
        with open(argv[1]) as f:
            text = f.read()
        _guid_seed = text.encode()
        exec(compile(text, argv[1], "exec"), dict(globals()))
    elif argv[:1] == ["fault"] and len(argv) > 2:
        for name in argv[2:]:
            _guid_seed = name.encode()
            FAULTS[name]().save(os.path.join(argv[1], name + ".vhdx"),
                                raw=False)
    elif argv == ["faults"]:
        print("\n".join(sorted(FAULTS)))
    elif argv[:1] == ["digest"]:
        digest(argv[1:])
    else:
        sys.exit("usage: see the head of this file")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
