#!/usr/bin/env bash
# Headers that lie are refused at once, naming the file and the field.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

create good.qcow2 64M
io good.qcow2 'write -P 1 0 64k'
compare good.qcow2

# row REGEX [be32|be64|bytes OFFSET VALUE]...: poke a copy of $model; the
# server must refuse it, in bounded time and memory, and not change it.
model=good.qcow2
row () {
  local regex="$1" what=
  shift
  cp $model bad.qcow2
  while [ $# -gt 0 ]; do
    what+="$1 $2 $3; "
    case $1 in
      be32) poke_be32 bad.qcow2 $2 $3 ;;
      be64) poke_be64 bad.qcow2 $2 $3 ;;
      bytes) poke bad.qcow2 $2 "$3" ;;
      *) fail "row: $1" ;;
    esac
    shift 3
  done
  echo "$what"
  before="$(digest bad.qcow2)"
  refused "$regex" bad.qcow2
  test "$(digest bad.qcow2)" = "$before" || fail "the image changed"
  # One failure, one message.
  test "$(grep -c 'error:' refused.log)" -eq 1 || {
    cat refused.log >&2
    fail "not one message"
  }
}

row 'magic|not a qcow2' bytes 0 'X'
row 'magic|not a qcow2' be32 0 0
for version in 0 1 4 0x80000003 0xffffffff; do
  row 'version' be32 4 $version
done

for length in 0 71 96 103 65537 0x7fffffff 0x80000000 0xffffffff; do
  row 'header.length' be32 100 $length
done
for bits in 0 8 22 31 32 63 64 255 0x7fffffff 0x80000009 0xffffffff; do
  row 'cluster.(bits|size)' be32 20 $bits
done
for order in 7 8 63 64 0x80000004 0xffffffff; do
  row 'refcount.(order|width|bits|entr)' be32 96 $order
done

# The backing file's name.
for offset in 65537 0x7fffffffffffffff 0x8000000000000000 \
              0xffffffffffffffff 0xfffffffffffffff8; do
  row 'backing' be64 8 $offset be32 16 5
  row 'backing' be64 8 $offset
done
for size in 1024 65536 0x7fffffff 0xffffffff; do
  row 'backing' be64 8 1024 be32 16 $size
done
row 'backing' be64 8 65530 be32 16 7
row 'backing' be64 8 65536 be32 16 1

# Tables: sizes and places.
row 'refcount.table' be32 56 0
for clusters in 129 0x10000 0x7fffffff 0x80000000 0xffffffff; do
  row 'refcount.table' be32 56 $clusters
done
for offset in 65537 66048 0x7fffffffffff0000 0x8000000000000000 \
              0xffffffffffff0000; do
  row 'refcount.table' be64 48 $offset
  row 'L1' be64 40 $offset
done
for entries in 4194305 0x20000000 0x20000001 0x7fffffff 0xffffffff; do
  row 'L1' be32 36 $entries
done
row 'L1' be32 36 0

# The disk's size: beyond what L1 maps, beyond what is a size at all, and
# where rounding up wraps.
for size in 0x20000001 0x10000000000 0x7fffffffffffffff 0x8000000000000000 \
            0xfffffffffffffe00 0xfffffffffffffffe 0xffffffffffffffff; do
  row 'L1|size' be64 24 $size
done

# Snapshots, also where there are none.
for number in 65537 0x7fffffff 0xffffffff; do
  row 'snapshot' be32 60 $number
done
for offset in 1 512 65537 0x8000000000000000 0xffffffffffff0000; do
  row 'snapshot' be64 64 $offset
done
row 'snapshot' be32 60 1 be64 64 0x7fffffffffff0000

# Compression type and its feature go together.
row 'compression' be32 100 112 bytes 104 '\x01'
row 'compression' bytes 79 '\x08' bytes 104 '\0'
row 'compression' bytes 79 '\x08' bytes 104 '\x02'
row 'compression' bytes 79 '\x08' bytes 104 '\xff'
row 'compression' bytes 79 '\x08' be32 100 104 bytes 104 '\0'

for method in 3 255 0x80000000 0xffffffff; do
  row 'crypt' be32 32 $method
done
row 'data.file' bytes 95 '\x02'
row 'feature' bytes 79 '\x20'
row 'feature' bytes 72 '\xff'

# Subclusters of less than 512 bytes.
create extended.qcow2 1M -o extended_l2=on,cluster_size=16k
model=extended.qcow2
for bits in 9 13; do row 'cluster|subcluster' be32 20 $bits; done

# Version 2 shares all fields up to byte 72.
create v2.qcow2 64M -o compat=0.10
model=v2.qcow2
row 'cluster.(bits|size)' be32 20 8
row 'L1' be32 36 0xffffffff
row 'refcount.table' be32 56 0xffffffff
row 'snapshot' be64 64 8
row 'size|L1' be64 24 0xffffffffffffffff

# A snapshot table that asks for too much.
create snapshot.qcow2 1M
qemu-img snapshot -c one snapshot.qcow2
model=snapshot.qcow2
table=$(be64 snapshot.qcow2 64)
for size in 1025 65536 0x7fffffff 0xffffffff; do
  row 'snapshot' be32 $((table + 36)) $size
done
# As many as may be, all of them nothing: opened or refused, but bounded.
for offset in 0x10000000000 $table; do
  cp snapshot.qcow2 many.qcow2
  poke_be32 many.qcow2 60 65536
  poke_be64 many.qcow2 64 $offset
  status=0
  bounded nbdkit -r -U - qcow2 many.qcow2 --run true 2> many.log || status=$?
  test $status -le 1 || fail "many snapshots: status $status"
done

# Files that are hardly there.
for length in 0 3 4 7 8 71; do
  head -c $length good.qcow2 > stub.qcow2
  refused '.' stub.qcow2
done
head -c 103 good.qcow2 > stub.qcow2
refused '.' stub.qcow2
head -c 65536 good.qcow2 > stub.qcow2
refused 'L1 table' stub.qcow2
refused 'No such file' missing.qcow2
mkdir directory.qcow2
refused 'directory|regular|not a' directory.qcow2
mkfifo fifo.qcow2
refused 'regular|fifo|pipe|not a' fifo.qcow2

# All three tables at their limits at once: that is a lot, and allowed.
create limit.qcow2 64M
poke_be32 limit.qcow2 36 4194304
poke_be32 limit.qcow2 56 128
compare limit.qcow2
