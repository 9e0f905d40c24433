#!/usr/bin/env bash
# nbdkit's filters above the plugin: content intact, cache requests too.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

source_file src.raw $((3 * 1024 * 1024 + 512))
qemu-img convert -c -f raw -O qcow2 -o cluster_size=32k src.raw base.qcow2
create disk.qcow2 $((3 * 1024 * 1024 + 512)) -b base.qcow2 -F qcow2
io disk.qcow2 'write -P 1 100k 200k' 'write -z 1M 100k' 'write -P 2 2M 777'
qemu-img convert -f qcow2 -O raw disk.qcow2 flat.raw
before="$(digest base.qcow2 disk.qcow2)"

# through FILTER [PARAMETER...]
through () {
  requires_filter_or_note "$1" || return 0
  server_flags=(-r --filter="$1")
  compare disk.qcow2 "${@:2}"
}

requires_filter_or_note () {
  nbdkit --filter="$1" null --version > /dev/null 2>&1 ||
    { echo "no filter $1 here"; return 1; }
}

compare_options=(--filtered)
through log logfile=log.txt
test -s log.txt || ! requires_filter_or_note log || fail "nothing is logged"
through stats statsfile=stats.txt
test -s stats.txt || ! requires_filter_or_note stats || fail "no statistics"
through exportname exportname-list=explicit exportname=disk
through readahead
through noparallel
through cacheextents
compare_options=(--filtered --no-map)
through blocksize maxdata=64k maxlen=1M
through cache
through nocache
through noextents
compare_options=(--filtered --no-map --raw "$tmpdir/sectors.raw" \
                 --size $((3 * 1024 * 1024)))
head -c $((3 * 1024 * 1024)) flat.raw > sectors.raw
through truncate truncate=3M
through offset range=3M

# A block size that the disk is not a multiple of: the last 512 bytes go.
through blocksize minblock=4096

# Copy on write above a read-only disk.
server_flags=(--filter=cow)
if requires_filter_or_note cow; then
  cat > cow.py <<'END'
assert not h.is_read_only ()
disk = bytearray (open ("flat.raw", "rb").read ())
other = also_connect ()
for at, n in ((0, 1), (99999, 5000), (1 << 20, 70000),
              (len (disk) - 10, 10)):
    h.pwrite (b"\xcc" * n, at)
    disk[at:at + n] = b"\xcc" * n
if h.can_zero ():
    h.zero (65536, 2 << 20)
    disk[2 << 20:(2 << 20) + 65536] = bytes (65536)
h.flush ()
assert h.pread (len (disk), 0) == disk
assert other.pread (len (disk), 0) == disk
END
  client cow.py disk.qcow2 || fail "cow"
fi

# A partition of the disk.
if requires_filter_or_note partition && command -v sfdisk > /dev/null; then
  truncate -s 4M part.raw
  printf 'label: dos\nstart=2048, size=4096, type=83\n' |
    sfdisk -q part.raw > sfdisk.log
  dd if=src.raw of=part.raw bs=1M count=2 seek=1 conv=notrunc status=none
  qemu-img convert -f raw -O qcow2 part.raw part.qcow2
  dd if=part.raw of=inside.raw bs=1M skip=1 count=2 status=none
  server_flags=(-r --filter=partition)
  compare_options=(--filtered --no-map --raw "$tmpdir/inside.raw"
                   --size $((2 * 1024 * 1024)))
  compare part.qcow2 partition=1
fi

# Several at once.
compare_options=(--filtered --no-map --writable)
server_flags=(--filter=cacheextents --filter=readahead --filter=cow)
compare disk.qcow2

# Cache requests: any range on the disk, damaged places included; the
# prefetch is a courtesy and its failure nobody's business.
server_flags=(-r)
create bad.qcow2 1M
io bad.qcow2 'write -P 1 0 1M'
poke bad.qcow2 $(($(image_tool entry bad.qcow2 65536) + 6)) '\x02'
cat > cache.py <<'END'
size = h.get_size ()
assert h.can_cache ()
h.cache (size, 0)
for at, n in ((0, 1), (65535, 2), (size - 1, 1), (12345, 54321)):
    h.cache (n, at)
END
client cache.py disk.qcow2 || fail "cache"
client cache.py bad.qcow2 || fail "cache over damage"
cat > ahead.py <<'END'
for c in (0, 2, 3, 4):
    assert h.pread (65536, c * 65536) == b"\1" * 65536
assert error_of (h.pread, 512, 65536) == "EIO"
assert h.pread (65536, 5 * 65536) == b"\1" * 65536
END
server_flags=(-r --filter=readahead)
client ahead.py bad.qcow2 || fail "readahead over damage"
test "$(digest base.qcow2 disk.qcow2)" = "$before" || fail "files changed"
