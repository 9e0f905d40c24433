#!/usr/bin/env bash
# Compressed clusters: every cluster size, streams anywhere and shared.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

compare_options=(--coalesced --connections 8)

# holds_packed IMAGE PACKED INSIDE SHARED: at least so many clusters are
# compressed, begin inside a sector, share a stream.
holds_packed () {
  local plain packed inside shared
  read -r plain packed inside shared < <(qcow_tool count "$1")
  test $packed -ge $2 || fail "$1: only $packed compressed clusters"
  test $inside -ge $3 || fail "$1: only $inside begin inside a sector"
  test $shared -ge $4 || fail "$1: only $shared streams are shared"
}

# qemu_packed RAW IMAGE: a complete image comes out, though QEMU 7.2 ends
# with status 1, and silently.
qemu_packed () {
  qemu-img convert -c -f raw -O qcow "$1" "$2" || :
  qemu-img compare -q -f raw -F qcow "$1" "$2" ||
    fail "QEMU did not make $2"
}

# The disk ends inside a cluster.
source_file src.raw $((3 * 1024 * 1024 + 1536))

# As QEMU writes them: on sectors, and the file ends with the last stream.
qemu_packed src.raw made.qcow
holds_packed made.qcow 50 0 0
test $(($(stat -c %s made.qcow) % 512)) -ne 0 || fail "a rounded end"
compare made.qcow

# As older programs did, byte to byte; entries have other widths with every
# cluster size.
for bits in 9 10 12 13 14 15 16; do
  plain src.raw packed.qcow --clusters packed --cluster-bits $bits \
        --l2-bits 8 --rubbish
  holds_packed packed.qcow 10 8 0
  compare packed.qcow
done
for bits in 9 12 16; do
  plain src.raw packed.qcow --clusters mixed --cluster-bits $bits \
        --pack 512 --order $bits --seed $bits
  compare packed.qcow
done

# Several entries for one stream: the zeroes, and what comes again.
plain src.raw packed.qcow --clusters packed --share --full --cluster-bits 9
holds_packed packed.qcow 100 100 1
compare packed.qcow

# Distances far beyond 4 KiB, as no writer makes them and readers read them.
qcow_tool repeats far.raw 2999808
for bits in 13 15 16; do
  plain far.raw packed.qcow --clusters packed --window 15 \
        --cluster-bits $bits
  test $bits -lt 16 || holds_packed packed.qcow 40 30 0
  compare packed.qcow
done

# Many readers at once, each of them with many requests.
plain src.raw packed.qcow --clusters packed --cluster-bits 14
nbdkit -r -U - qcow packed.qcow --run '
  pids=
  for i in 1 2 3 4; do
    nbdcopy --connections=4 "$uri" copy$i.raw &
    pids="$pids $!"
  done
  for pid in $pids; do wait $pid || exit 1; done' || fail "nbdcopy"
for i in 1 2 3 4; do cmp src.raw copy$i.raw; done

# A compressed overlay of a compressed base.
qemu_packed src.raw base.qcow
cp src.raw changed.raw
for at in 0 4096 10000 70001 1048576 2000000 3145700; do
  poke changed.raw $at 'This is new here.'
done
plain changed.raw over.qcow --base src.raw --name base.qcow \
      --clusters packed --cluster-bits 12
compare over.qcow backing-format=qcow
cmp <(nbdkit -r -U - qcow over.qcow backing-format=qcow \
             --run 'nbdcopy "$uri" -') changed.raw

# Offsets that need many of the bits which an entry has for them.
if truncate -s $(((1 << 40) + (1 << 30))) probe 2> probe.log; then
  plain src.raw far.qcow --clusters packed --cluster-bits 16 \
        --data-at $((1 << 40))
  compare far.qcow
fi
