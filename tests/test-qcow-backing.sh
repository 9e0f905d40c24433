#!/usr/bin/env bash
# Backing files: formats, lengths, places of the name, chains.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

compare_options=(--coalesced)

# layer IMAGE BYTE: data, and something compressed.
layer () {
  io "$1" "write -P $2 100k 300k" "write -P $(($2 + 50)) 1000000 5120" \
     "write -P $(($2 + 90)) $((512 + $2 * 64))k 512"
}

# Bases shorter than, as long as and longer than the overlay, ending inside
# a cluster and inside a sector; raw, qcow2 and qcow.
source_file src.raw $((3 * 1024 * 1024))
for length in 1 511 1000003 3145728; do
  head -c $length src.raw > base.raw
  create over.qcow 2M -b base.raw -F raw
  layer over.qcow 1
  compare over.qcow
  test $length -ge 512 || continue
  qemu-img convert -f raw -O qcow2 base.raw base.qcow2
  create over.qcow 2M -b base.qcow2 -F qcow2
  layer over.qcow 2
  compare over.qcow backing-format=qcow2
  plain base.raw base.qcow --clusters mixed
  create over.qcow 2M -b base.qcow -F qcow
  layer over.qcow 3
  compare over.qcow backing-format=qcow
done

# Overlays of every cluster size: what they hold goes before the base, all
# else is the base's; also where a cluster reaches over the base's end.
cp src.raw new.raw
for at in 0 511 8192 12345 99999 1048575 2000000 2999999; do
  poke new.raw $at 'new bytes, and some more of them'
done
head -c 3000000 src.raw > base.raw
for bits in 9 12 16; do
  plain new.raw over.qcow --base src.raw --name base.raw \
        --cluster-bits $bits --l2-bits 10 --clusters mixed --order $bits
  compare over.qcow
done

# The name anywhere: behind the header, behind the table, on no multiple of
# anything, at the very end of the file.
for at in 48 4097 700000 $((1 << 34)); do
  plain new.raw over.qcow --base src.raw --name base.raw --name-at $at \
        --l1-at 8192
  compare over.qcow
done
plain new.raw over.qcow --base src.raw --name base.raw --l1-at 300
printf 'base.raw' >> over.qcow
qcow_tool set over.qcow name-at $(($(stat -c %s over.qcow) - 8))
compare over.qcow
# Its length is recorded, no NUL ends it.
plain new.raw over.qcow --base src.raw --name base.rawabc
qcow_tool set over.qcow name-len 8
compare over.qcow

# A chain of kinds and sizes: qcow over qcow2 over qcow over raw.
create c0.qcow 1M -b base.raw -F raw
layer c0.qcow 1
qemu-img create -q -f qcow2 -b c0.qcow -F qcow -o cluster_size=4k \
         c1.qcow2 1500k
qemu-io -f qcow2 -c 'write -P 77 700k 800k' -c 'write -z 64k 16k' \
        c1.qcow2 > io.log
create c2.qcow 2M -b c1.qcow2 -F qcow2
layer c2.qcow 4
compare c2.qcow backing-format=qcow2

# The user's word goes before the image's.
oracle=flat.qcow
plain src.raw flat.qcow
plain new.raw alone.qcow --base src.raw --cluster-bits 12
plain new.raw over.qcow --base src.raw --name gone.raw --cluster-bits 12
oracle=alone.qcow
compare over.qcow backing=none
plain new.raw flat.qcow --base src.raw --name src.raw --cluster-bits 12
oracle=flat.qcow
compare over.qcow backing=src.raw backing-format=raw
compare over.qcow backing="$tmpdir/src.raw" backing-format=raw
compare over.qcow backing=src.raw
oracle=
refused 'gone.raw' over.qcow
qemu-img convert -f raw -O qcow2 src.raw src.qcow2
oracle=flat.qcow
compare_options=(--no-map)
compare over.qcow backing=src.qcow2 backing-format=qcow2
compare_options=(--coalesced)
oracle=
plain src.raw nobase.qcow
refused 'backing' nobase.qcow backing=src.raw backing-format=raw
expect_fail format.log nbdkit -r -U - qcow flat.qcow \
            backing-format=nonesuch --run true
expect_text format.log nonesuch raw qcow2

# A base that can not be opened is named, and the reason.
plain src.raw broken.qcow
qcow_tool set broken.qcow cluster-bits 31
create over.qcow 1M -u -b broken.qcow -F qcow
culprit=broken.qcow
refused 'cluster' over.qcow backing-format=qcow
culprit=

# A chain that leads back to itself.
create a.qcow 1M -u -b b.qcow -F qcow
create b.qcow 1M -u -b a.qcow -F qcow
refused 'loop|itself|twice|again|circ' a.qcow backing-format=qcow
