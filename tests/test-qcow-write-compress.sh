#!/usr/bin/env bash
# compress=: what is written a cluster at a time is stored compressed, any
# other write works as ever, and QEMU reads it all.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"
requires nbdcopy --version

size=$((3 * 1024 * 1024 + 1536))
source_file src.raw $size
source_file base.raw $size
seq 1 500000 > text.raw
truncate -s $size text.raw

# counted IMAGE: set plain and packed, the numbers of entries.
counted () {
  read -r plain packed _ < <(qcow_tool count "$1")
}

# copied IMAGE RAW [PLUGIN-PARAMETER...]: make the image from a raw disk.
copied () {
  local image=$1 raw=$2
  shift 2
  nbdkit -U - qcow "$image" create=true overwrite=true \
         size=$(stat -c %s "$raw") "$@" \
         --run "nbdcopy --requests=64 --connections=4 $raw \"\$uri\"" ||
    fail "$image: nbdcopy $raw"
  sound "$image"
  holds "$image" "$raw"
  counted "$image"
}

# A text gets smaller, to the last cluster, which the disk cuts.
for cluster in 1K 4K 64K; do
  copied disk.qcow text.raw compress=zlib cluster-size=$cluster
  [ $plain -eq 0 ] || fail "$cluster: $plain clusters are not compressed"
  [ $(stat -c %s disk.qcow) -lt $((size * 2 / 3)) ] ||
    fail "$cluster: $(stat -c %s disk.qcow) bytes"
done

# Levels make a difference; without compress=, and with none, nothing is.
copied fast.qcow text.raw compress=zlib:1 cluster-size=64K
copied best.qcow text.raw compress=zlib:9 cluster-size=64K
[ $(stat -c %s best.qcow) -lt $(stat -c %s fast.qcow) ] ||
  fail "zlib:9 does not compress more than zlib:1"
for none in '' compress=none; do
  copied disk.qcow text.raw $none
  [ $packed -eq 0 ] || fail "'$none' compresses"
done

# What does not get smaller is stored as it is.
"$PYTHON" -c 'import random, sys
sys.stdout.buffer.write (random.Random (1).randbytes (1 << 20))' > noise.raw
copied disk.qcow noise.raw compress=zlib
[ $packed -eq 0 ] || fail "noise was compressed"
cat noise.raw text.raw > both.raw
copied disk.qcow both.raw compress=zlib
[ $plain -eq 256 ] || fail "$plain clusters are plain, not the noise's 256"

# Parts of clusters are stored plain, over what was compressed, too; the
# same disk written again and again does not grow without end.
cat > again.py <<'END'
import os

size = h.get_size ()
text = open ("text.raw", "rb").read ()
for n in range (6):
    for at in range (0, size, 1 << 18):
        data = text[at:at + (1 << 18)]
        h.pwrite (bytes ([n + 65]) * 8 + data[8:], at)
    h.flush ()
    if n == 1:
        length = os.stat ("disk.qcow").st_size
model = bytearray (h.pread (size, 0))
for at, n in ((0, 1), (4095, 2), (70000, 700), (123457, 65536),
              (1 << 20, 100000), (size - 5, 5)):
    h.pwrite (text[7:7 + n], at)
    model[at:at + n] = text[7:7 + n]
    assert h.pread (size, 0) == model, at
h.flush ()
assert os.stat ("disk.qcow").st_size <= length + (1 << 20)
open ("disk.model", "wb").write (model)
END
copied disk.qcow text.raw compress=zlib
writing again.py disk.qcow compress=zlib
sound disk.qcow
holds disk.qcow disk.model

# Random load on compressed and plain clusters, with and without compress=.
load_ops=300
for seed in $(seeds 1); do
  for options in '--cluster-bits 10 --l2-bits 6' '--cluster-bits 12' \
                 '--cluster-bits 16'; do
    plain src.raw disk.qcow --clusters mixed $options --seed $seed
    model_of disk.qcow
    plugin_args=(compress=zlib:1)
    exercise disk.qcow disk.model --seed $seed --largest 200000
    plugin_args=()
    exercise disk.qcow disk.model --seed $((seed + 1000))
  done
done

# In an overlay, also over zeroes that hide its base.
plugin_args=(compress=zlib backing-format=raw)
nbdkit -U - qcow over.qcow create=true backing=base.raw cluster-size=4K \
       "${plugin_args[@]}" --run true
cp base.raw over.model
cat > over.py <<'END'
model = bytearray (open ("over.model", "rb").read ())
data = b"over " * 20000


def write (at, n):
    h.pwrite (data[:n], at)
    model[at:at + n] = data[:n]


h.zero (1 << 20, 8192)
model[8192:8192 + (1 << 20)] = bytes (1 << 20)
write (65536, 65536)                    # on the zeroes
write (2 << 20, 16384)                  # on the base
write ((2 << 20) + 20580, 3000)
h.flush ()
assert h.pread (len (model), 0) == model
open ("over.model", "wb").write (model)
END
writing over.py over.qcow "${plugin_args[@]}"
sound over.qcow
holds over.qcow over.model
counted over.qcow
[ $plain -eq 1 ] || fail "$plain clusters of the overlay are plain"
exercise over.qcow over.model --seed 5

# QEMU writes to what we compressed.
copied disk.qcow text.raw compress=zlib
io disk.qcow 'write -P 81 100000 12' 'write -P 82 1M 64k'
sound disk.qcow
model_of disk.qcow
client_says='assert h.pread (h.get_size (), 0) == \
  open ("disk.model", "rb").read (); assert h.pread (12, 100000) == b"Q" * 12'
echo "$client_says" > same.py
client same.py disk.qcow

# Read-only there is nothing to compress, and nothing changes.
before=$(digest disk.qcow)
nbdkit -r -U - qcow disk.qcow compress=zlib --run 'nbdcopy "$uri" out.raw'
cmp out.raw disk.model
[ "$(digest disk.qcow)" = "$before" ] || fail "disk.qcow changed"

# What cannot be.
culprit=compress
for bad in zlib: zlib:0 zlib:10 zlib:fast zlib:1x zlibx zstd yes ''; do
  refused 'compress' disk.qcow compress=$bad
done
refused 'given twice' disk.qcow compress=zlib compress=none
refused 'clusters of 512 bytes' none.qcow create=true backing=base.raw \
        backing-format=raw compress=zlib
[ ! -e none.qcow ] || fail "none.qcow was made"
culprit=
tapdisk text.raw xen.qcow
refused "Xen's header" xen.qcow compress=zlib
create small.qcow 1M -o backing_file=base.raw -F raw
refused 'clusters of 512 bytes' small.qcow compress=zlib backing-format=raw
