#!/usr/bin/env bash
# What the server does not know stays in the image, byte for byte.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# A header with unknown fields, bits and extensions of every class, a table
# of feature names that is not QEMU's, and a name of a backing file.
program decorate.py <<'END'
import struct
import sys

name = sys.argv[1]
with open(name, "r+b") as f:
    head = bytearray(f.read(72))
    backing = b"base.raw"

    def extension(kind, data):
        return struct.pack(">II", kind, len(data)) + \
            data + bytes(-len(data) % 8)

    names = b"".join(struct.pack(">BB46s", c, b, n) for c, b, n in (
        (0, 40, b"a future incompatible feature"),
        (1, 33, b"a future compatible feature"),
        (2, 7, b"a future autoclear feature")))
    rest = struct.pack(">QQQII", 0, 1 << 33 | 1 << 63, 1 << 7 | 1 << 62, 4,
                       128)
    rest += bytes(8)                            # compression type, padding
    rest += b"A FUTURE FIELD.."                 # 112 to 127
    rest += extension(0x12345678, b"first unknown")
    rest += extension(0xe2792aca, b"raw")
    rest += extension(0x6803f857, names)
    rest += extension(0x7fffffff, b"")
    rest += extension(0x12345678, b"the same kind again")
    rest += extension(0, b"")
    head[4:8] = struct.pack(">I", 3)
    head[8:20] = struct.pack(">QI", 72 + len(rest), len(backing))
    f.seek(0)
    f.write(head + rest + backing)
END

# header FILE: print the bytes of the first cluster but for those that may
# differ: places of the tables (36..59), autoclear bits (88..95).
header () {
  peek "$1" 0 36
  peek "$1" 60 28
  peek "$1" 96 65440
}

source_file base.raw 1048576
create model.qcow2 4M
"$PYTHON" decorate.py model.qcow2
qemu-img info model.qcow2 > info
expect_text info 'backing file: base.raw' 'virtual size: 4 MiB'
known=$(header model.qcow2)
autoclear=$(peek model.qcow2 88 8)
[ $autoclear = 4000000000000080 ] || fail "autoclear bits $autoclear"

program first.py <<'END'
import os


def file_bytes():
    with open("disk.qcow2", "rb") as f:
        return f.read()


before = file_bytes()
h.pread(100000, 0)
status(0, h.get_size())
h.cache(65536, 0)
h.flush()
other = also_connect()
other.pread(512, 65536)
other.flush()
assert file_bytes() == before, "no change yet, and the image changed"

kind = os.environ["kind"]
if kind == "write":
    h.pwrite(b"x", 1000)
elif kind == "zero":
    h.zero(65536, 65536)
elif kind == "trim":
    h.trim(65536, 65536)
elif kind == "fua":
    h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA)
# Before the answer to the first change, without any flush.
assert file_bytes()[88:96] == bytes(8), file_bytes()[88:96].hex()
h.flush()
END

for kind in write zero trim fua; do
  export kind
  cp model.qcow2 disk.qcow2
  writing first.py disk.qcow2
  [ "$(header disk.qcow2)" = "$known" ] || fail "$kind: the header changed"
  [ "$(peek disk.qcow2 88 8)" = 0000000000000000 ] ||
    fail "$kind: unknown autoclear bits are still set"
  sound disk.qcow2
done

# Much more, until both tables have to grow.
plugin_args=()
to_raw disk.qcow2 disk.model
exercise disk.qcow2 disk.model
[ "$(header disk.qcow2)" = "$known" ] || fail "load changed the header"
qemu-img create -q -f qcow2 -o cluster_size=1k,refcount_bits=64 \
         grow.qcow2 24M
poke grow.qcow2 80 '\x80'
poke grow.qcow2 88 '\x80'
table=$(be64 grow.qcow2 48)
before=$(peek grow.qcow2 96 928)
program fill.py <<'END'
for at in range(0, 20 << 20, 1 << 20):
    h.pwrite(b"full" * (1 << 18), at)
    h.flush()
END
writing fill.py grow.qcow2
sound grow.qcow2
io grow.qcow2 'read -P 0 20M 4M'
to_raw grow.qcow2 grow.model
exercise grow.qcow2 grow.model --ops 100
[ "$(be64 grow.qcow2 48)" -ne "$table" ] ||
  fail "the refcount table did not grow; the test tests nothing"
[ "$(peek grow.qcow2 96 928)" = "$before" ] || fail "the header changed"
[ "$(peek grow.qcow2 80 8)" = 8000000000000000 ] || fail "compatible bits"
[ "$(peek grow.qcow2 88 8)" = 0000000000000000 ] || fail "autoclear bits"

# The known autoclear bit of raw data files stays: we keep its promise.
create data.qcow2 2M -o data_file=data.raw,data_file_raw=on
poke data.qcow2 88 '\x80'
plugin_args=(data-file=data.raw)
to_raw data.qcow2 data.model
exercise data.qcow2 data.model --ops 100
[ "$(peek data.qcow2 88 8)" = 0000000000000002 ] || fail "data file bits"
plugin_args=()

# Bitmaps: QEMU must not trust them any more, and nothing of them may be
# overwritten before QEMU has dropped them.
create bitmap.qcow2 8M
qemu-img bitmap --add bitmap.qcow2 b0
qemu-img bitmap --add -g 32k --disable bitmap.qcow2 b1
io bitmap.qcow2 'write -P 1 1M 64k'
[ $(($(be64 bitmap.qcow2 88) & 1)) -eq 1 ] || fail "no bitmaps"
to_raw bitmap.qcow2 bitmap.model
drive bitmap.qcow2 bitmap.model
[ $(($(be64 bitmap.qcow2 88) & 1)) -eq 0 ] ||
  fail "the bitmaps are still called consistent"
sound_but_leaks bitmap.qcow2
holds bitmap.qcow2 bitmap.model
drive bitmap.qcow2 bitmap.model --seed 2
sound_but_leaks bitmap.qcow2
io bitmap.qcow2 'write -P 7 2M 1M' 'read -P 7 2M 1M'
qemu-img info bitmap.qcow2 > info
expect_no_text info 'name: b0' 'name: b1'
qemu-img check -q -r leaks bitmap.qcow2 > check.log 2>&1 || :
sound bitmap.qcow2
qemu-img bitmap --add bitmap.qcow2 b2
to_raw bitmap.qcow2 bitmap.model
drive bitmap.qcow2 bitmap.model --seed 3
holds bitmap.qcow2 bitmap.model
sound_but_leaks bitmap.qcow2

# Bitmaps in use, left by a crash.
create inuse.qcow2 8M
qemu-img bitmap --add inuse.qcow2 b0
io_abort inuse.qcow2 'write -P 2 2M 64k'
to_raw inuse.qcow2 inuse.model -U
drive inuse.qcow2 inuse.model
sound_but_leaks inuse.qcow2
holds inuse.qcow2 inuse.model
