#!/usr/bin/env bash
# Images that QEMU and the server write in turn.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

# Commands for qemu-io, and the model.
cat > commands.py <<'END'
import random
import sys

seed, cluster, count = map(int, sys.argv[1:4])
rnd = random.Random(seed)
with open(sys.argv[4], "rb") as f:
    model = bytearray(f.read())
size = len(model)
for _ in range(count):
    unit = rnd.choice((512, 512, 4096, cluster))
    start = rnd.randrange(size // unit) * unit
    length = unit * rnd.randrange(1, 9)
    end = min(start + length, size)
    byte = rnd.randrange(0, 256)
    print("write -P %d %d %d" % (byte, start, end - start))
    model[start:end] = bytes([byte]) * (end - start)
    if rnd.random() < 0.1:
        print("discard %d %d" % (start, end - start))   # does nothing
with open(sys.argv[4], "wb") as f:
    f.write(model)
END

# qemu IMAGE MODEL SEED: QEMU's turn.
qemu () {
  "$PYTHON" commands.py $3 "$(cluster_size $1)" 100 $2 > commands
  qemu-io -f qcow -t writeback $1 < commands > io.log 2>&1 ||
    fail "qemu-io fails"
  ! grep -Eiq 'failed|error|invalid' io.log || fail "qemu-io: $(cat io.log)"
  sound $1
  holds $1 $2
}

# turns IMAGE: QEMU, we, QEMU, we, QEMU.
turns () {
  local image=$1 model=${1%.qcow}.model
  model_of $image
  for round in 1 2; do
    qemu $image $model $((seed + round))
    exercise $image $model --seed $((seed + round)) --largest 300000
  done
  qemu $image $model $((seed + 9))
}

load_ops=200
source_file src.raw 3000320
truncate -s 4M empty.raw
for seed in $(seeds 10); do
  create disk.qcow 8M
  turns disk.qcow
  plain src.raw small.qcow --cluster-bits 9 --l2-bits 6 --order 4
  turns small.qcow
  plain src.raw packed.qcow --clusters mixed --share --cluster-bits 14
  turns packed.qcow
  # QEMU can be trusted with overlays of 512-byte clusters only.
  create over.qcow 4M -b src.raw -F raw
  turns over.qcow
  tapdisk src.raw tapdisk.qcow --order big --flag --extents 3 \
          --cluster-bits 11 --l2-bits 7
  turns tapdisk.qcow

  # An overlay that has zeroes of ours, whatever they are made of: QEMU
  # writes between them.
  create zero.qcow 4M -b src.raw -F raw
  cat > zero.py <<'END'
h.zero (2 << 20, 512 * 1024)
h.flush ()
END
  writing zero.py zero.qcow
  sound zero.qcow
  cp over.model zero.model
  cp src.raw zero.model
  truncate -s 4M zero.model
  fallocate -p -o $((512 * 1024)) -l 2M zero.model
  holds zero.qcow zero.model
  turns zero.qcow
done

# The trap that QEMU sets when it dies: an L1 entry for a table at the end
# of the file, which is not there yet.  Whatever is put there next, by
# whoever comes next, must not become that table.
cat > trap.py <<'END'
h.pwrite (b"T" * 4096, 2 << 20)
h.pwrite (b"U" * 4096, 4 << 20)
h.flush ()
got = h.pread (8 << 20, 0)
want = bytearray (8 << 20)
want[2 << 20:(2 << 20) + 4096] = b"T" * 4096
want[4 << 20:(4 << 20) + 4096] = b"U" * 4096
assert got == want
h.pwrite (b"V" * 512, 100000)
want[100000:100512] = b"V" * 512
h.flush ()
assert h.pread (8 << 20, 0) == want
open ("trap.model", "wb").write (want)
END
for index in 0 3; do
  create trap.qcow 8M
  length=$(stat -c %s trap.qcow)
  at=$(((length + 4095) / 4096 * 4096))
  poke_be64 trap.qcow $((48 + 8 * index)) $at
  writing trap.py trap.qcow
  sound trap.qcow
  holds trap.qcow trap.model
done
# The same where the entry is that of the span that is written first, and
# where the file ends in the middle of that table.
for more in 0 100; do
  create trap.qcow 8M
  poke_be64 trap.qcow $((48 + 8)) 4096
  truncate -s $((4096 + more)) trap.qcow
  writing trap.py trap.qcow
  sound trap.qcow
  holds trap.qcow trap.model
done
