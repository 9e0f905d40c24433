#!/usr/bin/env bash
# Header extensions: well-formed ones are read, broken lists refused.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# Where the list begins, in an image that has room to play.
create v3.qcow2 1M
test "$(be32 v3.qcow2 100)" -eq 112 || fail "the header is not 112 bytes long"
zeroes="$(printf '\\0%.0s' {1..256})"

# fresh NAME: an image with an empty list.
fresh () {
  cp v3.qcow2 "$1"
  poke "$1" 112 "$zeroes$zeroes"
}

# extension FILE OFFSET TYPE LENGTH [BYTES]
extension () {
  poke_be32 "$1" $2 $3
  poke_be32 "$1" $(($2 + 4)) $4
  if [ $# -gt 4 ]; then poke "$1" $(($2 + 8)) "$5"; fi
}

io v3.qcow2 'write -P 0x42 0 100k' 'write -P 0x43 700k 1k'
backing_format=0xe2792aca
feature_names=0x6803f857
bitmaps=0x23852875
crypto=0x0537be77

fresh empty.qcow2
compare empty.qcow2

# Unknown: skipped, also twice, also odd lengths and no length at all.
fresh unknown.qcow2
extension unknown.qcow2 112 0x12345678 5 'hello'
extension unknown.qcow2 128 0x12345678 13 'hello, world.'
extension unknown.qcow2 152 0x7fffffff 0
extension unknown.qcow2 160 0xffffffff 1 'x'
compare unknown.qcow2

# A length beyond the end, whatever the type, END included.
for type in 0x12345678 $backing_format $feature_names 0; do
  for length in 65417 0x7fffffff 0xfffffff8 0xffffffff; do
    fresh long.qcow2
    extension long.qcow2 112 $type $length
    refused 'extension' long.qcow2
  done
done

# The limit is the backing file's name where there is one: an extension that
# ends there exactly is the last; one that crosses it is broken; and so is
# an entry of which only half is there.
fresh exact.qcow2
poke_be64 exact.qcow2 8 136
extension exact.qcow2 112 0x12345678 16 '0123456789abcdef'
compare exact.qcow2
extension exact.qcow2 112 0x12345678 17
refused 'extension' exact.qcow2
fresh half.qcow2
poke_be64 half.qcow2 8 116
refused 'extension' half.qcow2

# The list ends at the end of the cluster, without END.
fresh full.qcow2
extension full.qcow2 112 0x12345678 $((65536 - 120))
compare full.qcow2

# Bytes after END are nobody's.
fresh after.qcow2
extension after.qcow2 112 0 0
poke after.qcow2 120 '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'
compare after.qcow2

# A backing file offset inside the header leaves no list.
fresh inside.qcow2
poke_be64 inside.qcow2 8 8
compare inside.qcow2

# The last of a known type wins.
create base.qcow2 1M
io base.qcow2 'write -P 9 0 1M'
fresh twice.qcow2
extension twice.qcow2 112 $backing_format 3 raw
extension twice.qcow2 128 $backing_format 5 qcow2
poke twice.qcow2 512 base.qcow2
poke_be64 twice.qcow2 8 512
poke_be32 twice.qcow2 16 10
compare twice.qcow2

# Formats: too long a name, and none.
fresh format.qcow2
extension format.qcow2 112 $backing_format 16 'abcdefghijklmnop'
refused 'backing.format|extension' format.qcow2
fresh format.qcow2
extension format.qcow2 112 $backing_format 0
compare format.qcow2

# Unknown incompatible features are refused by name, or else by number.
fresh named.qcow2
poke named.qcow2 79 '\x20'
refused 'feature.*(bit 5|0x20)' named.qcow2
extension named.qcow2 112 $feature_names 96 \
          '\x00\x05frobnication'
poke named.qcow2 168 '\x01\x05something else'
refused 'frobnication' named.qcow2
if grep -q 'something else' refused.log; then fail "not that class"; fi
# 46 bytes and no NUL.
poke named.qcow2 122 "$(printf 'n%.0s' {1..46})"
refused 'nnnnnnnn' named.qcow2
# Names go to a terminal.
poke named.qcow2 122 '\x1b[31m\x07\n'
refused 'feature' named.qcow2
if grep -q "$(printf '[\033\007]')" refused.log; then
  fail "control characters reach the terminal"
fi
poke named.qcow2 79 '\0'
poke named.qcow2 72 '\x80'
refused 'feature.*(bit 63|0x8000000000000000)' named.qcow2

# Unknown compatible and autoclear features change nothing for a reader.
fresh features.qcow2
poke features.qcow2 80 '\x80'
poke features.qcow2 88 '\xff'
poke features.qcow2 95 '\x04'
compare features.qcow2

# Encryption and its extension belong together.
fresh crypto.qcow2
extension crypto.qcow2 112 $crypto 16
refused 'crypt|extension' crypto.qcow2
fresh crypto.qcow2
poke_be32 crypto.qcow2 32 2
refused 'crypt|LUKS' crypto.qcow2

# Bitmaps that are not announced as consistent.
fresh bitmaps.qcow2
extension bitmaps.qcow2 112 $bitmaps 24
compare bitmaps.qcow2

# Headers of other lengths: before the compression type, and from a future
# with more fields.
fresh short.qcow2
poke_be32 short.qcow2 100 104
poke short.qcow2 104 "$zeroes"
compare short.qcow2
fresh longer.qcow2
poke_be32 longer.qcow2 100 120
poke longer.qcow2 112 'UNKNOWNF'
compare longer.qcow2
poke_be32 longer.qcow2 100 $((65536))
compare longer.qcow2

# Version 2: the list begins at byte 72 and there are no features.
create v2.qcow2 1M -o compat=0.10 -b base.qcow2 -F qcow2
io v2.qcow2 'write -P 3 64k 64k'
test "$(be32 v2.qcow2 72)" -eq $((backing_format)) ||
  fail "the list does not begin at byte 72"
compare v2.qcow2
