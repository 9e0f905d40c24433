# Images on block devices and on file systems that are full: nothing there
# is taken to be zero, and what does not fit is told before it is begun.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow2
requires qemu-img --version
requires qemu-io --version
requires losetup --version
[ "$(id -u)" -eq 0 ] || skip "loop devices need root"

# device FILE: make it a loop device, in $dev.
device () {
  dev=$(losetup -f --show "$1" 2>/dev/null) || skip "no loop devices here"
  cleanup_fn losetup -d "$dev"
}

clean () {
  qemu-img check -q -f qcow2 "$dev" > check.log 2>&1 || {
    cat check.log >&2
    fail "qemu-img check: status $?"
  }
}

# Behind the first 1 MiB there is something.
truncate -s 1M store
head -c 7M /dev/urandom >> store
device store
nbdkit -U - qcow2 "$dev" create=true size=1G --run true
clean
qemu-io -f qcow2 -c 'read -P 0 0 8M' -c 'write -P 5 1M 1M' "$dev" > io.log
expect_no_text io.log 'failed'
clean

# Now there is an image.
sha256sum "$dev" > before
expect_fail log nbdkit -U - qcow2 "$dev" create=true size=1G --run true
expect_text log "$dev: there is something on it, byte 0 is 0x51" \
  'overwrite=true'
# What does not fit changes nothing.
expect_fail log nbdkit -U - qcow2 "$dev" create=true size=8M overwrite=true \
  preallocation=metadata --run true
expect_text log "$dev: .* bytes are needed, and it has 8388608"
expect_fail log nbdkit -U - qcow2 "$dev" resize=2P --run true
expect_text log "$dev: .*(no room|space)"
sha256sum "$dev" | cmp - before || fail "the device has changed"
nbdkit -U - qcow2 "$dev" resize=1T --run true
clean
qemu-io -f qcow2 -c 'read -P 5 1M 1M' -c 'read -P 0 1G 8M' "$dev" > io.log
expect_no_text io.log 'failed'

dd if=/dev/urandom of="$dev" bs=1M count=8 status=none
for p in off metadata falloc full; do
  nbdkit -U - qcow2 "$dev" create=true size=6M overwrite=true \
    preallocation=$p --run true
  clean
  qemu-io -f qcow2 -c 'read -P 0 0 6M' -c "write -P 9 0 6M" "$dev" > io.log
  expect_no_text io.log 'failed'
  clean
done

# A full file system: the new file goes, one that was there is empty again.
mkdir full
mount -t tmpfs -o size=1m tmpfs full 2>/dev/null || skip "no mounting here"
cleanup_fn umount "$tmpdir/full"
: > full/old.qcow2
for file in old new; do
  expect_fail log nbdkit -U - qcow2 full/$file.qcow2 create=true size=8M \
    preallocation=full --run true
  expect_text log 'No space left on device'
done
[ "$(stat -c %s full/old.qcow2)" -eq 0 ] || fail "old.qcow2 is not empty"
[ ! -e full/new.qcow2 ] || fail "new.qcow2 is still there"
