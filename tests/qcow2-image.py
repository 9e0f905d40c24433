#!/usr/bin/python3
# Make and look into qcow2 images in ways that QEMU's tools do not offer.
#
# usage: qcow2-image.py source FILE SIZE
#                       packed IMAGE
#                       entry IMAGE GUEST
#                       add-packed IMAGE GUEST zlib15|stored|zstd2|zstdnosize
#                       subclusters IMAGE SEED
#                       chain DIRECTORY COUNT
#
# Only what the published format description says is used here.
#
# SPDX-License-Identifier: BSD-3-Clause

import os
import random
import struct
import sys
import zlib

OFFSET = 0x00fffffffffffe00
PACKED = 1 << 62
COPIED = 1 << 63


class Image:
    """Tables of an image, read and changed in place."""

    def __init__(self, name):
        self.f = open(name, "r+b")
        self.bits = self.be("I", 20)
        self.cluster = 1 << self.bits
        self.size = self.be("Q", 24)
        self.l1_size = self.be("I", 36)
        self.l1 = self.be("Q", 40)
        v3 = self.be("I", 4) == 3
        features = self.be("Q", 72) if v3 else 0
        self.entry_len = 16 if features & 16 else 8
        self.shift = 70 - self.bits

    def be(self, kind, at):
        self.f.seek(at)
        n = struct.calcsize(">" + kind)
        return struct.unpack(">" + kind, self.f.read(n).ljust(n, b"\0"))[0]

    def put(self, kind, at, value):
        self.f.seek(at)
        self.f.write(struct.pack(">" + kind, value))

    def entry_place(self, guest):
        """Host offset of the L2 entry of a guest offset; None: no table."""
        entries = self.cluster // self.entry_len
        n = guest >> self.bits
        table = self.be("Q", self.l1 + 8 * (n // entries)) & OFFSET
        return table + n % entries * self.entry_len if table else None

    def entries(self):
        for guest in range(0, self.size, self.cluster):
            place = self.entry_place(guest)
            if place is not None:
                yield guest, place, self.be("Q", place)

    def packed_range(self, entry):
        host = entry & ((1 << self.shift) - 1)
        sectors = (entry >> self.shift) & ((1 << (self.bits - 8)) - 1)
        return host, (host // 512 + sectors + 1) * 512


def source(name, size):
    """Bytes of every kind: text, noise, zeroes, one repeated byte."""
    rnd = random.Random(size)
    with open(name, "wb") as f:
        at = 0
        while at < size:
            n = min(rnd.choice((512, 4096, 10000, 65536, 200000)), size - at)
            kind = rnd.randrange(5)
            if kind == 0:
                f.write(rnd.getrandbits(8 * n).to_bytes(n, "big"))
            elif kind in (1, 2):
                line = b"".join(b"line %d of %d\n" % (at + i, n)
                                for i in range(0, n, 9))
                f.write(line[:n])
            elif kind == 3:
                f.write(bytes([rnd.randrange(1, 256)]) * n)
            else:
                f.seek(n, os.SEEK_CUR)
            at += n
        f.truncate(size)


def packed(name):
    """Print how many clusters are compressed, and how many of their streams
    touch more than one host cluster, share one, or start inside a sector."""
    image = Image(name)
    total = crossing = inside = 0
    for _, _, entry in image.entries():
        if entry & PACKED:
            host, end = image.packed_range(entry)
            total += 1
            crossing += host // image.cluster != (end - 1) // image.cluster
            inside += host % 512 != 0
    print(total, crossing, inside)


def entry(name, guest):
    """Print the host offset of the L2 entry of a guest offset."""
    place = Image(name).entry_place(guest)
    if place is None:
        sys.exit("%s: no L2 table for %d" % (name, guest))
    print(place)


def zstd_frame(value, size, with_size):
    """A zstd frame that unpacks to one repeated byte."""
    if with_size:
        head = b"\xa0" + struct.pack("<I", size)
    else:
        head = b"\x00\x58"              # window of 2 MiB, size unknown
    blocks = b""
    while size > 0:
        n = min(size, 1 << 17)
        size -= n
        block = (size == 0) | 1 << 1 | n << 3
        blocks += struct.pack("<I", block)[:3] + bytes([value])
    return b"\x28\xb5\x2f\xfd" + head + blocks


def stream(image, how):
    """A whole cluster compressed in a way that QEMU reads and does not
    write itself."""
    size = image.cluster
    rnd = random.Random(5)
    if how == "zlib15":                 # distances far beyond 4 KiB
        noise = rnd.getrandbits(8 * (size // 3)).to_bytes(size // 3, "big")
        c = zlib.compressobj(9, zlib.DEFLATED, -15)
        return c.compress((noise * 4)[:size]) + c.flush()
    if how == "stored":                 # no compression for half of it
        half = size // 2
        noise = rnd.getrandbits(8 * half).to_bytes(half, "big")
        first = zlib.compressobj(0, zlib.DEFLATED, -15)
        out = first.compress(noise) + first.flush(zlib.Z_SYNC_FLUSH)
        second = zlib.compressobj(9, zlib.DEFLATED, -15)
        return out + second.compress(b"\x33" * half) + second.flush()
    if how == "zstd2":                  # two frames for one cluster
        return zstd_frame(0x44, size // 2, True) + \
            zstd_frame(0x55, size // 2, True)
    if how == "zstdnosize":
        return zstd_frame(0x66, size, False)
    raise ValueError(how)


def add_packed(name, guest, how):
    """Let a guest cluster be a compressed one whose stream is at the end of
    the file, in the middle of a sector, with rubbish behind it."""
    image = Image(name)
    data = stream(image, how)
    if len(data) >= image.cluster:
        sys.exit("%s: the stream is too long" % how)
    host = (image.f.seek(0, os.SEEK_END) + 511) // 512 * 512 + 77
    image.f.seek(host)
    image.f.write(data + b"\xa5" * 1000)
    extra = (host + len(data) - 1) // 512 - host // 512
    image.put("Q", image.entry_place(guest),
              PACKED | extra << image.shift | host)


def subclusters(name, seed):
    """Give every allocated extended L2 entry random, valid bitmaps."""
    image = Image(name)
    rnd = random.Random(seed)
    for guest, place, entry in list(image.entries()):
        if entry & PACKED or not entry & OFFSET:
            continue
        allocated = rnd.getrandbits(32)
        zero = rnd.getrandbits(32) & ~allocated
        kind = guest // image.cluster % 4
        if kind == 1:                   # single subclusters, far apart
            allocated, zero = 0x80000001, 0x00010000
        elif kind == 2:                 # long runs
            allocated, zero = 0x00ffff00, 0xff000000
        image.put("Q", place + 8, zero << 32 | allocated)


def chain(directory, count):
    """A chain of 'count' files, f000 at the bottom; f001 is in place and
    names f000, the rest are its copies with other names in them."""
    with open(os.path.join(directory, "f001"), "rb") as f:
        model = f.read()
    if model.count(b"f000") != 1:
        sys.exit("the name of the backing file must occur once")
    for n in range(2, count):
        with open(os.path.join(directory, "f%03d" % n), "wb") as f:
            f.write(model.replace(b"f000", b"f%03d" % (n - 1)))


def main():
    command, *args = sys.argv[1:]
    if command == "source":
        source(args[0], int(args[1]))
    elif command == "packed":
        packed(args[0])
    elif command == "entry":
        entry(args[0], int(args[1], 0))
    elif command == "add-packed":
        add_packed(args[0], int(args[1], 0), args[2])
    elif command == "subclusters":
        subclusters(args[0], int(args[1]))
    elif command == "chain":
        chain(args[0], int(args[1]))
    else:
        sys.exit("unknown command " + command)


if __name__ == "__main__":
    main()
