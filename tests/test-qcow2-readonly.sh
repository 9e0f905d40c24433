#!/usr/bin/env bash
# A server that reads leaves no trace in any file, with -r and without.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# A list of images that a writer would have reason to touch.
source_file base.raw $((1024 * 1024))
create plain.qcow2 1M
io plain.qcow2 'write -P 1 0 100k'
cp plain.qcow2 autoclear.qcow2
poke autoclear.qcow2 88 '\xff\xff\xff\xff\xff\xff\xff\x04'
create dirty.qcow2 1M -o lazy_refcounts=on
io_abort dirty.qcow2 'write -P 0x5a 0 512'
create bitmaps.qcow2 1M
qemu-img bitmap --add bitmaps.qcow2 b0
cp bitmaps.qcow2 inuse.qcow2
io_abort inuse.qcow2 'write -P 2 64k 64k'
create base.qcow2 1M -b base.raw -F raw
io base.qcow2 'write -c -P 6 64k 64k'
create over.qcow2 1M -b base.qcow2 -F qcow2
io over.qcow2 'write -P 7 128k 64k'
create snapshots.qcow2 1M
qemu-img snapshot -c one snapshots.qcow2
create short.qcow2 1M
create v2.qcow2 1M -o compat=0.10

# Times of modification that anything would change.
touch -d '2011-07-14 12:00:00' *.qcow2 *.raw
before="$(digest *.qcow2 *.raw)"

cat > use.py <<'END'
size = h.get_size ()
h.pread (size, 0)
status (0, size)
if h.can_flush ():
    h.flush ()
if h.can_cache ():
    h.cache (size, 0)
END
for image in plain autoclear dirty bitmaps inuse over snapshots short v2; do
  server_flags=(-r)
  client use.py $image.qcow2 || fail "$image with -r"
  nbdkit -r -U - qcow2 $image.qcow2 --run 'nbdinfo --is readonly "$uri"' ||
    fail "$image: -r, and not read-only"
  server_flags=()
  client use.py $image.qcow2 || fail "$image without -r"
done
test "$(digest *.qcow2 *.raw)" = "$before" || fail "a file changed"

# Not even where it is impossible to write, for one who is not root.
chmod a-w *.qcow2 *.raw
before="$(digest *.qcow2 *.raw)"
server_flags=()
client use.py over.qcow2 || fail "files without write permission"
test "$(digest *.qcow2 *.raw)" = "$before" || fail "a file changed"

# Nothing else appears beside the images either.
test -z "$(find . -name '*.lock' -o -name '*~' -o -name '*.tmp')"
