# What the filter tells about itself, and parameters that it refuses.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"

disk disk.raw $((5 << 20))
tapdisk disk.raw image
fingerprint image > before

# refuse PATTERN PARAMETER...
refuse () {
  local pattern="$1"
  shift
  expect_fail refused nbdkit -U - --filter=qcow-fixup file image "$@" \
    --run true
  expect_text refused "$pattern"
}
refuse 'preserve=maybe: must be warn, strict or off' preserve=maybe
refuse 'stray-header=keep: must be report or repair' stray-header=keep
refuse 'image-bytes|boolean' image-bytes=perhaps
refuse "parameter 'preserve' was given twice" preserve=off preserve=off
refuse "unknown parameter '?no-such" no-such=1
fingerprint image | diff before - || fail "the image changed"

for parameter in preserve=warn preserve=strict preserve=off image-bytes=true \
                 image-bytes=false image-bytes=1 stray-header=report \
                 stray-header=repair; do
  nbdkit -r -U - --filter=qcow-fixup file image $parameter \
    --run 'nbdinfo --size "$uri"' > size
  [ "$(cat size)" = "$(stat -c %s image)" ]
done
fingerprint image | diff before - || fail "the image changed"

# The examples of the manual.
cp image old.qcow
ln image.converted old.qcow.converted
ln image.raw old.qcow.raw
nbdkit -r -U - --filter=qcow-fixup file old.qcow \
       --run 'qemu-img convert -f qcow "$uri" -O raw out.raw'
cmp out.raw disk.raw
cmp old.qcow image
nbdkit -U - --filter=qcow-fixup file old.qcow \
       --run 'nbdinfo --size "$uri"' > size
same old.qcow image.converted

# Behind another server.
cp image old.qcow
start_nbdkit -P pid2 -U sock2 file old.qcow
nbdkit -U - --filter=qcow-fixup nbd socket=sock2 stray-header=repair \
       --run 'nbdinfo --size "$uri"' > size
stop_nbdkit pid2
same old.qcow image.converted

# Other plugins that are known: from memory, from a file of bytes.
nbdkit -U - --filter=qcow-fixup data data='<image' \
       --run 'nbdcopy "$uri" served'
cmp served image.converted
nbdkit -r -U - --filter=qcow-fixup data data='<image' \
       --run 'nbdcopy "$uri" served'
cmp served image.converted
split -b 1000000 image part.
rm -f served
nbdkit -U - --filter=qcow-fixup split part.* --run 'nbdcopy "$uri" served' \
  2> log
same served image.converted
cat part.* | cmp - image        # this plugin cannot flush
expect_text log 'because the plugin cannot flush it'
