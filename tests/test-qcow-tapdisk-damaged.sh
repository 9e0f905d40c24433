#!/usr/bin/env bash
# Images of Xen's tapdisk that are damaged: what can be read is read, the
# rest is an error, and nothing is ever written to them.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

# Extents of 256 KiB, and no zeroes.
head -c 3M /dev/zero | tr '\0' '\1' > src.raw
small=(--cluster-bits 10 --l2-bits 8)

# run IMAGE < PROGRAM-LINES: with -r, and with the order to convert, which
# is not possible: the image stays as it is.
run () {
  local image=$1 fixup
  before="$(digest "$image")"
  cat > program.py - <<'END'
SPAN = 262144


def good (first, end):
    n = (end - first) * SPAN
    assert h.pread (n, first * SPAN) == b"\1" * n, (first, end)


def bad (*spans):
    for s in spans:
        for at, n in ((0, 1), (0, SPAN), (100000, 512), (SPAN - 1, 1)):
            assert error_of (h.pread, n, s * SPAN + at) == "EIO", (s, at)
        if error_of (h.block_status, SPAN, s * SPAN, lambda *a: 0) is None:
            assert not any (k & 2 for _, _, k in status (s * SPAN, SPAN))


assert h.is_read_only ()
END
  cat >> program.py
  for fixup in memory write; do
    server_flags=(-r)
    test $fixup = memory || server_flags=()
    client program.py "$image" fixup=$fixup 2> errors.log || {
      cat errors.log >&2
      fail "$image, fixup=$fixup"
    }
  done
  test "$(digest "$image")" = "$before" || fail "$image changed"
  expect_text errors.log "$image.*(L1|endian|damage)"
}

# Entries that make no sense in either order: in tables of every kind.
for options in '' '--order big --flag' '--table alternate --cksum stale'
do
  tapdisk src.raw bad.qcow "${small[@]}" --damage 2,7 $options
  run bad.qcow <<'END'
good (0, 2)
bad (2)
good (3, 7)
bad (7)
good (8, 12)
END
done

# All of them; the first; the last.
tapdisk src.raw bad.qcow "${small[@]}" --damage 0-11
run bad.qcow <<'END'
bad (0, 5, 11)
END
tapdisk src.raw bad.qcow "${small[@]}" --damage 0,11
run bad.qcow <<'END'
bad (0, 11)
good (1, 11)
END

# Places that cannot be: on the header, on the L1 table, in the middle of a
# cluster, far beyond the end of the file, beyond 2 to the 63rd.
for value in 0xc00 0x1000 0x2001 0x2200 0x10000000000 0x8000000000002000; do
  tapdisk src.raw bad.qcow "${small[@]}"
  poke bad.qcow $((4096 + 3 * 8)) "$("$PYTHON" -c "
print ('\\\\x%02x' * 8 % tuple (($value).to_bytes (8, 'little')))")"
  run bad.qcow <<'END'
good (0, 3)
bad (3)
good (4, 12)
END
done

# An overlay: nothing of its base may show where its own table is not known.
head -c 3M /dev/zero | tr '\0' '\2' > base.raw
for header in 12 16; do
  tapdisk src.raw over.qcow "${small[@]}" --base base.raw --name base.raw \
          --damage 4 --header $header
  run over.qcow <<'END'
good (0, 4)
bad (4)
good (5, 12)
END
done

# The second header that Xen 3.3 wrote, over the first 64 entries of the
# first table.  Where it lies beside the table (3.4) it does no harm.
tapdisk src.raw stray.qcow --order big --full --stray
before="$(digest stray.qcow)"
cat > stray.py <<'END'
assert error_of (h.pread, 4096, 0) == "EIO"
at = 64 * 4096
assert h.pread ((3 << 20) - at, at) == b"\1" * ((3 << 20) - at)
END
server_flags=(-r)
client stray.py stray.qcow 2> stray.log || {
  cat stray.log >&2
  fail "a stray header"
}
expect_text stray.log 'stray.qcow'
test "$(digest stray.qcow)" = "$before" || fail "stray.qcow changed"
tapdisk src.raw stray.qcow --order big --full --stray --gap 512
compare stray.qcow

# Conversions which were interrupted, at every step, are no damage: all of
# it can be read, before and after somebody finishes them.
server_flags=(-r)
tapdisk src.raw whole.qcow "${small[@]}" --converted converted.qcow
length=$(stat -c %s whole.qcow)
oracle=converted.qcow
for step in copied copied:5 switched restored:1 restored:7 restored home; do
  tapdisk src.raw step.qcow "${small[@]}" --growing $step
  before="$(digest step.qcow)"
  server_flags=(-r)
  compare step.qcow
  test "$(digest step.qcow)" = "$before" || fail "$step: the image changed"
  server_flags=()
  compare_options=(--writable)
  compare step.qcow fixup=write
  compare_options=()
  cmp -n $length step.qcow converted.qcow ||
    fail "$step: it was not finished"
  before="$(digest step.qcow)"
  nbdkit -U - qcow step.qcow fixup=write \
         --run '! nbdinfo --is readonly "$uri"' || fail "$step: read-only"
  test "$(digest step.qcow)" = "$before" || fail "$step: written again"
done
