#!/usr/bin/env bash
# Images of Xen's tapdisk, in every form that its L1 table is found in: read
# right, read-only until told otherwise, and not changed.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

# A hole of one extent and a half among data; the disk ends in an extent.
source_file src.raw $((5 * 1024 * 1024 + 1536))
fallocate -p -o 1500000 -l 2700000 src.raw
small=(--cluster-bits 10 --l2-bits 8)
map=

# reads [OPTION-OF-tapdisk...]: what the guest wrote is there, and extents
# are as QEMU finds them in an image that was converted rightly.
reads () {
  echo "reads $*"
  tapdisk src.raw tapdisk.qcow "$@" --converted converted.qcow
  before="$(digest tapdisk.qcow)"
  oracle=converted.qcow
  compare_options=(--raw src.raw $map)
  compare tapdisk.qcow
  test "$(digest tapdisk.qcow)" = "$before" || fail "the image changed"
}

# told: a client that may write is not let, and the log says what to do.
told () {
  before="$(digest tapdisk.qcow)"
  nbdkit -U - qcow tapdisk.qcow --run 'nbdinfo --is readonly "$uri"' \
         2> told.log || fail "it can be written"
  expect_text told.log 'tapdisk.qcow.*fixup=write' 'qcow-fixup'
  test "$(digest tapdisk.qcow)" = "$before" || fail "the image changed"
}

# writable: nothing speaks against writing.
writable () {
  nbdkit -U - qcow tapdisk.qcow --run '! nbdinfo --is readonly "$uri"' ||
    fail "it cannot be written"
}

# The table as tapdisk left it until 2008: sparse, reserved, all allocated,
# extents in other orders, other clusters.
reads
told
reads --reserve
told
reads --reserve --full
reads --extents reverse "${small[@]}"
told
reads --extents 5 --cluster-bits 14 --l2-bits 6
reads --cluster-bits 9 --l2-bits 13 --min-alloc 1
# 3.0.4: what says big endian now said sparse then.
reads --flags 2
told
reads --flags 0xffffffff "${small[@]}"
# XenSource's header, and that of 2006 without flags.
reads --header 20
reads --header 12 "${small[@]}"
told

# The checksum of a clean end, of the creation, of nothing; of a big endian
# host.
for cksum in stale created 0; do
  reads "${small[@]}" --cksum $cksum
done
reads "${small[@]}" --host big

# As it should be: with and without the flag, which says nothing; nothing is
# in the way of writing where there is nothing to convert.
reads --order big --flag
writable
reads --order big "${small[@]}"
reads --order big --reserve --full --gap 512 --stray
reads --order big --flag --first 12288
writable
reads --order big --reversed --flag
reads --order big --cksum stale --flag --extents 9 "${small[@]}"
writable

# Conversions that stopped: behind so many entries, with every other one,
# with some sector of the table missing, with the flag first or last.
for count in 1 7; do
  reads "${small[@]}" --table first --count $count
  told
done
reads "${small[@]}" --table alternate --flag --cksum stale
told
reads "${small[@]}" --table these --these 0,3,9-12,20 --cksum created
told
reads --table little --flag
told
reads --table big
reads --table big --flag
reads --cluster-bits 9 --l2-bits 6 --table these --these 64-127
told

# The ends of the file: an entry just behind it (QEMU leaves such), and
# much behind the last extent.
reads "${small[@]}" --extents reverse --behind 8
told
reads "${small[@]}" --behind 8 --table alternate

# Entries that name a place in both orders, as the file is so long: 16 MiB
# are a number with zeroes at both ends.  What lies there decides.
reads --first 0x102000000 --length $((16 << 30))
reads --first 0x102000000 --length $((16 << 30)) --table big
reads --first 0x102000000 --length $((16 << 30)) --cksum stale \
      --table first --count 1
told
reads --first 0x103000000 --length $((16 << 30)) --order big --cksum stale \
      --flag

# An empty disk has no order.
truncate -s 3M src.raw
fallocate -p -o 0 -l 3M src.raw
reads
reads --order big --flags 2

# Many entries: 65 sectors of them.
truncate -s 134250496 src.raw
poke src.raw 0 'first'
poke src.raw 70000000 'middle'
poke src.raw 134250000 'last'
map=--no-map
reads --cluster-bits 9 --l2-bits 6 --table these --these 0-63,2048-2111
told

# Without Xen's header a table can not be little endian: an image with one
# is refused, and not read as zeroes.
tapdisk src.raw other.qcow --header 0
refused_once 'endian|byte order' other.qcow

oracle=
compare_options=()
# fixup=off takes the format by its word: then nothing can be read here that
# is allocated, and never are there zeroes instead.
truncate -s 3M src.raw
tapdisk src.raw off.qcow
cat > off.py <<'END'
assert error_of (h.pread, 512, 0) == "EIO"
assert error_of (h.pread, 512, 1 << 20) == "EIO"
assert h.pread (512, 2 << 20) == bytes (512)
END
client off.py off.qcow fixup=off 2> off.log || {
  cat off.log >&2
  fail "fixup=off"
}
expect_text off.log 'off.qcow'
tapdisk src.raw off.qcow --order big --flag
compare off.qcow fixup=off
expect_fail bad.log nbdkit -r -U - qcow off.qcow fixup=perhaps --run true
expect_text bad.log 'fixup.*(off|memory|write)'
