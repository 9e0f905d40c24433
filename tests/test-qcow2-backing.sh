#!/usr/bin/env bash
# Backing files: formats, lengths, chains, depth, loops.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

compare_options=(--coalesced)

# One layer of everything: data, zeroes, compressed, nothing.
layer () {
  io "$1" "write -P $2 100k 300k" "write -z $(($2 * 64))k 64k" \
     "write -c -P $(($2 + 100)) $((512 + $2 * 64))k ${3-64k}" \
     "write -z -u 900k 8k"
}

# Bases shorter than, as long as and longer than the overlay, ending inside
# a cluster and inside a sector; raw and qcow2; both versions.
source_file src.raw $((3 * 1024 * 1024))
for length in 1 511 1000003 2097152 3145728; do
  head -c $length src.raw > base.raw
  for compat in 0.10 1.1; do
    create over.qcow2 2M -o compat=$compat -b base.raw -F raw
    compare over.qcow2
    layer over.qcow2 1
    compare over.qcow2
  done
  qemu-img convert -f raw -O qcow2 base.raw base.qcow2
  create over.qcow2 2M -b base.qcow2 -F qcow2
  layer over.qcow2 2
  compare over.qcow2
done

# A chain of mixed cluster sizes, disk sizes and kinds.
create c0.qcow2 1M -o cluster_size=512 -b base.raw -F raw
layer c0.qcow2 1 512
create c1.qcow2 1500k -o cluster_size=2M -b c0.qcow2 -F qcow2
create c2.qcow2 1200k -o cluster_size=4k,compat=0.10 -b c1.qcow2 -F qcow2
io c2.qcow2 'write -P 8 1000k 64k' 'write -c -P 3 40k 4k'
create c3.qcow2 3M -o cluster_size=128k,extended_l2=on -b c2.qcow2 -F qcow2
io c3.qcow2 'write -P 9 16k 8k' 'write -z 1M 64k'
create c4.qcow2 2M -b c3.qcow2 -F qcow2
compare c4.qcow2

# An overlay that was grown hides what its base has there.
create grown.qcow2 32k -b src.raw -F raw
qemu-img resize -q grown.qcow2 64k
compare grown.qcow2

# The user's word goes before the image's.
oracle=flat.qcow2
cp c4.qcow2 flat.qcow2
qemu-img rebase -u -f qcow2 -b '' flat.qcow2
compare c4.qcow2 backing=none
qemu-img rebase -u -f qcow2 -b src.raw -F raw flat.qcow2
compare c4.qcow2 backing=src.raw backing-format=raw
compare c4.qcow2 backing="$tmpdir/src.raw" backing-format=raw
cp c4.qcow2 lost.qcow2
qemu-img rebase -u -f qcow2 -b gone.qcow2 -F qcow2 lost.qcow2
compare lost.qcow2 backing=src.raw backing-format=raw
oracle=
refused 'gone.qcow2' lost.qcow2

# No format recorded.  (Unknown extensions are skipped, so give the backing
# format's another type.)
create unknown.qcow2 2M -b base.raw -F raw
poke unknown.qcow2 112 '\x12'
compare unknown.qcow2
compare unknown.qcow2 backing-format=raw
create unknown.qcow2 2M -b c4.qcow2 -F qcow2
poke unknown.qcow2 112 '\x12'
refused 'c4.qcow2.*backing-format=' unknown.qcow2
compare unknown.qcow2 backing-format=qcow2

# A recorded format is believed: raw is raw whatever is in it.
create rawqcow2.qcow2 2M -b c4.qcow2 -F raw
compare rawqcow2.qcow2
create other.qcow2 2M -b base.raw -F raw
poke other.qcow2 120 'xyz'
refused 'xyz' other.qcow2
expect_fail format.log nbdkit -r -U - qcow2 unknown.qcow2 \
            backing-format=nonesuch --run true
expect_text format.log nonesuch raw qcow2

# A base that can not be opened is named.
create broken.qcow2 1M
poke broken.qcow2 20 '\0\0\0\x7f'
qemu-img create -q -u -f qcow2 -b broken.qcow2 -F qcow2 over.qcow2 1M
refused "broken.qcow2.*cluster" over.qcow2
