# An image that cannot be converted is read-only, and what can be read is.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_plugin eval

disk disk.raw $((11 << 20))

# is_read_only IMAGE: through $uri.
is_read_only () {
  if nbdinfo --can write "$uri"; then
    fail "$1 can be written"
  fi
}

# Entry 1 makes no sense; the others are as converted ones.
tapdisk disk.raw damaged --damage 1
fingerprint damaged > before
serve_fixup -- file damaged
is_read_only damaged
nbdcopy "$uri" served
rm -f part.raw
qemu-img dd -f qcow -O raw bs=1M count=2 if="$uri" of=part.raw
head -c $((2 << 20)) disk.raw | cmp - part.raw
qemu-img dd -f qcow -O raw bs=1M skip=4 count=11 if="$uri" of=part.raw
tail -c +$(((4 << 20) + 1)) disk.raw | cmp - part.raw
stop_fixup
fingerprint damaged | diff before - || fail "a damaged image changed"
expect_text log 'L1' 'served read-only.*because entries of its L1 table are'
[ "$(peek served 4096 8)" = "$(peek damaged.converted 4096 8)" ]
[ "$(peek served 4104 8)" = "$(peek damaged 4104 8)" ]
[ "$(peek served 4112 24)" = "$(peek damaged.converted 4112 24)" ]

# A plugin that cannot flush, and one that cannot write.
tapdisk disk.raw image
by_eval image
serve () {
  serve_fixup -- eval image-bytes=true "${eval[@]}" "$@"
}
fingerprint image > before
serve
is_read_only image
nbdcopy "$uri" served2
cmp served2 image.converted
expect_text log 'because the plugin cannot flush it'
[ "$(grep -c 'because the plugin' log)" -eq 1 ] || fail "told twice"
stop_fixup
eval+=(can_flush='exit 0' flush='exit 0')
eval=("${eval[@]/#can_write=*/can_write=exit 3}")
serve
is_read_only image
expect_text log 'because the plugin cannot write it'
stop_fixup
fingerprint image | diff before - || fail "the image changed"

# A flush that failed once: what can be read then may never reach the disk,
# under whatever name (this plugin ignores it).
tapdisk disk.raw flushed
by_eval flushed
touch fails
serve_fixup -- eval image-bytes=true "${eval[@]}" can_flush='exit 0' \
  flush="if rm '$tmpdir/fails'; then echo 'EIO once' >&2; exit 1; fi
         exit 0"
is_read_only flushed
[ ! -e fails ] || fail "nothing was flushed"
is_read_only flushed
for name in other third; do
  named="nbd+unix:///$name?socket=$tmpdir/sock"
  if nbdinfo --can write "$named"; then
    fail "after a failed flush $name can be written"
  fi
  nbdcopy "$named" served3
  same served3 flushed.converted
done
stop_fixup
expect_text log 'because flushing a conversion failed before'

# Without Xen's header nobody may believe the table: no client at all.
tapdisk disk.raw refused --header 0
fingerprint refused > before
serve_fixup -- file refused
expect_fail info nbdinfo "$uri"
stop_fixup
expect_text log 'little endian'
fingerprint refused | diff before - || fail "the image changed"

# What a header asks for is bounded.
tapdisk disk.raw huge
poke huge 24 '\x00\x00\x40\x00\x00\x00\x00\x00'
fingerprint huge > before
serve_fixup -- file huge
expect_fail info nbdinfo "$uri"
stop_fixup
expect_text log 'needs 33554432 L1 entries'
fingerprint huge | diff before - || fail "the image changed"
