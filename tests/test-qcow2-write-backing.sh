#!/usr/bin/env bash
# Random load on images with backing files, which must not change.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=400
source_file base.raw 5000000
truncate -s 5000192 base.raw
qemu-img convert -f raw -O qcow2 base.raw base.qcow2
qemu-img convert -f raw -O qcow2 -c base.raw packed.qcow2
create middle.qcow2 7M -b base.qcow2 -F qcow2
io middle.qcow2 'write -P 1 1M 300k' 'write -z 2M 200k' 'write -P 2 6M 100k'

before=$(digest base.raw base.qcow2 packed.qcow2 middle.qcow2)
for seed in $(seeds 1); do
  # Shorter than the disk, longer, and not whole clusters.
  for size in 2M 5000192 9M; do
    fresh raw.qcow2 $size -b base.raw -F raw
    exercise raw.qcow2 raw.model --seed $seed
    fresh small.qcow2 $size -b base.raw -F raw -o cluster_size=4k
    exercise small.qcow2 small.model --seed $seed
    fresh chain.qcow2 $size -b middle.qcow2 -F qcow2 -o cluster_size=256k
    exercise chain.qcow2 chain.model --seed $seed
  done
  # Version 2 cannot say that a cluster is zero: zeroes over a backing file
  # are written, and nothing may be given back.
  fresh old.qcow2 6M -b packed.qcow2 -F qcow2 -o compat=0.10
  exercise old.qcow2 old.model --seed $seed \
           --mix write=20,zero=25,fast=10,trim=20,read=20,flush=5
  fresh old512.qcow2 6M -b base.raw -F raw -o compat=0.10,cluster_size=512
  exercise old512.qcow2 old512.model --seed $seed --largest 100000
done
[ "$(digest base.raw base.qcow2 packed.qcow2 middle.qcow2)" = "$before" ] ||
  fail "a backing file changed"
