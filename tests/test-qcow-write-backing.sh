#!/usr/bin/env bash
# Writing to overlays with clusters of every size: what is not written stays
# what the base has, to the byte.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

source_file src.raw $((2 * 1024 * 1024))
truncate -s 3M empty.raw

# A small write into a large cluster: QEMU's own driver loses the rest of it
# here.  Into nothing, over the end of the base, beyond it, over what the
# overlay has already.
cat > small.py <<'END'
base = open ("base.raw", "rb").read ()
size = h.get_size ()
model = bytearray (base.ljust (size, b"\0")[:size])


def write (at, data):
    h.pwrite (data, at)
    model[at:at + len (data)] = data


for at in (0, 511, 4095, 65537, 300000, 999990, 1000003, 1000500, 1048570,
           1400000, size - 3):
    write (at, b"abc")
h.flush ()
for at in (1, 512, 65536, 999000, size - 700):
    write (at, b"x" * 600)
h.zero (700, 1234)
model[1234:1934] = bytes (700)
write (200000, bytes (5000))            # zeroes are data too
assert h.pread (size, 0) == model
h.flush ()
open ("small.model", "wb").write (model)
END
for bits in 9 10 12 16; do
  for length in 1000003 2097152; do
    head -c $length src.raw > base.raw
    plain empty.raw over.qcow --name base.raw --size $((1536 * 1024)) \
          --cluster-bits $bits --base empty.raw
    writing small.py over.qcow
    sound over.qcow
    holds over.qcow small.model
  done
done

# Random load; bases of each format, shorter and longer than the overlay.
load_ops=250
for seed in $(seeds 1); do
  cp src.raw changed.raw
  for at in 0 70000 1111111; do poke changed.raw $at 'other bytes here'; done
  for bits in 9 12 15; do
    truncate -s 3M src.raw changed.raw
    plain changed.raw over.qcow --base src.raw --name short.raw \
          --cluster-bits $bits --l2-bits 8 --clusters mixed
    head -c 1234567 src.raw > short.raw
    model_of over.qcow
    exercise over.qcow over.model --seed $seed --largest 200000
  done

  qemu-img convert -f raw -O qcow2 src.raw base.qcow2
  plain src.raw base.qcow --clusters mixed
  for format in qcow2 qcow; do
    before="$(digest base.$format)"
    create over.qcow 2M -b base.$format -F $format
    model_of over.qcow
    plugin_args=(backing-format=$format)
    exercise over.qcow over.model --seed $seed --largest 200000
    plugin_args=()
    test "$(digest base.$format)" = "$before" || fail "the base changed"
  done

  # Without its base an overlay has holes where it has nothing: nothing of
  # the base may come into the places that are filled then.
  plain changed.raw alone.qcow --base src.raw --cluster-bits 14
  to_raw alone.qcow over.model
  plain changed.raw over.qcow --base src.raw --cluster-bits 14 \
        --name base.qcow
  plugin_args=(backing=none)
  drive over.qcow over.model --seed $seed
  sound over.qcow
  plugin_args=()
done
