#!/usr/bin/env bash
# The server is killed in the middle of load; nothing flushed is lost.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# endure IMAGE SIZE [OPTION-OF-qemu-img-create...]: kill it again and again,
# with the seeds in $kills.
endure () {
  local image=$1 model=${1%.qcow2}.model
  fresh "$@"
  for seed in $(seeds $kills); do
    crash $image $model --seed $seed --kill-at $((60 + seed * 97 % 400)) \
          "${load_options[@]}"
  done
  # It goes on as if nothing had been, in our hands and in QEMU's.
  compare $image "${plugin_args[@]}"
  drive $image $model --ops 200
  sound_but_leaks $image
  holds $image $model
  qemu-img check -q -r leaks $image > check.log 2>&1 || :
  sound $image
  io $image 'write -P 9 0 2M' 'read -P 9 0 2M'
  sound $image
}

load_options=(--mix write=40,zero=14,fast=4,trim=14,read=8,flush=3)
plugin_args=(allow-path=.)
kills="1 2 3 4 5"
endure disk.qcow2 8M
kills="6 7"
endure small.qcow2 2M -o cluster_size=512
endure ext.qcow2 6M -o extended_l2=on,cluster_size=16k
source_file base.raw 3000320
kills=8
endure over.qcow2 4M -b base.raw -F raw -o compat=0.10
compare_options=(--host-file data.raw)
kills=9
endure data.qcow2 8M -o data_file=data.raw

# Compressed clusters, and a snapshot that must live through it all.
qemu-img convert -q -c -f raw -O qcow2 base.raw packed.qcow2
qemu-img snapshot -c before packed.qcow2
to_raw packed.qcow2 packed.model
for seed in $(seeds 1 2); do
  crash packed.qcow2 packed.model --seed $seed --kill-at $((40 + seed * 20))
  to_raw packed.qcow2 before.raw -l snapshot.name=before
  cmp before.raw base.raw
done

# A kill while an image which QEMU left dirty is repaired.
for seed in $(seeds 1 2); do
  create dirty.qcow2 8M -o lazy_refcounts=on
  io_abort dirty.qcow2 'write -P 0x5a 0 512' 'write -P 0x5b 1M 3M'
  to_raw dirty.qcow2 dirty.model -U
  cp dirty.model first.model
  rm -f crash.sock state
  start_nbdkit -P crash.pid -U crash.sock qcow2 dirty.qcow2
  "$PYTHON" "$srcdir/qcow2-load.py" --ops 100000 --barriers 0 --seed $seed \
            --kill "$(cat crash.pid)" --state state \
            --kill-at $((1 + seed * seed * 3 % 400)) \
            'nbd+unix:///?socket=crash.sock' dirty.model
  kill_nbdkit crash.pid
  if [ $(($(be64 dirty.qcow2 72) & 1)) -eq 1 ]; then
    qemu-img check -q -r all dirty.qcow2 > check.log 2>&1 || :
    sound dirty.qcow2
  else
    sound_but_leaks dirty.qcow2
  fi
  to_raw dirty.qcow2 crash.raw
  "$PYTHON" "$srcdir/qcow2-load.py" --judge state crash.raw ||
    fail "dirty image after a kill, seed $seed"
done

# SIGTERM while clients are connected: everything is there, flushed or not,
# and the image is clean.  The server waits until an idle client does
# something; one only leaves then, the other asks for more first, which may
# still be answered or not.
create term.qcow2 8M
program term.py <<'END'
import os
import signal
other = also_connect()
h.pwrite(b"f" * 1000000, 70000)
h.flush()
other.pwrite(b"n" * 1000000, 3000000)
h.zero(100000, 100000)
os.kill(int(open("term.pid").read()), signal.SIGTERM)
error_of(other.pread, 1000, 3000000)
END
for n in 1 2 3; do
  rm -f term.sock
  start_nbdkit -P term.pid -U term.sock qcow2 term.qcow2
  "$PYTHON" "$srcdir/qcow2-client.py" term.py \
            'nbd+unix:///?socket=term.sock' || fail "term.py fails"
  stop_nbdkit term.pid
  sound term.qcow2
  io term.qcow2 'read -P 0x66 70000 30000' 'read -P 0 100000 100000' \
     'read -P 0x66 200000 870000' 'read -P 0x6e 3000000 1000000' \
     'write -z 0 8M'
done
