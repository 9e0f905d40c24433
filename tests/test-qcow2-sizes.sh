#!/usr/bin/env bash
# Disk sizes of every kind: zero, odd, huge, and files that end early.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# Nothing but a size.
create empty.qcow2 0
compare empty.qcow2

# Not a multiple of the cluster, nor of 512.
for size in 512 1536 65024 66048 1048064; do
  create partial.qcow2 $size
  io partial.qcow2 "write -P 1 0 $size"
  compare partial.qcow2
done

# QEMU rounds an odd size down; no byte of it may be lost here.
create odd.qcow2 1M
io odd.qcow2 'write -P 0x5a 0 1M'
for size in 1048000 1048575 1047553 1 511 65537; do
  poke_be64 odd.qcow2 24 $size
  compare odd.qcow2
  cat > tail.py <<END
n = min ($size, 700)
assert h.get_size () == $size
assert h.pread (n, $size - n) == b"\x5a" * n
assert error_of (h.pread, 2, $size - 1) is not None
end = status (0, $size)
assert sum (e[1] for e in end) == $size, end
END
  client tail.py odd.qcow2 || fail "the end of a disk of $size bytes"
done

# The last host cluster may be short: the rest of it reads as zeroes.
create short.qcow2 1M
io short.qcow2 'write -P 9 0 1M'
truncate -s -4096 short.qcow2
compare short.qcow2
truncate -s -61439 short.qcow2
compare short.qcow2

# A file of 196616 bytes ends after the L1 table's only entry.
create young.qcow2 1M
test $(($(stat -c %s young.qcow2) % 65536)) -ne 0 || fail "the file is whole"
compare young.qcow2

# Large disks: nothing may depend on the size of the disk.
for options in cluster_size=64k cluster_size=2M \
               cluster_size=64k,extended_l2=on cluster_size=4k; do
  create large.qcow2 1T -o $options
  io large.qcow2 'write -P 1 0 64k' 'write -P 2 500G 100k' \
     'write -P 3 1099511562240 64k'
  if [ $options = cluster_size=4k ]; then compare_options=(--no-map); fi
  compare large.qcow2
  compare_options=()
  rm large.qcow2
done

# The largest that QEMU makes.
huge () {
  local options="$1" size="$2"
  create huge.qcow2 $size -o $options
  io huge.qcow2 'write -P 1 1T 64k' "write -P 2 $((size - 65536)) 64k"
  cat > huge.py <<END
size = $size
assert h.get_size () == size
assert h.pread (65536, 1 << 40) == b"\1" * 65536
assert h.pread (65537, size - 65537) == b"\0" + b"\2" * 65536
assert h.pread (5, 0) == bytes (5)
count = 2**32 - 1
found = status (size - count, count)
assert sum (e[1] for e in found) == count, found
assert found[-1] == (size - 65536, 65536, 0), found
assert all (e[2] == 3 for e in found[:-1]), found
END
  client huge.py huge.qcow2 || fail "a disk of $size bytes"
  rm huge.qcow2
}
huge cluster_size=64k $((1 << 51))
huge cluster_size=64k,extended_l2=on $((1 << 50))

# An L1 table longer than the disk needs, with and without old entries.
create shrunk.qcow2 10G
io shrunk.qcow2 'write -P 1 0 64k' 'write -P 2 9G 64k'
qemu-img resize -q --shrink shrunk.qcow2 1000k
test "$(be32 shrunk.qcow2 36)" -gt 1 || fail "the L1 table became shorter"
compare shrunk.qcow2
create state.qcow2 10G
io state.qcow2 'write -P 1 0 64k' 'write -P 2 1G 64k'
poke_be64 state.qcow2 24 $((512 * 1024 * 1024))
compare state.qcow2
