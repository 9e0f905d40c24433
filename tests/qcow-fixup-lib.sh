# Common parts of the behaviour tests of the filter qcow-fixup.
#
# Source it after functions.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

requires qemu-img --version
requires nbdinfo --version
requires nbdcopy --version
requires_python
nbdkit --filter=qcow-fixup null --version > /dev/null ||
  fail "the filter under test can not be loaded"

# tool COMMAND ARGUMENT...: see qcow-image.py
tool () {
  "$PYTHON" "$srcdir/qcow-image.py" "$@"
}

# disk FILE SIZE: a raw disk with data in some of its 2 MiB extents.
disk () {
  "$PYTHON" - "$1" "$2" <<'EOF'
import random, sys
name, size = sys.argv[1], int(sys.argv[2])
rnd = random.Random(size)
with open(name, "wb") as f:
    f.truncate(size)
    for at in range(0, size, 2 << 20):
        if at // (2 << 20) % 4 == 2:
            continue
        f.seek(at)
        f.write(rnd.randbytes(min(9000, size - at)))
        if at + (1 << 20) < size:
            f.seek(at + (1 << 20))
            f.write(b"deep inside of extent %d" % at)
EOF
}

# tapdisk RAW IMAGE [OPTION...]: an image as tapdisk wrote it, with what a
# correct conversion makes of it in IMAGE.converted, and IMAGE.raw.
tapdisk () {
  local raw="$1" image="$2"
  shift 2
  tool tapdisk "$raw" "$image" --converted "$image.converted" "$@"
  ln -f "$raw" "$image.raw"
}

# The forms in which tapdisk's images are found, for a disk of 5 or more
# extents: name and options.
forms='
little
little-flag         --flag
little-3.0.4        --flags 2
little-reserved     --reserve
little-full         --full
little-stale        --cksum stale
little-created      --cksum created
little-header20     --header 20
little-shuffled     --extents 7
little-gap          --gap 512
big-noflag          --order big
big-flag            --order big --flag
big-host            --order big --host big
big-reversed        --order big --flag --reversed
half-first          --table first --count 3
half-alternate      --table alternate
half-alternate-flag --table alternate --flag
half-all            --table big
behind              --behind 2 --min-alloc 1
growing-copied      --growing copied
growing-part        --growing copied:2
growing-switched    --growing switched
growing-restored    --growing restored
growing-torn        --growing restored:3
growing-home        --growing home
'

# for_each_form FUNCTION: call FUNCTION NAME OPTION... for every form.
for_each_form () {
  local name options

  while read -r name options; do
    [ -z "$name" ] || "$1" "$name" $options
  done <<< "$forms"
}

# reads URI IMAGE: through URI are the bytes of IMAGE.converted, and
# QEMU finds the disk IMAGE.raw in them.
reads () {
  rm -f served
  nbdcopy "$1" served
  same served "$2.converted" || fail "$2: other bytes are served"
  rm -f out.raw
  qemu-img convert -f qcow -O raw "$1" out.raw
  cmp out.raw "$2.raw" || fail "$2: another disk is served"
}

# same FILE CONVERTED: the files are equal.  A copy that was cut off may
# have left zeroes.
same () {
  "$PYTHON" - "$1" "$2" <<'EOF'
import sys
a, b = (open(name, "rb").read() for name in sys.argv[1:])
n = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), None)
if n is not None:
    sys.exit("%s and %s differ at %d" % (sys.argv[1], sys.argv[2], n))
if len(a) < len(b):
    sys.exit("%s is shorter" % sys.argv[1])
EOF
}


# serve_fixup [FLAG...] -- PLUGIN-ARG...: start a server with the filter;
# its messages are in log, which is shown if it does not start, and $uri
# leads to it.
uri="nbd+unix:///?socket=$tmpdir/sock"
exec 8>&2
is_starting=no
show_log () {
  [ "$is_starting" = no ] || tail -n 5 log >&8
}
cleanup_fn show_log

serve_fixup () {
  local flags=()

  while [ "$1" != -- ]; do
    flags+=("$1")
    shift
  done
  shift
  rm -f sock
  is_starting=yes
  start_nbdkit -P pid -U sock -v ${flags[@]+"${flags[@]}"} \
    --filter=qcow-fixup "$@" 2> log
  is_starting=no
}

stop_fixup () {
  stop_nbdkit pid
}

# by_eval FILE: set the array eval to what makes the eval plugin serve the
# bytes of that file; can_flush and flush are left out.  The commands must
# not inherit what a sanitized server preloads.
by_eval () {
  local dd="unset LD_PRELOAD; exec dd status=none"

  eval=(get_size="unset LD_PRELOAD; exec stat -c %s '$tmpdir/$1'"
        pread="$dd if='$tmpdir/$1' iflag=skip_bytes,count_bytes \
                 skip=\$4 count=\$3"
        pwrite="$dd of='$tmpdir/$1' oflag=seek_bytes seek=\$4 conv=notrunc"
        can_write='exit 0')
}
