#!/usr/bin/env bash
# Disk sizes of every kind: tiny, odd, huge, and files that end early.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

head -c 1M /dev/zero | tr '\0' 'Z' > full.raw

# size_is IMAGE BYTES
size_is () {
  local size
  size=$(nbdkit -r -U - qcow "$1" --run 'nbdinfo --size "$uri"')
  test "$size" -eq "$2" || fail "$1: $size bytes, not $2"
}

# Not a multiple of the cluster, nor of 512: the disk is as many whole
# sectors as there are, for QEMU and for us; down to none at all.
for size in 2 511 512 513 4095 65024 1047553 1048575; do
  plain full.raw odd.qcow --size $size
  size_is odd.qcow $((size / 512 * 512))
  plain full.raw odd.qcow --size $size --clusters mixed --cluster-bits 14
  compare odd.qcow
  cat > tail.py <<END
n = $size // 512 * 512
assert h.get_size () == n
if n:
    assert h.pread (n, 0) == b"Z" * n
    assert h.pread (1, n - 1) == b"Z"
    assert error_of (h.pread, 2, n - 1) is not None
    assert sum (e[1] for e in status (0, n)) == n
END
  client tail.py odd.qcow || fail "the end of a disk of $size bytes"
done

# The L1 table counts by the size as recorded: one entry more than the
# whole sectors need, and 513 bytes behind a span.
for more in 1 511 513; do
  plain full.raw span.qcow --size $((32768 + more)) --cluster-bits 9 \
        --l2-bits 6
  compare span.qcow
done

# What lies beyond the end of the file reads as zeroes: the rest of a
# cluster, clusters, the rest of an L2 table, one that begins there.  One
# that is lost as a whole is an error (test-qcow-bad-entries.sh).
plain full.raw whole.qcow --l2-bits 6
length=$(stat -c %s whole.qcow)
table=$(qcow_tool entry whole.qcow $((3 * 64 * 4096)))
for end in $((length - 1)) $((length - 4095)) $((length - 4096)) \
           $((length - 20000)) $((table + 600)) $((table + 511)) \
           $((table + 20)) $table; do
  cp whole.qcow short.qcow
  truncate -s $end short.qcow
  compare short.qcow
done
# All of the L1 table.
truncate -s 48 short.qcow
cat > zero.py <<'END'
assert not any (h.pread (1 << 20, 0))
assert status (0, 1 << 20) == [(0, 1 << 20, 3)]
END
client zero.py short.qcow || fail "a file of 48 bytes"

# Large disks: nothing may depend on the size of the disk.  (QEMU takes its
# time for these: it looks at every 2 MiB.)
create large.qcow 5G
io large.qcow 'write -P 1 0 64k' 'write -P 2 4G 100k' 'write -P 3 5242876k 4k'
compare_options=(--no-map)
compare large.qcow
compare_options=()
rm large.qcow
create large.qcow 1T
io large.qcow 'write -P 1 0 64k' 'write -P 2 500G 100k' \
   'write -P 3 1099511562240 64k'
cat > large.py <<'END'
size = 1 << 40
seen = []
at = 0
calls = 0
while at < size:
    for a, n, kind in status (at, min (2 ** 32 - 1, size - at)):
        if seen and seen[-1][1:] == (a, kind):
            seen[-1] = (seen[-1][0], a + n, kind)
        else:
            seen.append ((a, a + n, kind))
        at = a + n
    calls += 1
half = 500 << 30
for at, byte, n in ((0, 1, 65536), (half, 2, 102400),
                    (size - 65536, 3, 65536)):
    assert h.pread (n, at) == bytes ([byte]) * n, at
assert [s for s in seen if s[2] != 3] == \
    [(0, 65536, 0), (half, half + 102400, 0), (size - 65536, size, 0)], seen
assert calls <= 600, calls
END
client large.py large.qcow || fail "large.qcow: extents"

# The largest that the format has with these clusters, in a small file: an
# L1 table of nearly 2 GiB, which is not there.
: > nothing.raw
plain nothing.raw huge.qcow --cluster-bits 16 --l2-bits 13 \
      --size $((268435455 << 29)) --l1-at 4096 --length 8192
cat > huge.py <<END
size = 268435455 << 29
assert h.get_size () == size
assert h.pread (5, 0) == bytes (5)
assert h.pread (65536, size - 65536) == bytes (65536)
count = 2**32 - 1
found = status (size - count, count)
assert sum (e[1] for e in found) == count, found
assert all (e[2] == 3 for e in found), found
END
client_huge () {
  bounded nbdkit -r -U - qcow huge.qcow --run "
    exec '$PYTHON' '$srcdir/qcow2-client.py' huge.py \"\$uri\""
}
client_huge || fail "the largest disk"
