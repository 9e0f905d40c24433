#!/usr/bin/env bash
# External data files: only with the user's word, then as QEMU reads.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# Names of data files are recorded relative to the image.
for options in data_file=ext.raw data_file=ext.raw,data_file_raw=on \
               data_file=ext.raw,extended_l2=on,cluster_size=32k; do
  rm -f ext.raw
  create data.qcow2 4M -o $options
  io data.qcow2 'write -P 1 0 100k' 'write -P 2 1M 1M' \
     'write -z 1100k 300k' 'discard 1500k 128k' \
     'write -z -u 3M 64k' 'write -P 4 3333k 5k'
  before="$(digest data.qcow2 ext.raw)"

  # The header names a file that a writer would open for writing.
  refused 'allow-path=' data.qcow2
  grep -Fq ext.raw refused.log || fail "the data file is not named"

  compare_options=(--host-file "$tmpdir/ext.raw")
  compare data.qcow2 allow-path="$tmpdir"
  compare data.qcow2 allow-path=.
  compare data.qcow2 allow-path="$tmpdir/ext.raw"
  compare data.qcow2 data-file=ext.raw
  compare data.qcow2 data-file="$tmpdir/ext.raw"
  test "$(digest data.qcow2 ext.raw)" = "$before" || fail "files changed"
done

# The user's file goes before the recorded one, which need not exist.
mkdir elsewhere
cp --sparse=always ext.raw elsewhere/other.raw
(
  cd elsewhere
  cp ../data.qcow2 .
  mv other.raw ext.raw
  compare_options=(--host-file "$tmpdir/elsewhere/ext.raw")
  compare data.qcow2 data-file=ext.raw
  # Found beside the image whatever the working directory is.
  cd /
  status=0
  nbdkit -r -U - qcow2 "$tmpdir/elsewhere/data.qcow2" \
         allow-path="$tmpdir/elsewhere" \
         --run 'nbdinfo --size "$uri"' > "$tmpdir/size" || status=$?
  test $status -eq 0 || fail "the data file was looked for in / "
)
test "$(cat size)" = 4194304

# Gone, or not a file: named and refused, whatever is allowed.
mv ext.raw away.raw
refused 'ext.raw' data.qcow2 allow-path=/
mkdir ext.raw
refused 'ext.raw' data.qcow2 allow-path=/
rmdir ext.raw
mkfifo ext.raw
refused 'ext.raw' data.qcow2 allow-path=/
rm ext.raw
mv away.raw ext.raw

# Without a recorded name the user has to say it.  (An unknown extension is
# skipped; the data file name's comes first in a fresh image.)
cp data.qcow2 nameless.qcow2
test "$(be32 nameless.qcow2 112)" -eq $((0x44415441)) ||
  fail "the data file name is not the first extension"
poke nameless.qcow2 112 '\x12'
refused 'data-file=' nameless.qcow2 allow-path=/
qemu-img convert -f qcow2 -O raw data.qcow2 expected.raw
compare_options=(--host-file "$tmpdir/ext.raw" --raw "$tmpdir/expected.raw"
                 --no-map)
compare nameless.qcow2 data-file=ext.raw
compare_options=()

# A name is a file name, never a protocol or a description in JSON.
for name in 'json:{"driver":"file","filename":"ext.raw"}' \
            'nbd:unix:/nonexistent' 'file:ext.raw' ''; do
  rm -f named.raw
  create named.qcow2 1M -o data_file=named.raw
  poke_be32 named.qcow2 116 ${#name}
  poke named.qcow2 120 "${name//\\/}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
  refused 'data.file' named.qcow2 allow-path=/
done

# Entries that break the rule "host offset = guest offset": EIO there only.
create bad.qcow2 1M -o data_file=bad.raw
io bad.qcow2 'write -P 1 0 256k'
entry=$(image_tool entry bad.qcow2 0)
poke_be64 bad.qcow2 $((entry + 8)) 0x8000000000020000
poke_be64 bad.qcow2 $((entry + 16)) 0x4000000000020000
cat > bad.py <<'END'
assert h.pread (65536, 0) == b"\1" * 65536
assert error_of (h.pread, 512, 65536) == "EIO"
assert error_of (h.pread, 512, 131072) == "EIO"
assert h.pread (65536, 196608) == b"\1" * 65536
assert h.pread (65536, 262144) == bytes (65536)
END
client bad.py bad.qcow2 data-file=bad.raw || fail "bad entries"

# The parameter means nothing to an image that has no data file.
create none.qcow2 1M
refused 'data.file' none.qcow2 data-file=ext.raw
