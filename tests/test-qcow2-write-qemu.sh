#!/usr/bin/env bash
# Images that QEMU and the server write in turn.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

# Commands for qemu-io, in batches that run in parallel, and the model.
# Two commands of a batch never share a cluster: QEMU 7.2 loses one of two
# zeroes that it makes in one cluster with subclusters at the same time.
program commands.py <<'END'
import random
import sys

seed, cluster, count = map(int, sys.argv[1:4])
rnd = random.Random(seed)
with open(sys.argv[4], "rb") as f:
    model = bytearray(f.read())
size = len(model)
unsure = []                     # discarded: zero, or as it was
print_ = sys.stdout.write
for _ in range(count // 10):
    taken = []
    for _ in range(10):
        unit = rnd.choice((512, 512, 4096, cluster))
        start = rnd.randrange(size // unit) * unit
        length = unit * rnd.randrange(1, 9)
        end = min(start + length, size)
        first, last = start // cluster, (end - 1) // cluster
        if any(a <= last and first <= b for a, b in taken):
            continue
        taken.append((first, last))
        kind = rnd.choice(("data", "data", "zero", "unmap", "discard"))
        if kind == "data":
            byte = rnd.randrange(1, 256)
            print_("aio_write -P %d %d %d\n" % (byte, start, end - start))
            model[start:end] = bytes([byte]) * (end - start)
        elif kind == "discard":
            print_("discard %d %d\n" % (start, end - start))
            unsure.append((start, end))
        else:
            print_("aio_write -z %s %d %d\n"
                   % ("-u" if kind == "unmap" else "", start, end - start))
            model[start:end] = bytes(end - start)
        unsure[:] = [p for a, b in unsure for p in
                     ([(a, b)] if kind == "discard" else
                      [(a, min(b, start)), (max(a, end), b)])
                     if p[0] < p[1]]
    print_("aio_flush\n")
    if rnd.random() < 0.3:
        print_("flush\n")
with open(sys.argv[4], "wb") as f:
    f.write(model)
with open(sys.argv[4] + ".unsure", "w") as f:
    f.writelines("%d %d\n" % p for p in unsure)
END

# Take what QEMU made of its discards into the model: zero or old.
program settle.py <<'END'
import sys

model = bytearray(open(sys.argv[1], "rb").read())
found = open(sys.argv[2], "rb").read()
for line in open(sys.argv[1] + ".unsure"):
    start, end = map(int, line.split())
    for at in range(start, end, 512):
        now = found[at:at + 512]
        assert now in (bytes(512), bytes(model[at:at + 512])), at
        model[at:at + 512] = now
open(sys.argv[1], "wb").write(model)
END

# qemu IMAGE MODEL SEED: QEMU's turn.
qemu () {
  "$PYTHON" commands.py $3 "$(cluster_size $1)" 150 $2 > commands
  qemu-io -f qcow2 -t writeback -d unmap $1 < commands > io.log 2>&1 ||
    fail "qemu-io fails"
  ! grep -Eiq 'failed|error|invalid' io.log || fail "qemu-io: $(cat io.log)"
  to_raw $1 found.raw
  "$PYTHON" settle.py $2 found.raw
  sound $1
  holds $1 $2
}

# turns IMAGE SIZE [OPTION-OF-qemu-img-create...]
turns () {
  local image=$1 model=${1%.qcow2}.model
  fresh "$@"
  for round in 1 2 3; do
    qemu $image $model $((seed + round))
    exercise $image $model --seed $((seed + round))
    if [ $snapshots = yes ]; then
      qemu-img snapshot -c round$round $image
      cp $model round$round.raw
    fi
  done
  qemu $image $model $((seed + 9))
  if [ $snapshots = yes ]; then
    for round in 1 2 3; do
      to_raw $image now.raw -l snapshot.name=round$round
      cmp now.raw round$round.raw >&2 || fail "$image: round $round"
    done
  fi
}

load_ops=200
for seed in $(seeds 10); do
  snapshots=yes
  turns disk.qcow2 8M
  turns small.qcow2 3M -o cluster_size=1k,compat=0.10
  turns ext.qcow2 6M -o extended_l2=on,cluster_size=32k
  turns lazy.qcow2 6M -o lazy_refcounts=on,cluster_size=8k
  source_file base.raw 3000320
  qemu-img convert -f raw -O qcow2 base.raw base.qcow2
  snapshots=no
  turns over.qcow2 4M -b base.qcow2 -F qcow2

  # What QEMU's other commands make of our work.
  cp over.qcow2 rebased.qcow2
  qemu-img rebase -q -f qcow2 -b '' rebased.qcow2
  sound rebased.qcow2
  holds rebased.qcow2 over.model
  cp over.model rebased.model
  exercise rebased.qcow2 rebased.model --seed $seed
  truncate -s 4M base.raw
  qemu-img resize -q base.qcow2 4M
  qemu-img commit -q over.qcow2
  sound over.qcow2
  sound base.qcow2
  holds base.qcow2 over.model
  holds over.qcow2 over.model
  cp over.model base.model
  exercise over.qcow2 over.model --seed $seed
  exercise base.qcow2 base.model --seed $seed

  # Larger, smaller, other versions and refcounts.
  qemu-img resize -q disk.qcow2 12M
  truncate -s 12M disk.model
  exercise disk.qcow2 disk.model --seed $seed
  qemu-img snapshot -d round1 disk.qcow2
  qemu-img snapshot -d round2 disk.qcow2
  qemu-img snapshot -d round3 disk.qcow2
  qemu-img resize -q --shrink disk.qcow2 5M
  truncate -s 5M disk.model
  exercise disk.qcow2 disk.model --seed $seed
  qemu-img amend -f qcow2 -o compat=0.10 disk.qcow2
  exercise disk.qcow2 disk.model --seed $seed
  qemu-img amend -f qcow2 -o compat=1.1 disk.qcow2
  qemu-img amend -f qcow2 -o refcount_bits=64 disk.qcow2
  exercise disk.qcow2 disk.model --seed $seed
done
