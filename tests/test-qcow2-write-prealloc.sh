#!/usr/bin/env bash
# Random load on preallocated images.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=250
for seed in $(seeds 1); do
  for mode in metadata falloc full; do
    for cluster in 4k 1M; do
      fresh pre.qcow2 6M -o preallocation=$mode,cluster_size=$cluster
      exercise pre.qcow2 pre.model --seed $seed
    done
    fresh old.qcow2 4M -o preallocation=$mode,compat=0.10
    exercise old.qcow2 old.model --seed $seed
    fresh ext.qcow2 4M \
          -o preallocation=$mode,extended_l2=on,cluster_size=64k
    exercise ext.qcow2 ext.model --seed $seed
    fresh data.qcow2 4M -o preallocation=$mode,data_file=$mode.raw
    plugin_args=(data-file=$mode.raw)
    exercise data.qcow2 data.model --seed $seed
    plugin_args=()
  done

  # Zero clusters that kept their space, full of old bytes.
  create stale.qcow2 8M
  io stale.qcow2 'write -P 0x77 0 8M' 'write -z 0 5M'
  to_raw stale.qcow2 stale.model
  exercise stale.qcow2 stale.model --seed $seed

  # The same, shared with a snapshot.
  create stale.qcow2 8M
  io stale.qcow2 'write -P 0x77 0 8M' 'write -z 0 5M'
  qemu-img snapshot -c one stale.qcow2
  to_raw stale.qcow2 stale.model
  cp stale.model one.model
  exercise stale.qcow2 stale.model --seed $seed
  to_raw stale.qcow2 one.raw -l snapshot.name=one
  cmp one.raw one.model
done
