#!/usr/bin/env bash
# The server is killed in the middle of load; nothing flushed is lost.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

# endure IMAGE: kill it again and again, with the seeds in $kills.
endure () {
  local image=$1 model=${1%.qcow}.model
  model_of "$image"
  for seed in $(seeds $kills); do
    crash $image $model --seed $seed --kill-at $((60 + seed * 97 % 400)) \
          "${load_options[@]}"
  done
  # It goes on as if nothing had been, in our hands and in QEMU's.
  exercise $image $model --ops 150
}

load_options=(--mix write=40,zero=14,fast=4,trim=14,read=8,flush=3)
kills="1 2 3"
create disk.qcow 8M
endure disk.qcow
io disk.qcow 'write -P 9 0 2M' 'read -P 9 0 2M'
sound disk.qcow
kills="4 5"
truncate -s 2M empty.raw
plain empty.raw small.qcow --cluster-bits 9 --l2-bits 6
endure small.qcow
source_file base.raw 3000320
truncate -s 4M over.raw
kills="6 7"
plain over.raw over.qcow --base over.raw --name base.raw --cluster-bits 13
endure over.qcow
kills=8
plain base.raw packed.qcow --clusters mixed --share --l2-bits 6
endure packed.qcow

# tapdisk's images: extents that are there already, and new ones; also in
# the middle of the conversion, or before it.
source_file src.raw $((5 * 1024 * 1024))
fallocate -p -o 1000000 -l 2700000 src.raw
kills=9
tapdisk src.raw tapdisk.qcow --order big --flag
endure tapdisk.qcow
plugin_args=(fixup=write)
for seed in $(seeds 10 11); do
  tapdisk src.raw tapdisk.qcow --table alternate --cluster-bits 10 --l2-bits 8
  cp src.raw tapdisk.model
  crash tapdisk.qcow tapdisk.model --seed $seed --kill-at $((seed * 3 - 29)) \
        "${load_options[@]}"
  exercise tapdisk.qcow tapdisk.model --ops 100
done
plugin_args=()

# SIGTERM while clients are connected: everything is there, flushed or not.
# The server waits until an idle client does something; one only leaves
# then, the other asks for more first, which may still be answered or not.
create term.qcow 8M
cat > term.py <<'END'
import os
import signal
other = also_connect ()
h.pwrite (b"f" * 1000000, 70000)
h.flush ()
other.pwrite (b"n" * 1000000, 3000000)
h.zero (100000, 100000)
os.kill (int (open ("term.pid").read ()), signal.SIGTERM)
error_of (other.pread, 1000, 3000000)
END
for n in 1 2; do
  rm -f term.sock
  start_nbdkit -P term.pid -U term.sock qcow term.qcow
  "$PYTHON" "$srcdir/qcow2-client.py" term.py \
            'nbd+unix:///?socket=term.sock' || fail "term.py fails"
  stop_nbdkit term.pid
  sound term.qcow
  io term.qcow 'read -P 0x66 70000 30000' 'read -P 0 100000 100000' \
     'read -P 0x66 200000 870000' 'read -P 0x6e 3000000 1000000' \
     'write -z 0 8M'
done
