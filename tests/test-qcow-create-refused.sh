# What cannot be made is refused before anything is changed, and nothing is
# left behind.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow
requires qemu-img --version

# refused PATTERN PARAMETER...: no server, and no new files.
refused () {
  local pattern=$1

  shift
  ls > before
  expect_fail log nbdkit -U - qcow "$@" --run 'echo served'
  [ "$status" -eq 1 ] || fail "status $status: $*"
  expect_text log "$pattern"
  expect_no_text log '^served'
  [ "$(wc -l < log)" -eq 1 ] || { cat log >&2; fail "many words: $*"; }
  ls > after
  diff before after || fail "left something behind: $*"
}

touch before after log
qemu-img create -q -f qcow base.qcow 1M
make="new.qcow create=true"

# shellcheck disable=SC2086
{
  # What is missing, or makes no sense.
  refused 'supply the size=' $make
  refused 'size=: is for new images.*resize=' base.qcow size=1M
  refused 'overwrite=: is for new' base.qcow overwrite=true
  refused 'cluster-size=: is for new' base.qcow cluster-size=4k
  refused 'l2-bits=: is for new' base.qcow create=false l2-bits=9
  refused 'exclude each other' $make size=1M resize=2M
  refused 'exclude each other' $make size=1M force-share=true
  refused "'l2-bits' was given twice" $make size=1M l2-bits=9 l2-bits=9
  refused "'fixup' was given twice" base.qcow fixup=write fixup=write
  # qcow2 has these.
  refused "unknown parameter 'compat'" $make size=1M compat=1.1
  refused "unknown parameter 'data-file'" $make size=1M data-file=d.raw
  refused "unknown parameter 'preallocation'" $make size=1M preallocation=off

  # Values.
  refused 'powers of two from 512 to 65536' $make size=1M cluster-size=1000
  refused 'powers of two' $make size=1M cluster-size=256
  refused 'powers of two' $make size=1M cluster-size=128K
  refused 'powers of two' $make size=1M cluster-size=0
  refused 'L2 tables of 2\^5' $make size=1M l2-bits=5
  refused 'L2 tables of 2\^14' $make size=1M l2-bits=14
  refused 'must be 6 to 13' $make size=1M l2-bits=64
  refused 'l2-bits' $make size=1M l2-bits=many
  refused 'must be memory, off or write' base.qcow fixup=yes
  refused 'empty disk' $make size=0
  refused 'too large' $make size=7E
  refused 'too large.*at most 562949951324160' $make size=512T
  refused 'too large' $make size=8T cluster-size=512 l2-bits=6

  # Backing files.
  refused 'supply the backing-format=' $make size=1M backing=base.qcow
  refused 'no backing file' $make size=1M backing-format=qcow
  refused 'is not known' $make backing=base.qcow backing-format=vmdk
  refused 'nowhere.qcow' $make backing=nowhere.qcow backing-format=qcow
  : > not.qcow
  refused 'not.qcow: ' $make backing=not.qcow backing-format=qcow
  refused 'base.qcow: ' $make backing=base.qcow backing-format=qcow2
  refused 'in two places' base.qcow create=true overwrite=true \
    backing=base.qcow backing-format=qcow

  # Names.
  refused 'cannot be made' nowhere/new.qcow create=true size=1M
}

# A name in another directory that is too long to be recorded whole.
part=$(printf '%0200d' 0)
mkdir -p "$part/$part/$part/$part/$part"
cp base.qcow "$part/$part/$part/$part/$part/base.qcow"
# shellcheck disable=SC2086
refused 'longer than 1023 bytes' $make \
  backing="$part/$part/$part/$part/$part/base.qcow" backing-format=qcow

# What is there stays as it is.
fingerprint base.qcow > print
refused 'base.qcow: there is something in it' base.qcow create=true size=1M
printf x > byte
refused 'byte: there is something in it, 1 bytes' byte create=true size=1M
fingerprint base.qcow | diff print - || fail "base.qcow has changed"

# Somebody uses it.
requires_python
cp base.qcow used.qcow
"$PYTHON" - <<'END'
import fcntl, os, struct, subprocess, sys
fd = os.open ("used.qcow", os.O_RDWR)
# As QEMU when it writes: bytes 101, 103 and 201, 203 of the file.
for start in (100, 101, 103, 201, 203):
    lock = struct.pack ("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, 1, 0)
    fcntl.fcntl (fd, 37, lock)          # F_OFD_SETLK
for order in (["create=true", "size=1M", "overwrite=true"], ["resize=2M"]):
    before = open ("used.qcow", "rb").read ()
    r = subprocess.run (["nbdkit", "-U", "-", "qcow", "used.qcow", *order,
                         "--run", "true"], stderr = subprocess.PIPE)
    sys.stderr.write (r.stderr.decode ())
    assert r.returncode == 1, order
    assert b"used.qcow" in r.stderr
    assert before == open ("used.qcow", "rb").read (), order
END
