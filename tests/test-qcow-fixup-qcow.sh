# Over the qcow plugin the filter asks for fixup=write, however the image
# was given, and touches nothing itself.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_plugin qcow

disk disk.raw $((11 << 20))

is_converted () {
  same "$1" "$1.converted" || fail "$1 was not converted"
  rm -f out.raw
  qemu-img convert -f qcow -O raw "$1" out.raw
  cmp out.raw disk.raw
}

tapdisk disk.raw image
serve_fixup -- qcow image
nbdinfo --can write "$uri" || fail "the image cannot be written"
rm -f served
nbdcopy "$uri" served
cmp served disk.raw
stop_fixup
is_converted image
fingerprint image > before
serve_fixup -- qcow image
nbdinfo --can write "$uri"
stop_fixup
fingerprint image | diff before - || fail "converted twice"

# By file descriptor.
tapdisk disk.raw image
serve_fixup -- qcow fd=7 7<>image
nbdinfo --can write "$uri" || fail "the image cannot be written"
stop_fixup
is_converted image

# Through another filter, and said in both ways.
tapdisk disk.raw image
serve_fixup -- --filter=noparallel qcow image fixup=write
nbdinfo --can write "$uri" || fail "the image cannot be written"
stop_fixup
is_converted image

# Without the filter, and read-only, the image stays as it is.
tapdisk disk.raw image
fingerprint image > before
start_nbdkit -P pid2 -U sock2 qcow image 2> log2
nbdinfo "nbd+unix:///?socket=$tmpdir/sock2" > info
stop_nbdkit pid2
serve_fixup -r -- qcow image
rm -f served
nbdcopy "$uri" served
cmp served disk.raw
stop_fixup
fingerprint image | diff before - || fail "the image changed"

# The user's word comes first.
for how in off memory; do
  expect_fail refused nbdkit -U - --filter=qcow-fixup qcow image \
    fixup=$how --run true
  expect_text refused "fixup=$how and the filter qcow-fixup exclude"
done
for parameter in image-bytes=true preserve=warn stray-header=repair; do
  for plugin in qcow qcow2 rawimage; do
    expect_fail refused nbdkit -U - --filter=qcow-fixup $plugin image \
      $parameter --run true
    expect_text refused "${parameter%%=*}=: has no meaning over the $plugin"
  done
done
fingerprint image | diff before - || fail "the image changed"
