#!/usr/bin/env bash
# Random load from several connections.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

load_ops=800
for seed in $(seeds 1 2); do
  create disk.qcow 16M
  model_of disk.qcow
  exercise disk.qcow disk.model --seed $seed
  # The same image again, on one connection and one request at a time.
  exercise disk.qcow disk.model --seed $((seed + 1000)) \
           --connections 1 --in-flight 1 --ops 200

  # Little but zeroes and trims: everything is allocated and freed again
  # and again.
  create churn.qcow 6M
  model_of churn.qcow
  exercise churn.qcow churn.model --seed $seed --largest 200000 \
           --mix write=20,zero=20,trim=20,read=10,flush=10
  size=$(stat -c %s churn.qcow)
  [ "$size" -lt $((16 << 20)) ] ||
    fail "churn.qcow: $size bytes for a disk of 6 MiB: freed space is lost"

  # Very small clusters, so that L2 tables come and go in numbers.
  truncate -s 4M empty.raw
  plain empty.raw small.qcow --cluster-bits 9 --l2-bits 6
  model_of small.qcow
  exercise small.qcow small.model --seed $seed --largest 100000
done
