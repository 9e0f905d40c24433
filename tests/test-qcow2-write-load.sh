#!/usr/bin/env bash
# Random load from several connections on plain images of both versions.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=1000
for seed in $(seeds 1 2); do
  fresh disk.qcow2 16M
  exercise disk.qcow2 disk.model --seed $seed
  # The same image again, on one connection and one request at a time.
  exercise disk.qcow2 disk.model --seed $((seed + 1000)) \
           --connections 1 --in-flight 1 --ops 200

  fresh old.qcow2 16M -o compat=0.10
  exercise old.qcow2 old.model --seed $seed

  # Little but zeroes and trims: everything is allocated and freed again
  # and again.
  fresh churn.qcow2 8M -o cluster_size=4k
  exercise churn.qcow2 churn.model --seed $seed --largest 200000 \
           --mix write=20,zero=20,trim=20,read=10,flush=10

  # An odd size: the last cluster and the last sector are partial.  QEMU
  # itself creates whole sectors only.
  fresh odd.qcow2 5M
  poke_be64 odd.qcow2 24 5111111
  truncate -s 5111111 odd.model
  exercise odd.qcow2 odd.model --seed $seed
done
