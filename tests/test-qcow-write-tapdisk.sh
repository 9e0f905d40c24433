#!/usr/bin/env bash
# Writing to images of Xen's tapdisk, so that tapdisk can go on with them:
# it must not rely on its formula any more where that is not true, zeroes
# are stored, no compressed clusters come in, its header stays.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

source_file src.raw $((5 * 1024 * 1024))
fallocate -p -o 1000000 -l 2700000 src.raw
cat > model.py <<'END'
model = bytearray (open ("t.model", "rb").read ())
size = h.get_size ()
assert len (model) == size


def write (at, data):
    h.pwrite (data, at)
    model[at:at + len (data)] = data


def zero (at, n):
    h.zero (n, at)
    model[at:at + n] = bytes (n)


def trim (at, n):
    h.trim (n, at)
    model[at:at + n] = h.pread (n, at)


def finish ():
    h.flush ()
    assert h.pread (size, 0) == model
    open ("t.model", "wb").write (model)


END

# on PROGRAM-LINES: run them on t.qcow, then judge; the rest of the first
# page stays as it was.
on () {
  cp t.qcow before.qcow
  cat model.py - > program.py
  echo 'finish ()' >> program.py
  writing program.py t.qcow "$@"
  sound t.qcow
  holds t.qcow t.model
  plain_only
  same_header
}

# plain_only: there is no compressed cluster.
plain_only () {
  local packed
  read -r _ packed _ _ < <(qcow_tool count t.qcow)
  test $packed -eq 0 || fail "$packed compressed clusters"
}

# same_header: of the first page only min_cluster_alloc (56..59) differs.
same_header () {
  cmp <(head -c 56 t.qcow) <(head -c 56 before.qcow) || fail "the header"
  cmp <(head -c 4096 t.qcow | tail -c +61) \
      <(head -c 4096 before.qcow | tail -c +61) || fail "behind the header"
}

# min_alloc VALUE
min_alloc () {
  local found
  found=$(qcow_tool get t.qcow min-alloc)
  test $found -eq $1 || fail "min_cluster_alloc is $found, not $1"
}

# fresh [OPTION-OF-tapdisk...]
fresh () {
  tapdisk src.raw t.qcow --order big --flag "$@"
  poke t.qcow 66 'These are bytes of somebody else.'
  cp src.raw t.model
}

# A matching checksum and a full min_cluster_alloc together tell tapdisk not
# to read L2 tables.  Once one of them does not follow the formula, or a new
# one, the first is 1; before anything else is written.
fresh
min_alloc 512
on <<'END'
write (3000000, b"in a hole of the disk that has no extent")
END
min_alloc 1
fresh
on <<'END'
trim (0, 1 << 20)
END
min_alloc 1
fresh --reserve --full
on <<'END'
zero (123, 400000)
write (2000000, b"x" * 5000)
trim (2 << 20, 2 << 20)
write (2500000, b"back again")
END
min_alloc 1

# In place nothing else changes.
fresh
on <<'END'
write (500000, b"in place")
write (4999999, b"!")
END
cmp <(head -c 8192 t.qcow | tail -c +61) \
    <(head -c 8192 before.qcow | tail -c +61) || fail "the L1 table changed"
test $(stat -c %s t.qcow) -eq $(stat -c %s before.qcow) || fail "it grew"

# Reading, flushing, zeroing what is zero: nothing at all.
fresh
before="$(fingerprint t.qcow)"
on <<'END'
h.flush ()
END
test "$(fingerprint t.qcow)" = "$before" || fail "a flush changed the image"

# Nothing is said where there is nobody to say it to.
create other.qcow 2M
cat > other.py <<'END'
h.pwrite (b"o" * 100000, 0)
END
writing other.py other.qcow
plain src.raw other.qcow --l1-at 4096
poke other.qcow 56 '\x00\x00\x02\x00'
writing other.py other.qcow
test "$(be32 other.qcow 56)" -eq 512 || fail "a header that is not Xen's"

# Overlays: zeroes are stored; the base must not show.
cp src.raw base.raw
cp src.raw new.raw
poke new.raw 4000000 'new'
for header in 12 16 20; do
  tapdisk new.raw t.qcow --base base.raw --name base.raw --order big \
          --header $header
  cp new.raw t.model
  case $header in
    12) ;;
    *) poke t.qcow 63 '\x03' ;;
  esac
  on fixup=write <<'END'
zero (300000, 100000)
zero (4096 * 1200, 4096)
trim (0, 100000)
write (777, b"some bytes")
write (4000000, b"NEW")
END
  min_alloc 1
done

# Converted first, in the same run; then load, and load again.
load_ops=200
for seed in $(seeds 1); do
  tapdisk src.raw t.qcow --table first --count 2
  cp src.raw t.model
  plugin_args=(fixup=write)
  exercise t.qcow t.model --seed $seed
  plugin_args=()
  exercise t.qcow t.model --seed $((seed + 1))
  plain_only
  min_alloc 1
  tapdisk new.raw t.qcow --base base.raw --name base.raw --host big
  cp new.raw t.model
  plugin_args=(fixup=write)
  exercise t.qcow t.model --seed $seed
  plugin_args=()
  plain_only
done
