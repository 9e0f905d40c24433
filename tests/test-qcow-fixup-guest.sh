# What a guest wrote on its disk is never changed, whatever it looks like.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_plugin eval

disk disk.raw $((5 << 20))
tapdisk disk.raw image

# passes WHAT ARG...: all bytes of the image, on the disk that is served
# so, reach a client as they are, and stay when he may write.
passes () {
  local what="$1"
  shift
  serve_fixup -- "$@"
  nbdinfo --can write "$uri" || fail "$what cannot be written"
  rm -f served
  nbdcopy "$uri" served
  stop_fixup
  cmp image served || fail "$what: the guest's bytes were changed"
}

cp image guest.raw
qemu-img convert -q -f raw -O qcow2 guest.raw guest.qcow2
qemu-img convert -q -f raw -O qcow guest.raw guest.qcow
fingerprint guest.* > before
passes "our qcow2 plugin" qcow2 guest.qcow2
expect_no_text log image-bytes
passes "our qcow plugin" qcow guest.qcow
passes "a raw disk through our data path" rawimage guest.raw
fingerprint guest.* | diff before - || fail "an image changed"

# A plugin that is not known: told once, and image-bytes=true would help.
by_eval image
eval+=(can_flush='exit 0' flush='exit 0')
cp image original
passes "an unknown plugin" eval "${eval[@]}"
expect_text log 'image from eval.*image-bytes=true'
[ "$(grep -c image-bytes=true log)" -eq 1 ] || fail "told more than once"
passes "image-bytes=false" eval "${eval[@]}" image-bytes=false
expect_no_text log 'image-bytes=true'
passes "image-bytes=false, file" file image image-bytes=false

# The same for qcow2.
cp image kept
qemu-img create -q -f qcow2 image 1M
passes "qcow2 over an unknown plugin" eval "${eval[@]}"
expect_text log 'like a qcow2 image.*image-bytes=true'
mv kept image

# Nothing is said about other disks.
head -c 100000 /dev/zero > image
passes "zeroes" eval "${eval[@]}"
expect_no_text log 'image-bytes=true'
printf 'QFI' > image
passes "3 bytes" file image
cp original image

# With image-bytes=true it is an image.
serve_fixup -- eval "${eval[@]}" image-bytes=true
nbdinfo --can write "$uri"
reads "$uri" image
stop_fixup
same image image.converted

# A header that makes no sense is told of, and passed on.
cp original image
poke image 32 '\x4f'
cp image broken
passes "a broken header" file image
cmp image broken
expect_text log 'cluster bits' 'is passed on as it is'
