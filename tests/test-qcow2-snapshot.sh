#!/usr/bin/env bash
# Internal snapshots: chosen with snapshot=, and as exports while the disk
# is being written; those that make no sense.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"
requires nbdcopy --version

# shows IMAGE SNAPSHOT RAW: snapshot=SNAPSHOT has the bytes of the file.
shows () {
  rm -f out.raw
  nbdkit -r -U - qcow2 "$1" snapshot="$2" --run 'nbdcopy "$uri" out.raw' ||
    fail "$1: snapshot=$2 cannot be read"
  cmp out.raw "$3" || fail "$1: snapshot=$2 is not $3"
}

# agree IMAGE SNAPSHOT: it has the bytes that QEMU reads.
agree () {
  to_raw "$1" "$2.raw" -l snapshot.name="$2"
  shows "$1" "$2" "$2.raw"
}

# ---- choosing one

# The id of the third is 3; the second is named as if it were that one, the
# fourth has the second's id for a name.
create names.qcow2 1M
for i in 1 2 3 4; do
  io names.qcow2 "write -P $i 0 1M"
  case $i in 1) n=one ;; 2) n=3 ;; 3) n=three ;; 4) n=2 ;; esac
  qemu-img snapshot -c $n names.qcow2
  to_raw names.qcow2 $i.raw
done
io names.qcow2 'write -P 9 0 1M'
digest names.qcow2 > before
shows names.qcow2 one 1.raw
shows names.qcow2 1 1.raw
shows names.qcow2 2 2.raw
shows names.qcow2 3 3.raw
shows names.qcow2 three 3.raw
shows names.qcow2 4 4.raw

# It is read-only even without -r, and the only one that is listed.
nbdkit -U - qcow2 names.qcow2 snapshot=one \
  --run 'nbdinfo --is read-only "$uri" && nbdinfo --list "$uri"' \
  > info 2> log || fail "a snapshot is not read-only"
[ "$(grep -c '^export=' info)" -eq 1 ] || fail "$(cat info)"
expect_text log 'names.qcow2: is served read-only: it is a snapshot'

refused 'no snapshot with the id or name "five"' names.qcow2 snapshot=five
expect_fail log nbdkit -U - qcow2 names.qcow2 snapshot= --run true
expect_text log 'id or name is missing'
expect_fail log nbdkit -U - qcow2 names.qcow2 snapshot=1 snapshot=2 \
  --run true
expect_fail log nbdkit -U - qcow2 names.qcow2 snapshot=1 resize=2M \
  --run true
expect_text log 'snapshot' 'names.qcow2'
expect_fail log nbdkit -U - qcow2 names.qcow2 snapshot=1 create=true \
  overwrite=true size=1M --run true
expect_text log 'create=true and snapshot= exclude each other'
digest names.qcow2 | diff before - || fail "a snapshot changed the image"

# A backing file has its own snapshots, which are not asked for.
create over.qcow2 1M -b names.qcow2 -F qcow2
refused 'no snapshot with the id or name "one"' over.qcow2 snapshot=one
qemu-img snapshot -c over over.qcow2
io over.qcow2 'write -P 5 0 64k'
agree over.qcow2 over

# ---- all kinds of clusters, and other sizes

source_file source.raw 3000320
# kinds IMAGE OPTION...: an image with three snapshots, as QEMU makes it.
kinds () {
  local image=$1
  shift
  create "$image" 3000320 "$@"
  io "$image" 'write -P 1 0 1M' 'write -z 256k 64k' 'write -P 2 2900k 20k'
  qemu-img snapshot -c a "$image"
  io "$image" 'write -P 3 512k 700k' 'discard 0 128k' 'write -z 2900k 4k'
  qemu-img snapshot -c b "$image"
  io "$image" 'write -P 4 0 1500k' 'write -z 1M 64k'
  qemu-img snapshot -c c "$image"
  io "$image" 'write -P 5 0 2900k'
  for s in a b c; do agree "$image" $s; done
}
kinds usual.qcow2
kinds old.qcow2 -o compat=0.10,cluster_size=4k
kinds tiny.qcow2 -o cluster_size=512
kinds large.qcow2 -o cluster_size=2M
kinds extended.qcow2 -o extended_l2=on,cluster_size=16k
kinds layered.qcow2 -b source.raw -F raw
kinds layeredext.qcow2 -o extended_l2=on -b source.raw -F raw

for type in zlib zstd; do
  [ $type = zlib ] || nbdkit qcow2 --dump-plugin | grep -qx qcow2_zstd=yes ||
    continue
  qemu-img convert -c -f raw -O qcow2 -o compression_type=$type \
    source.raw packed.qcow2
  qemu-img snapshot -c packed packed.qcow2
  io packed.qcow2 'write -P 6 0 2900k'
  agree packed.qcow2 packed
  cmp packed.raw source.raw
done

# (QEMU reads snapshots in the size that the disk has now.)
create sizes.qcow2 1M
io sizes.qcow2 'write -P 7 0 1M'
to_raw sizes.qcow2 small.raw
qemu-img snapshot -c small sizes.qcow2
qemu-img resize -q sizes.qcow2 700M
io sizes.qcow2 'write -P 8 600M 1M'
to_raw sizes.qcow2 large.raw
qemu-img snapshot -c large sizes.qcow2
qemu-img resize -q --shrink sizes.qcow2 2M
shows sizes.qcow2 small small.raw
shows sizes.qcow2 large large.raw
[ "$(stat -c %s small.raw)" -eq 1048576 ] || fail "small.raw: wrong size"
[ "$(stat -c %s large.raw)" -eq 734003200 ] || fail "large.raw: wrong size"
rm -f large.raw out.raw

# ---- as exports, while the disk is written

# Two read all the time, each another snapshot; they come before the writer
# and after it, and are there until it has gone.
cat > load.py <<'END'
import os
import random
import threading

size = h.get_size()
unit = 1 << 16
wanted = [open(name + ".raw", "rb").read() for name in ("a", "b")]
done = threading.Event()
begun = [threading.Event() for _ in wanted]
faults = []


def connect(name):
    c = nbd.NBD()
    c.set_export_name(name)
    c.connect_unix("load.sock")
    handles.append(c)
    return c


def read_all(c, data):
    for at in range(0, len(data), unit):
        n = min(unit, len(data) - at)
        if c.pread(n, at) != data[at:at + n]:
            raise Exception("the snapshot changes at %d" % at)


def reader(i, c):
    try:
        last = False
        while not last:
            last = done.is_set()
            read_all(c, wanted[i])
            begun[i].set()
            if i == 1:
                # One more client, for a moment.
                late = connect("snapshot:b")
                late.pread(unit, 0)
                handles.remove(late)
                late.shutdown()
    except Exception as e:
        faults.append(str(e))
        begun[i].set()


def fill(rng):
    """All of the disk, in pieces of all sizes, in no order."""
    places, at = [], 0
    while at < size:
        n = min(rng.choice((512, 4096, 40000, unit, 200000)), size - at)
        places.append((at, n))
        at += n
    rng.shuffle(places)
    for at, n in places:
        what = rng.random()
        if what < 0.15:
            h.trim(n, at)
        elif what < 0.3:
            h.zero(n, at, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
        else:
            h.pwrite(rng.randbytes(n), at)
        if rng.random() < 0.05:
            h.flush()


readers = [threading.Thread(target=reader,
                            args=(i, connect("snapshot:" + "ab"[i])))
           for i in range(2)]
for t in readers:
    t.start()
for e in begun:
    e.wait()
rng = random.Random(5)
for turn in range(3):
    fill(rng)
h.flush()
h.trim(size, 0)
h.flush()
fill(rng)
done.set()
for t in readers:
    t.join()
h.flush()
assert not faults, faults
END

# under_load IMAGE: with snapshots a and b.
under_load () {
  for s in a b; do to_raw "$1" $s.raw -l snapshot.name=$s; done
  rm -f load.sock
  start_nbdkit -P load.pid -U load.sock qcow2 "$1"
  # The first to come is a client of a snapshot, which must not keep the
  # next from writing.
  "$PYTHON" "$srcdir/exports-client.py" load.sock copy snapshot:a out.raw
  cmp out.raw a.raw
  "$PYTHON" "$srcdir/qcow2-client.py" load.py \
    'nbd+unix:///?socket=load.sock' || fail "$1: load.py fails"
  stop_nbdkit load.pid
  sound "$1"
  for s in a b; do
    to_raw "$1" now.raw -l snapshot.name=$s
    cmp now.raw $s.raw || fail "$1: snapshot $s is not what it was"
  done
}

under_load usual.qcow2
under_load old.qcow2
under_load extended.qcow2
under_load layered.qcow2
qemu-img snapshot -d packed packed.qcow2
qemu-img convert -c -f raw -O qcow2 source.raw packed.qcow2
qemu-img snapshot -c a packed.qcow2
io packed.qcow2 'write -P 6 128k 1M'
qemu-img snapshot -c b packed.qcow2
under_load packed.qcow2

# The server ends while clients of snapshots are there: everything that was
# written is, nothing is leaked (a sanitized server says so).
cat > term.py <<'END'
import os
import signal
c = nbd.NBD()
c.set_export_name("snapshot:a")
c.connect_unix("term.sock")
handles.append(c)
c.pread(65536, 0)
h.pwrite(b"t" * 1000000, 0)
os.kill(int(open("term.pid").read()), signal.SIGTERM)
error_of(c.pread, 65536, 65536)
END
rm -f term.sock
start_nbdkit -P term.pid -U term.sock qcow2 usual.qcow2
"$PYTHON" "$srcdir/qcow2-client.py" term.py \
  'nbd+unix:///?socket=term.sock' || fail "term.py fails"
stop_nbdkit term.pid
sound usual.qcow2
io usual.qcow2 'read -P 0x74 0 1000000'
agree usual.qcow2 a

# ---- snapshots that make no sense

# Their L1 tables are not where they should be, or are too short; the disk
# and the good one are served, the bad ones are refused when they are asked
# for, with a message that names them.
create bad.qcow2 1M
io bad.qcow2 'write -P 1 0 1M'
to_raw bad.qcow2 good.raw
end=$(stat -c %s bad.qcow2)
cp bad.qcow2 broken.qcow2
snapshots='[
  {"name": "good"},
  {"name": "beyond", "l1": 1 << 40},
  {"name": "crossing", "l1": 1 << 16, "l1_size": 1 << 22, "size": 1 << 50},
  {"name": "odd", "l1": 12345},
  {"name": "many", "l1_size": (1 << 22) + 1},
  {"name": "short", "l1_size": 0},
  {"name": "header", "l1": 0},
  {"name": "long", "size": (1 << 64) - 512},
  {"name": "overflow", "l1": (1 << 64) - (1 << 16)},
]'
"$PYTHON" "$srcdir/qcow2-snapshots.py" broken.qcow2 "$snapshots"
rm -f bad.sock
start_nbdkit -P bad.pid -U bad.sock -r qcow2 broken.qcow2 2> bad.log
"$PYTHON" "$srcdir/exports-client.py" bad.sock refuse snapshot:beyond \
  snapshot:crossing snapshot:odd snapshot:many snapshot:short \
  snapshot:header snapshot:long snapshot:overflow
for s in beyond crossing odd many short header long overflow; do
  grep -q "error: .*broken.qcow2, snapshot $s: " bad.log ||
    fail "nothing is said about snapshot $s: $(cat bad.log)"
done
for export in '' snapshot:good; do
  "$PYTHON" "$srcdir/exports-client.py" bad.sock copy "$export" out.raw
  cmp out.raw good.raw || fail "export \"$export\" has other bytes"
done
"$PYTHON" "$srcdir/exports-client.py" bad.sock list > list
[ "$(wc -l < list)" -eq 10 ] || fail "listed are: $(cat list)"
stop_nbdkit bad.pid
refused 'snapshot' broken.qcow2 snapshot=long

# An L1 table of rubbish: what it describes cannot be read, the server and
# everybody else go on.
cp bad.qcow2 rubbish.qcow2
end=$(((end + 65535) / 65536 * 65536))
truncate -s $((end + 65536)) rubbish.qcow2
poke_be64 rubbish.qcow2 $end 0x80ffffffffff0000
"$PYTHON" "$srcdir/qcow2-snapshots.py" rubbish.qcow2 \
  "[{'name': 'rubbish', 'l1': $end}, {'name': 'good'}]"
cat > rubbish.py <<'END'
c = nbd.NBD()
c.set_export_name("snapshot:rubbish")
c.connect_unix("bad.sock")
handles.append(c)
assert error_of(c.pread, 512, 0) == "EIO"
assert h.pread(1 << 20, 0) == open("good.raw", "rb").read()
END
rm -f bad.sock
start_nbdkit -P bad.pid -U bad.sock -r qcow2 rubbish.qcow2 2> bad.log
"$PYTHON" "$srcdir/qcow2-client.py" rubbish.py \
  'nbd+unix:///?socket=bad.sock' || fail "rubbish.py fails"
stop_nbdkit bad.pid
expect_text bad.log 'rubbish.qcow2, snapshot rubbish: '

# README: the lines about a snapshot.
create disk.qcow2 64M
io disk.qcow2 'write -P 0x55 0 1M'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
sed -n '/^ *\$ .*snapshot/,/^$/p' "$top_srcdir/README" |
  sed 's/^ *\$ //; s,^\./run ,,; s/^ *//' > commands
[ "$(grep -c monday commands)" -eq 3 ] || fail "README: $(cat commands)"
bash -euo pipefail commands > info || fail "README: an example does not work"
expect_text info '^export="snapshot:monday":'
cmp monday.raw disk.raw || fail "README: copied something else"
