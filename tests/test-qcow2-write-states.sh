#!/usr/bin/env bash
# Images in special states, and what writing makes of them.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# Dirty: repaired at the first change, and not before.
create dirty.qcow2 8M -o lazy_refcounts=on
io_abort dirty.qcow2 'write -P 0x5a 0 512' 'write -P 0x5b 1M 3M' \
         'discard 2M 128k'
[ $(($(be64 dirty.qcow2 72) & 1)) -eq 1 ] || fail "the image is not dirty"
to_raw dirty.qcow2 dirty.model -U
before=$(sha256sum dirty.qcow2)
program look.py <<'END'
h.pread(100000, 0)
h.flush()
status(0, h.get_size())
also_connect().pread(100000, 1000000)
END
writing look.py dirty.qcow2
[ "$(sha256sum dirty.qcow2)" = "$before" ] ||
  fail "a dirty image changed by being read"
exercise dirty.qcow2 dirty.model
[ $(($(be64 dirty.qcow2 72) & 1)) -eq 0 ] || fail "the image is still dirty"
[ $(($(be64 dirty.qcow2 80) & 1)) -eq 1 ] || fail "lazy refcounts are off"
exercise dirty.qcow2 dirty.model --seed 2

# One byte, one zero, one trim: each of them is a first change.
for change in 'h.pwrite(b"x", 5000000)' 'h.zero(65536, 6000000)' \
              'h.trim(1048576, 1048576)'; do
  create dirty.qcow2 8M -o lazy_refcounts=on,cluster_size=4k
  io_abort dirty.qcow2 'write -P 0x5a 0 512' 'write -P 0x5b 1M 3M'
  echo "$change" > change.py
  writing change.py dirty.qcow2
  sound dirty.qcow2
  [ $(($(be64 dirty.qcow2 72) & 1)) -eq 0 ] || fail "$change: still dirty"
  io dirty.qcow2 'read -P 0x5a 0 512' 'read -P 0x5b 2M 2M'
done

# Dirty, with snapshots, compressed clusters, a backing file.
source_file base.raw 2097152
create dirty.qcow2 4M -o lazy_refcounts=on -b base.raw -F raw
io dirty.qcow2 'write -P 1 0 1M' 'write -c -P 2 1M 64k' 'write -c 1088k 64k'
qemu-img snapshot -c one dirty.qcow2
to_raw dirty.qcow2 one.raw
io_abort dirty.qcow2 'write -P 3 512k 1M'
[ $(($(be64 dirty.qcow2 72) & 1)) -eq 1 ] || fail "the image is not dirty"
to_raw dirty.qcow2 dirty.model -U
exercise dirty.qcow2 dirty.model
to_raw dirty.qcow2 now.raw -l snapshot.name=one
cmp now.raw one.raw

# Corrupt: served read-only, and the log says why.
create corrupt.qcow2 8M
io corrupt.qcow2 'write -P 3 0 1M'
poke corrupt.qcow2 79 '\x02'
before=$(digest corrupt.qcow2)
program refused.py <<'END'
assert h.is_read_only()
assert h.pread(1 << 20, 0) == b"\x03" * (1 << 20)
h.set_strict_mode(0)
for call in ((h.pwrite, b"x" * 512, 0), (h.zero, 65536, 0),
             (h.trim, 65536, 0)):
    got = error_of(*call)
    assert got in ("EPERM", "EROFS", "EINVAL"), (call[0].__name__, got)
assert h.pread(512, 0) == b"\x03" * 512
END
writing refused.py corrupt.qcow2 2> log
expect_text log 'corrupt.qcow2: .*corrupt'
[ "$(digest corrupt.qcow2)" = "$before" ] || fail "a corrupt image changed"

# An image that may not be written at all.
if [ "$(id -u)" -ne 0 ]; then
  create locked.qcow2 8M
  chmod 0444 locked.qcow2
  nbdkit -U - qcow2 locked.qcow2 --run 'nbdinfo --is readonly "$uri"' 2> log
  expect_text log 'locked.qcow2'
fi

# Tables that nothing counts: whatever is done about it, no guest data may
# be lost, and nothing else may be put over the tables.
create under.qcow2 8M
io under.qcow2 'write -P 1 0 1M'
poke under.qcow2 $((0x20008)) '\0\0\0\0\0\0'
to_raw under.qcow2 under.model
start_nbdkit -P under.pid -U under.sock qcow2 under.qcow2
if nbdinfo --is readonly 'nbd+unix:///?socket=under.sock'; then
  :
else
  program under.py <<'END'
written = []
for n in range(60):
    at = (2 << 20) + n * 65536
    data = bytes([n + 10]) * 65536
    if error_of(h.pwrite, data, at) is None:
        written.append((at, data))
error_of(h.flush)
assert h.pread(1 << 20, 0) == b"\x01" * (1 << 20), "old data is lost"
for at, data in written:
    assert h.pread(65536, at) == data, at
END
  "$PYTHON" "$srcdir/qcow2-client.py" under.py \
            'nbd+unix:///?socket=under.sock' || fail "under.py"
fi
stop_nbdkit under.pid
to_raw under.qcow2 under.raw -U
cmp -n 1048576 under.raw under.model || fail "old data is lost"
