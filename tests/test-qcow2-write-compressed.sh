#!/usr/bin/env bash
# Random load on compressed images: streams that share clusters.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=400
source_file src.raw 6000128

# packed OPTIONS: a compressed image, still compressed enough to be worth
# the test, under load.
packed () {
  rm -f packed.qcow2
  qemu-img convert -q -c -f raw -O qcow2 -o "$1" src.raw packed.qcow2
  read -r total crossing inside <<< "$(image_tool packed packed.qcow2)"
  [ $total -gt 2 ] || fail "$1: only $total clusters are compressed"
  cp src.raw packed.model
  # Little at first, so that most streams stay beside what is written.
  exercise packed.qcow2 packed.model --seed $seed --ops 60 --largest 70000
  exercise packed.qcow2 packed.model --seed $seed
}

for seed in $(seeds 1); do
  packed compression_type=zlib
  packed compression_type=zstd
  packed compat=0.10
  packed cluster_size=4k,refcount_bits=1
  packed cluster_size=512
  packed cluster_size=2M,compression_type=zstd
  packed extended_l2=on,cluster_size=32k

  # Streams in a snapshot as well: what the disk drops the snapshot keeps.
  rm -f packed.qcow2
  qemu-img convert -q -c -f raw -O qcow2 src.raw packed.qcow2
  qemu-img snapshot -c before packed.qcow2
  cp src.raw packed.model
  exercise packed.qcow2 packed.model --seed $seed
  to_raw packed.qcow2 before.raw -l snapshot.name=before
  cmp before.raw src.raw
  qemu-img snapshot -d before packed.qcow2
  sound packed.qcow2
  holds packed.qcow2 packed.model
done
