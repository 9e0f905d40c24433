#!/usr/bin/env bash
# fixup=write: tapdisk's L1 table is converted once, nothing else changes,
# and QEMU reads the result.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

source_file src.raw $((5 * 1024 * 1024 + 1536))
fallocate -p -o 1500000 -l 2700000 src.raw
small=(--cluster-bits 10 --l2-bits 8)

# serve COMMAND [PARAMETER...]: run it with $uri of a writable export.
serve () {
  local command=$1
  shift
  nbdkit -U - qcow t.qcow "$@" --run "$command" 2> serve.log || {
    cat serve.log >&2
    fail "t.qcow: $*"
  }
}

# converts [OPTION-OF-tapdisk...]: nothing happens but what must.
converts () {
  echo "converts $*"
  rm -f t.qcow
  tapdisk src.raw t.qcow "$@" --converted converted.qcow
  converted_is_right
}

# unasked: the image stays as it is with -r, and when nobody comes.
unasked () {
  local before
  before="$(digest t.qcow)"
  nbdkit -r -U - qcow t.qcow fixup=write --run 'nbdinfo --size "$uri"' \
         > size 2> serve.log || fail "with -r"
  test "$(digest t.qcow)" = "$before" || fail "with -r: the image changed"
  nbdkit -U - qcow t.qcow fixup=write --run true
  test "$(digest t.qcow)" = "$before" || fail "unasked: the image changed"
}

converted_is_right () {
  local before length
  length=$(stat -c %s converted.qcow)
  serve '! nbdinfo --is readonly "$uri"' fixup=write
  cmp -n $length t.qcow converted.qcow ||
    fail "this is not what it must become"
  # Room that the file grew by, up to a page, holds nothing.
  test "$(stat -c %s t.qcow)" -le $(((length + 4095) / 4096 * 4096)) ||
    fail "the file has grown"
  tail -c +$((length + 1)) t.qcow | tr -d '\0' | cmp - /dev/null
  to_raw t.qcow seen.raw
  cmp seen.raw src.raw || fail "QEMU reads other bytes"

  # A second run has nothing to do.
  before="$(digest t.qcow)"
  serve '! nbdinfo --is readonly "$uri"' fixup=write
  test "$(digest t.qcow)" = "$before" || fail "the second run changed it"
}

tapdisk src.raw t.qcow
unasked
converts
# Now the order is not needed any more, nor is the judgement.
serve '! nbdinfo --is readonly "$uri"'
compare t.qcow fixup=off
converts --reserve --full
converts --extents 4 "${small[@]}" --mtime 0xdeadbeef
converts --header 20
converts --header 12 "${small[@]}"
converts --flags 2 "${small[@]}"
for cksum in stale created; do
  converts "${small[@]}" --cksum $cksum
done
converts "${small[@]}" --host big --table alternate
converts --flag "${small[@]}"

# Some entries are converted already; some bytes are ours only to look at.
converts "${small[@]}" --table first --count 3
converts "${small[@]}" --table alternate --cksum stale
converts "${small[@]}" --table these --these 0,3,9-12,20
converts --cluster-bits 9 --l2-bits 6 --table these --these 0-63,128-140
converts --order big
converts --table big --flag
converts --order big --reversed --flag --cksum stale
# Entries that name a place in both orders.
tapdisk src.raw t.qcow "${small[@]}" --first 0x102000000 \
        --length $((16 << 30)) --converted converted.qcow
serve '! nbdinfo --is readonly "$uri"' fixup=write
qcow_tool digest t.qcow converted.qcow > both
test $(cut -d ' ' -f 1,2 both | uniq | wc -l) -eq 1 || fail "ambiguous entries"

# Bytes that nobody knows stay, in the header and behind it.
tapdisk src.raw t.qcow "${small[@]}" --converted converted.qcow
for f in t.qcow converted.qcow; do
  poke $f 34 '\x12\x34'
  poke $f 70 'Somebody was here, and wants to stay.'
  poke $f 3000 'So do I.'
done
converted_is_right

# Overlays: the name stays, also where flags would be.
cp src.raw base.raw
mv src.raw old.raw
cp old.raw src.raw
poke src.raw 700000 'This is what the overlay holds.'
poke src.raw 5000000 'And this.'
for header in 12 16 20; do
  for name in base.raw "$tmpdir/base.raw"; do
    converts --base old.raw --name "$name" --header $header
  done
  converts --base old.raw --name base.raw --header $header \
           --table first --count 1 --cluster-bits 12 --l2-bits 6
done

# Data is written after it, and what was there is still there.
tapdisk src.raw t.qcow
cp src.raw model.raw
poke model.raw 2000000 'new data'
poke model.raw 2999999 'and where nothing was'
cat > write.py <<'END'
h.pwrite (b"new data", 2000000)
h.pwrite (b"and where nothing was", 2999999)
h.flush ()
assert h.pread (8, 2000000) == b"new data"
assert h.pread (h.get_size (), 0) == open ("model.raw", "rb").read ()
END
server_flags=()
client write.py t.qcow fixup=write || fail "writing"
to_raw t.qcow seen.raw
cmp seen.raw model.raw || fail "QEMU reads other bytes after writing"
qcow_tool check t.qcow > leaks

# A file that may not be written is not in the way of reading, and says why
# it cannot be written; for root everything may be.
tapdisk src.raw t.qcow
chmod a-w t.qcow
before="$(digest t.qcow)"
if ! [ -w t.qcow ]; then
  serve 'nbdinfo --is readonly "$uri"' fixup=write
  test "$(digest t.qcow)" = "$before" || fail "the image changed"
fi

# Several clients come at once: it is converted once, before any of them is
# served.
rm -f t.qcow
tapdisk src.raw t.qcow --converted converted.qcow
serve '
  pids=
  for i in 1 2 3 4; do
    nbdcopy "$uri" copy$i.raw &
    pids="$pids $!"
  done
  for pid in $pids; do wait $pid || exit 1; done' fixup=write
for i in 1 2 3 4; do cmp copy$i.raw src.raw; done
cmp t.qcow converted.qcow
