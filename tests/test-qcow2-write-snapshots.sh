#!/usr/bin/env bash
# Random load on images with internal snapshots, which must not change.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=150

# keeps IMAGE NAME: the snapshot holds what NAME.raw does.
keeps () {
  to_raw "$1" now.raw -l snapshot.name=$2
  cmp now.raw $2.raw >&2 || fail "$1: snapshot $2 changed"
}

# rounds IMAGE SIZE [OPTION-OF-qemu-img-create...]
rounds () {
  local image=$1 model=${1%.qcow2}.model
  fresh "$@"
  for round in one two; do
    exercise $image $model --seed $seed
    cp $model $round.raw
    qemu-img snapshot -c $round $image
  done
  exercise $image $model --seed $((seed + 1))
  for round in one two; do keeps $image $round; done

  # Go back, and on from there.
  qemu-img snapshot -a one $image
  cp one.raw $model
  exercise $image $model --seed $((seed + 2))
  qemu-img snapshot -d one $image
  sound $image
  exercise $image $model --seed $((seed + 3))
  keeps $image two
  # Without snapshots the disk is all there is.
  qemu-img snapshot -d two $image
  exercise $image $model --seed $((seed + 4))
}

for seed in $(seeds 1); do
  rounds snap.qcow2 4M
  rounds old.qcow2 4M -o compat=0.10,cluster_size=4k
  rounds ext.qcow2 4M -o extended_l2=on,cluster_size=16k
  rounds narrow.qcow2 4M -o refcount_bits=4,cluster_size=8k

  # The disk was smaller when the snapshot was made.
  fresh grown.qcow2 3M
  exercise grown.qcow2 grown.model --seed $seed
  cp grown.model small.raw
  qemu-img snapshot -c small grown.qcow2
  qemu-img resize -q grown.qcow2 9M
  truncate -s 9M grown.model
  exercise grown.qcow2 grown.model --seed $seed
  qemu-img snapshot -a small grown.qcow2
  sound grown.qcow2
  cp small.raw grown.model
  exercise grown.qcow2 grown.model --seed $((seed + 1))
done

# Refcounts that cannot be raised any more: 2 bits, and each cluster is in
# three places.
create full.qcow2 2M -o refcount_bits=2
io full.qcow2 'write -P 1 0 2M'
qemu-img snapshot -c a full.qcow2
qemu-img snapshot -c b full.qcow2
to_raw full.qcow2 full.model
cp full.model a.raw
cp full.model b.raw
exercise full.qcow2 full.model
keeps full.qcow2 a
keeps full.qcow2 b
