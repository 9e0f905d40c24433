# The parameters that all plugins share: what is taken and what is refused.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit rawimage --version
requires nbdinfo --version

truncate -s 1M disk.raw

# refused PATTERN PARAMETER...
refused () {
  local pattern=$1

  shift
  expect_fail log nbdkit -U - rawimage "$@" --run true
  [ "$status" -eq 1 ] || fail "status $status: $*"
  expect_text log "$pattern"
}

refused 'you must supply the file= or the fd= parameter'
refused 'file= and fd= exclude each other' disk.raw fd=3 3< disk.raw
refused "'file' was given twice" disk.raw file=disk.raw
refused "'lock' was given twice" disk.raw lock=on lock=on
refused 'unknown parameter .uri' disk.raw uri=nbd://localhost
refused 'lock=maybe: must be auto, on or off' disk.raw lock=maybe
refused 'force-share|boolean|could not decipher' disk.raw force-share=x
refused 'cache-size=1: must be at least 1M' disk.raw cache-size=1
refused 'size|parse' disk.raw cache-size=big
refused 'allow-path=.*missing.*No such file' disk.raw allow-path=missing
refused 'backing=nbd:x: only files' disk.raw backing=nbd:x
refused 'backing=none and backing-format=' disk.raw backing=none \
  backing-format=raw
refused 'disk.raw.*does not have a backing file' disk.raw backing=/etc/passwd
refused 'disk.raw.*has no backing file' disk.raw backing-format=raw
refused 'disk.raw.*no external data file' disk.raw data-file=disk.raw
refused 'file=: a file name is missing' file=
refused 'is a directory' .
mkfifo pipe
refused 'is a pipe' pipe
refused 'No such file' missing.raw

for ok in lock=auto lock=on lock=off force-share=true force-share=false \
          cache-size=1M backing=auto backing=none allow-path=/ \
          allow-path=disk.raw; do
  nbdkit -r -U - rawimage disk.raw "$ok" --run 'nbdinfo --size "$uri"' > size
  [ "$(cat size)" = 1048576 ] || fail "$ok: size $(cat size)"
done
nbdkit -r -U - rawimage disk.raw allow-path=/ allow-path=. \
  --run 'nbdinfo --size "$uri"' > size

# -D rawimage.extents=1 shows what is answered.
nbdkit -r -v -D rawimage.extents=1 -U - rawimage disk.raw \
  --run 'nbdinfo --map "$uri"' > map 2> log
expect_text log 'extents: run offset=0 length=1048576'

nbdkit rawimage --dump-plugin > dump
expect_text dump '^rawimage_write=yes$' '^rawimage_locks=ofd$' \
  '^rawimage_backing_formats=raw$' '^thread_model=parallel$'
