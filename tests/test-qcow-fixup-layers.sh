# Below the filter: blocks of a certain size, holes, several exports, an
# image that came through the filter itself.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_filter blocksize-policy

disk disk.raw $((11 << 20))

# A layer that takes blocks of 4 KiB only.
tapdisk disk.raw blocks --table alternate
truncate -s %4096 blocks blocks.converted
blocks=(--filter=blocksize-policy file blocks blocksize-minimum=4096
        blocksize-maximum=65536 blocksize-error-policy=error)
for flags in -r ''; do
  serve_fixup $flags -- "${blocks[@]}"
  "$PYTHON" - "$uri" blocks.converted <<'EOF'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
data = open(sys.argv[2], "rb").read(65536)
for at in range(0, 65536, 4096):
    assert h.pread(4096, at) == data[at:at + 4096], at
h.shutdown()
EOF
  stop_fixup
done
same blocks blocks.converted

# Holes are told of as they are, but for the headers and the L1 table.
truncate -s 256M wide.raw
printf data | dd of=wide.raw bs=1M seek=240 conv=notrunc status=none
tapdisk wide.raw wide-image
truncate -s 200M wide-image
serve_fixup -r -- file wide-image
"$PYTHON" - "$uri" <<'EOF'
import nbd, sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
found = []
def note(name, at, entries, err):
    for n, kind in zip(entries[::2], entries[1::2]):
        found.append((at, n, kind))
        at += n
h.block_status(h.get_size(), 0, note)
assert found[0][0] == 0 and found[0][1] >= 20480 and found[0][2] == 0, found
h.block_status(h.get_size(), 0, note, nbd.CMD_FLAG_REQ_ONE)
at = 0
holes = 0
while at < h.get_size():
    found.clear()
    h.block_status(min(h.get_size() - at, 64 << 20), at, note)
    for start, n, kind in found:
        holes += n if kind == 3 else 0
        at = start + n
assert holes > 100 << 20, "no holes"
h.shutdown()
EOF
stop_fixup

# Every export is an image by itself.
mkdir dir
for name in a b; do
  tapdisk disk.raw dir/$name
  mv dir/$name.raw dir/$name.converted .
done
tapdisk disk.raw bad --damage 1
mv bad dir
cp disk.raw dir/raw
serve_fixup -- file dir=dir
for name in a b raw bad; do
  if nbdinfo --can write "nbd+unix:///$name?socket=sock"; then
    echo "$name" >> writable
  fi
done
stop_fixup
[ "$(tr '\n' ' ' < writable)" = "a b raw " ]
same dir/a a.converted
same dir/b b.converted
cmp dir/raw disk.raw
expect_text log 'image "bad" from file: .*damaged'

# Two names for the same bytes: a view ends when the other converts.
tapdisk disk.raw twice
cat > client.py <<'EOF'
import nbd, sys
name, converted = sys.argv[1:]
data = open(converted, "rb").read(16384)
hs = []
for export in ("one", "two", "three"):
    h = nbd.NBD()
    h.set_export_name(export)
    h.connect_unix(name)
    hs.append(h)
    assert h.pread(len(data), 0) == data
    assert not h.is_read_only()
hs[0].pwrite(b"new entry", 4096)
hs[0].flush()
for h in hs:
    assert h.pread(9, 4096) == b"new entry"
    h.shutdown()
EOF
serve_fixup -- file twice
"$PYTHON" client.py sock twice.converted
stop_fixup

# A client brings an image; the next one finds it in order.
tapdisk disk.raw upload
serve_fixup -- memory 16M
nbdcopy upload "$uri"
rm -f served
nbdcopy "$uri" served
same served upload.converted
stop_fixup
