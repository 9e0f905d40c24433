#!/usr/bin/env bash
# Out of space: ENOSPC, nothing flushed is lost, and writing goes on.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# A file system of 8 MiB, in a name space of mounts of our own.
if [ "${1:-}" != inside ]; then
  requires unshare -m sh -c "mount -t tmpfs -o size=8m none '$tmpdir'"
  requires_plain_build
  status=0
  unshare -m "$BASH" "$srcdir/test-qcow2-write-full.sh" inside || status=$?
  exit $status
fi

mkdir small
mount -t tmpfs -o size=8m none small
cleanup_fn umount "$tmpdir/small"

program full.py <<'END'
import random

rnd = random.Random(5)
size = h.get_size()
part = 100000
other = also_connect()

# As much as fits, a flush after each piece.
flushed = {}
failed = None
for n in range(size // part):
    data = rnd.randbytes(part)
    what = error_of(h.pwrite, data, n * part)
    if what is None:
        what = error_of(other.flush)
        if what is None:
            flushed[n] = data
    if what is not None:
        failed = what
        break
assert failed == "ENOSPC", failed
assert len(flushed) * part > 5 << 20, len(flushed)

# It stays full, on every connection, and reads go on.
for n in range(len(flushed) + 5, len(flushed) + 12):
    for c in (h, other):
        got = error_of(c.pwrite, rnd.randbytes(part), n * part)
        assert got == "ENOSPC", got
for n, data in flushed.items():
    assert h.pread(part, n * part) == data, n

# What is there can be rewritten in place.
stuck = error_of(h.flush)
assert stuck is None, stuck
for n in (0, 7):
    flushed[n] = rnd.randbytes(part)
    h.pwrite(flushed[n], n * part)
    h.flush()

# What was given back can be used again.
gone = range(10, 30)
base = len(flushed) + 20
h.trim(len(gone) * part, gone[0] * part)
h.flush()
for n in gone:
    del flushed[n]
for n in range(base, base + len(gone) - 6):
    flushed[n] = rnd.randbytes(part)
    what = error_of(h.pwrite, flushed[n], n * part)
    assert what is None, (what, n)
h.flush()
with open("flushed", "wb") as f:
    for n, data in sorted(flushed.items()):
        f.write(n.to_bytes(8, "big") + data)
for n, data in flushed.items():
    assert other.pread(part, n * part) == data, n
END

program judge.py <<'END'
part = 100000
with open("flushed", "rb") as f, open("raw", "rb") as raw:
    while True:
        head = f.read(8)
        if not head:
            break
        raw.seek(int.from_bytes(head, "big") * part)
        assert raw.read(part) == f.read(part), head
END

for options in cluster_size=64k cluster_size=64k,compat=0.10 \
               extended_l2=on,cluster_size=64k refcount_bits=1 \
               cluster_size=4k; do
  create small/disk.qcow2 64M -o $options
  writing full.py small/disk.qcow2
  sound small/disk.qcow2
  to_raw small/disk.qcow2 raw
  "$PYTHON" judge.py
  # QEMU and we go on when there is room again.
  io small/disk.qcow2 'write -P 3 0 64k' 'discard 1M 3M'
  sound small/disk.qcow2
  to_raw small/disk.qcow2 disk.model
  drive small/disk.qcow2 disk.model --ops 300 --may-fail ENOSPC \
        --mix write=30,zero=10,trim=25,read=20,flush=6
  sound small/disk.qcow2
  holds small/disk.qcow2 disk.model
  rm small/disk.qcow2
done
