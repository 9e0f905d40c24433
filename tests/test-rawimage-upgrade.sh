# An image that can be written: looked at when the server starts, locked
# and opened for writing when the first client comes.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit rawimage --version
requires qemu-io --version
requires nbdinfo --version
requires_python

# Another program, which is QEMU.
can_read () {
  qemu-io -r -f raw -c 'read 0 512' "$1" > io.log 2>&1
}
can_write () {
  qemu-io -f raw -c 'write -P 9 0 512' "$1" > io.log 2>&1
}

truncate -s 1M disk.raw
chmod 0600 disk.raw

# Before any client anybody may do anything.
start_nbdkit -P ro.pid -r -U ro.sock rawimage disk.raw lock=on
can_write disk.raw || fail "QEMU cannot write an image that nobody uses"

# Readers: others may read.
before=$(fingerprint disk.raw)
nbdinfo --is read-only nbd+unix:///?socket=ro.sock ||
  fail "not read-only with -r"
nbdinfo --map nbd+unix:///?socket=ro.sock > /dev/null
nbdinfo nbd+unix:///?socket=ro.sock > info
expect_text info 'raw.*1 MiB virtual size|rawimage, 1 MiB virtual size'
can_read disk.raw || fail "QEMU cannot read what we read"
if can_write disk.raw; then
  fail "QEMU writes what we read"
fi
# A second reader of ours.
nbdkit -r -U - rawimage disk.raw --run 'nbdinfo --size "$uri"' > size
[ "$(cat size)" = 1048576 ] || fail "size $(cat size)"
# A writer of ours becomes a reader, and says so.
nbdkit -U - rawimage disk.raw --run 'nbdinfo --is read-only "$uri"' 2> log ||
  fail "writes what others read"
expect_text log 'disk.raw: is served read-only'
[ "$(grep -c 'is served read-only' log)" -eq 1 ] || fail "said twice"
stop_nbdkit ro.pid
[ "$(fingerprint disk.raw)" = "$before" ] || fail "-r changed the file"

# A writer: nobody else.
start_nbdkit -P rw.pid -U rw.sock rawimage disk.raw
can_write disk.raw || fail "QEMU cannot write before the first client"
if nbdinfo --is read-only nbd+unix:///?socket=rw.sock; then
  fail "read-only without -r"
fi
if can_write disk.raw; then
  fail "QEMU writes what we write"
fi
expect_fail log nbdkit -r -U - rawimage disk.raw --run true
expect_text log 'disk.raw.*write.*force-share=true'
nbdkit -r -U - rawimage disk.raw force-share=true \
  --run 'nbdinfo --size "$uri"' > size
stop_nbdkit rw.pid
can_write disk.raw || fail "the lock outlived the server"

# Under --run the parent shares the descriptors, but not the locks.
nbdkit -U - rawimage disk.raw --run 'nbdinfo --size "$uri"' > /dev/null
can_write disk.raw || fail "the lock outlived --run"

# A connection that promised to change nothing and one that did not, at
# once: through the cow filter's read-only open, say.
nbdkit -U - --filter=cow rawimage disk.raw \
  --run 'nbdinfo --size "$uri"' > size
[ "$(cat size)" = 1048576 ] || fail "size $(cat size)"

# By descriptor: what it allows counts.
nbdkit -U - rawimage fd=7 --run 'nbdinfo --size "$uri"' 7<> disk.raw > size
[ "$(cat size)" = 1048576 ] || fail "size $(cat size)"
nbdkit -r -U - rawimage fd=7 --run 'nbdinfo --size "$uri"' 7< disk.raw > size
[ "$(cat size)" = 1048576 ] || fail "size $(cat size)"
expect_fail log nbdkit -U - rawimage fd=77 --run true
expect_text log 'fd=77'
expect_fail log nbdkit -U - rawimage fd=1 --run true
expect_text log 'fd=1: must be greater than 2'

# Only the default export.
nbdkit -U - rawimage disk.raw --run 'nbdinfo --list "$uri"' > list
expect_text list 'export=""' 'rawimage, 1 MiB virtual size'
expect_fail log nbdkit -U - -e other rawimage disk.raw \
  --run 'nbdinfo "$uri"'
expect_text log 'there is no export "other"'
