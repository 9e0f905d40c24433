#!/usr/bin/env bash
# Headers that lie are refused at once, naming the file and the field.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

source_file src.raw $((1024 * 1024))
plain src.raw good.qcow
compare good.qcow

# row REGEX FIELD VALUE...: set fields in a copy of $model; the server must
# refuse it, in bounded time and memory, with one message, and not change it.
model=good.qcow
row () {
  local regex="$1"
  shift
  cp $model bad.qcow
  echo "$*"
  while [ $# -gt 0 ]; do
    qcow_tool set bad.qcow "$1" "$2"
    shift 2
  done
  refused_once "$regex" bad.qcow
}

row 'magic|not a qcow|not in qcow' magic 0
row 'magic|not a qcow|not in qcow' magic 0x514649fa
for version in 0 4 0x01000000 0x80000001 0xffffffff; do
  row 'version' version $version
done
# These are for another plugin, and the message says for which.
for version in 2 3; do
  row 'version.*qcow2|qcow2.*version' version $version
done

# Each limit, on both sides of it: what is allowed is in
# test-qcow-geometry.sh.
for size in 0 1; do
  row 'size' size $size
done
for bits in 0 1 8 17 31 32 63 64 128 255; do
  row 'cluster.?(size|bits)|clusters? of' cluster-bits $bits
done
for bits in 0 5 14 31 63 64 255; do
  row 'L2' l2-bits $bits
done
for method in 2 255 0x80000000 0xffffffff; do
  row 'encrypt|crypt' crypt $method
done

# Encrypted disks are not served as cipher text.
row 'encrypt' crypt 1
row 'encrypt' crypt 1 size 513

# Too large: the span wraps; more L1 entries than there may be.
for size in 0xffffffffffffffff 0xfffffffffffffe00 0xffffffffffe00001 \
            0x8000000000000000 0x7fffffffffffffff \
            $((268435455 * 2097152 + 1)); do
  row 'size|large|L1' size $size
done
row 'size|large|L1' cluster-bits 16 l2-bits 13 size $(((268435455 << 29) + 1))
row 'size|large|L1' cluster-bits 9 l2-bits 6 size $(((268435455 << 15) + 1))

# The L1 table's place: on the header, beyond what is a place at all.
for at in 0 1 40 47 0x7fffffffffffffff 0x8000000000000000 \
          0xfffffffffffffff8 0xffffffffffffffff 0x7ffffffffffffff8; do
  row 'L1' l1-at $at
done

# The name of the backing file.
for at in 1 8 47; do
  row 'backing' name-at $at name-len 5
done
for at in 0x7fffffffffffffff 0x8000000000000000 0xfffffffffffffffc \
          0xffffffffffffffff 0x10000000 $(stat -c %s good.qcow); do
  row 'backing' name-at $at name-len 5
done
row 'backing' name-at $(($(stat -c %s good.qcow) - 4)) name-len 5
for length in 1024 65536 0x7fffffff 0x80000000 0xffffffff; do
  row 'backing' name-at 48 name-len $length
done

# The first that is wrong decides, as it does for QEMU.
row 'version' version 7 cluster-bits 3 size 0
row 'cluster.?(size|bits)|clusters? of' cluster-bits 3 l2-bits 99 size 512

# Files that are hardly there, or no files.
for length in 0 3 4 7 8 47; do
  head -c $length good.qcow > stub.qcow
  refused_once '.' stub.qcow
done
refused 'No such file' missing.qcow
mkdir directory.qcow
refused 'directory|regular|not a' directory.qcow
mkfifo fifo.qcow
refused 'regular|fifo|pipe|not a' fifo.qcow

# A name as long as may be is a name: 1023 bytes.
name=$(printf './%01021d' 0)
plain src.raw name.qcow --name "$name" --name-at 8192 --data-at 16384
refused 'backing|too long' name.qcow
expect_no_text refused.log '1023 bytes'
plain src.raw name.qcow --name "0$name" --name-at 8192 --data-at 16384
refused_once 'backing.*(long|1023|1024)' name.qcow

# An L1 table of nearly 2 GiB in a sparse file that says nothing: served, in
# bounded time and memory.
head -c 0 /dev/null > nothing.raw
plain nothing.raw huge.qcow --cluster-bits 9 --l2-bits 6 \
      --size $((268435455 << 15)) --l1-at 4096 --length 2147487744
bounded nbdkit -r -U - qcow huge.qcow --run 'nbdinfo --size "$uri"' > size
test "$(cat size)" -eq $((268435455 << 15)) || fail "the largest L1 table"
# The same with something at its end: one span of data.
poke_be64 huge.qcow $((4096 + 268435454 * 8)) $((1 << 32))
poke_be64 huge.qcow $(((1 << 32) + 8)) $(((1 << 32) + 512))
poke huge.qcow $(((1 << 32) + 512)) 'here'
cat > last.py <<'END'
at = (268435454 << 15) + 512
assert h.pread (512, at) == b"here" + bytes (508)
assert h.pread (512, at - 512) == bytes (512)
END
bounded nbdkit -r -U - qcow huge.qcow --run "
  exec '$PYTHON' '$srcdir/qcow2-client.py' last.py \"\$uri\"" ||
  fail "the end of the largest L1 table"

# The same with Xen's header, which asks for a judgement of every entry:
# opened or refused with a message, in bounded time and memory.
qcow_tool set huge.qcow xmagic 0x58454efb
status=0
bounded nbdkit -r -U - qcow huge.qcow --run true > huge.out 2> huge.log ||
  status=$?
case $status in
  0) ;;
  1) expect_text huge.log 'huge.qcow.*L1' ;;
  *) cat huge.log >&2; fail "huge table with Xen's header: status $status" ;;
esac
