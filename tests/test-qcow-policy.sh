#!/usr/bin/env bash
# What the name in an image may lead to, and what is made of the file that
# it leads to, as the format cannot say what that is.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

mkdir images outside images/sub away
head -c 1M /dev/zero | tr '\0' '\t' > outside/base.raw
truncate -s 1M empty.raw
for file in base.raw sub/base.raw .hidden.raw a:b.raw; do
  cp outside/base.raw "images/$file"
done
ln -s ../outside/base.raw images/link.raw
ln -s base.raw images/inner.raw
mkfifo images/fifo.raw

# over NAME: an overlay in images/ with that name in it, and nothing else.
over () {
  plain empty.raw images/over.qcow --name "$1"
}

cat > base.py <<'END'
assert h.pread (1 << 20, 0) == b"\t" * (1 << 20)
END

# opens [PARAMETER...]: the overlay is served, with the base's bytes.
opens () {
  client base.py images/over.qcow "$@" || fail "not opened: $*"
}

# Directly beside the image, whatever way it is written.
for name in base.raw ./base.raw "$tmpdir/images/base.raw" inner.raw \
            ./a:b.raw; do
  over "$name"
  opens
done
over base.raw
(cd images; client ../base.py over.qcow) || fail "opened in its directory"
ln -s ../images/over.qcow away/over.qcow
ln images/base.raw away/base.raw
client base.py away/over.qcow || fail "base beside the image's link"

# Anywhere else: only when the user says so.
for name in ../outside/base.raw "$tmpdir/outside/base.raw" link.raw \
            sub/base.raw .hidden.raw; do
  over "$name"
  refused 'allow-path=' images/over.qcow
  opens allow-path=/
  opens backing=outside/base.raw
done

# Never by a protocol, nor another kind of file.
for name in a:b.raw 'json:{"file.filename":"base.raw"}' file:base.raw \
            nbd:unix:/nowhere fifo.raw sub /dev/zero; do
  over "$name"
  refused '.' images/over.qcow allow-path=/
done

# A NUL ends a name, for QEMU too; a newline ends no message.
over base.raw/x
poke images/over.qcow $((48 + 8)) '\0'
opens
over $'base.raw\nx'
refused '.' images/over.qcow
test "$(grep -c '^x' refused.log)" -eq 0 || fail "a newline in a message"

# What the base is: raw when it looks like nothing, what it looks like when
# that is qcow or qcow2; for one level only, as a guest may have written it.
cd images
qemu-img convert -f raw -O qcow2 base.raw base.qcow2
plain base.raw base.qcow
for format in qcow2 qcow; do
  plain ../empty.raw over.qcow --name base.$format
  client ../base.py over.qcow || fail "a base that is $format"
  client ../base.py over.qcow backing-format=$format ||
    fail "a base that is $format"
  # The user's word goes before what it looks like.
  cat > raw.py <<END
want = open ("base.$format", "rb").read ()[:1 << 20].ljust (1 << 20, b"\\0")
assert h.pread (1 << 20, 0) == want
END
  client raw.py over.qcow backing-format=raw || fail "said to be raw"
  # Below that one nothing is found out.
  plain ../empty.raw middle.qcow --name base.$format
  plain ../empty.raw over.qcow --name middle.qcow
  refused "base.$format.*format|format.*base.$format" over.qcow
  client ../base.py over.qcow backing-format=qcow || fail "told of a base"
done
# raw is still raw there.
plain ../empty.raw middle.qcow --name base.raw
plain ../empty.raw over.qcow --name middle.qcow
client ../base.py over.qcow || fail "a raw base of a base"
# And qcow2 says what its base is.
qemu-img create -q -f qcow2 -b base.qcow -F qcow middle.qcow2
plain ../empty.raw over.qcow --name middle.qcow2
client ../base.py over.qcow || fail "a format that is recorded"
# The wrong word is an error.
plain ../empty.raw over.qcow --name base.raw
culprit=base.raw
refused 'magic|not a qcow' over.qcow backing-format=qcow
culprit=
# Chains without end.
plain ../empty.raw over.qcow --name over.qcow
refused 'loop|itself|twice|again|circ' over.qcow backing-format=qcow
