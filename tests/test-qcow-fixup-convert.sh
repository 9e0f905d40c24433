# The first client that may write has the image converted, in every form;
# the second server writes nothing.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"

disk disk.raw $((11 << 20))

# convert IMAGE: let a client connect that may write.
convert () {
  serve_fixup -- file "$1"
  nbdinfo --can write "$uri" || fail "$1 cannot be written: $(cat log)"
  stop_fixup
}

is_converted () {
  same "$1" "$1.converted"
  rm -f out.raw
  qemu-img convert -f qcow -O raw "$1" out.raw
  cmp out.raw "$1.raw" || fail "$1: QEMU reads another disk from it"
}

check_form () {
  local name="$1"
  shift
  tapdisk disk.raw "$name" "$@"
  cp --preserve=all "$name" original
  convert "$name"
  is_converted "$name"
  [ "$(stat -c %s "$name")" = "$(stat -c %s original)" ] ||
    fail "$name: its length changed"
  fingerprint "$name" > before
  convert "$name"
  fingerprint "$name" | diff before - || fail "$name: converted twice"
  rm -f "$name"*
}
for_each_form check_form

# What needs nothing is not touched.
for options in '--header 0 --order big' '--order big --flag' \
               '--table big --flag'; do
  tapdisk disk.raw fine $options
  fingerprint fine > before
  convert fine
  fingerprint fine | diff before - || fail "fine was changed: $options"
done
qemu-img convert -f raw -O qcow disk.raw plain
fingerprint plain > before
serve_fixup -- file plain
nbdcopy "$uri" served
stop_fixup
cmp plain served
fingerprint plain | diff before - || fail "QEMU's image was changed"

# Overlays; the short header has no flags, but a name in their place.
disk base.raw $((5 << 20))
cp base.raw top.raw
printf 'changed' | dd of=top.raw bs=1 seek=3000000 conv=notrunc status=none
for header in 12 16 20; do
  tapdisk top.raw overlay --base base.raw --header "$header"
  convert overlay
  is_converted overlay
done

# A client writes into the image right after; what it writes stays, and the
# L1 table and header are its own.
tapdisk disk.raw used
serve_fixup -- file used
"$PYTHON" - "$uri" <<'EOF'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"0123456789abcdef", 4096)
h.pwrite(b"anything", 56)
h.flush()
assert h.pread(16, 4096) == b"0123456789abcdef"
h.shutdown()
EOF
stop_fixup
[ "$(peek used 4096 16)" = 30313233343536373839616263646566 ]
[ "$(peek used 56 8)" = 616e797468696e67 ]

# QEMU writes into the disk, over NBD.
tapdisk disk.raw used
serve_fixup -- file used
qemu-io -f qcow -c 'write -P 0x5a 100k 64k' "$uri" > io.log
expect_no_text io.log 'failed|error'
stop_fixup
cp disk.raw expected.raw
head -c 65536 /dev/zero | tr '\0' Z |
  dd of=expected.raw bs=1k seek=100 conv=notrunc status=none
rm -f out.raw
qemu-img convert -f qcow -O raw used out.raw
cmp out.raw expected.raw
