#!/usr/bin/env bash
# Dirty, corrupt, with snapshots, with bitmaps: all read, nothing changes.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# both IMAGE: reads right with -r and without it, and is left as it was.
both () {
  local before
  before="$(digest "$1")"
  server_flags=(-r)
  compare "$1"
  server_flags=()
  compare_options=(--writable)
  compare "$1"
  server_flags=(-r)
  compare_options=()
  test "$(digest "$1")" = "$before" || fail "$1 changed"
}

# Dirty: the refcounts are wrong, the mapping is right.
create dirty.qcow2 8M -o lazy_refcounts=on
io_abort dirty.qcow2 'write -P 0x5a 0 512' 'write -P 0x5b 1M 100k'
test $(($(be64 dirty.qcow2 72) & 1)) -eq 1 || fail "the image is not dirty"
both dirty.qcow2

# Corrupt: to be read with care, and never to be written.
create corrupt.qcow2 8M
io corrupt.qcow2 'write -P 3 0 1M'
poke corrupt.qcow2 79 '\x02'
both corrupt.qcow2
nbdkit -U - qcow2 corrupt.qcow2 --run 'nbdinfo --is readonly "$uri"' ||
  fail "a corrupt image can be written"
poke corrupt.qcow2 79 '\x03'
both corrupt.qcow2

# Refcounts that are wrong without anybody saying so.
create under.qcow2 8M
io under.qcow2 'write -P 1 0 64k'
poke under.qcow2 $((0x2000a)) '\0\0\0\0'
both under.qcow2
poke_be64 under.qcow2 $((0x10000)) 0x20200
both under.qcow2
poke_be64 under.qcow2 $((0x10000)) 0
both under.qcow2

# Snapshots: the active disk is what is served.
create snap.qcow2 8M
io snap.qcow2 'write -P 1 0 128k'
qemu-img snapshot -c one snap.qcow2
io snap.qcow2 'write -P 2 0 64k' 'write -z 64k 64k' 'write -P 4 5M 4k'
qemu-img snapshot -c two snap.qcow2
io snap.qcow2 'write -P 3 32k 64k'
both snap.qcow2
qemu-img resize -q snap.qcow2 12M
both snap.qcow2
create snap2.qcow2 8M -o compat=0.10
io snap2.qcow2 'write -P 1 0 128k'
qemu-img snapshot -c one snap2.qcow2
io snap2.qcow2 'write -P 2 0 64k'
both snap2.qcow2
# A snapshot whose own tables are bad does not keep the disk from opening.
table=$(be64 snap.qcow2 64)
poke_be64 snap.qcow2 $((table)) 0x1001
poke_be32 snap.qcow2 $((table + 8)) 0x7fffffff
both snap.qcow2

# Bitmaps: consistent, in use after a crash, left behind by somebody who
# does not know them; announced and not there.
create bitmap.qcow2 64M
qemu-img bitmap --add bitmap.qcow2 b0
qemu-img bitmap --add -g 32k --disable bitmap.qcow2 b1
io bitmap.qcow2 'write -P 1 1M 64k'
test $(($(be64 bitmap.qcow2 88) & 1)) -eq 1 || fail "no bitmaps"
both bitmap.qcow2
cp bitmap.qcow2 inuse.qcow2
io_abort inuse.qcow2 'write -P 2 2M 64k'
both inuse.qcow2
cp bitmap.qcow2 stale.qcow2
poke stale.qcow2 95 '\0'
both stale.qcow2
create announced.qcow2 8M
poke announced.qcow2 95 '\x01'
both announced.qcow2
qemu-img create -q -f qcow2 -b bitmap.qcow2 -F qcow2 over.qcow2 64M
both over.qcow2

# Features that only a writer has to act upon.
create features.qcow2 8M
io features.qcow2 'write -P 1 1M 64k'
poke features.qcow2 80 '\x80'
poke features.qcow2 88 '\x80'
both features.qcow2
