#!/usr/bin/env bash
# What is unknown in a qcow2 header survives clients that rewrite it.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires qemu-io --version

header () {
  "$PYTHON" "$srcdir/qcow2-header.py" "$@"
}

# image NAME [OPTIONS-OF-qemu-img-create...]: an image with data and with
# unknown things in its header; what serves it does not grow, so there is
# room for more.
image () {
  local name=$1
  shift
  qemu-img create -q -f qcow2 "$@" "$name" 8M
  qemu-io -f qcow2 -c 'write -P 17 1M 300k' "$name" > io.log
  expect_no_text io.log 'fail'
  header plant "$name"
  truncate -s 32M "$name"
  header unknown "$name" > "$name.unknown"
}

# keeps NAME: nothing unknown is lost, and the image is sound.
keeps () {
  header unknown "$1" | diff "$1.unknown" - ||
    { header show "$1" >&2; fail "$1: lost"; }
  sound "$1"
}

sound () {
  qemu-img check -q -f qcow2 "$1" > check.log 2>&1 ||
    { cat check.log >&2; fail "$1: qemu-img check finds faults"; }
  qemu-io -r -U -f qcow2 -c 'read -P 17 1M 300k' "$1" > io.log 2>&1
  expect_no_text io.log 'fail|error'
}

# run FILE: run a Python program on the bytes below the image: 'h' is
# connected, 'Header' as in qcow2-header.py, 'refused' is true if a write
# is not permitted.
run () {
  "$PYTHON" - "$srcdir" "$uri" "$1" << 'END'
import errno, importlib.util, sys
import nbd
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location(
    "qcow2_header", sys.argv[1] + "/qcow2-header.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
Header = module.Header

h = nbd.NBD()
h.connect_uri(sys.argv[2])


def load():
    return Header(h.pread(65536, 0))


def refused(buf, at=0):
    try:
        h.pwrite(buf, at)
    except nbd.Error as ex:
        assert ex.errnum == errno.EPERM, ex
        return True
    return False


with open(sys.argv[3]) as f:
    exec(f.read())
h.shutdown()
END
}

# ---- QEMU: it keeps extensions and fields itself, in its own ways

for version in 1.1 0.10; do
  image qemu.$version -o compat=$version
  serve_fixup -- file qemu.$version preserve=strict
  qemu-io -f qcow2 -c 'write -P 5 4M 1M' -c 'write -z 5M 64k' \
          -c 'discard 4M 64k' "$uri" > io.log
  expect_no_text io.log 'fail|error'
  keeps qemu.$version
  qemu-img snapshot -c one "$uri"
  keeps qemu.$version
  qemu-img snapshot -d one "$uri"
  keeps qemu.$version
  if [ $version = 1.1 ]; then
    qemu-img amend -f qcow2 -o lazy_refcounts=on "$uri"
    keeps qemu.$version
    qemu-img bitmap --add -f qcow2 "$uri" b0
    keeps qemu.$version
    qemu-img bitmap --remove -f qcow2 "$uri" b0
    keeps qemu.$version
  fi
  stop_fixup
  expect_text log 'qcow-fixup: preserve .*extensions=4'
  expect_no_text log 'refused a write|warning:'
done

# The same with a backing name, which QEMU puts right behind its list.
image rebased
truncate -s 1M base.raw
serve_fixup -- file rebased preserve=strict
qemu-img rebase -u -f qcow2 -F raw -b "$tmpdir/base.raw" "$uri"
keeps rebased
qemu-img info rebased > info
expect_text info 'backing file: .*base.raw'
qemu-img rebase -u -f qcow2 -b '' "$uri"
keeps rebased
stop_fixup

# ---- a program that knows no more than the specification

cat > rewrite << 'END'
header = load()
header.forget_unknown()
h.pwrite(header.to_bytes(), 0)
again = load()
assert again.rest == b"A FUTURE FIELD..", again.rest
assert len(again.unknown()) == 4, again.extensions
# A client that reads finds what is on disk, and what it wrote.
assert h.pread(65536, 0) == open(image, "rb").read(65536)
assert again.fixed[:100] == header.fixed[:100]
assert [e for e in again.extensions if e[0] in module.KNOWN] == \
    header.extensions
# Only the header; without the zeroes behind the list.
h.pwrite(header.to_bytes(pad=False), 0)
assert len(load().unknown()) == 4
# In pieces, over two connections.
h2 = nbd.NBD()
h2.connect_uri(sys.argv[2])
buf = header.to_bytes()
for at in range(0, 1024, 64):
    (h, h2)[at // 64 % 2].pwrite(buf[at:at + 64], at)
again = load()
assert again.rest == b"A FUTURE FIELD..", again.rest
assert sorted(again.unknown()) == sorted(planted)
h2.shutdown()
# The beginning of the header is gone for a while.
buf = h.pread(65536, 0)
h.zero(65536, 0)
h.pwrite(header.to_bytes(), 0)
assert sorted(load().unknown()) == sorted(planted)
h.trim(65536, 0)
assert sorted(load().unknown()) == sorted(planted)
END

for preserve in warn strict; do
  image script
  { echo 'image, planted = "script", Header(open("script", "rb")'
    echo '    .read(65536)).unknown()'; cat rewrite; } > rewrite.py
  serve_fixup -- file script preserve=$preserve
  run rewrite.py
  keeps script
  qemu-img bitmap --add -f qcow2 "$uri" b0
  keeps script
  stop_fixup
  expect_no_text log 'refused a write|warning:'
done

# It is indeed the filter that does it.
cat > lose.py << 'END'
header = load()
header.forget_unknown()
h.pwrite(header.to_bytes(), 0)
END
image off
serve_fixup -- file off preserve=off
run lose.py
stop_fixup
[ "$(header unknown off)" = 'fields ' ] || fail "put back with preserve=off"
image plugin
rm -f sock
start_nbdkit -P pid -U sock file plugin
run lose.py
stop_nbdkit pid
[ "$(header unknown plugin)" = 'fields ' ] || fail "who put it back?"
serve_fixup -- file plugin
run lose.py
stop_fixup
expect_no_text log 'warning:'

# The default is warn; other words are refused.
image named
cat > no-room.py << 'END'
header = load()
header.forget_unknown()
header.name = b"/nowhere/base.raw"
h.pwrite(header.to_bytes(), 0)
assert load().unknown() == []
header.name = None
h.pwrite(header.to_bytes(), 0)
assert len(load().unknown()) == 4
END
serve_fixup -- file named
run no-room.py
stop_fixup
[ "$(grep -c 'warning: .*no room before byte' log)" -eq 1 ]
keeps named
cat > strict.py << 'END'
before = h.pread(1 << 20, 0)
header = load()
header.forget_unknown()
header.name = b"/nowhere/base.raw"
assert refused(header.to_bytes())
assert refused(header.to_bytes() + b"x" * 65536)
assert h.pread(1 << 20, 0) == before
# With room in front of it the name is where the client put it.
h.pwrite(header.to_bytes(name_at=4096), 0)
again = load()
assert again.name_at == 4096 and again.name == header.name
assert len(again.unknown()) == 4
END
serve_fixup -- file named preserve=strict
run strict.py
stop_fixup
expect_text log 'refused a write of the qcow2 header.*preserve=warn'
header unknown named | diff named.unknown -
expect_fail word.log nbdkit -U - --filter=qcow-fixup file named \
  preserve=maybe --run true
expect_text word.log 'preserve=maybe'

# Fields do not fit into version 2, extensions do.  (QEMU 7.2 must not be
# asked to: it writes a list of extensions that begins with the fields.)
cat > down.py << 'END'
header = load()
header.forget_unknown()
header.version = 2
header.fixed = header.fixed[:72]
struct = module.struct
struct.pack_into(">I", header.fixed, 4, 2)
header.extensions = []
if sys.argv[3] == "down-strict.py":
    assert refused(header.to_bytes())
else:
    h.pwrite(header.to_bytes(), 0)
END
cp down.py down-strict.py
image down
serve_fixup -- file down preserve=strict
run down-strict.py
keeps down
stop_fixup
serve_fixup -- file down
run down.py
stop_fixup
header show down > shown
[ "$(head -1 shown)" = 'version 2 length 72' ] || fail "not version 2"
sed 's/^fields .*/fields /' down.unknown > expected
header unknown down | diff expected -
expect_text log 'warning: .*no room'
sound down

# ---- another image

image old
serve_fixup -- file old
qemu-img create -q -f qcow2 "$uri" 8M
stop_fixup
[ "$(header unknown old)" = 'fields ' ] || fail "old things in a new image"
qemu-img check -q -f qcow2 old

# copy FILE: write the whole file over the image 'old', in large pieces.
copy () {
  image old
  cat > copy.py << END
with open("$1", "rb") as f:
    at = 0
    while buf := f.read(256 * 1024):
        h.pwrite(buf, at)
        at += len(buf)
END
  serve_fixup -- file old preserve=strict
  run copy.py
  stop_fixup
  cmp old "$1"
  expect_text log 'warning: .*another image'
}

# An image of another size; a raw disk.
qemu-img create -q -f qcow2 new 9M
qemu-io -f qcow2 -c 'write -P 17 1M 300k' new > io.log
truncate -s 32M new
copy new
"$PYTHON" -c 'open("raw", "wb").write(b"raw disk" * (4 << 20))'
copy raw

# ---- what is below takes whole blocks, longer than clusters

qemu-img create -q -f qcow2 -o cluster_size=2k small 1M
header plant small
truncate -s 2M small
header unknown small > small.unknown
cat > blocks.py << 'END'
whole = h.pread(8192, 0)
h.trim(8192, 0)
assert h.pread(4096, 0)[:2048] == whole[:2048]
h.pwrite(whole, 0)
h.zero(8192, 0)
assert h.pread(8192, 0) == bytes(8192)
h.pwrite(whole, 0)
h.zero(4096, 0, nbd.CMD_FLAG_FUA)
assert h.pread(8192, 0) == bytes(4096) + whole[4096:]
h.pwrite(whole, 0)
END
serve_fixup -- --filter=blocksize-policy file small preserve=strict \
  blocksize-minimum=4096 blocksize-error-policy=error
run blocks.py
stop_fixup
header unknown small | diff small.unknown -
