#!/usr/bin/env bash
# Both versions, every cluster size, every refcount width: same bytes as QEMU.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

compare_options=(--coalesced)

# An odd number of 512-byte sectors, so that the last cluster is partial.
source_file src.raw $((3 * 1024 * 1024 + 512))

# Everything shows here: L2 tables cover 32 KiB with 512-byte clusters, and
# one of the tables is never needed with 2 MiB ones.
for compat in 0.10 1.1; do
  for size in 512 1k 2k 4k 8k 16k 32k 64k 128k 256k 512k 1M 2M; do
    qemu-img convert -f raw -O qcow2 \
             -o compat=$compat,cluster_size=$size src.raw geometry.qcow2
    compare geometry.qcow2
  done
done

# The width of refcounts matters to writers only, but all must open.
for bits in 1 2 4 8 16 32 64; do
  create width.qcow2 8M -o refcount_bits=$bits
  io width.qcow2 'write -P 5 0 1M' 'write -P 6 3333333 100000'
  compare width.qcow2
  rm width.qcow2
done

# A refcount table that had to grow, so that it lies far back in the file.
create grown.qcow2 40M -o cluster_size=512
io grown.qcow2 'write -P 1 0 7M' 'write -P 2 7M 2M' 'write -P 3 39M 1M'
test "$(be32 grown.qcow2 56)" -gt 1 || fail "the refcount table did not grow"
compare grown.qcow2

# Host clusters in no order at all: written backwards, every other one.
create backwards.qcow2 4M -o cluster_size=4k
commands=()
for ((i = 1023; i >= 0; i -= 2)); do
  commands+=("write -P $((i % 251 + 1)) $((i * 4096)) 4k")
done
io backwards.qcow2 "${commands[@]}"
compare backwards.qcow2
