# create=true makes images that are as those of qemu-img, byte for byte; with
# other geometries, too, QEMU and we read and write them alike.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
requires nbdcopy --version

size=$((5 * 1024 * 1024))

# make IMAGE PARAMETER...: with the size that is said there, or $size.
make () {
  local image=$1

  shift
  case " $*" in *\ size=* ) ;; * ) set -- size=$size "$@" ;; esac
  nbdkit -U - qcow "$image" create=true "$@" \
    --run 'nbdinfo --size "$uri"' > made || fail "cannot make $image: $*"
}

# Write with ours, at both ends and in the middle.
write_ours () {
  nbdkit -U - qcow "$1" --run '
    "'"$PYTHON"'" -c "
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b\"a\" * 70000, 1000)
h.pwrite (b\"b\" * 3000, h.get_size () - 3000)
h.zero (5000, 2000)
h.flush ()
h.shutdown ()
" "$uri"' || fail "cannot write to $1"
}

# The same with QEMU.
write_theirs () {
  io "$1" 'write -P 0x61 1000 70000' \
    "write -P 0x62 $((size - 3000)) 3000" 'write -P 0 2000 5000'
}

# What qemu-img makes is what we make.
for s in 1 512 1000 2M $size 1G 100G; do
  rm -f ours.qcow theirs.qcow
  qemu-img create -q -f qcow theirs.qcow $s
  make ours.qcow size=$s
  cmp ours.qcow theirs.qcow || fail "size=$s: not as qemu-img makes it"
done
[ "$(cat made)" = 107374182400 ] || fail "size is $(cat made)"
truncate -s 3M base.raw
for name in base.raw "$PWD/base.raw"; do
  rm -f ours.qcow theirs.qcow sub/ours.qcow
  mkdir -p sub
  qemu-img create -q -f qcow -b "$name" -F raw theirs.qcow 3M 2> log
  if [ "$name" = base.raw ]; then
    make ours.qcow backing=base.raw backing-format=raw size=3M
    cmp ours.qcow theirs.qcow || fail "an overlay differs from qemu-img's"
  else
    # From another directory the whole name is recorded.
    make sub/ours.qcow backing=base.raw backing-format=raw size=3M
    cmp sub/ours.qcow theirs.qcow || fail "an overlay differs from qemu-img's"
  fi
done

# The other geometries, which only we make.
qemu-img create -q -f qcow theirs.qcow $size
write_theirs theirs.qcow
for geometry in 512:6 512:12 512:13 1K:9 2K:7 4K:8 4K:9 8K:10 16K:11 32K:6 \
                64K:6 64K:13; do
  cluster=${geometry%:*}
  bits=${geometry#*:}
  echo "cluster-size=$cluster l2-bits=$bits"
  rm -f ours.qcow
  make ours.qcow cluster-size=$cluster l2-bits=$bits
  [ "$(cat made)" = $size ] || fail "size is $(cat made)"
  qemu-img info ours.qcow > info.log
  expect_text info.log '^file format: qcow$' "\($size bytes\)"
  qemu-io -r -f qcow -c "read -P 0 0 $size" ours.qcow > io.log
  expect_no_text io.log failed
  len=$((1 << 16#$(peek ours.qcow 32 1)))
  [ $len -eq "$(numfmt --from=iec $cluster)" ] ||
    fail "the header says clusters of $len"
  [ "$((16#$(peek ours.qcow 33 1)))" = $bits ] ||
    fail "the header says l2-bits 0x$(peek ours.qcow 33 1)"
  write_ours ours.qcow
  qemu-img compare -q -f qcow -F qcow theirs.qcow ours.qcow ||
    fail "what we wrote differs: $cluster $bits"
  # ... and the other way round.
  rm -f ours.qcow
  make ours.qcow cluster-size=$cluster l2-bits=$bits
  write_theirs ours.qcow
  nbdkit -r -U - qcow ours.qcow --run 'nbdcopy "$uri" ours.raw'
  qemu-img compare -q -f qcow -F raw theirs.qcow ours.raw ||
    fail "what QEMU wrote reads differently: $cluster $bits"
done

# A backing file, of each format; its size is the default.
qemu-img create -q -f qcow base.qcow 3M
io base.qcow 'write -P 7 0 3M'
qemu-img convert -f qcow -O qcow2 base.qcow base.qcow2
qemu-img convert -f qcow -O raw base.qcow base.raw
for format in raw qcow qcow2; do
  for options in "" "cluster-size=64K l2-bits=6"; do
    rm -f overlay.qcow
    # shellcheck disable=SC2086
    make overlay.qcow size=4M $options backing=base.$format \
      backing-format=$format
    qemu-img info overlay.qcow > info.log
    expect_text info.log "^backing file: base.$format( |\$)"
    qemu-img compare -q -f qcow -F raw overlay.qcow base.raw ||
      fail "QEMU sees something else below: $format $options"
    # One sector; ours keeps the rest of its cluster.
    nbdkit -U - qcow overlay.qcow --run '
      "'"$PYTHON"'" -c "
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b\"x\" * 512, 123 * 512)
h.shutdown ()
" "$uri"'
    cp base.raw expected.raw
    truncate -s 4M expected.raw
    head -c 512 /dev/zero | tr '\0' x |
      dd of=expected.raw bs=512 seek=123 conv=notrunc status=none
    qemu-img compare -q -f qcow -F raw overlay.qcow expected.raw ||
      fail "a sector was written, and more changed: $format $options"
  done
done
rm overlay.qcow
nbdkit -U - qcow overlay.qcow create=true backing=base.qcow2 \
  backing-format=qcow2 --run 'test "$(nbdinfo --size "$uri")" = 3145728'

# The format is not in the image: it is found out, for one level only.
nbdkit -r -U - qcow overlay.qcow --run 'nbdcopy "$uri" copy.raw'
cmp copy.raw base.raw || fail "the backing file was not found out"
nbdkit -r -U - qcow overlay.qcow backing-format=raw \
  --run 'nbdcopy "$uri" copy.raw'
cmp -n 3145728 copy.raw base.qcow2 || fail "raw is not raw"
make second.qcow backing=overlay.qcow backing-format=qcow size=3M
expect_fail log nbdkit -r -U - qcow second.qcow --run true
expect_text log 'overlay.qcow: does not record.*base.qcow2.*like qcow2' \
  'top image.s own backing file with backing-format='
nbdkit -r -U - qcow second.qcow backing-format=qcow \
  --run 'nbdcopy "$uri" copy.raw'
cmp copy.raw base.raw || fail "the second backing file was not found out"

# A colon in the name of a backing file is no protocol.
cp base.qcow a:b.qcow
make colon.qcow backing=./a:b.qcow backing-format=qcow size=3M
qemu-img compare -q -f qcow -F raw colon.qcow base.raw ||
  fail "QEMU does not find a backing file with a colon in its name"

# Large ones, in little space.
make huge.qcow size=8T
[ "$(cat made)" = 8796093022208 ] || fail "size is $(cat made)"
qemu-img info huge.qcow | grep -q '(8796093022208 bytes)' ||
  fail "QEMU does not open a disk of 8T"
blocks=$(stat -c '%b * %B' huge.qcow)
[ $((blocks)) -lt 1048576 ] || fail "takes $((blocks)) bytes"

# By descriptor; and read-only means the export.
: > fd.qcow
nbdkit -r -U - qcow fd=5 create=true size=1M \
  --run 'nbdinfo --is read-only "$uri"' 5<> fd.qcow
qemu-io -r -f qcow -c 'read -P 0 0 1M' fd.qcow > io.log
expect_no_text io.log failed

# What may be lost is, when that is said.
make base.qcow2 size=1M overwrite=true
qemu-io -r -f qcow -c 'read -P 0 0 1M' base.qcow2 > io.log
expect_no_text io.log failed
