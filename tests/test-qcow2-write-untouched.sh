#!/usr/bin/env bash
# Serving an image for writing and not writing changes nothing.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

source_file base.raw 3000320
qemu-img convert -f raw -O qcow2 -c base.raw base.qcow2

create plain.qcow2 8M
io plain.qcow2 'write -P 1 1M 1M' 'write -z 3M 100k' 'discard 1M 64k'
create old.qcow2 8M -o compat=0.10
io old.qcow2 'write -P 1 1M 1M'
create over.qcow2 4M -b base.qcow2 -F qcow2
io over.qcow2 'write -P 1 1M 64k'
create snap.qcow2 8M
io snap.qcow2 'write -P 1 1M 1M'
qemu-img snapshot -c one snap.qcow2
create bitmap.qcow2 8M
qemu-img bitmap --add bitmap.qcow2 b0
create lazy.qcow2 8M -o lazy_refcounts=on
io_abort lazy.qcow2 'write -P 1 1M 1M'
create bits.qcow2 8M
poke bits.qcow2 80 '\x80'
poke bits.qcow2 88 '\x80'
create corrupt.qcow2 8M
poke corrupt.qcow2 79 '\x02'
create leaky.qcow2 8M
io leaky.qcow2 'write -P 1 0 64k'
poke leaky.qcow2 $((0x40000)) '\0\0\0\0\0\0\0\0'
create data.qcow2 4M -o data_file=data.raw,data_file_raw=on
io data.qcow2 'write -P 1 1M 64k'
# The end of the file is short, or has more behind it.
cp plain.qcow2 short.qcow2
truncate -s -1000 short.qcow2
cp plain.qcow2 long.qcow2
truncate -s +100000 long.qcow2

program look.py <<'END'
others = [also_connect() for _ in range(3)]
size = h.get_size()
for n, c in enumerate([h] + others):
    for at in range(0, size, 1000000):
        length = min(1000000, size - at)
        c.pread(length, at)
        c.cache(length, at)
    status(0, size, handle=c)
    c.flush()
END

# The time of the last read may change, and nothing else.
all=(*.qcow2 *.raw)
touch -d '2001-02-03 04:05:06.789' "${all[@]}"
before=$(fingerprint "${all[@]}")
for image in *.qcow2; do
  [ $image != data.qcow2 ] || set -- data-file=data.raw
  server_flags=(-r)
  client look.py $image "$@"
  [ "$(fingerprint "${all[@]}")" = "$before" ] || fail "$image: -r changes"
  server_flags=()
  client look.py $image "$@"
  [ "$(fingerprint "${all[@]}")" = "$before" ] ||
    fail "$image: looking changes it"
  # The same server, client after client.
  rm -f disk.sock
  start_nbdkit -P disk.pid -U disk.sock qcow2 $image "$@"
  for n in 1 2 3; do
    "$PYTHON" "$srcdir/qcow2-client.py" look.py \
              'nbd+unix:///?socket=disk.sock' || fail "$image: look.py"
  done
  stop_nbdkit disk.pid
  [ "$(fingerprint "${all[@]}")" = "$before" ] ||
    fail "$image: serving changes it"
  set --
done

# -r refuses all changes.
program refused.py <<'END'
assert h.is_read_only()
h.set_strict_mode(0)
for call in ((h.pwrite, b"x" * 512, 0), (h.zero, 65536, 0),
             (h.trim, 65536, 0)):
    assert error_of(*call) is not None, call[0].__name__
h.pread(1, 0)
END
server_flags=(-r)
client refused.py plain.qcow2
[ "$(fingerprint "${all[@]}")" = "$before" ] || fail "a refused change"
# The digest must be able to fail.
io plain.qcow2 'write -P 1 1M 1'
[ "$(fingerprint "${all[@]}")" != "$before" ] || fail "blind fingerprint"
