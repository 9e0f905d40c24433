#!/usr/bin/env bash
# What an image may make us open, and what the user has to allow.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

mkdir images outside out 'other place' images/sub away
create outside/base.qcow2 1M
io outside/base.qcow2 'write -P 9 0 1M'
cp outside/base.qcow2 images/base.qcow2
cp outside/base.qcow2 images/sub/base.qcow2
cp outside/base.qcow2 images/.hidden.qcow2
cp outside/base.qcow2 images/a:b.qcow2
ln -s ../outside/base.qcow2 images/link.qcow2
ln -s base.qcow2 images/inner.qcow2
mkfifo images/fifo.qcow2
outside="$tmpdir/outside"

# over NAME [FORMAT]: an overlay in images/ with that name in it.
over () {
  rm -f images/over.qcow2
  qemu-img create -q -u -f qcow2 -o cluster_size=4k images/new.qcow2 1M
  local list="$((0xe2792aca))" format="${2-qcow2}"
  poke images/new.qcow2 112 "$(printf '\\0%.0s' {1..64})"
  poke_be32 images/new.qcow2 112 $list
  poke_be32 images/new.qcow2 116 ${#format}
  poke images/new.qcow2 120 "$format"
  poke images/new.qcow2 1024 "$1"
  poke_be64 images/new.qcow2 8 1024
  poke_be32 images/new.qcow2 16 ${#1}
  mv images/new.qcow2 images/over.qcow2
}

cat > base.py <<'END'
assert h.pread (1 << 20, 0) == b"\t" * (1 << 20)
END

# opens [PARAMETER...]: the overlay is served, with the base's bytes.
opens () {
  client base.py images/over.qcow2 "$@" ||
    fail "$(strings -n 4 images/over.qcow2 | tail -1): not opened: $*"
}

# forbidden NAME [PARAMETER...]: refused, saying what to allow.
forbidden () {
  over "$1"
  refused 'allow-path=' images/over.qcow2 "${@:2}"
}

# Directly beside the image, whatever way it is written.
for name in base.qcow2 ./base.qcow2 "$tmpdir/images/base.qcow2" \
            inner.qcow2 ./a:b.qcow2; do
  over "$name"
  opens
done
(cd images; client ../base.py over.qcow2) || fail "opened in its directory"
(cd /; client "$tmpdir/base.py" "$tmpdir/images/over.qcow2") ||
  fail "opened by its full name"

# The directory of the image's own name, and that of its real path.
over base.qcow2
ln -s ../images/over.qcow2 away/over.qcow2
ln images/base.qcow2 away/base.qcow2
client base.py away/over.qcow2 || fail "base beside the image's link"
over "$tmpdir/images/base.qcow2"
client base.py away/over.qcow2 || fail "base beside the image itself"

# Anywhere else: only when the user says so.
for name in ../outside/base.qcow2 "$outside/base.qcow2" link.qcow2 \
            sub/base.qcow2 .hidden.qcow2; do
  forbidden "$name"
  forbidden "$name" allow-path=images/fifo.qcow2
  opens allow-path=/
done
for name in ../outside/base.qcow2 "$outside/base.qcow2" link.qcow2; do
  # A directory whose name only begins alike is another one.
  forbidden "$name" allow-path=out allow-path="$tmpdir/out"
  opens allow-path="$outside"
  opens allow-path="$outside/"
  opens allow-path=outside
  opens allow-path="$outside/base.qcow2"
  opens allow-path=out allow-path=away allow-path=outside/base.qcow2
done
over .hidden.qcow2
opens allow-path=images/.hidden.qcow2

# An allowed directory is no way to get out of it.
ln -s ../outside/base.qcow2 out/link.qcow2
forbidden ../out/link.qcow2 allow-path=out
forbidden ../out/../outside/base.qcow2 allow-path=out
ln -s ../outside out/dir
forbidden ../out/dir/base.qcow2 allow-path=out

# Never by protocol or in JSON, whatever is allowed.
json='json:{"driver":"qcow2","file":{"driver":"file",'
json+='"filename":"base.qcow2"}}'
for name in "$json" 'nbd:unix:/nonexistent' 'nbd://localhost/' \
            'file:base.qcow2' \
            'nbd+unix:///?socket=/nonexistent' 'http://localhost/x' \
            'ssh://localhost/x' 'fat:rw:.' 'host_device:/dev/null'; do
  over "$name"
  scheme="${name%%:*}"
  refused "${scheme/+/.}:.*(protocol|json)" images/over.qcow2
  refused "${scheme/+/.}:.*(protocol|json)" images/over.qcow2 allow-path=/
done

# Only regular files: nothing hangs, nothing has side effects.
for name in fifo.qcow2 sub . .. / /dev/zero /dev/null /dev/tty; do
  for format in raw qcow2; do
    over "$name" $format
    refused . images/over.qcow2
    refused . images/over.qcow2 allow-path=/
  done
done
if [ $(id -u) -eq 0 ] && mknod images/disk.qcow2 b 7 0 2> mknod.log; then
  over disk.qcow2
  refused 'allow-path=' images/over.qcow2
fi

# No name, a name of another kind of bytes, a name that is not there.
over missing.qcow2
refused 'missing.qcow2' images/over.qcow2
over "$(printf 'new\\nline')"
refused . images/over.qcow2
over "$(printf 'esc\\x1b[31m')"
refused . images/over.qcow2
if grep -q "$(printf '\033')" refused.log; then
  fail "control characters reach the terminal"
fi

# Guests can write what they like into a raw base that is probed.
over base.qcow2 ''
refused 'backing-format=' images/over.qcow2
refused 'backing-format=' images/over.qcow2 allow-path=/
opens backing-format=qcow2

# What the user names is allowed; what that image names is not.
over ../outside/base.qcow2
opens backing=images/base.qcow2
opens backing="$outside/base.qcow2"
create outside/deep.qcow2 1M -b "$tmpdir/images/sub/base.qcow2" -F qcow2
culprit=deep.qcow2
refused 'allow-path=' images/over.qcow2 backing="$outside/deep.qcow2"
culprit=
opens backing="$outside/deep.qcow2" allow-path=images/sub
echo 'assert h.pread (1 << 20, 0) == bytes (1 << 20)' > zero.py
client zero.py images/over.qcow2 backing=none || fail "backing=none"

# The refusal lists what the whole chain needs, ready to be pasted.
# pasted [PARAMETER...]: the arguments in refused.log, as a shell reads them.
pasted () {
  local line
  line="$(grep -o 'allow-path=.*' refused.log | head -1)"
  "$PYTHON" - "$line" > pasted.txt <<'END'
import shlex
import sys

for word in shlex.split (sys.argv[1]):
    if word.startswith ("allow-path="):
        print (word)
END
  mapfile -t words < pasted.txt
}
qemu-img create -q -u -f qcow2 -b "../other place/base.qcow2" -F qcow2 \
         outside/second.qcow2 1M
cp outside/base.qcow2 'other place/base.qcow2'
qemu-img create -q -u -f qcow2 -b ../outside/second.qcow2 -F qcow2 \
         images/sub/first.qcow2 1M
mv images/sub/first.qcow2 out/first.qcow2
over ../out/first.qcow2
refused 'allow-path=' images/over.qcow2
pasted
test ${#words[@]} -ge 3 || { cat refused.log >&2; fail "not the whole chain"; }
opens "${words[@]}"
# None of them is one too many.  (It is said where the missing one is named.)
culprit=.qcow2
for i in "${!words[@]}"; do
  less=("${words[@]}")
  unset "less[$i]"
  refused 'allow-path=' images/over.qcow2 "${less[@]}"
done
# With some of them given, what is printed completes them.
refused 'allow-path=' images/over.qcow2 "${words[0]}"
first="${words[0]}"
pasted
opens "$first" "${words[@]}"
