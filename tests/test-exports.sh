#!/usr/bin/env bash
# Exports: the disk, the layers of its chain, its internal snapshots; what
# is listed, what is in them, and that only the disk can be written.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

look () {
  "$PYTHON" "$srcdir/exports-client.py" exports.sock "$@" ||
    fail "exports-client.py: $*"
}

# serve ARG...: a server for 'look'.
serve () {
  rm -f exports.sock
  start_nbdkit -P exports.pid -U exports.sock "$@" 2> serve.log
}

stop () {
  stop_nbdkit exports.pid
}

# lists NAME...: these exports are listed, and no others.
lists () {
  look list > list
  cut -f 1 list > names
  printf '%s\n' "$@" | diff - names || fail "other exports are listed"
}

# holds EXPORT RAW: it has the bytes of the file.
holds () {
  look copy "$1" out.raw
  cmp out.raw "$2" || fail "export \"$1\" is not $2"
}

# described EXPORT TEXT: listed and told to a client so.
described () {
  look describe "$1" > text
  [ "$(cat text)" = "$2" ] || fail "export \"$1\" is: $(cat text)"
  grep -qxF "$1	$2" list || fail "export \"$1\" is listed otherwise"
}

# ---- a chain of three formats

source_file base.raw 3145728
qemu-img create -q -f qcow -b base.raw -F raw mid.qcow 4M 2> create.log
qemu-io -f qcow -c 'write -P 0x21 1M 64k' -c 'write -P 0x22 3500k 100k' \
  mid.qcow > io.log
create top.qcow2 5M -b mid.qcow -F qcow
io top.qcow2 'write -P 0x31 1100k 200k' 'write -z 2M 64k' \
   'write -P 0x32 4900k 8k'
qemu-img snapshot -c first top.qcow2
io top.qcow2 'write -P 0x33 0 128k' 'write -P 0x34 1100k 4k'
qemu-img snapshot -c second top.qcow2
io top.qcow2 'write -P 0x35 64k 1M'
qemu-img convert -f qcow2 -O raw top.qcow2 top.raw
qemu-img convert -f qcow -O raw mid.qcow mid.raw
for s in first second; do
  qemu-img convert -f qcow2 -l snapshot.name=$s -O raw top.qcow2 $s.raw
done

digest top.qcow2 mid.qcow base.raw > before
for flags in -r ''; do
  # shellcheck disable=SC2086
  serve $flags qcow2 top.qcow2
  lists '' snapshot:first snapshot:second layer:0 layer:1 layer:2
  described '' 'qcow2, 5 MiB virtual size, 2 backing files'
  grep -E '^snapshot:first	' list |
    grep -Eq ' 1, 5 MiB virtual size, taken 20[0-9-]* [0-9:]* UTC$' ||
    fail "snapshots are described otherwise: $(cat list)"
  grep -qxF 'layer:0	qcow2, 5 MiB virtual size' list ||
    fail "layers are described otherwise: $(cat list)"
  grep -qxF 'layer:1	qcow, 4 MiB virtual size' list ||
    fail "layers are described otherwise: $(cat list)"
  grep -qxF 'layer:2	raw, 3 MiB virtual size' list ||
    fail "layers are described otherwise: $(cat list)"
  look describe layer:1 > text
  [ "$(cat text)" = 'qcow, 4 MiB virtual size, 1 backing file' ] ||
    fail "layer:1 is $(cat text)"
  # By name and by id; none of these opens is one of a writer.
  holds snapshot:first first.raw
  holds snapshot:2 second.raw
  holds layer:0 top.raw
  holds layer:1 mid.raw
  holds layer:2 base.raw
  look map layer:1 > map.1
  look map layer:2 > map.2
  look refuse foo layer layer: layer:3 layer:01 layer:0x1 layer:-1 \
       layer:+1 'layer: 1' layer:1x layer:18446744073709551617 Layer:1 \
       snapshot snapshot: snapshot:3 snapshot:First 'snapshot:first '
  expect_text serve.log 'there is no export "foo"' \
    'no export "layer:3": the chain has layers 0 to 2' \
    'no snapshot with the id or name "First"'
  look readonly layer:0 layer:1 layer:2 snapshot:first snapshot:second
  if [ -n "$flags" ]; then
    look readonly ''
  else
    # Nobody that could write has come so far.
    digest top.qcow2 mid.qcow base.raw | diff before - ||
      fail "a client of a layer or snapshot changed a file"
    look writable ''
    look readonly layer:0 layer:1 layer:2 snapshot:first
    holds layer:1 mid.raw
    holds snapshot:1 first.raw
  fi
  holds '' top.raw
  stop
done
digest mid.qcow base.raw > after
grep -E ' (mid.qcow|base.raw)$|^(mid.qcow|base.raw) ' before | diff - after ||
  fail "a layer was changed"

# A layer is seen as if it were served by itself.
serve -r qcow mid.qcow
look map '' | diff - map.1 || fail "layer:1 has other extents"
lists '' layer:0 layer:1
look refuse snapshot:first snapshot:
expect_text serve.log 'no snapshots in qcow images'
holds layer:1 base.raw
stop

# nbdinfo, which opens all that is listed.
nbdkit -r -U - qcow2 top.qcow2 --run 'nbdinfo --list "$uri"' > info
[ "$(grep -c '^export=' info)" -eq 6 ] || fail "nbdinfo sees $(cat info)"
expect_text info '^export="snapshot:second":' '^export="layer:2":' \
  'export-size: 3145728' 'description: raw, 3 MiB virtual size'

# Without a chain there is only the disk; the user may leave it out.
create single.qcow2 1M
serve -r qcow2 single.qcow2
lists ''
described '' 'qcow2, 1 MiB virtual size'
look readonly layer:0
look refuse layer:1
stop
serve -r qcow2 top.qcow2 backing=none
lists '' snapshot:first snapshot:second
look refuse layer:1
stop

# While the disk is written, layers and snapshots stay what they were; what
# layer:0 shows is the disk.
qemu-img create -q -f qcow2 -b top.qcow2 -F qcow2 work.qcow2 6M
serve qcow2 work.qcow2
cat > write.py <<'END'
other = nbd.NBD()
other.set_export_name("layer:0")
other.connect_unix("exports.sock")
lower = nbd.NBD()
lower.set_export_name("layer:1")
lower.connect_unix("exports.sock")
handles += [other, lower]
before = lower.pread(5 << 20, 0)
h.pwrite(b"w" * (1 << 20), 0)
assert other.pread(1 << 20, 0) == b"w" * (1 << 20)
h.trim(1 << 20, 1 << 20)
h.flush()
assert lower.pread(5 << 20, 0) == before
assert before == open("top.raw", "rb").read()
assert lower.get_size() == 5 << 20 and other.get_size() == 6 << 20
END
"$PYTHON" "$srcdir/qcow2-client.py" write.py \
  'nbd+unix:///?socket=exports.sock' || fail "write.py fails"
holds layer:1 top.raw
holds layer:3 base.raw
# Snapshots of a backing file are none of the disk's.
lists '' layer:0 layer:1 layer:2 layer:3
look refuse snapshot:first
stop

# Somebody else made a snapshot after the server began to wait: what is
# listed is what there is when a client asks.
cp top.qcow2 late.qcow2
serve qcow2 late.qcow2
qemu-img snapshot -c late late.qcow2
lists '' snapshot:first snapshot:second snapshot:late \
  layer:0 layer:1 layer:2
look readonly snapshot:late
look writable ''
stop

# ---- names of snapshots that lead elsewhere, or cannot be told

io single.qcow2 'write -P 0x41 0 1M'
cp single.qcow2 odd.qcow2
"$PYTHON" "$srcdir/qcow2-snapshots.py" odd.qcow2 '[
  {"name": "twice", "size": 1 << 19},
  {"name": "twice"},
  {"name": "1"},
  {"name": ""},
  {"name": "x" * 5000},
  {"name": "a\nb", "id": "i" * 5000},
  {"name": "tab\t", "id": "own id"},
  {"name": "with space/and\u00e4%"},
  {"name": b"cut\0off"},
]'
serve -r qcow2 odd.qcow2
lists '' snapshot:twice snapshot:2 snapshot:3 snapshot:4 snapshot:5 \
  'snapshot:own id' 'snapshot:with space/andä%' 'snapshot:cut'
look readonly snapshot:twice snapshot:2 snapshot:4 'snapshot:own id' \
     'snapshot:with space/andä%' snapshot:cut snapshot:9
truncate -s 512K half.raw
qemu-io -f raw -c 'write -P 0x41 0 512k' half.raw > io.log
holds snapshot:twice half.raw
holds snapshot:1 half.raw
stop

# A great many: all can be had, the first thousand are listed.
cp single.qcow2 many.qcow2
"$PYTHON" "$srcdir/qcow2-snapshots.py" many.qcow2 '[{}] * 12000'
serve -r qcow2 many.qcow2
look list | wc -l > count
[ "$(cat count)" -eq 1001 ] || fail "$(cat count) exports are listed"
look readonly snapshot:s1 snapshot:s1000 snapshot:s1001 snapshot:12000
stop

# ---- VHDX

if nbdkit vhdx --version > version.log 2>&1; then
  cat > chain.py <<'END'
base = Image(4 * MIB)
base.fill(seed=3)
base.save("v1.vhdx")
child = Image(4 * MIB, parent="v1.vhdx")
child.set(1, seed=7)
child.set(2, PARTIAL, seed=8, own=[(0, 5), (100, 900)])
child.save("v2.vhdx")
newest = Image(5 * MIB, parent="v2.vhdx")
newest.set(0, ZERO)
newest.set(4, seed=9)
newest.save("v3.vhdx")
# Over a disk that is no VHDX image.
other = Image(5 * MIB, parent="top.raw")
other.set(3, PARTIAL, seed=10, own=[(7, 77)])
other.save("other.vhdx")
END
  "$PYTHON" "$srcdir/vhdx-image.py" run chain.py
  serve -r vhdx v3.vhdx
  lists '' layer:0 layer:1 layer:2
  described '' 'vhdx, 5 MiB virtual size, 2 backing files'
  for n in 0 1 2; do holds layer:$n v$((3 - n)).raw; done
  look map layer:1 > map.1
  look readonly '' layer:0 layer:2
  look refuse layer:3 snapshot:first
  expect_text serve.log 'no snapshots in vhdx images'
  stop
  serve vhdx v2.vhdx
  look map '' | diff - map.1 || fail "layer:1 has other extents"
  look readonly '' layer:1
  stop

  # Chains of all formats: qcow2 over VHDX over VHDX, and VHDX, by the user's
  # word, over qcow2 over qcow over raw.
  qemu-img create -q -f qcow2 -u -b v2.vhdx -F vhdx mixed.qcow2 5M
  serve -r qcow2 mixed.qcow2
  lists '' layer:0 layer:1 layer:2
  described '' 'qcow2, 5 MiB virtual size, 2 backing files'
  holds layer:1 v2.raw
  holds layer:2 v1.raw
  stop
  serve -r vhdx other.vhdx backing=top.qcow2 backing-format=qcow2
  lists '' layer:0 layer:1 layer:2 layer:3
  holds layer:0 other.raw
  holds layer:1 top.raw
  holds layer:2 mid.raw
  holds layer:3 base.raw
  stop
fi
