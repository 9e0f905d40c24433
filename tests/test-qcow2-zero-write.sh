#!/usr/bin/env bash
# What zeroing and trimming do to an image: content, space, extents.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

program common.py <<'END'
import os

C = int(os.environ.get("cluster", "65536"))


def blocks(name="disk.qcow2"):
    """Bytes that the file occupies on the host."""
    return os.stat(name).st_blocks * 512
END

# on IMAGE PROGRAM: run common.py and PROGRAM, then let QEMU judge.
on () {
  cat common.py "$2" > both.py
  writing both.py "$1"
  sound "$1"
}

# Whole clusters of data: kept space or given back, as asked for.
program whole.py <<'END'
h.pwrite(b"a" * (16 * C), 0)
h.flush()
assert kind(0, 16 * C) == 0
full = blocks()

h.zero(2 * C, 0, NO_HOLE)               # stays reserved
assert is_zero(0, 2 * C)
if V3:
    assert kind(0, 2 * C) == ZERO
h.zero(2 * C, 2 * C)                    # may be given back
assert is_zero(2 * C, 2 * C) and kind(2 * C, 2 * C) & ZERO
h.trim(4 * C, 4 * C)
assert is_zero(4 * C, 4 * C) and kind(4 * C, 4 * C) == HOLE | ZERO
assert h.pread(8 * C, 8 * C) == b"a" * (8 * C)
for flag in (0, nbd.CMD_FLAG_FUA):
    h.trim(C, 8 * C, flag)
    h.zero(C, 9 * C, flag | NO_HOLE)
    assert is_zero(8 * C, 2 * C)

# The part of a cluster that is left is as it was.
h.zero(100, 10 * C + 50)
want = b"a" * 50 + bytes(100) + b"a" * (C - 150)
assert h.pread(C, 10 * C) == want
h.trim(100, 10 * C + 300)               # old or zero
got = h.pread(C, 10 * C)
assert got[:300] == want[:300] and got[400:] == want[400:]
assert got[300:400] in (b"a" * 100, bytes(100))
h.flush()
END
for options in compat=1.1 compat=0.10 cluster_size=4k \
               extended_l2=on,cluster_size=32k; do
  create disk.qcow2 4M -o $options
  cluster=$(cluster_size disk.qcow2)
  export cluster
  v3=True
  [ $options != compat=0.10 ] || v3=False
  { echo "V3 = $v3"; cat whole.py; } > program.py
  on disk.qcow2 program.py
  io disk.qcow2 "read -P 0 0 $((8 * cluster))" \
     "read -P 97 $((11 * cluster)) $((5 * cluster))"
done
unset cluster

# Space that is given back is the host's again, and is used again: turning
# the same data over must not make the file grow.
program turnover.py <<'END'
size = 2 << 20
h.pwrite(b"x" * size, 0)
h.flush()
used = blocks()
for n in range(40):
    h.trim(size, 0)
    h.flush()
    h.pwrite(bytes([n + 1]) * size, 0)
    h.flush()
assert h.pread(size, 0) == bytes([40]) * size
assert blocks() < used + 2 * size, (used, blocks())
h.trim(size, 0)
h.flush()
h.flush()
END
create disk.qcow2 32M
on disk.qcow2 turnover.py
used=$(($(stat -c %b disk.qcow2) * 512))
[ $used -lt 1048576 ] || fail "$used bytes of an empty disk are in use"
length=$(stat -c %s disk.qcow2)
[ $length -lt 10000000 ] || fail "the file is $length bytes long"

# Over a backing file: neither zeroing nor trimming may show it.
source_file base.raw 2000000
program over.py <<'END'
base = open("base.raw", "rb").read().ljust(4 << 20, b"\0")
h.zero(3 * C, 0)                        # nothing of ours is there
assert is_zero(0, 3 * C)
h.zero(1000, 3 * C + 10)
assert h.pread(C, 3 * C) == base[3 * C:3 * C + 10] + bytes(1000) + \
    base[3 * C + 1010:4 * C]
h.pwrite(b"o" * (2 * C), 4 * C)
h.trim(2 * C, 4 * C)                    # ours, or zero; never the base's
got = h.pread(2 * C, 4 * C)
assert got in (b"o" * (2 * C), bytes(2 * C))
h.trim(2 * C, 6 * C)
got = h.pread(2 * C, 6 * C)
assert got in (base[6 * C:8 * C], bytes(2 * C))
h.pwrite(b"o" * (2 * C), 8 * C)
h.zero(2 * C, 8 * C)
assert is_zero(8 * C, 2 * C)
h.zero((4 << 20) - (12 * C), 12 * C, NO_HOLE)
assert is_zero(12 * C, (4 << 20) - 12 * C)
h.flush()
END
for options in compat=1.1 compat=0.10 extended_l2=on; do
  create disk.qcow2 4M -b base.raw -F raw -o $options
  on disk.qcow2 over.py
  to_raw disk.qcow2 disk.raw
  "$PYTHON" -c '
data = open("disk.raw", "rb").read()
assert not any(data[:3 * 65536]) and not any(data[12 * 65536:])'
done

# Fast, or not at all.
program fast.py <<'END'
h.pwrite(b"f" * (8 * C), 0)
h.zero(2 * C, 0, FAST)                  # whole clusters: only a flag
assert is_zero(0, 2 * C)
got = error_of(h.zero, 100, 4 * C + 100, FAST)
if got is None:
    assert h.pread(C, 4 * C) == b"f" * 100 + bytes(100) + b"f" * (C - 200)
else:
    assert got in ("ENOTSUP", "EOPNOTSUPP"), got
    assert h.pread(C, 4 * C) == b"f" * C
h.zero(5 * C, 8 * C, FAST)              # nothing there
h.zero(4 << 20, 4 << 20, FAST)
h.flush()
END
create disk.qcow2 16M
on disk.qcow2 fast.py

# As large as a request can be, on a large disk; no memory, no host space.
program large.py <<'END'
most = (1 << 32) - (2 << 20)
for call in (h.zero, h.trim):
    for at in (0, 1 << 40, h.get_size() - most):
        h.pwrite(b"l" * C, at)
        h.pwrite(b"l" * C, at + most - C)
        call(most, at)
        assert is_zero(at, C) and is_zero(at + most - C, C)
h.flush()
assert blocks() < 64 << 20, blocks()
END
create disk.qcow2 2T
on disk.qcow2 large.py
create disk.qcow2 2T -o cluster_size=2M
on disk.qcow2 large.py

# Shared with a snapshot, and compressed.
program shared.py <<'END'
h.zero(4 * C, 0)
h.trim(4 * C, 4 * C)
h.zero(4 * C, 8 * C, NO_HOLE)
h.zero(1000, 12 * C + 70)
h.pwrite(b"s" * C, 8 * C)
assert is_zero(0, 8 * C) and is_zero(9 * C, 3 * C)
assert h.pread(C, 8 * C) == b"s" * C
h.flush()
END
source_file src.raw 2097152
for options in -S0 -c; do
  rm -f disk.qcow2
  qemu-img convert -q $options -f raw -O qcow2 src.raw disk.qcow2
  qemu-img snapshot -c one disk.qcow2
  on disk.qcow2 shared.py
  to_raw disk.qcow2 now.raw -l snapshot.name=one
  cmp now.raw src.raw
  qemu-img snapshot -d one disk.qcow2
  on disk.qcow2 shared.py
done

# Subclusters: a zero is told apart from its neighbours, and costs no copy.
program sub.py <<'END'
S = C // 32
h.pwrite(b"u" * (4 * C), 0)
h.flush()
h.zero(3 * S, 5 * S, FAST)
assert is_zero(5 * S, 3 * S) and kind(5 * S, 3 * S) & ZERO
assert kind(0, 5 * S) == 0 and kind(8 * S, 24 * S) == 0
assert h.pread(5 * S, 0) == b"u" * (5 * S)
assert h.pread(24 * S, 8 * S) == b"u" * (24 * S)
h.pwrite(b"v" * 10, 6 * S + 7)          # its rest must read as zero
assert h.pread(S, 6 * S) == bytes(7) + b"v" * 10 + bytes(S - 17)
assert is_zero(5 * S, S) and is_zero(7 * S, S)
h.trim(C, C)
assert is_zero(C, C)
h.flush()
END
cluster=65536
export cluster
create disk.qcow2 4M -o extended_l2=on,cluster_size=64k
on disk.qcow2 sub.py
io disk.qcow2 'read -P 0 10k 2k' 'read -P 0 64k 64k' 'read -P 117 128k 128k'

# To the last byte of a disk that ends in the middle of a cluster.
program end.py <<'END'
size = h.get_size()
last = size // C * C
h.pwrite(b"e" * (size - last), last)
h.trim(size - last, last)
got = h.pread(size - last, last)
assert got in (bytes(size - last), b"e" * (size - last))
h.pwrite(b"e" * (size - last), last)
h.zero(size - last, last)
assert is_zero(last, size - last)
assert kind(last, size - last) & ZERO
h.flush()
END
create disk.qcow2 1000448
on disk.qcow2 end.py
