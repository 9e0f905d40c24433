#!/usr/bin/env bash
# Every cluster size, every length of L2 tables, the L1 table anywhere: same
# bytes as QEMU.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

compare_options=(--coalesced)

# An odd number of 512-byte sectors, so that the last cluster is partial.
source_file src.raw $((3 * 1024 * 1024 + 512))

# What QEMU makes: clusters of 4 KiB, and of 512 bytes with a backing file.
qemu-img convert -f raw -O qcow src.raw made.qcow
compare made.qcow

# All cluster sizes, from one L1 entry to a hundred.
for bits in 9 10 11 12 13 14 15 16; do
  plain src.raw image.qcow --cluster-bits $bits --l2-bits 6 --order $bits
  compare image.qcow
done
for bits in 7 8 9 10 11 12 13; do
  plain src.raw image.qcow --cluster-bits $((bits + 2)) --l2-bits $bits
  compare image.qcow
done

# The L1 table at any byte: the next one to the header, far behind all data,
# on no multiple of 8, and in the middle of it all.
for at in 49 4096 100003 $((1 << 33)); do
  plain src.raw image.qcow --l1-at $at --l2-bits 7 --cluster-bits 11
  compare image.qcow
done

# Its entries lie across pages of any size.
source_file long.raw 12000256
plain long.raw image.qcow --l1-at 49 --l2-bits 6 --cluster-bits 9
compare image.qcow
plain long.raw image.qcow --l1-at 100001 --l2-bits 6 --cluster-bits 9
compare image.qcow fixup=off

# Tables and clusters on sectors only; in any order; rubbish in between; the
# bytes that nobody knows; a time that is long over.
plain src.raw image.qcow --align 512 --cluster-bits 14 --l2-bits 6
compare image.qcow
plain src.raw image.qcow --order reverse --rubbish --data-at 99999
compare image.qcow
plain src.raw image.qcow --order 7 --rubbish --align 512 --l1-at 777777 \
      --mtime 0xffffffff --padding 0xffff
compare image.qcow

# Tables full of nothing, clusters full of zeroes.
plain src.raw image.qcow --tables
compare image.qcow
plain src.raw image.qcow --full --cluster-bits 9 --l2-bits 6
compare image.qcow
