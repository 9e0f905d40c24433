#!/usr/bin/env bash
# Random load on extended L2 entries: subclusters of every state.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=500
source_file base.raw 7000000
qemu-img convert -f raw -O qcow2 base.raw base.qcow2

# races IMAGE MODEL: short requests on few clusters, from many connections,
# with many zeroes: subclusters of one cluster change their states at once.
races () {
  exercise "$1" "$2" --seed $seed --connections 6 --in-flight 8 \
           --largest $((2 * $(cluster_size "$1"))) \
           --mix write=30,zero=30,fast=10,trim=6,read=20,flush=4
}

for seed in $(seeds 1); do
  for cluster in 16k 64k 2M; do
    size=6M
    [ $cluster != 2M ] || size=40M
    fresh ext.qcow2 $size \
          -o extended_l2=on,cluster_size=$cluster
    races ext.qcow2 ext.model
  done

  # Over a longer and over a shorter backing file.
  fresh long.qcow2 3M -o extended_l2=on,cluster_size=128k \
        -b base.raw -F raw
  races long.qcow2 long.model
  fresh short.qcow2 9000448 -o extended_l2=on,cluster_size=16k \
        -b base.qcow2 -F qcow2
  races short.qcow2 short.model

  # Subclusters in all the states that are allowed, to begin with.
  fresh mixed.qcow2 8M -o extended_l2=on,cluster_size=64k \
        -b base.raw -F raw
  io mixed.qcow2 'write -P 7 0 5M'
  image_tool subclusters mixed.qcow2 $seed
  sound mixed.qcow2
  to_raw mixed.qcow2 mixed.model
  qemu-img snapshot -c before mixed.qcow2
  cp mixed.model before.model
  races mixed.qcow2 mixed.model
  to_raw mixed.qcow2 before.raw -l snapshot.name=before
  cmp before.raw before.model

  # Space that is reserved and lets the backing file show through.
  fresh reserved.qcow2 6M -b base.raw -F raw \
        -o extended_l2=on,cluster_size=64k,preallocation=metadata
  races reserved.qcow2 reserved.model
done
