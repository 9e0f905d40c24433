#!/usr/bin/env bash
# Random load on images of every cluster size, refcount width and version.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# small CLUSTER REFCOUNT-BITS...: sizes of disks such that tables of every
# kind are needed and the model stays small.
geometry () {
  local cluster=$1 size=$2 bits
  shift 2
  for bits; do
    fresh disk.qcow2 $size -o cluster_size=$cluster,refcount_bits=$bits
    exercise disk.qcow2 disk.model --seed $seed --largest 300000
  done
}

load_ops=300
for seed in $(seeds 1); do
  # 16 MiB in 512-byte clusters: the refcount table has to grow.
  geometry 512 16M 1 16 64
  geometry 1k 6M 2
  geometry 4k 8M 4 16
  geometry 32k 8M 8
  geometry 64k 16M 1 32 64
  geometry 512k 24M 16
  geometry 2M 48M 1 16 64

  for cluster in 512 4k 2M; do
    fresh old.qcow2 12M -o compat=0.10,cluster_size=$cluster
    exercise old.qcow2 old.model --seed $seed --largest 300000
  done
done

# Sizes which are not multiples of a cluster, down to less than one.
for seed in $(seeds 2); do
  for size in 512 66048 1049088 3000320; do
    fresh disk.qcow2 $size
    exercise disk.qcow2 disk.model --seed $seed --ops 150
    fresh disk.qcow2 $size -o cluster_size=2M,compat=0.10
    exercise disk.qcow2 disk.model --seed $seed --ops 150
  done
done

# A disk that is much larger than what is written to it: L2 tables far
# apart, the last one for a part of a table only.
program far.py <<'END'
size = h.get_size()
places = [0, 5 << 30, 513 << 30, 1 << 40, 3 << 40, size - 70000]
for n, at in enumerate(places):
    h.pwrite(bytes([n + 1]) * 70000, at)
    h.zero(1000, at + 100)
h.flush()
h.zero(1 << 31, 100 << 30)
h.trim(1 << 31, 5 << 30)
for n, at in enumerate(places):
    want = bytes(100) + bytes(1000) + bytes([n + 1]) * 68900
    want = bytes([n + 1]) * 100 + want[100:]
    if n == 1:
        want = bytes(65536) + want[65536:]
    got = h.pread(70000, at)
    assert got[:65536] == want[:65536], at
    assert got[65536:] in (want[65536:], bytes(70000 - 65536)), at
END
create far.qcow2 5T
writing far.py far.qcow2
sound far.qcow2
io far.qcow2 'read -P 1 1100 68900' 'read -P 3 513G 100' \
   'read -P 0 549755813988 1000' 'read -P 5 3T 100' 'read -P 0 5G 65536'
