"""Headers of qcow2 images, read, changed and rewritten.

qcow2-header.py show FILE
    print the header in words: version, length, unknown fields, one line
    for each extension, the backing name
qcow2-header.py unknown FILE
    print only what programs do not know, sorted
qcow2-header.py plant FILE
    put unknown fields and extensions into the header of an image

The class Header is also for programs that rewrite headers over NBD.

SPDX-License-Identifier: BSD-3-Clause
"""

import struct
import sys

MAGIC = 0x514649fb
BACKING_FORMAT = 0xe2792aca
KNOWN = (BACKING_FORMAT, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441)


class Header:
    """What cluster 0 holds; a program that knows 'known_len' bytes."""

    def __init__(self, cluster):
        cluster = bytes(cluster)
        magic, self.version, name, name_len, bits = struct.unpack_from(
            ">IIQII", cluster)
        assert magic == MAGIC and self.version in (2, 3), cluster[:8]
        self.cluster_len = 1 << bits
        self.len = 72
        if self.version == 3:
            self.len, = struct.unpack_from(">I", cluster, 100)
        self.fixed = bytearray(cluster[:min(self.len, 112)])
        self.rest = cluster[112:self.len]
        self.extensions = []
        self.name = cluster[name:name + name_len] if name else None
        self.name_at = name
        at, limit = self.len, name or self.cluster_len
        while at + 8 <= limit:
            kind, size = struct.unpack_from(">II", cluster, at)
            assert size <= limit - at - 8, "extension too large"
            if kind == 0:
                break
            self.extensions.append((kind, cluster[at + 8:at + 8 + size]))
            at += 8 + (size + 7) // 8 * 8

    def unknown(self):
        return [e for e in self.extensions if e[0] not in KNOWN]

    def forget_unknown(self):
        """Be a program that knows what is in the specification."""
        self.rest = b""
        self.extensions = [e for e in self.extensions if e[0] in KNOWN]

    def to_bytes(self, name_at=None, pad=True):
        """The cluster; the name right behind the list, or at name_at."""
        fixed = bytearray(self.fixed)
        if self.version == 3:
            struct.pack_into(">I", fixed, 100, len(fixed) + len(self.rest))
        cluster = fixed + self.rest
        for kind, data in self.extensions:
            cluster += struct.pack(">II", kind, len(data))
            cluster += data + bytes(-len(data) % 8)
        cluster += bytes(8)
        struct.pack_into(">QI", cluster, 8, 0, 0)
        if self.name is not None:
            at = len(cluster) if name_at is None else name_at
            struct.pack_into(">QI", cluster, 8, at, len(self.name))
            cluster += bytes(at - len(cluster)) + self.name
        assert len(cluster) <= self.cluster_len
        return bytes(cluster) + bytes(self.cluster_len - len(cluster)
                                      if pad else 0)


def read(name):
    with open(name, "rb") as f:
        return Header(f.read(2 << 20))


def plant(name):
    header = read(name)
    if header.version == 3:
        header.rest += b"A FUTURE FIELD.."
    header.extensions.insert(0, (0x12345678, b"first unknown"))
    header.extensions.append((0x7fffffff, b""))
    header.extensions.append((0x12345678, b"the same kind again"))
    header.extensions.append((0x00c0ffee, bytes(range(256)) * 2))
    with open(name, "r+b") as f:
        f.write(header.to_bytes())


def words(data):
    return data.decode("latin-1").encode("unicode_escape").decode()


def main(command, name):
    if command == "plant":
        plant(name)
        return
    header = read(name)
    lines = ["%08x %s" % (kind, words(data))
             for kind, data in header.unknown()]
    fields = "fields " + words(header.rest)
    if command == "unknown":
        print("\n".join(sorted(lines) + [fields]))
        return
    assert command == "show", command
    print("version %d length %d" % (header.version, header.len))
    print(fields)
    for kind, data in header.extensions:
        print("%08x %s" % (kind, words(data)))
    if header.name is not None:
        print("name " + words(header.name))


if __name__ == "__main__":
    main(*sys.argv[1:])
