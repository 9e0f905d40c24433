#!/usr/bin/env bash
# Writing over compressed clusters: shared streams stay for those that share
# them, the rest of a cluster stays as it was.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

source_file src.raw $((2 * 1024 * 1024 + 2560))

cat > over.py <<'END'
size = h.get_size ()
model = bytearray (open ("disk.model", "rb").read ())
assert len (model) == size
for at, n in ((0, 1), (4095, 2), (70000, 700), (123456, 65536),
              (1 << 20, 100000), (size - 5, 5)):
    data = bytes (range (256)) * (n // 256 + 1)
    h.pwrite (data[:n], at)
    model[at:at + n] = data[:n]
    assert h.pread (size, 0) == model, at
h.zero (5000, 900001)
model[900001:905001] = bytes (5000)
h.trim (10, 700001)
model[700001:700011] = h.pread (10, 700001)
h.flush ()
assert h.pread (size, 0) == model
open ("disk.model", "wb").write (model)
END

for options in '--cluster-bits 9 --pack 512' '--cluster-bits 12' \
               '--cluster-bits 12 --share --full' '--cluster-bits 16 --share'
do
  plain src.raw disk.qcow --clusters packed $options
  model_of disk.qcow
  writing over.py disk.qcow
  sound disk.qcow
  holds disk.qcow disk.model
done

# One stream for all of the disk: each cluster that is written gets away
# from it, none takes it from the others.
head -c 1M /dev/zero | tr '\0' 'S' > same.raw
plain same.raw disk.qcow --clusters packed --share --cluster-bits 13
read -r _ packed _ shared < <(qcow_tool count disk.qcow)
test "$packed $shared" = '128 1' || fail "not one stream for all"
cp same.raw disk.model
cat > one.py <<'END'
h.pwrite (b"mine", 500000)
h.zero (8192, 16384)
h.trim (8192, 81920)
h.flush ()
got = h.pread (1 << 20, 0)
want = bytearray (b"S" * (1 << 20))
want[500000:500004] = b"mine"
want[16384:24576] = bytes (8192)
want[81920:90112] = got[81920:90112]
assert got == want
assert got[81920:90112] in (b"S" * 8192, bytes (8192))
open ("disk.model", "wb").write (want)
END
writing one.py disk.qcow
sound disk.qcow
holds disk.qcow disk.model

# Random load.
load_ops=300
for seed in $(seeds 1); do
  for options in '--cluster-bits 9 --share' '--cluster-bits 12 --order 2' \
                 '--cluster-bits 15 --l2-bits 6 --share'; do
    plain src.raw disk.qcow --clusters mixed $options --seed $seed
    model_of disk.qcow
    exercise disk.qcow disk.model --seed $seed --largest 200000
  done
  # Over a base that is compressed too.
  plain src.raw base.qcow --clusters packed
  cp src.raw new.raw
  poke new.raw 500000 'other bytes'
  plain new.raw disk.qcow --base src.raw --name base.qcow \
        --clusters packed --cluster-bits 14
  model_of disk.qcow
  exercise disk.qcow disk.model --seed $seed --largest 200000
done
