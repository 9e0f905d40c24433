# resize= gives the disk another size before it is served: contents stay,
# what is new is zero, and QEMU finds the image clean.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

clean () {
  qemu-img check -q -f qcow2 "$1" > check.log 2>&1 || {
    cat check.log >&2
    fail "$1: qemu-img check: status $?"
  }
}

# resize IMAGE SIZE [PARAMETER...]
resize () {
  nbdkit -U - qcow2 "$1" resize="$2" "${@:3}" \
    --run 'nbdinfo --size "$uri" > size' || fail "$1: resize=$2 fails"
  [ "$(cat size)" = "$(($(numfmt --from=iec "$2")))" ] ||
    fail "$1: has $(cat size) bytes, not $2"
  clean "$1"
}

# Longer, a lot longer, shorter, longer: nothing comes back.
for options in compat=0.10 compat=1.1 cluster_size=512 cluster_size=2M \
               refcount_bits=1 refcount_bits=64,cluster_size=512 \
               extended_l2=on preallocation=metadata; do
  echo "$options"
  rm -f a.qcow2
  qemu-img create -q -f qcow2 -o "$options" a.qcow2 1M
  io a.qcow2 'write -P 7 0 1M'
  resize a.qcow2 2M
  io a.qcow2 'read -P 7 0 1M' 'read -P 0 1M 1M' 'write -P 8 1M 1M'
  resize a.qcow2 20G
  io a.qcow2 'read -P 7 0 1M' 'read -P 8 1M 1M' 'read -P 0 2M 10M' \
    'write -P 9 19G 2M'
  blocks=$(stat -c '%b * %B' a.qcow2)
  resize a.qcow2 80K shrink=true
  io a.qcow2 'read -P 7 0 80k'
  less=$(stat -c '%b * %B' a.qcow2)
  [ $((less)) -le $((blocks - 2097152)) ] ||
    fail "space is not given back: $((blocks)), then $((less)) bytes"
  resize a.qcow2 20G
  io a.qcow2 'read -P 7 0 80k' 'read -P 0 80k 2M' 'read -P 0 19G 2M'
done

# QEMU grows what we have shrunk: nothing comes back there either.
qemu-img create -q -f qcow2 b.qcow2 1M
io b.qcow2 'write -P 7 0 1M'
resize b.qcow2 80K shrink=true
qemu-img resize -q -f qcow2 b.qcow2 128k
io b.qcow2 'read -P 7 0 80k' 'read -P 0 80k 48k'

# A longer backing file does not show in the new part.
qemu-img create -q -f qcow2 base.qcow2 1M
io base.qcow2 'write -P 5 0 1M'
for compat in 0.10 1.1; do
  rm -f over.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 -o compat=$compat \
    over.qcow2 32k
  resize over.qcow2 3M
  io over.qcow2 'read -P 5 0 32k' 'read -P 0 32k 3040k'
done
expect_fail log nbdkit -U - qcow2 over.qcow2 backing=none resize=4M --run true
expect_text log 'over.qcow2: .*backing=none'

# Snapshots stay as they are.
qemu-img create -q -f qcow2 snap.qcow2 4M
io snap.qcow2 'write -P 1 0 4M'
qemu-img snapshot -c one snap.qcow2
io snap.qcow2 'write -P 2 1M 1M'
qemu-img snapshot -c two snap.qcow2
io snap.qcow2 'write -P 3 2M 1M'
for s in one two; do
  qemu-img convert -f qcow2 -O raw -l $s snap.qcow2 $s.raw
done
resize snap.qcow2 1536K shrink=true
io snap.qcow2 'read -P 1 0 1M' 'read -P 2 1M 512k'
resize snap.qcow2 5G
io snap.qcow2 'read -P 1 0 1M' 'read -P 2 1M 512k' 'read -P 0 1536k 8M' \
  'write -P 4 0 3M'
clean snap.qcow2
for s in one two; do
  qemu-img convert -f qcow2 -O raw -l $s snap.qcow2 again.raw
  # QEMU gives it the length of the active disk.
  cmp -n 4194304 again.raw $s.raw || fail "snapshot $s has changed"
done
qemu-img snapshot -d one snap.qcow2
qemu-img snapshot -d two snap.qcow2
clean snap.qcow2

qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 4M
qemu-img snapshot -c one old.qcow2
fingerprint old.qcow2 > before
expect_fail log nbdkit -U - qcow2 old.qcow2 resize=5M --run true
[ "$status" -eq 1 ] || fail "status $status"
expect_text log 'old.qcow2: .*snapshots'
fingerprint old.qcow2 | diff before - || fail "the image has changed"

# Compressed clusters go, those that share a host cluster included.
truncate -s 4M zero.raw
printf '%3145728s' 'text that can be compressed' |
  dd of=zero.raw conv=notrunc status=none
qemu-img convert -c -f raw -O qcow2 zero.raw packed.qcow2
resize packed.qcow2 1000K shrink=true
dd if=zero.raw of=part.raw bs=1000K count=1 status=none
qemu-img compare -q -f qcow2 -F raw packed.qcow2 part.raw

# Bitmaps do not fit any more: QEMU is told not to believe them.  Their
# clusters leak.
qemu-img create -q -f qcow2 bitmap.qcow2 1M
qemu-img bitmap --add bitmap.qcow2 b
nbdkit -U - qcow2 bitmap.qcow2 resize=3M --run true
qemu-img check -q -r leaks bitmap.qcow2 > check.log 2>&1 || :
expect_text check.log 'all bitmaps are now considered inconsistent'
clean bitmap.qcow2

# A raw data file has the size of the disk.
qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 1M
io d.qcow2 'write -P 6 0 1M'
for size in 3M 100K 2M; do
  resize d.qcow2 $size shrink=true data-file=d.raw
  [ "$(stat -c %s d.raw)" = "$(cat size)" ] ||
    fail "the data file has $(stat -c %s d.raw) bytes"
  qemu-img compare -q -f qcow2 -F raw d.qcow2 d.raw ||
    fail "the data file is not what the disk is"
done
io d.qcow2 'read -P 6 0 100k' 'read -P 0 100k 1948k'

# An image that was not closed cleanly is repaired before.
qemu-img create -q -f qcow2 -o lazy_refcounts=on dirty.qcow2 1M
(ulimit -c 0; qemu-io -f qcow2 -c 'write -P 5 0 512k' -c flush -c abort \
  dirty.qcow2 > io.log 2>&1 || :)
nbdkit -U - qcow2 dirty.qcow2 resize=5G --run true 2> log
clean dirty.qcow2
io dirty.qcow2 'read -P 5 0 512k' 'read -P 0 512k 10M'

# What is refused: nothing changes.
fingerprint a.qcow2 > before
refused () {
  local pattern=$1

  shift
  expect_fail log nbdkit -U - qcow2 "$@" --run 'echo served'
  [ "$status" -eq 1 ] || fail "status $status"
  expect_text log "$pattern"
  expect_no_text log '^served'
  fingerprint a.qcow2 | diff before - || fail "the image has changed"
}
refused 'shrink=true' a.qcow2 resize=1M
refused 'too large' a.qcow2 resize=5E
refused 'resize= only' a.qcow2 shrink=true
refused 'exclude each other' a.qcow2 resize=21G force-share=true
resize a.qcow2 20G
cmp <(tail -n 1 before) <(fingerprint a.qcow2 | tail -n 1) ||
  fail "the same size changed the image"

# Read-only means the export only; a file that may not be written says so.
nbdkit -r -U - qcow2 a.qcow2 resize=21G --run 'nbdinfo --is read-only "$uri"'
[ "$(qemu-img info a.qcow2 | grep -c '21 GiB')" -eq 1 ]
