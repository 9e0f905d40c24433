#!/usr/bin/env bash
# Extended L2: subclusters in every state of the format description.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

compare_options=(--coalesced)

# The states by the commands that make them: data, zero with space behind,
# zero without, never written, reserved but never written.
states () {
  local image="$1" c="$2"
  io "$image" "write -P 1 0 $((c / 32))" \
     "write -z $((c / 16)) $((c / 32))" \
     "write -P 2 $c $c" "write -z $c $((c / 32))" \
     "write -z $((c * 2)) $c" \
     "write -P 3 $((c * 3)) $c" "discard $((c * 3)) $c" \
     "write -P 4 $((c * 4)) $c" "write -z $((c * 4)) $c" \
     "write -P 5 $((c * 5 + 100)) 700" \
     "write -c -P 6 $((c * 6)) $c" \
     "write -P 7 $((c * 8 - c / 32)) $((c / 16))" \
     "write -P 8 $((c * 10)) $((c * 2))" \
     "write -z -u $((c * 10 + c / 2)) $c"
}

for kib in 16 64 128 2048; do
  c=$((kib * 1024))
  options=extended_l2=on,cluster_size=$c
  create plain.qcow2 $((c * 13 + 512)) -o $options
  states plain.qcow2 $c
  compare plain.qcow2

  source_file base.raw $((c * 12 + c / 64))
  create over.qcow2 $((c * 13 + 512)) -o $options -b base.raw -F raw
  states over.qcow2 $c
  compare over.qcow2
  rm *.qcow2 base.raw
done

# Space reserved, nothing written: the backing file shows through.
source_file base.raw $((1024 * 1024))
create reserved.qcow2 1M -b base.raw -F raw \
       -o extended_l2=on,cluster_size=128k,preallocation=metadata
test $(($(be64 reserved.qcow2 $(image_tool entry reserved.qcow2 0)))) -ne 0 ||
  fail "nothing is reserved"
compare reserved.qcow2
io reserved.qcow2 'write -P 9 5k 1k' 'write -z 200k 44k'
compare reserved.qcow2

# Any mixture of the two bitmaps that is valid, with and without a backing.
for seed in 1 2 3; do
  create mixed.qcow2 2M -o extended_l2=on,cluster_size=16k
  io mixed.qcow2 'write -P 0x11 0 1M' 'write -P 0x22 1000k 700000'
  image_tool subclusters mixed.qcow2 $seed
  compare mixed.qcow2

  source_file base.raw 1900000
  create mixed.qcow2 2M -o extended_l2=on,cluster_size=32k \
         -b base.raw -F raw
  io mixed.qcow2 'write -P 0x11 0 1M' 'write -P 0x22 1000k 700000'
  image_tool subclusters mixed.qcow2 $seed
  compare mixed.qcow2
done

# Subclusters over subclusters.
create top.qcow2 2M -o extended_l2=on,cluster_size=64k \
       -b mixed.qcow2 -F qcow2
io top.qcow2 'write -P 0x33 0 2M'
image_tool subclusters top.qcow2 4
compare top.qcow2

# Bit 0 of the descriptor means nothing in this kind of entry.
entry=$(image_tool entry top.qcow2 0)
poke top.qcow2 $((entry + 7)) '\x01'
compare top.qcow2
