#!/usr/bin/env bash
# What zeroing and trimming do to an image: content, space, extents.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

cat > common.py <<'END'
import os

C = int (os.environ["cluster"])


def blocks (name="disk.qcow"):
    """Bytes that the file occupies on the host."""
    return os.stat (name).st_blocks * 512
END

# on PROGRAM: run common.py and PROGRAM on disk.qcow, then judge the image.
on () {
  cluster=$(cluster_size disk.qcow)
  export cluster
  cat common.py "$1" > both.py
  writing both.py disk.qcow
  sound disk.qcow
}

truncate -s 4M empty.raw

# Whole clusters of data without a backing file: entries become 0.
cat > whole.py <<'END'
h.pwrite (b"a" * (16 * C), 0)
h.flush ()
assert kind (0, 16 * C) == 0

h.zero (2 * C, 0, NO_HOLE)
assert is_zero (0, 2 * C)
h.zero (2 * C, 2 * C)
assert is_zero (2 * C, 2 * C) and kind (2 * C, 2 * C) & ZERO
h.trim (4 * C, 4 * C)
assert is_zero (4 * C, 4 * C) and kind (4 * C, 4 * C) == HOLE | ZERO
assert h.pread (8 * C, 8 * C) == b"a" * (8 * C)
for flag in (0, nbd.CMD_FLAG_FUA):
    h.trim (C, 8 * C, flag)
    h.zero (C, 9 * C, flag | NO_HOLE)
    assert is_zero (8 * C, 2 * C)

# The part of a cluster that is left is as it was.
h.zero (100, 10 * C + 50)
want = b"a" * 50 + bytes (100) + b"a" * (C - 150)
assert h.pread (C, 10 * C) == want
h.trim (100, 10 * C + 300)              # old or zero
got = h.pread (C, 10 * C)
assert got[:300] == want[:300] and got[400:] == want[400:]
assert got[300:400] in (b"a" * 100, bytes (100))
h.flush ()
END
for bits in 9 12 16; do
  plain empty.raw disk.qcow --cluster-bits $bits
  on whole.py
  io disk.qcow "read -P 0 0 $((8 * cluster))" \
     "read -P 97 $((11 * cluster)) $((5 * cluster))"
done

# Space that is given back is the host's again, and is used again.
cat > turnover.py <<'END'
size = 2 << 20
h.pwrite (b"x" * size, 0)
h.flush ()
used = blocks ()
for n in range (20):
    h.trim (size, 0)
    h.flush ()
    h.pwrite (bytes ([n + 1]) * size, 0)
    h.flush ()
assert h.pread (size, 0) == bytes ([20]) * size
assert blocks () < used + 2 * size, (used, blocks ())
h.trim (size, 0)
h.flush ()
h.flush ()
END
plain empty.raw disk.qcow
on turnover.py
used=$(($(stat -c %b disk.qcow) * 512))
[ $used -lt 1048576 ] || fail "$used bytes of an empty disk are in use"
length=$(stat -c %s disk.qcow)
[ $length -lt 10000000 ] || fail "the file is $length bytes long"

# What is freed in an image with data is given back too, though the format
# does not record what is free.
head -c 4M /dev/zero | tr '\0' 'd' > full.raw
cat > give.py <<'END'
before = blocks ()
h.trim (3 << 20, 1 << 20)
h.flush ()
h.flush ()
assert is_zero (1 << 20, 3 << 20)
assert h.pread (1 << 20, 0) == b"d" * (1 << 20)
END
for bits in 12 16; do
  plain full.raw disk.qcow --cluster-bits $bits
  on give.py
  used=$(($(stat -c %b disk.qcow) * 512))
  [ $used -lt 2500000 ] || fail "$used bytes are in use after a trim"
  { head -c 1M full.raw; head -c 3M /dev/zero; } > given.raw
  holds disk.qcow given.raw
done

# Compressed clusters: entries go, streams that others share stay.
cat > packed.py <<'END'
h.zero (4 * C, 0)
h.trim (4 * C, 4 * C)
h.zero (4 * C, 8 * C, NO_HOLE)
h.zero (1000, 12 * C + 70)
assert is_zero (0, 12 * C)
assert h.pread (C, 12 * C) == b"d" * 70 + bytes (1000) + b"d" * (C - 1070)
n = (4 << 20) - 13 * C
assert h.pread (n, 13 * C) == b"d" * n
h.flush ()
END
for options in --share --clusters=mixed; do
  plain full.raw disk.qcow --clusters packed $options
  on packed.py
done

# Over a backing file: neither zeroing nor trimming may show it.
source_file base.raw 2000000
cat > over.py <<'END'
base = open ("base.raw", "rb").read ().ljust (4 << 20, b"\0")
size = 4 << 20
model = bytearray (base)


def zero (at, n, flags=0):
    h.zero (n, at, flags)
    model[at:at + n] = bytes (n)
    assert is_zero (at, n)


zero (0, 3 * C)                         # nothing of ours is there
zero (3 * C + 10, 300)
assert h.pread (C, 3 * C) == base[3 * C:3 * C + 10] + bytes (300) + \
    base[3 * C + 310:4 * C]
h.pwrite (b"o" * (2 * C), 4 * C)
h.trim (2 * C, 4 * C)                   # ours, or zero; never the base's
got = h.pread (2 * C, 4 * C)
assert got in (b"o" * (2 * C), bytes (2 * C))
model[4 * C:6 * C] = got
h.trim (2 * C, 6 * C)
got = h.pread (2 * C, 6 * C)
assert got in (base[6 * C:8 * C], bytes (2 * C))
model[6 * C:8 * C] = got
h.pwrite (b"o" * (2 * C), 8 * C)
zero (8 * C, 2 * C)
zero (12 * C, size - 12 * C, NO_HOLE)
# And there is data on zeroes again, in the middle.
h.pwrite (b"new", 20 * C + 100)
model[20 * C + 100:20 * C + 103] = b"new"
h.pwrite (b"n" * C, 22 * C)
model[22 * C:23 * C] = b"n" * C
assert h.pread (size, 0) == model
h.flush ()
open ("over.model", "wb").write (model)
END
for bits in 9 12 16; do
  plain empty.raw disk.qcow --base empty.raw --name base.raw \
        --cluster-bits $bits --l2-bits 9
  on over.py
  holds disk.qcow over.model
done

# Zeroing much of an overlay, fast or not at all.
cat > fast.py <<'END'
n = 2 << 20
old = h.pread (n, 0)
why = error_of (h.zero, n, 0, FAST)
if why is None:
    assert is_zero (0, n)
else:
    assert why in ("ENOTSUP", "EOPNOTSUPP"), why
    assert h.pread (n, 0) == old
h.zero (n, 0)
assert is_zero (0, n)
h.flush ()
END
plain empty.raw disk.qcow --base empty.raw --name base.raw
on fast.py
holds disk.qcow empty.raw
# Without a base, entries go to 0: that is fast.
cat > fast.py <<'END'
h.pwrite (b"f" * (8 * C), 0)
h.zero (2 * C, 0, FAST)
assert is_zero (0, 2 * C)
got = error_of (h.zero, 100, 4 * C + 100, FAST)
if got is None:
    assert h.pread (C, 4 * C) == b"f" * 100 + bytes (100) + b"f" * (C - 200)
else:
    assert got in ("ENOTSUP", "EOPNOTSUPP"), got
    assert h.pread (C, 4 * C) == b"f" * C
h.zero (5 * C, 8 * C, FAST)             # nothing there
h.zero (2 << 20, 2 << 20, FAST)
h.flush ()
END
plain empty.raw disk.qcow
on fast.py

# As large as a request can be, on a large disk; no memory, no host space.
cat > large.py <<'END'
most = (1 << 32) - (2 << 20)
for call in (h.zero, h.trim):
    for at in (0, 1 << 40, h.get_size () - most):
        h.pwrite (b"l" * C, at)
        h.pwrite (b"l" * C, at + most - C)
        call (most, at)
        assert is_zero (at, C) and is_zero (at + most - C, C)
h.flush ()
assert blocks () < 64 << 20, blocks ()
END
create disk.qcow 2T
cluster=4096
export cluster
cat common.py large.py > both.py
writing both.py disk.qcow

# To the last byte of a disk that ends in the middle of a cluster.
cat > end.py <<'END'
size = h.get_size ()
last = size // C * C
h.pwrite (b"e" * (size - last), last)
h.trim (size - last, last)
got = h.pread (size - last, last)
assert got in (bytes (size - last), b"e" * (size - last))
h.pwrite (b"e" * (size - last), last)
h.zero (size - last, last)
assert is_zero (last, size - last)
assert kind (last, size - last) & ZERO
h.flush ()
END
create disk.qcow 1000448
on end.py
