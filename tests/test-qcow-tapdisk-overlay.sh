#!/usr/bin/env bash
# Overlays of Xen's tapdisk: headers of three lengths before the name, names
# as it recorded them, bases that tapdisk wrote too.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

source_file base.raw $((5 * 1024 * 1024 + 512))
cp base.raw new.raw
for at in 0 5000 1000000 1048576 2097151 4500000; do
  poke new.raw $at 'This is new here, and long enough to show.'
done
dd if=/dev/zero of=new.raw bs=4096 seek=300 count=20 conv=notrunc status=none

# QEMU reads the converted image, in a directory of its own, where its base
# has the same name.
mkdir oracle
cp base.raw oracle
oracle=oracle/over.qcow
compare_options=(--raw new.raw)
arguments=()

# overlay [OPTION-OF-tapdisk...]: base.raw below.
overlay () {
  echo "overlay $*"
  tapdisk new.raw over.qcow --base base.raw --converted oracle/over.qcow "$@"
  before="$(digest *.qcow *.raw)"
  compare over.qcow "${arguments[@]}"
  test "$(digest *.qcow *.raw)" = "$before" || fail "a file changed"
}

# The name behind a header of 12, 16, 20 bytes, absolute as tapdisk has it,
# and relative.  In the first case what would be the flags is the name.
for header in 12 16 20; do
  overlay --header $header
  arguments=(backing-format=raw)
  overlay --header $header --order big --name base.raw --mtime 123456789
  arguments=()
  overlay --header $header --table first --count 1 --cluster-bits 10 \
          --l2-bits 9 --cksum stale
done
overlay --order big --flag
overlay --order big --flag --reversed
overlay --flag
overlay --host big --cluster-bits 12 --l2-bits 9 --min-alloc 512
overlay --first 0x102000000 --length $((16 << 30))

# A name whose first bytes look like flags of every kind, in the header of
# 12 bytes.
for name in aase cbse; do
  cp base.raw $name.raw
  cp base.raw oracle/$name.raw
  overlay --header 12 --name $name.raw
done
overlay --header 12 --order big --name aase.raw

# tapdisk images all the way down: each is judged by itself.  The lowest
# but one has to be named: a format is found out for one image only.
cp base.raw middle.raw
poke middle.raw 300000 'Only in the middle.'
poke new.raw 300000 'Only in the middle.'
for order in little big; do
  tapdisk base.raw bottom.qcow --order $order --extents 3 \
          --converted oracle/bottom.qcow
  tapdisk middle.raw middle.qcow --base base.raw --name bottom.qcow \
          --table alternate --converted oracle/middle.qcow
  tapdisk new.raw over.qcow --base middle.raw --name middle.qcow \
          --converted oracle/over.qcow
  compare over.qcow backing-format=qcow
  refused 'bottom.qcow.*backing-format|backing-format.*bottom.qcow' over.qcow
  cat > same.py <<'END'
assert h.pread (h.get_size (), 0) == open ("new.raw", "rb").read ()
END
  client same.py over.qcow backing-format=qcow || fail "a chain of three"
  oracle=oracle/middle.qcow
  compare_options=()
  compare middle.qcow
  compare_options=(--raw new.raw)
  oracle=oracle/over.qcow
done

# An order for the top image only: bases are never changed.
before="$(digest bottom.qcow middle.qcow)"
nbdkit -U - qcow over.qcow backing-format=qcow fixup=write \
       --run '! nbdinfo --is readonly "$uri"' || fail "not converted"
test "$(digest bottom.qcow middle.qcow)" = "$before" || fail "a base changed"
compare over.qcow backing-format=qcow
cp new.raw changed.raw

# What a name inside of an image may lead to: files beside it only.
mkdir elsewhere
cp base.raw elsewhere
tapdisk new.raw over.qcow --base base.raw --name "$tmpdir/elsewhere/base.raw"
culprit=elsewhere/base.raw
refused "allow-path=" over.qcow
tapdisk new.raw over.qcow --base base.raw --name elsewhere/base.raw
refused "allow-path=" over.qcow
culprit=
oracle=oracle/over.qcow
cp over.qcow keep.qcow
tapdisk new.raw over.qcow --base base.raw --converted oracle/over.qcow
cp keep.qcow over.qcow
compare over.qcow allow-path=elsewhere
compare over.qcow backing=base.raw
tapdisk new.raw over.qcow --base base.raw --name .hidden.raw
cp base.raw .hidden.raw
culprit=.hidden.raw
refused 'dot|hidden|allow-path=' over.qcow
culprit=
