# Common parts of the behaviour tests of the qcow2 plugin's read side;
# qcow-lib.sh and vhdx-lib.sh make them those of the other plugins.
#
# Source it after functions.sh.  The tests stay in $tmpdir, where images
# name each other by short relative names.
#
# SPDX-License-Identifier: BSD-3-Clause

requires qemu-img --version
requires qemu-io --version
requires nbdinfo --version
nbdkit qcow2 --version > /dev/null ||
  fail "the plugin under test can not be loaded"
requires_python

# The plugin under test, and QEMU's name for its format.
tested_format=qcow2

# create IMAGE SIZE [OPTIONS-OF-qemu-img-create...]
create () {
  local image="$1" size="$2"
  shift 2
  qemu-img create -q -f $tested_format "$@" "$image" $size
}

# io IMAGE COMMAND...: run qemu-io commands on an image, quietly.
# Nothing may fail unnoticed: qemu-io reports on stdout.
io () {
  local image="$1" c args=()
  shift
  for c; do args+=(-c "$c"); done
  if ! qemu-io -f $tested_format "${args[@]}" "$image" > io.log 2>&1 ||
     grep -Eqi 'failed|error|invalid|unknown' io.log; then
    cat io.log >&2
    fail "qemu-io $image: $*"
  fi
}

# io_abort IMAGE COMMAND...: the same, then die as in a power cut, with
# nothing tidied up.
io_abort () {
  local image="$1" c args=() status=0
  shift
  for c; do args+=(-c "$c"); done
  (ulimit -c 0; qemu-io -f qcow2 "${args[@]}" -c flush -c abort \
                        "$image") > io.log 2>&1 || status=$?
  test $status -eq 134 || fail "qemu-io $image: status $status, not SIGABRT"
}

# poke_be32, poke_be64 FILE OFFSET VALUE: store a big-endian number.
poke_be32 () {
  local hex
  hex="$(printf '%08x' "$(($3))")"
  poke "$1" "$2" "$(sed 's/../\\x&/g' <<< "$hex")"
}

poke_be64 () {
  local hex
  hex="$(printf '%016x' "$(($3))")"
  poke "$1" "$2" "$(sed 's/../\\x&/g' <<< "$hex")"
}

# be32, be64 FILE OFFSET: print a big-endian number of a file.
be32 () {
  echo $((16#$(od -An -v -tx1 -j "$(($2))" -N 4 "$1" | tr -d ' \n')))
}

be64 () {
  echo $((16#$(od -An -v -tx1 -j "$(($2))" -N 8 "$1" | tr -d ' \n')))
}

# compare IMAGE [PLUGIN-PARAMETER...]: serve the image read-only and hold
# the export against QEMU, see FORMAT-compare.py.  Options for the comparing
# program come from the array compare_options, those for the server (-r,
# filters) from server_flags; $oracle names another image for QEMU to read.
compare_options=()
server_flags=(-r)
compare () {
  local image="$1"
  shift
  compare_image="${oracle:-$image}"
  export compare_image
  nbdkit "${server_flags[@]}" -U - $tested_format "$image" "$@" --run "
    exec '$PYTHON' '$srcdir/$tested_format-compare.py' \
        ${compare_options[*]} \"\$uri\" \"\$compare_image\"" ||
    fail "$image: the export differs from what QEMU reads"
}

# client PYTHON-FILE IMAGE [PLUGIN-PARAMETER...]: serve the image and run
# a Python program with the connected handle 'h', closed in order at the end.
client () {
  client_program="$1"
  local image="$2"
  shift 2
  export client_program
  nbdkit "${server_flags[@]}" -U - $tested_format "$image" "$@" --run "
    exec '$PYTHON' '$srcdir/qcow2-client.py' \
        \"\$client_program\" \"\$uri\""
}

# bounded COMMAND...: run in bounded time, and in bounded memory where
# a sanitizer or valgrind does not need the whole address space for itself.
bounded () {
  (
    if ! is_sanitized && ! is_valgrind; then
      ulimit -v 2097152
    fi
    ulimit -c 0
    exec timeout 60 "$@"
  )
}

# refused REGEX IMAGE [PLUGIN-PARAMETER...]: the server must say no before it
# serves, with status 1 and a message that names the file and matches REGEX.
# The messages stay in refused.log.  Set $culprit where the file to be named
# is another one of the chain.
culprit=
refused () {
  local regex="$1" image="$2" status=0
  shift 2
  bounded nbdkit -r -U - $tested_format "$image" "$@" \
          --run 'echo served' > refused.out 2> refused.log || status=$?
  check_refusal "$regex" "$image" $status
}

# check_refusal REGEX IMAGE STATUS
check_refusal () {
  if [ $3 -ne 1 ] || [ -s refused.out ]; then
    cat refused.log >&2
    fail "$2: refusal by '$1' expected, status $3: $(cat refused.out)"
  fi
  grep -Fq "${culprit:-$(basename "$2")}" refused.log || {
    cat refused.log >&2
    fail "$2: the refusal does not name the file"
  }
  grep -Eiq "$1" refused.log || {
    cat refused.log >&2
    fail "$2: the refusal does not match '$1'"
  }
}

# refused_once REGEX IMAGE [PLUGIN-PARAMETER...]: ... with one message, and
# the image stays as it was.
refused_once () {
  local before
  before="$(digest "$2")"
  refused "$@"
  test "$(digest "$2")" = "$before" || fail "$2: the image changed"
  test "$(grep -c 'error:' refused.log)" -eq 1 || {
    cat refused.log >&2
    fail "$2: not one message"
  }
}

# digest FILE...: everything about files that a read-only server must not
# change: bytes, length, blocks, times of change.
digest () {
  sha256sum "$@"
  stat -c '%n %s %b %Y %y %Z %z %a' "$@"
}

# source_file FILE SIZE: deterministic bytes, part text, part random, part
# zero, so that every kind of cluster comes up.
source_file () {
  "$PYTHON" "$srcdir/qcow2-image.py" source "$1" "$2"
}

# image_tool COMMAND ARGUMENT...: see qcow2-image.py
image_tool () {
  "$PYTHON" "$srcdir/qcow2-image.py" "$@"
}

# to_raw IMAGE RAW [OPTIONS-OF-qemu-img-convert...]: what QEMU reads.
to_raw () {
  local image=$1 raw=$2
  shift 2
  rm -f "$raw"
  qemu-img convert -q -f $tested_format "$@" -O raw "$image" "$raw"
}

# check_extents IMAGE [PLUGIN-PARAMETER...] < LIST: block status of the whole
# disk must be these lines of "LENGTH KIND", in order, without gaps.  KIND is
# one of these.
DATA=0 ZERO=2 HOLE=3
check_extents () {
  local length kind
  {
    echo 'want = ['
    while read -r length kind; do
      echo "    ($((length)), $((kind))),"
    done
    cat <<'END'
]
size = h.get_size ()
got = [(n, k) for _, n, k in status (0, size)]
assert got == want, got
# And one by one.
at = 0
for n, k in want:
    assert status (at, size - at, nbd.CMD_FLAG_REQ_ONE) == [(at, n, k)], at
    assert status (at, n, nbd.CMD_FLAG_REQ_ONE) == [(at, n, k)], at
    assert status (at + n - 1, 1, nbd.CMD_FLAG_REQ_ONE) == \
        [(at + n - 1, 1, k)], at
    if n > 2:
        assert status (at + 1, n - 2) == [(at + 1, n - 2, k)], at
    at += n
assert at == size
END
  } > extents.py
  client extents.py "$@" || fail "$1: extents"
}
