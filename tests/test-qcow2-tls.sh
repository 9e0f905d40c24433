#!/usr/bin/env bash
# nbdkit's tls-fallback filter above the plugin: with TLS the disk, without
# it only the words that ask for TLS.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

requires psktool --version
requires_filter tls-fallback
nbdkit --dump-config | grep -q '^tls=yes' || skip "nbdkit without TLS"

create disk.qcow2 2M
io disk.qcow2 'write -P 0x5a 0 1M' 'write -P 0xa5 1M 300k'
qemu-img convert -f qcow2 -O raw disk.qcow2 flat.raw
psktool -u guest -p keys.psk > /dev/null

start_nbdkit -P pid -r -U "$tmpdir/sock" --tls=on --tls-psk=keys.psk \
             --filter=tls-fallback qcow2 disk.qcow2 \
             tlsreadme="encrypt the connection"

cat > client.py <<'END'
import nbd, sys

def connect (tls):
    h = nbd.NBD ()
    if tls:
        h.set_tls (nbd.TLS_REQUIRE)
        h.set_tls_psk_file ("keys.psk")
        h.set_tls_username ("guest")
    h.connect_unix (sys.argv[1])
    return h

disk = open ("flat.raw", "rb").read ()
h = connect (True)
assert h.get_size () == len (disk), h.get_size ()
assert bytes (h.pread (len (disk), 0)) == disk
h.shutdown ()
h = connect (False)
words = bytes (h.pread (h.get_size (), 0))
assert words.startswith (b"encrypt the connection"), words[:80]
assert b"\x5a" * 8 not in words
h.shutdown ()
END
"$PYTHON" client.py "$tmpdir/sock"
stop_nbdkit pid
