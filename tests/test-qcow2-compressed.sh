#!/usr/bin/env bash
# Compressed clusters: every cluster size, both types, odd streams.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

compare_options=(--coalesced --connections 8)
zstd=yes
create probe.qcow2 1M -o compression_type=zstd 2> probe.log || zstd=no

# The disk ends inside a cluster, and inside a 512-byte-cluster's pair.
source_file src.raw $((4 * 1024 * 1024 + 1536))

all () {
  local type="$1" size
  for size in 512 4k 16k 64k 256k 2M; do
    qemu-img convert -c -f raw -O qcow2 src.raw packed.qcow2 \
             -o cluster_size=$size,compression_type=$type
    compare packed.qcow2
  done
}

all zlib
if [ $zstd = yes ]; then all zstd; fi
qemu-img convert -c -f raw -O qcow2 -o compat=0.10 src.raw packed.qcow2
compare packed.qcow2

# The images above hold what they are meant to hold.
qemu-img convert -c -f raw -O qcow2 -o cluster_size=4k src.raw packed.qcow2
read -r total crossing inside < <(image_tool packed packed.qcow2)
test $total -gt 100 || fail "only $total compressed clusters"
test $crossing -gt 10 || fail "only $crossing streams cross host clusters"
test $inside -gt 10 || fail "only $inside streams start inside a sector"

# Many readers at once, and each of them with many requests.
nbdkit -r -U - qcow2 packed.qcow2 --run '
  pids=
  for i in 1 2 3 4; do
    nbdcopy --connections=4 "$uri" copy$i.raw &
    pids="$pids $!"
  done
  for pid in $pids; do wait $pid || exit 1; done' || fail "nbdcopy"
for i in 1 2 3 4; do cmp src.raw copy$i.raw; done

# Compressed and plain clusters mixed, also with extended L2.
for options in cluster_size=64k cluster_size=4k \
               cluster_size=64k,extended_l2=on; do
  create mixed.qcow2 1M -o $options
  c=64k
  if [[ $options == *=4k ]]; then c=4k; fi
  io mixed.qcow2 "write -c -P 5 0 $c" "write -c -P 6 $c $c" \
     'write -P 7 128k 64k' "write -c -P 8 256k $c" 'write -P 9 257k 512' \
     "write -c -P 10 512k $c"
  compare mixed.qcow2
done

# Without a rounded end: the file stops inside the last stream's last sector.
create short.qcow2 1M
io short.qcow2 'write -c -P 5 0 64k' 'write -c -P 6 64k 64k'
length=$(stat -c %s short.qcow2)
test $((length % 512)) -ne 0 || fail "the file ends with a whole sector"
compare short.qcow2

# A compressed overlay of a compressed base.
qemu-img convert -c -f raw -O qcow2 src.raw base.qcow2
create over.qcow2 5M -b base.qcow2 -F qcow2
io over.qcow2 'write -c -P 5 64k 64k' 'write -P 6 150k 1k' \
   'write -z 1M 64k' 'write -c -P 7 4M 64k'
compare over.qcow2

# Streams that QEMU reads but does not write: a window of 32 KiB, stored
# blocks, bytes after the end; several zstd frames, no content size.
create odd.qcow2 1M
io odd.qcow2 'write -P 1 0 1M'
image_tool add-packed odd.qcow2 65536 zlib15
image_tool add-packed odd.qcow2 262144 stored
image_tool add-packed odd.qcow2 $((1024 * 1024 - 65536)) zlib15
compare odd.qcow2
if [ $zstd = yes ]; then
  create odd.qcow2 1M -o compression_type=zstd
  io odd.qcow2 'write -P 1 0 1M'
  image_tool add-packed odd.qcow2 65536 zstd2
  image_tool add-packed odd.qcow2 262144 zstdnosize
  compare odd.qcow2
fi

# One type needs no library that another build might lack: say so early.
nbdkit --dump-plugin qcow2 > plugin.txt
grep -q '^qcow2_deflate=yes$' plugin.txt || fail "deflate is not announced"
