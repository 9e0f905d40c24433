#!/usr/bin/env bash
# Disks of 64 TiB, the largest there are: opened, mapped and read within
# bounded memory, and with few reads where there is nothing.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

make <<'END'
for n, block in (1, MIB), (2, 2 * MIB), (256, 256 * MIB):
    Image (64 * TIB, block=block).save ("empty%d.vhdx" % n, raw=False)
    i = Image (64 * TIB, block=block)
    last = i.nr - 1
    for b in 0, 1, last // 2, last:
        i.set (b, pieces=[(0, fill (b, b * block, 4096)),
                          (block - 4096, b"x" * 4096)])
    i.save ("some%d.vhdx" % n, raw=False)
    i = Image (64 * TIB, block=block, parent="some%d.vhdx" % n)
    i.set (last, PARTIAL, own=[(block // 512 - 1, 1)],
           pieces=[(block - 512, b"y" * 512)])
    i.set (last // 3, ZERO)
    i.save ("child%d.vhdx" % n, raw=False)
i = Image (64 * TIB, block=MIB, sector=4096)
i.set (i.nr - 1, pieces=[(0, b"z" * 4096)])
i.save ("sector.vhdx", raw=False)
# The BAT itself comes in part from a log.
i = Image (64 * TIB, block=MIB)
i.set (i.nr - 1, pieces=[(0, b"w" * 4096)])
i.build ()
log = Log (i)
at = i.entry_at (i.nr - 1) // PAGE * PAGE
log.entry (log.steal (at) + [("zero", i.bat_at, 512 * MIB)])
log.announce ()
i.save ("logged.vhdx", raw=False)
END

cat > size.py <<'END'
assert h.get_size () == 1 << 46
END

# The map has data only in the blocks $blocks, of $block MiB.  With $whole
# all of it is asked for, else what is around these, and much elsewhere.
cat > map.py <<'END'
import os
import random
G = 1 << 30
size = h.get_size ()
assert size == 1 << 46
block = int (os.environ["block"]) << 20
want = [int (w) for w in os.environ["blocks"].split ()]
if os.environ["whole"]:
    windows = [(0, size)]
else:
    windows = [(max (b * block - 6 * G, 0), min (b * block + 6 * G, size))
               for b in want]
    rnd = random.Random (block)
    windows += [(at, at + 9 * G) for at in rnd.sample (range (size - 9 * G),
                                                       50)]
data = set ()
for at, end in windows:
    while at < end:
        n = min (4 * G - (1 << 20), end - at)
        for a, length, flags in status (at, n):
            if not flags & 2:
                data |= set (range (a // block,
                                    (a + length - 1) // block + 1))
            at = max (at, a + length)
assert sorted (data) == want, (data, want)
for b in want:
    first = h.pread (512, b * block)
    last = h.pread (512, (b + 1) * block - 512)
    assert any (first) or any (last), b
assert not any (h.pread (1 << 20, size // 5))
END
# mapped IMAGE BLOCK-MIB NUMBERS [WHOLE]
mapped () {
  block=$2 blocks="$3" whole="${4-}" bounded nbdkit -r -U - vhdx $1 --run "
    exec '$PYTHON' '$srcdir/qcow2-client.py' map.py \"\$uri\"" ||
    fail "$1"
}

before="$(digest *.vhdx)"
for n in 1 2 256; do
  last=$((64 * 1024 * 1024 / n - 1))
  mapped empty$n.vhdx $n '' ${n#2}
  mapped some$n.vhdx $n "0 1 $((last / 2)) $last"
  mapped child$n.vhdx $n "0 1 $((last / 2)) $last"
done
mapped sector.vhdx 1 67108863
mapped logged.vhdx 1 67108863
for image in empty1 empty256 some1 some256 child1; do
  bounded nbdkit -r -U - vhdx $image.vhdx check=open --run "
    exec '$PYTHON' '$srcdir/qcow2-client.py' size.py \"\$uri\"" ||
    fail "$image: check=open"
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"

# To open and map what is empty takes few reads: of the table no more than
# there is in the file.
read_bytes () {
  sed -n 's/^rchar: //p' /proc/$(cat one.pid)/io
}
for n in 1 256; do
  start_nbdkit -P one.pid -r -U one.sock vhdx empty$n.vhdx
  block=$n blocks= whole= "$PYTHON" "$srcdir/qcow2-client.py" map.py \
      'nbd+unix:///?socket=one.sock'
  if bytes=$(read_bytes 2> /dev/null) && [ -n "$bytes" ]; then
    [ $bytes -lt $((32 << 20)) ] ||
      fail "empty$n.vhdx: $bytes bytes read to map nothing"
  fi
  stop_nbdkit one.pid
  rm -f one.sock
done
