#!/usr/bin/env bash
# Random load on images with external data files, raw and not.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

load_ops=500
plugin_args=(allow-path=.)

for seed in $(seeds 1); do
  for cluster in 4k 64k 2M; do
    fresh data.qcow2 12M -o data_file=data.raw,cluster_size=$cluster
    exercise data.qcow2 data.model --seed $seed

    # Whoever reads the data file alone must see the disk.
    fresh rawdata.qcow2 12M \
      -o data_file=rawdata.raw,data_file_raw=on,cluster_size=$cluster
    exercise rawdata.qcow2 rawdata.model --seed $seed
    cmp rawdata.raw rawdata.model
    [ $(($(be64 rawdata.qcow2 88) & 2)) -eq 2 ] ||
      fail "the data file is not called raw any more"
    # QEMU goes on, and we after it.
    io rawdata.qcow2 'write -P 0x55 3M 100k' 'write -z 5M 1M' 'discard 6M 1M'
    to_raw rawdata.qcow2 rawdata.model
    exercise rawdata.qcow2 rawdata.model --seed $((seed + 1))
    cmp rawdata.raw rawdata.model
  done

  fresh ext.qcow2 6M \
    -o data_file=ext.raw,extended_l2=on,cluster_size=16k
  exercise ext.qcow2 ext.model --seed $seed
  fresh extraw.qcow2 6M -o data_file=extraw.raw,data_file_raw=on \
    -o extended_l2=on,cluster_size=16k
  exercise extraw.qcow2 extraw.model --seed $seed
  cmp extraw.raw extraw.model

  # A disk that ends inside a cluster.  QEMU makes the data file longer
  # than the disk; what is behind the disk must stay zero.
  fresh odd.qcow2 3000320 -o data_file=odd.raw,data_file_raw=on
  exercise odd.qcow2 odd.model --seed $seed
  truncate -s "$(stat -c %s odd.raw)" odd.model
  cmp odd.raw odd.model
done

# With a backing file (not raw).
source_file base.raw 5000192
create over.qcow2 6M -b base.raw -F raw -o data_file=over.raw
to_raw over.qcow2 over.model
exercise over.qcow2 over.model
