#!/usr/bin/env bash
# Zero clusters of every kind, and every way to preallocate.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

compare_options=(--coalesced)

# Everything that makes zeroes, in both versions, with and without a
# backing file.  QEMU turns it into what the version can express.
zeroes () {
  io "$1" 'write -P 1 0 448k' 'write -z 0 64k' 'write -z -u 64k 64k' \
     'discard 128k 64k' 'write -z 200k 8k' 'write -z 512k 64k' \
     'write -z -u 640k 192k' 'discard 832k 64k' \
     'write -c -P 3 1024k 64k' 'write -c -P 4 1088k 64k' \
     'write -z 1024k 64k' 'write -P 5 1400k 1k' 'write -z 1536k 512'
}

source_file base.raw 1700000
for compat in 0.10 1.1; do
  create zero.qcow2 2M -o compat=$compat
  zeroes zero.qcow2
  compare zero.qcow2

  create zero.qcow2 2M -o compat=$compat -b base.raw -F raw
  zeroes zero.qcow2
  compare zero.qcow2
done

# The bytes behind a reserved zero cluster are old and must not be seen.
create stale.qcow2 1M
io stale.qcow2 'write -P 0x77 0 1M' 'write -z 128k 512k'
offset=$(be64 stale.qcow2 $(image_tool entry stale.qcow2 131072))
test $((offset & 1)) -eq 1 || fail "no zero flag"
test $((offset & 0xfffffffffffe00)) -ne 0 || fail "no space is reserved"
compare stale.qcow2

# A shared zero cluster, as snapshots leave them.
qemu-img snapshot -c one stale.qcow2
compare stale.qcow2

# Zero over data over zero.
create middle.qcow2 1M -b stale.qcow2 -F qcow2
io middle.qcow2 'write -P 0x55 192k 64k' 'write -z 704k 64k'
create top.qcow2 1M -b middle.qcow2 -F qcow2
io top.qcow2 'write -z -u 192k 32k' 'write -P 0x66 720k 4k'
compare top.qcow2

for mode in off metadata falloc full; do
  for size in 4k 64k 2M; do
    create pre.qcow2 4M -o preallocation=$mode,cluster_size=$size
    compare pre.qcow2
    io pre.qcow2 'write -P 1 1M 64k' 'write -P 2 3M 1' 'write -z 2M 1M'
    compare pre.qcow2
  done
done
create pre.qcow2 4M -o preallocation=metadata,compat=0.10
io pre.qcow2 'write -P 1 1M 64k' 'discard 2M 1M'
compare pre.qcow2
