#!/usr/bin/env bash
# Random load on images with clusters and L2 tables of every size, with
# tables in odd places, and of sizes that are no multiple of anything.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

source_file src.raw $((3 * 1024 * 1024 + 1536))
head -c 6M /dev/zero > empty.raw
head -c 5000 src.raw > tiny.raw

# geometry RAW [OPTION-OF-plain...]
geometry () {
  local raw=$1
  shift
  plain "$raw" disk.qcow "$@"
  model_of disk.qcow
  exercise disk.qcow disk.model --seed $seed --largest 300000
}

load_ops=250
for seed in $(seeds 1); do
  # What QEMU makes, and disks which are empty at first.
  create disk.qcow 8M
  model_of disk.qcow
  exercise disk.qcow disk.model --seed $seed
  geometry empty.raw --cluster-bits 9 --l2-bits 6
  geometry empty.raw --cluster-bits 16 --l2-bits 13

  # Disks with data, in no order, all lengths of tables.
  geometry src.raw --cluster-bits 9 --l2-bits 13 --order 3
  geometry src.raw --cluster-bits 10 --l2-bits 7 --order reverse
  geometry src.raw --cluster-bits 12 --l2-bits 9 --full
  geometry src.raw --cluster-bits 13 --l2-bits 6 --tables
  geometry src.raw --cluster-bits 14 --l2-bits 10
  geometry src.raw --cluster-bits 16 --l2-bits 6

  # The L1 table behind the data, or among it.
  geometry src.raw --l1-at 8000000 --l2-bits 6
  geometry src.raw --l1-at 777776 --l2-bits 6 --cluster-bits 11

  # Sizes down to less than a cluster, and such as QEMU rounds down.
  for size in 512 1023 4999; do
    geometry tiny.raw --size $size --cluster-bits 13
    geometry tiny.raw --size $size --cluster-bits 9
  done
  geometry src.raw --size 1049601 --cluster-bits 16 --l2-bits 6
done

# Tables and clusters that lie on sectors only, as nobody writes them, share
# clusters of the file: such an image is read, and not written.
plain src.raw sectors.qcow --align 512 --cluster-bits 14 --l2-bits 6
before="$(digest sectors.qcow)"
nbdkit -U - qcow sectors.qcow 2> sectors.log \
       --run 'nbdinfo --is readonly "$uri" && nbdcopy "$uri" copy.raw' ||
  fail "clusters that are not aligned"
expect_text sectors.log 'sectors.qcow.*(align|multiple)'
cmp copy.raw src.raw
test "$(digest sectors.qcow)" = "$before" || fail "sectors.qcow changed"

# A disk that is much larger than what is written to it: L2 tables far
# apart, the last one for a part of a table only.
cat > far.py <<'END'
size = h.get_size ()
places = [0, 5 << 30, 513 << 30, 1 << 40, 3 << 40, size - 70000]
for n, at in enumerate (places):
    h.pwrite (bytes ([n + 1]) * 70000, at)
    h.zero (1000, at + 100)
h.flush ()
h.zero (1 << 31, 100 << 30)
h.trim (1 << 31, 5 << 30)
for n, at in enumerate (places):
    want = bytes ([n + 1]) * 100 + bytes (1000) + bytes ([n + 1]) * 68900
    if n == 1:
        want = bytes (65536) + want[65536:]
    got = h.pread (70000, at)
    assert got[:65536] == want[:65536], at
    assert got[65536:] in (want[65536:], bytes (70000 - 65536)), at
END
create far.qcow 5T
writing far.py far.qcow
io far.qcow 'read -P 1 1100 68900' 'read -P 3 513G 100' \
   'read -P 0 549755813988 1000' 'read -P 5 3T 100' 'read -P 0 5G 65536'
