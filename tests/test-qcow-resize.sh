# resize= gives the disk another size before it is served: contents stay,
# what is new is zero, and QEMU reads the same.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

# resize IMAGE SIZE [PARAMETER...]
resize () {
  nbdkit -U - qcow "$1" resize="$2" "${@:3}" \
    --run 'nbdinfo --size "$uri" > size' || fail "$1: resize=$2 fails"
  [ "$(cat size)" = "$(($(numfmt --from=iec "$2")))" ] ||
    fail "$1: has $(cat size) bytes, not $2"
  qemu-img info "$1" | grep -q "($(cat size) bytes)" ||
    fail "$1: QEMU sees another size than $2"
}

# Longer, a lot longer, shorter, longer: nothing comes back.
for geometry in "" "cluster-size=512 l2-bits=6" "cluster-size=512 l2-bits=13" \
                "cluster-size=64k l2-bits=6" "cluster-size=64k l2-bits=13"; do
  echo "$geometry"
  rm -f a.qcow
  # shellcheck disable=SC2086
  nbdkit -U - qcow a.qcow create=true size=1M $geometry --run true
  io a.qcow 'write -P 7 0 1M'
  resize a.qcow 2M
  io a.qcow 'read -P 7 0 1M' 'read -P 0 1M 1M' 'write -P 8 1M 1M'
  resize a.qcow 20G
  io a.qcow 'read -P 7 0 1M' 'read -P 8 1M 1M' 'read -P 0 2M 10M' \
    'write -P 9 19G 2M'
  blocks=$(stat -c '%b * %B' a.qcow)
  resize a.qcow 80K shrink=true
  io a.qcow 'read -P 7 0 80k'
  less=$(stat -c '%b * %B' a.qcow)
  [ $((less)) -le $((blocks - 2097152)) ] ||
    fail "space is not given back: $((blocks)), then $((less)) bytes"
  resize a.qcow 20G
  io a.qcow 'read -P 7 0 80k' 'read -P 0 80k 2M' 'read -P 0 19G 2M'
done

# A longer backing file does not show in the new part, nor, when the disk
# becomes shorter, what was behind its end.
qemu-img create -q -f qcow base.qcow 1M
io base.qcow 'write -P 5 0 1M'
for geometry in "" "cluster-size=64k l2-bits=6"; do
  rm -f over.qcow
  # shellcheck disable=SC2086
  nbdkit -U - qcow over.qcow create=true size=32k backing=base.qcow \
    backing-format=qcow $geometry --run true
  resize over.qcow 3M
  io over.qcow 'read -P 5 0 32k' 'read -P 0 32k 3040k'
  resize over.qcow 20K shrink=true
  resize over.qcow 300M
  io over.qcow 'read -P 5 0 20k' 'read -P 0 20k 4M'
done
expect_fail log nbdkit -U - qcow over.qcow backing=none resize=400M --run true
expect_text log 'over.qcow: .*backing=none'

# Compressed clusters go, whatever else lies beside them.
head -c 1048576 /dev/zero | tr '\0' z > raw
# (QEMU 7.2 fails at the end of that, with all written.)
qemu-img convert -q -f raw -O qcow -c raw packed.qcow || :
qemu-img compare -q -f raw -F qcow raw packed.qcow
resize packed.qcow 99K shrink=true
io packed.qcow 'read -P 0x7a 0 99k'
resize packed.qcow 1G
io packed.qcow 'read -P 0x7a 0 99k' 'read -P 0 99k 10M' 'write -P 1 500M 1M'
io packed.qcow 'read -P 0x7a 0 99k' 'read -P 1 500M 1M'

# What is refused: nothing changes.
fingerprint a.qcow > before
refused () {
  local pattern=$1

  shift
  expect_fail log nbdkit -U - qcow "$@" --run 'echo served'
  [ "$status" -eq 1 ] || fail "status $status"
  expect_text log "$pattern"
  expect_no_text log '^served'
  fingerprint a.qcow | diff before - || fail "the image has changed"
}
refused 'shrink=true' a.qcow resize=1M
refused 'too large' a.qcow resize=5E
refused 'empty disk' a.qcow resize=0 shrink=true
refused 'resize= only' a.qcow shrink=true
refused 'exclude each other' a.qcow resize=21G force-share=true
resize a.qcow 20G
cmp <(tail -n 1 before) <(fingerprint a.qcow | tail -n 1) ||
  fail "the same size changed the image"

# Read-only means the export only.
nbdkit -r -U - qcow a.qcow resize=21G --run 'nbdinfo --is read-only "$uri"'
[ "$(qemu-img info a.qcow | grep -c '21 GiB')" -eq 1 ]

# An image of tapdisk has to be converted, and then grows where its L1 table
# is, or elsewhere.
"$PYTHON" "$srcdir/qcow-image.py" tapdisk raw tapdisk.qcow
fingerprint tapdisk.qcow > before
expect_fail log nbdkit -U - qcow tapdisk.qcow resize=1G --run true
[ "$status" -eq 1 ] || fail "status $status"
expect_text log 'tapdisk.qcow: its size cannot be changed: .*fixup=write'
fingerprint tapdisk.qcow | diff before - || fail "the image has changed"
for s in 1G 3G; do
  resize tapdisk.qcow $s fixup=write
  io tapdisk.qcow 'read -P 0x7a 0 1M' 'read -P 0 1M 10M'
  if nbdkit -U - qcow tapdisk.qcow --run 'nbdinfo --is read-only "$uri"'; then
    fail "what was converted is read-only"
  fi
  # "XEN", 0xfb
  case $s,$(peek tapdisk.qcow 48 4),$(peek tapdisk.qcow 40 8) in
    1G,58454efb,0000000000001000 ) ;;
    3G,00000000,0000000000001000 ) fail "the L1 table has not moved" ;;
    3G,00000000,* ) ;;
    * ) fail "$s: the header is odd: $(peek tapdisk.qcow 0 64)" ;;
  esac
done
