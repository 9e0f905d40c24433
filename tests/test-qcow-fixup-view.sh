# Read-only: every form in which tapdisk's images are found reads as if it
# had been converted, and no byte of the file changes.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"

disk disk.raw $((11 << 20))

check_form () {
  local name="$1"
  shift
  tapdisk disk.raw "$name" "$@"
  fingerprint "$name" > before
  serve_fixup -r -- file "$name"
  [ "$(nbdinfo --can write "$uri" || echo no)" = no ]
  reads "$uri" "$name"
  # Pieces of any size and place.
  "$PYTHON" - "$uri" "$name.converted" <<'EOF'
import nbd, random, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
data = open(sys.argv[2], "rb").read()
size = h.get_size()
data = data[:size].ljust(size, b"\0")
rnd = random.Random(1)
for _ in range(300):
    at = rnd.randrange(9000)
    n = rnd.randrange(1, 700)
    assert h.pread(n, at) == data[at:at + n], (at, n)
h.shutdown()
EOF
  stop_fixup
  fingerprint "$name" > after
  diff before after || fail "$name changed"
  rm -f "$name"*
}
for_each_form check_form

# A file that cannot be written is one as well.
tapdisk disk.raw locked
chmod 444 locked
if [ ! -w locked ]; then
  fingerprint locked > before
  serve_fixup -- file locked
  reads "$uri" locked
  stop_fixup
  fingerprint locked | diff before - || fail "a read-only file changed"
  expect_text log 'read-only.*because the plugin cannot write it'
fi

# With a backing file, whose name the image has.
disk base.raw $((5 << 20))
cp base.raw top.raw
printf 'changed' | dd of=top.raw bs=1 seek=3000000 conv=notrunc status=none
for header in 12 16 20; do
  tapdisk top.raw overlay --base base.raw --header "$header"
  fingerprint overlay > before
  serve_fixup -r -- file overlay
  reads "$uri" overlay
  stop_fixup
  fingerprint overlay | diff before - || fail "the overlay changed"
done
