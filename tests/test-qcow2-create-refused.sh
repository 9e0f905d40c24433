# What cannot be made is refused before anything is changed, and nothing is
# left behind.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow2
requires qemu-img --version
requires qemu-io --version

# refused PATTERN PARAMETER...: no server, and no new files.
refused () {
  local pattern=$1

  shift
  ls > before
  expect_fail log nbdkit -U - qcow2 "$@" --run 'echo served'
  [ "$status" -eq 1 ] || fail "status $status: $*"
  expect_text log "$pattern"
  expect_no_text log '^served'
  [ "$(wc -l < log)" -eq 1 ] || { cat log >&2; fail "many words: $*"; }
  ls > after
  diff before after || fail "left something behind: $*"
}

touch before after log
qemu-img create -q -f qcow2 base.qcow2 1M
make="new.qcow2 create=true"

# shellcheck disable=SC2086
{
  # What is missing, or makes no sense.
  refused 'supply the size=' $make
  refused 'size=: is for new images.*resize=' base.qcow2 size=1M
  refused 'overwrite=: is for new' base.qcow2 overwrite=true
  refused 'cluster-size=: is for new' base.qcow2 cluster-size=4k
  refused 'compat=: is for new' base.qcow2 compat=1.1
  refused 'preallocation=: is for new' base.qcow2 create=false \
    preallocation=off
  refused 'exclude each other' $make size=1M resize=2M
  refused 'exclude each other' $make size=1M force-share=true
  refused "'cluster-size' was given twice" $make size=1M cluster-size=4k \
    cluster-size=4k
  refused "'size' was given twice" $make size=1M size=1M
  refused 'unknown parameter' $make size=1M lazy-refcounts=true

  # Values.
  refused 'powers of two' $make size=1M cluster-size=1000
  refused 'powers of two' $make size=1M cluster-size=256
  refused 'powers of two' $make size=1M cluster-size=4M
  refused 'must be 0.10 or 1.1' $make size=1M compat=3
  refused 'must be zlib or zstd' $make size=1M compression-type=lzma
  refused 'must be off, metadata' $make size=1M preallocation=on
  refused 'refcounts of 3 bits' $make size=1M refcount-bits=3
  refused 'too large' $make size=4E
  refused 'too large' $make size=1P cluster-size=4k
  refused 'too large' $make size=7E cluster-size=2M

  # Combinations.
  refused 'at least 16384' $make size=1M extended-l2=true cluster-size=4k
  refused 'version 2' $make size=1M compat=0.10 extended-l2=true
  refused 'version 2' $make size=1M compat=0.10 refcount-bits=8
  refused 'version 2' $make size=1M compat=0.10 compression-type=zstd
  refused 'version 2' $make size=1M compat=0.10 data-file=d.raw
  refused 'name one' $make size=1M data-file-raw=true
  refused 'exclude each other' $make size=1M data-file=d.raw \
    data-file-raw=true backing=base.qcow2 backing-format=qcow2
  refused 'would hide' $make size=1M preallocation=full \
    backing=base.qcow2 backing-format=qcow2

  # Backing files.
  refused 'supply the backing-format=' $make size=1M backing=base.qcow2
  refused 'no backing file' $make size=1M backing-format=qcow2
  refused 'is not known' $make backing=base.qcow2 backing-format=vmdk
  refused 'nowhere.qcow2' $make backing=nowhere.qcow2 backing-format=qcow2
  : > not.qcow2
  refused 'not.qcow2: ' $make backing=not.qcow2 backing-format=qcow2
  refused 'in two places' base.qcow2 create=true overwrite=true \
    backing=base.qcow2 backing-format=qcow2
  refused 'in two places' same.qcow2 create=true size=1M \
    data-file=same.qcow2

  # Names.
  refused 'cannot be made' nowhere/new.qcow2 create=true size=1M
  refused 'cannot be made' $make size=1M data-file=nowhere/d.raw
}

# What is there stays as it is.
fingerprint base.qcow2 > print
refused 'base.qcow2: there is something in it' base.qcow2 create=true size=1M
# shellcheck disable=SC2086
refused 'base.qcow2: there is something in it' $make size=1M \
  data-file=base.qcow2
printf x > byte
refused 'byte: there is something in it, 1 bytes' byte create=true size=1M
fingerprint base.qcow2 | diff print - || fail "base.qcow2 has changed"

# Somebody uses it.
requires_python
cp base.qcow2 used.qcow2
"$PYTHON" - <<'END'
import fcntl, os, struct, subprocess, sys
fd = os.open ("used.qcow2", os.O_RDWR)
# As QEMU when it writes: bytes 101, 103 and 201, 203 of the file.
for start in (100, 101, 103, 201, 203):
    lock = struct.pack ("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, 1, 0)
    fcntl.fcntl (fd, 37, lock)          # F_OFD_SETLK
for order in (["create=true", "size=1M", "overwrite=true"], ["resize=2M"]):
    before = open ("used.qcow2", "rb").read ()
    r = subprocess.run (["nbdkit", "-U", "-", "qcow2", "used.qcow2", *order,
                         "--run", "true"], stderr = subprocess.PIPE)
    sys.stderr.write (r.stderr.decode ())
    assert r.returncode == 1, order
    assert b"used.qcow2" in r.stderr
    assert before == open ("used.qcow2", "rb").read (), order
END
