# create=true makes images that are as those of qemu-img with the same
# options, are clean, read as zeroes, and can be written by both sides.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow2
requires qemu-img --version
requires qemu-io --version
requires nbdinfo --version
requires nbdcopy --version
requires_python

# What qemu-img says of an image, but for its name and space.
info () {
  qemu-img info -U "$1" |
    grep -Ev '^(image|disk size|backing file):' | sed "s/$2\.raw/data.raw/"
}

# clean IMAGE: QEMU finds neither errors nor leaks.
clean () {
  qemu-img check -q -f qcow2 "$1" > check.log 2>&1 || {
    cat check.log >&2
    fail "$1: qemu-img check: status $?: ${*:2}"
  }
}

# Write the same with ours and with QEMU, at both ends and in the middle.
write_both () {
  nbdkit -U - qcow2 ours.qcow2 allow-path=. --run '
    "'"$PYTHON"'" -c "
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b\"a\" * 70000, 1000)
h.pwrite (b\"b\" * 3000, h.get_size () - 3000)
h.zero (5000, 2000)
h.flush ()
h.shutdown ()
" "$uri"' || fail "cannot write to ours"
  qemu-io -f qcow2 -c 'write -P 0x61 1000 70000' \
    -c "write -P 0x62 $((size - 3000)) 3000" -c 'write -z 2000 5000' \
    -c 'write -P 0x63 300k 100k' theirs.qcow2 > io.log
  qemu-io -f qcow2 -c 'write -P 0x63 300k 100k' ours.qcow2 > io.log
}

size=$((5 * 1024 * 1024))

# same QEMU-OPTIONS PARAMETER...: compare an image made both ways.
same () {
  local options=$1

  shift
  echo "$options: $*"
  rm -f ./*.qcow2 ours.raw theirs.raw
  # shellcheck disable=SC2086
  qemu-img create -q -f qcow2 $options theirs.qcow2 $size
  nbdkit -U - qcow2 ours.qcow2 create=true size=$size "$@" \
    --run 'test "$(nbdinfo --size "$uri")" = '$size ||
    fail "could not make an image with $*"
  clean ours.qcow2
  info theirs.qcow2 theirs > expected
  info ours.qcow2 ours > got
  diff -u expected got || fail "not as qemu-img makes it: $*"
  qemu-img compare -q -f qcow2 -F qcow2 theirs.qcow2 ours.qcow2 ||
    fail "the contents differ: $*"
  write_both
  clean ours.qcow2 "after writing: $*"
  qemu-img compare -q -f qcow2 -F qcow2 theirs.qcow2 ours.qcow2 ||
    fail "the contents differ after writing: $*"
}

same ""
same "-o compat=0.10" compat=0.10
same "-o cluster_size=512" cluster-size=512
same "-o cluster_size=4096" cluster-size=4k
same "-o cluster_size=2M" cluster-size=2M
for bits in 1 2 4 8 32 64; do
  same "-o refcount_bits=$bits" refcount-bits=$bits
done
same "-o extended_l2=on" extended-l2=true
same "-o extended_l2=on,cluster_size=16k" extended-l2=true cluster-size=16k
same "-o compression_type=zstd" compression-type=zstd
same "-o compression_type=zlib,compat=1.1" compression-type=zlib compat=1.1
for p in off metadata falloc full; do
  same "-o preallocation=$p" preallocation=$p
done
same "-o preallocation=metadata,extended_l2=on" \
     preallocation=metadata extended-l2=true
same "-o preallocation=metadata,cluster_size=512,refcount_bits=64" \
     preallocation=metadata cluster-size=512 refcount-bits=64
same "-o preallocation=metadata,compat=0.10" \
     preallocation=metadata compat=0.10
same "-o data_file=$PWD/theirs.raw" data-file=ours.raw
same "-o data_file=$PWD/theirs.raw,preallocation=metadata" \
     data-file=ours.raw preallocation=metadata
same "-o data_file=$PWD/theirs.raw,data_file_raw=on" \
     data-file=ours.raw data-file-raw=true
cmp ours.raw theirs.raw || fail "the raw data files differ"
qemu-img compare -q -f qcow2 -F raw ours.qcow2 ours.raw ||
  fail "the data file is not what the disk is"

# Falloc and full allocate the space, metadata does not.
for p in metadata falloc full; do
  nbdkit -U - qcow2 pre-$p.qcow2 create=true size=16M preallocation=$p \
    --run true
done
blocks=$(stat -c '%b * %B' pre-metadata.qcow2)
[ $((blocks)) -lt 4194304 ] || fail "preallocation=metadata takes space"
blocks=$(stat -c '%b * %B' pre-full.qcow2)
[ $((blocks)) -ge 16777216 ] || fail "preallocation=full takes no space"
blocks=$(stat -c '%b * %B' pre-falloc.qcow2)
[ $((blocks)) -ge 16777216 ] || fail "preallocation=falloc takes no space"

# Odd sizes are rounded up; nothing at all and very much is possible.
nbdkit -U - qcow2 odd.qcow2 create=true size=1000 \
  --run 'test "$(nbdinfo --size "$uri")" = 1024'
nbdkit -U - qcow2 empty.qcow2 create=true size=0 \
  --run 'test "$(nbdinfo --size "$uri")" = 0'
nbdkit -U - qcow2 huge.qcow2 create=true size=2P \
  --run 'test "$(nbdinfo --size "$uri")" = 2251799813685248'
for image in odd empty huge; do
  clean $image.qcow2
done

# A backing file beside the image is recorded by its bare name, another one
# by its whole name; its size is the default.
qemu-img create -q -f qcow2 base.qcow2 3M
qemu-io -f qcow2 -c 'write -P 7 0 3M' base.qcow2 > io.log
mkdir sub
nbdkit -U - qcow2 overlay.qcow2 create=true backing=base.qcow2 \
  backing-format=qcow2 --run 'test "$(nbdinfo --size "$uri")" = 3145728'
nbdkit -U - qcow2 sub/overlay.qcow2 create=true backing=base.qcow2 \
  backing-format=qcow2 size=4M --run 'nbdcopy "$uri" copy.raw'
qemu-img info -U overlay.qcow2 > info.log
expect_text info.log '^backing file: base.qcow2( |$)' \
  '^backing file format: qcow2$'
qemu-img info -U sub/overlay.qcow2 > info.log
expect_text info.log "^backing file: $PWD/base.qcow2\$"
qemu-img compare -q -f qcow2 -F qcow2 base.qcow2 overlay.qcow2
qemu-img compare -q -f raw -F qcow2 copy.raw sub/overlay.qcow2
clean overlay.qcow2
clean sub/overlay.qcow2
cp base.qcow2 a:b.qcow2
nbdkit -U - qcow2 colon.qcow2 create=true backing=./a:b.qcow2 \
  backing-format=qcow2 --run true
qemu-img compare -q -f qcow2 -F qcow2 base.qcow2 colon.qcow2 ||
  fail "QEMU does not find a backing file with a colon in its name"
nbdkit -U - qcow2 over-ext.qcow2 create=true backing=base.qcow2 \
  backing-format=qcow2 extended-l2=true preallocation=metadata --run true
clean over-ext.qcow2
qemu-img compare -q -f qcow2 -F qcow2 base.qcow2 over-ext.qcow2

# By descriptor; and read-only means the export.
: > fd.qcow2
nbdkit -r -U - qcow2 fd=5 create=true size=1M \
  --run 'nbdinfo --is read-only "$uri"' 5<> fd.qcow2
clean fd.qcow2

# What may be lost is, when that is said.
nbdkit -U - qcow2 base.qcow2 create=true size=1M overwrite=true --run true
clean base.qcow2
qemu-io -r -f qcow2 -c 'read -P 0 0 1M' base.qcow2 > io.log
expect_no_text io.log failed
