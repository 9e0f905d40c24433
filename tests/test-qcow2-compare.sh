#!/usr/bin/env bash
# A test of the tests: the comparing program notices every planted fault.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

requires_filter extentlist
requires_filter error

create disk.qcow2 4M
io disk.qcow2 'write -P 1 1M 1M' 'write -P 2 3M 64k' 'write -z 3M 64k'
qemu-img convert -f qcow2 -O raw disk.qcow2 whole.raw
cp --sparse=always whole.raw good.raw

# compare_program NBDKIT-ARGUMENT...: what it says of that server's export.
compare_program () {
  nbdkit -r -U - "$@" --run "
    exec '$PYTHON' '$srcdir/qcow2-compare.py' $options \"\$uri\" disk.qcow2" \
      > compare.log 2>&1
}

# notices REGEX NBDKIT-ARGUMENT...
notices () {
  local status=0
  compare_program "${@:2}" || status=$?
  if [ $status -ne 1 ] || ! grep -Eq "$1" compare.log; then
    cat compare.log >&2
    fail "not noticed ($status): $*"
  fi
}

# A raw file served by somebody else has the same bytes; the one zero cluster
# with space behind it is what its extents can not show.
options='--filtered --no-map'
compare_program file good.raw || { cat compare.log >&2; fail "good.raw"; }
options=--filtered
notices 'host space is reserved' file good.raw
options=
notices 'block size' file good.raw

# One byte, at the start, in the middle, in the last sector.
options='--filtered --no-map'
for at in 0 1500000 4194303; do
  cp good.raw bad.raw
  poke bad.raw $at '\x55'
  notices "byte $at is 0x55" file bad.raw
done

# Sizes.
for size in 4193792 4195328; do
  cp good.raw bad.raw
  truncate -s $size bad.raw
  notices "the size is $size" file bad.raw
done

# Errors instead of data.
notices 'Input/output error' --filter=error file good.raw \
        error-pread=EIO error-pread-rate=100%

# Extents that call data zero; that hide a hole; that make holes of data.
# The rest of the disk is what it should be.
list () {
  printf '%s %s %s\n' 0 1M hole,zero "$@" > list
}
planted () {
  options=--filtered
  notices "$1" --filter=extentlist file good.raw extentlist=list
}
list 1M 512k hole,zero 1536k 512k '' 2M 1M hole,zero 3M 64k zero \
     3136k 960k hole,zero
planted 'is called zero and is not'
list 1M 512k '' 1536k 512k hole 2M 1M hole,zero 3M 64k zero \
     3136k 960k hole,zero
planted 'hole with unknown data'
list 1M 1M '' 2M 1M zero 3M 64k zero 3136k 960k hole,zero
planted 'hole expected'
list 1M 1M '' 2M 1M '' 3M 64k zero 3136k 960k hole,zero
planted 'zero expected'
list 1M 1M '' 2M 1M hole,zero 3M 64k zero 3136k 960k hole,zero
compare_program --filter=extentlist file good.raw extentlist=list ||
  { cat compare.log >&2; fail "the right extents"; }

# A server that tells 64 KiB of a run at a time.
# (The scripts run beside the server: a sanitizer there is none of ours.)
if ! is_sanitized && nbdkit eval --version > /dev/null 2>&1; then
  options='--filtered --no-map --coalesced'
  notices 'not the whole run' eval get_size='echo 4194304' \
          can_extents='exit 0' can_multi_conn='exit 0' \
          pread="dd if='$tmpdir/good.raw' skip=\$4 count=\$3 \
                    iflag=skip_bytes,count_bytes status=none" \
          extents='if [ $3 -lt 65536 ]; then echo $4 $3
                   else echo $4 65536; fi'
fi
