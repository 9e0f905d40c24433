#!/usr/bin/env bash
# Extents to the byte: every boundary, and nothing cut in two.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

K=1024

# extents IMAGE [PARAMETER...] < LIST: check_extents, and compare with QEMU.
extents () {
  check_extents "$@"
  compare_options=(--coalesced)
  compare "$@"
}

# Runs over clusters, over L2 tables (2 MiB here), over tables that do not
# exist; data at scattered places in the host file is still one run.
create run.qcow 16M
io run.qcow 'write -P 2 1M 2M' 'write -P 1 512k 512k' 'write -P 3 9M 4k' \
   'write -P 5 9224k 4k'
qemu-io -f qcow -c 'write -c -P 4 9220k 4k' run.qcow > io.log
extents run.qcow <<'END'
512*K HOLE
2560*K DATA
6*1024*K HOLE
12*K DATA
(16384-9216-12)*K HOLE
END

# Tables that hold nothing are nothing.
truncate -s 8M empty.raw
plain empty.raw tables.qcow --tables --cluster-bits 9 --l2-bits 6
extents tables.qcow <<'END'
8*1024*K HOLE
END

# The end of the disk ends the last extent, in the middle of a cluster.
head -c 70000 /dev/zero | tr '\0' 'x' > odd.raw
plain odd.raw odd.qcow --cluster-bits 14
extents odd.qcow <<'END'
69632 DATA
END

# Overlays: data of the overlay and of its base side by side is one run; the
# base ends where it ends, not with its cluster or sector.
head -c 300001 /dev/zero | tr '\0' 'x' > base.raw
create over.qcow 1M -b base.raw -F raw
io over.qcow 'write -P 1 64k 64k' 'write -P 2 512k 64k'
extents over.qcow <<'END'
300001 DATA
512*K-300001 HOLE
64*K DATA
448*K HOLE
END

# Holes of a raw base, holes of a qcow2 base, nothing at all: one hole.
truncate -s 1M sparse.raw
create hole.qcow 3M -b sparse.raw -F raw
extents hole.qcow <<'END'
3*1024*K HOLE
END
qemu-img create -q -f qcow2 base.qcow2 2M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -z -u 128k 64k' \
        base.qcow2 > io.log
create hole.qcow 3M -b base.qcow2 -F qcow2
io hole.qcow 'write -P 1 1536k 512'
extents hole.qcow backing-format=qcow2 <<'END'
128*K DATA
64*K HOLE
832*K DATA
512*K HOLE
512 DATA
1536*K-512 HOLE
END

# Zeroes that are stored are data, unless the host file has a hole there.
head -c 1M /dev/zero > zero.raw
plain zero.raw zero.qcow --full
compare zero.qcow

# Holes in the host file inside of clusters that are allocated.
head -c 2M /dev/zero | tr '\0' '\7' > full.raw
plain full.raw punched.qcow --cluster-bits 16 --align 65536 \
      --data-at 65536 --rubbish
entry=$(qcow_tool entry punched.qcow 0)
host=$(be64 punched.qcow $entry)
fallocate -p -o $((host + 131072)) -l 65536 punched.qcow
compare punched.qcow

# What nbdinfo shows of it.
nbdkit -r -U - qcow run.qcow --run 'nbdinfo --map --totals "$uri"' > totals
grep -Eq '^ *2633728 .* 0 +(data|allocated)' totals || {
  cat totals >&2
  fail "nbdinfo --map"
}
