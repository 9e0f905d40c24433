#!/usr/bin/env bash
# check=open looks through all of the BAT, however much there is in it;
# without it what is wrong in a large table is found at the latest when it
# is met: an error for that request and for no other.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Every rule.
make <<'END'
base = Image (64 * MIB)
base.save ("base.vhdx")
for name, (spoil, is_child) in ENTRIES.items ():
    i = Image (64 * MIB, block=2 * MIB,
               parent="base.vhdx" if is_child else None)
    i.set (0, PARTIAL if is_child else PRESENT,
           pieces=[(0, b"x" * 512)], own=[(0, 8)])
    i.set (3, pieces=[(0, b"y" * 512)])
    spoil (i)
    i.save (name + ".vhdx", raw=False)
with open ("names", "w") as f:
    print ("\n".join (ENTRIES), file=f)
END
before="$(digest *.vhdx)"
while read -r name; do
  refused 'entry [0-9]+ of the BAT' $name.vhdx check=open < /dev/null
  test "$(grep -c 'error:' refused.log)" -eq 1 || {
    cat refused.log >&2
    fail "$name: not one message"
  }
done < names
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
rm *.vhdx

# A table of 8 MiB, full.
cat > full.py <<'END'
N = 1 << 20
BAD = 700001


def full (spoil, **kwargs):
    """Every block present, in a file that is nearly all hole."""
    i = Image (N * MIB, **kwargs)
    base = 64 * MIB
    i.next = base + N * MIB
    i.length = i.next + 64 * MIB
    i.build ()
    out = bytearray ()
    for n in range (N):
        if n and n % i.ratio == 0:
            out += bytes (8)
        out += struct.pack ("<Q", base + n * MIB | PRESENT)
    i.file.put (i.bat_at, out)
    i.file.put (base, b"first")
    i.file.put (base + (N - 1) * MIB, b"last")
    entry = spoil (i, base)
    if entry is not None:
        i.file.put (i.entry_at (BAD), struct.pack ("<Q", entry))
    return i
END
{ cat full.py; cat <<'END'; } | make
full (lambda i, base: None).save ("good.vhdx", raw=False)
faults = {
    "state": lambda i, base: base + BAD * MIB | RESERVED4,
    "bits": lambda i, base: base + BAD * MIB | 8 | PRESENT,
    "partial": lambda i, base: base + BAD * MIB | PARTIAL,
    "end": lambda i, base: i.length | PRESENT,
    "section": lambda i, base: PRESENT,
    "log": lambda i, base: MIB | PRESENT,
    "region": lambda i, base: i.metadata_at | PRESENT,
    "same": lambda i, base: base + 5 * MIB | PRESENT,
}
for name, spoil in faults.items ():
    i = full (spoil)
    i.save ("%s.vhdx" % name, raw=False)
END
cat > around.py <<'END'
import os
bad = 700001 << 20
assert h.pread (5, 0) == b"first"
assert h.pread (4, h.get_size () - (1 << 20)) == b"last"
assert h.pread (4096, bad - 4096) == bytes (4096)
assert h.pread (4096, bad + (1 << 20)) == bytes (4096)
wrong = os.environ["wrong"]
got = error_of (h.pread, 4096, bad)
assert str (got) in wrong.split (), got
assert h.pread (5, 0) == b"first"
END
export wrong
wrong=None
client around.py good.vhdx || fail good.vhdx
bounded nbdkit -r -U - vhdx good.vhdx check=open --run 'nbdinfo "$uri"' \
        > good.out || fail "good.vhdx: check=open"
for name in state bits partial end section log region same; do
  refused "BAT" $name.vhdx check=open
  # What is wrong by itself is an error; that two blocks share a place can
  # not be seen from one of them.
  wrong=EIO
  [ $name != same ] || wrong='None EIO'
  status=0
  bounded nbdkit -r -U - vhdx $name.vhdx --run true 2> open.log || status=$?
  if [ $status -eq 0 ]; then
    client around.py $name.vhdx 2> client.log || {
      cat client.log >&2
      fail "$name.vhdx"
    }
    [ $name = same ] || expect_text client.log "$name.vhdx.*BAT"
  else
    expect_text open.log "$name.vhdx.*BAT"
  fi
done
expect_fail check.log nbdkit -r -U - vhdx good.vhdx check=perhaps --run true
expect_text check.log 'none.*open'
