#!/usr/bin/env bash
# Image locks: a QEMU that writes keeps us out, and we keep it from writing
# what we read, a parent too.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

make <<'END'
i = Image (4 * MIB)
i.fill ()
i.save ("base.vhdx")
i = Image (4 * MIB, parent="base.vhdx")
i.set (1)
i.save ("child.vhdx")
END

# hold FILE [OPTIONS...]: a qemu-io that has the file open until release is
# called.
hold () {
  local file="$1"
  shift
  rm -f commands held.log
  mkfifo commands
  qemu-io "$@" -f vhdx "$file" < commands > held.log 2>&1 &
  holder=$!
  exec 9> commands
  echo 'read 0 512' >&9
  wait_until held_or_gone || fail "qemu-io does not answer"
  grep -q '^.*read 512/512' held.log || {
    cat held.log >&2
    fail "qemu-io did not open $file"
  }
}

held_or_gone () {
  grep -q 'read 512/512' held.log || ! is_running $holder
}

release () {
  echo quit >&9
  exec 9>&-
  wait $holder || fail "qemu-io: status $?"
}

# Two writers exclude each other here: otherwise nothing can be tested.
hold base.vhdx
if qemu-io -f vhdx -c 'read 0 512' base.vhdx > writer.log 2>&1; then
  release
  skip "QEMU does not lock images here"
fi

# QEMU writes: the message has the file, the permission, the way out.
refused 'write' base.vhdx
expect_text refused.log lock 'force-share=true'
refused 'write' base.vhdx lock=on
culprit=base.vhdx
refused 'write' child.vhdx
culprit=
same base.vhdx force-share=true
same base.vhdx lock=off
same child.vhdx force-share=true
release
# QEMU announced that it would write, though it did not.
same base.vhdx

# QEMU reads: so can we.
hold base.vhdx -r
same base.vhdx
same child.vhdx
release

# We read: QEMU may read, and may not write.
writer_refused () {
  if qemu-io -f vhdx -c 'read 0 512' "$1" > writer.log 2>&1; then
    fail "$1: QEMU can open it for writing beside us"
  fi
  expect_text writer.log lock
}
for image in base child; do
  start_nbdkit -P one.pid -r -U one.sock vhdx $image.vhdx
  writer_refused base.vhdx
  qemu-io -r -f vhdx -c 'read 0 512' base.vhdx > reader.log
  same base.vhdx
  same child.vhdx
  stop_nbdkit one.pid
  rm -f one.sock
  io base.vhdx 'read 0 512'
done

# Without locks QEMU does not notice us: that is what was asked for.
start_nbdkit -P off.pid -r -U off.sock vhdx base.vhdx lock=off
io base.vhdx 'read 0 512'
stop_nbdkit off.pid
