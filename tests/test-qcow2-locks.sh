#!/usr/bin/env bash
# Image locks: QEMU's own byte ranges, in both directions.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

create image.qcow2 1M
io image.qcow2 'write -P 1 0 64k'
source_file base.raw $((1024 * 1024))
create over.qcow2 1M -b base.raw -F raw
create top.qcow2 1M -b image.qcow2 -F qcow2

# hold FORMAT FILE [OPTIONS...]: a qemu-io that has the file open until
# release is called.
hold () {
  local format="$1" file="$2"
  shift 2
  rm -f commands held.log
  mkfifo commands
  qemu-io "$@" -f $format "$file" < commands > held.log 2>&1 &
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

# writer_refused FORMAT FILE: QEMU must not get at it for writing.
writer_refused () {
  if qemu-io -f $1 -c 'read 0 512' "$2" > writer.log 2>&1; then
    fail "$2: QEMU can open it for writing beside us"
  fi
  grep -q 'lock' writer.log || {
    cat writer.log >&2
    fail "$2: not refused for the lock"
  }
  qemu-io -r -f $1 -c 'read 0 512' "$2" > reader.log 2>&1 || {
    cat reader.log >&2
    fail "$2: QEMU can not read it beside us"
  }
}

# Two writers exclude each other here: otherwise nothing can be tested.
hold qcow2 image.qcow2
if qemu-io -f qcow2 -c 'read 0 512' image.qcow2 > writer.log 2>&1; then
  release
  skip "QEMU does not lock images here"
fi

# QEMU writes: the message has the file, the permission, the way out.
refused 'write' image.qcow2
expect_text refused.log lock 'force-share=true'
refused 'write' image.qcow2 lock=on
# The same below an overlay of ours, where the base is named.
refused 'image.qcow2.*write' top.qcow2
# The ways out read what is there.
cat > reads.py <<'END'
assert h.pread (65536, 0) == b"\1" * 65536
END
client reads.py image.qcow2 force-share=true || fail "force-share=true"
client reads.py top.qcow2 force-share=true || fail "force-share=true, overlay"
client reads.py image.qcow2 lock=off || fail "lock=off"
# That is for readers only, also where nobody said -r.
nbdkit -U - qcow2 image.qcow2 force-share=true \
       --run 'nbdinfo --is readonly "$uri"' || fail "force-share=true, no -r"
release
client reads.py image.qcow2 || fail "the lock outlived its owner"

# A raw base that is being written.
hold raw base.raw
refused 'base.raw.*write' over.qcow2
release

# QEMU only reads: so can we.
hold qcow2 image.qcow2 -r
client reads.py image.qcow2 || fail "a reader keeps us out"
client reads.py top.qcow2 || fail "a reader of the base keeps us out"
release

# QEMU writes to an overlay; we read its base.
hold qcow2 top.qcow2
client reads.py image.qcow2 || fail "a writer above keeps us from the base"
refused 'write' top.qcow2
release

# The other way round, for the whole chain; two and three of us get along.
start_nbdkit -P one.pid -r -U one.sock qcow2 top.qcow2
start_nbdkit -P two.pid -r -U two.sock qcow2 top.qcow2
start_nbdkit -P three.pid -r -U three.sock qcow2 over.qcow2
for name in one two three; do
  nbdinfo --size "nbd+unix:///?socket=$name.sock" > size.txt
done
client reads.py image.qcow2 || fail "one more of us"
writer_refused qcow2 top.qcow2
writer_refused qcow2 image.qcow2
writer_refused qcow2 over.qcow2
writer_refused raw base.raw
stop_nbdkit one.pid
stop_nbdkit three.pid
writer_refused qcow2 image.qcow2
kill_nbdkit two.pid
for file in top.qcow2 image.qcow2 over.qcow2; do
  io $file 'read 0 512'
done
qemu-io -f raw -c 'read 0 512' base.raw > io.log

# Without -r the top is ours alone from the first client on, and its base
# stays open to readers.
start_nbdkit -P rw.pid -U rw.sock qcow2 top.qcow2
nbdinfo --size 'nbd+unix:///?socket=rw.sock' > size.txt
for flag in '' -r; do
  if qemu-io $flag -f qcow2 -c 'read 0 512' top.qcow2 > writer.log 2>&1; then
    fail "QEMU can open what we may be writing (flag '$flag')"
  fi
  grep -q 'lock' writer.log || { cat writer.log >&2; fail "other error"; }
done
refused 'write' top.qcow2
client reads.py top.qcow2 force-share=true || fail "force-share with us"
writer_refused qcow2 image.qcow2
client reads.py image.qcow2 || fail "our base is not ours alone"
stop_nbdkit rw.pid
io top.qcow2 'read 0 512'

# Until the first client comes, others may still write; what they did is
# what that client gets: bytes, mapping, length of the file, size.
cat > news.py <<'END'
assert h.get_size () == 2 << 20, h.get_size ()
assert h.pread (65536, 0) == bytes (65536)
assert h.pread (65536, 65536) == b"\2" * 65536
assert h.pread (65536, 1900 * 1024) == b"\4" * 65536
END
for flag in -r ''; do
  create news.qcow2 1M
  io news.qcow2 'write -P 1 0 64k'
  start_nbdkit -P news.pid $flag -U news.sock qcow2 news.qcow2
  qemu-img resize -q -f qcow2 news.qcow2 2M
  io news.qcow2 'write -P 2 64k 64k' 'discard 0 64k' 'write -P 4 1900k 64k'
  "$PYTHON" "$srcdir/qcow2-client.py" news.py \
            'nbd+unix:///?socket=news.sock' ||
    fail "stale: flag '$flag'"
  stop_nbdkit news.pid
  rm news.qcow2 news.sock
done

# Without locks QEMU does not notice us: that is what was asked for.
start_nbdkit -P off.pid -r -U off.sock qcow2 image.qcow2 lock=off
io image.qcow2 'read 0 512'
stop_nbdkit off.pid
start_nbdkit -P share.pid -r -U share.sock qcow2 image.qcow2 \
             force-share=true
io image.qcow2 'read 0 512'
stop_nbdkit share.pid
