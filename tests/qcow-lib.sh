# Common parts of the behaviour tests of the qcow plugin: those of the
# qcow2 plugin (qcow2-lib.sh, which see), for version 1 of the format.
#
# Source it after functions.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

nbdkit qcow --version > /dev/null ||
  fail "the plugin under test can not be loaded"
. "$srcdir/qcow2-lib.sh"

# create IMAGE SIZE [OPTIONS-OF-qemu-img-create...]
create () {
  local image="$1" size="$2"
  shift 2
  qemu-img create -q -f qcow "$@" "$image" $size
}

# io IMAGE COMMAND...: run qemu-io commands on a qcow image, quietly.
io () {
  local image="$1" c args=()
  shift
  for c; do args+=(-c "$c"); done
  if ! qemu-io -f qcow "${args[@]}" "$image" > io.log 2>&1 ||
     grep -Eqi 'failed|error|invalid|unknown' io.log; then
    cat io.log >&2
    fail "qemu-io $image: $*"
  fi
}

# compare IMAGE [PLUGIN-PARAMETER...]: hold an export against QEMU.  $oracle
# names another image for QEMU to read.
compare () {
  local image="$1"
  shift
  compare_image="${oracle:-$image}"
  export compare_image
  nbdkit "${server_flags[@]}" -U - qcow "$image" "$@" --run "
    exec '$PYTHON' '$srcdir/qcow-compare.py' \
        ${compare_options[*]} \"\$uri\" \"\$compare_image\"" ||
    fail "$image: the export differs from what QEMU reads"
}

# client PYTHON-FILE IMAGE [PLUGIN-PARAMETER...]
client () {
  client_program="$1"
  local image="$2"
  shift 2
  export client_program
  nbdkit "${server_flags[@]}" -U - qcow "$image" "$@" --run "
    exec '$PYTHON' '$srcdir/qcow2-client.py' \
        \"\$client_program\" \"\$uri\""
}

# refused REGEX IMAGE [PLUGIN-PARAMETER...]
refused () {
  local regex="$1" image="$2" status=0
  shift 2
  bounded nbdkit -r -U - qcow "$image" "$@" \
          --run 'echo served' > refused.out 2> refused.log || status=$?
  check_refusal "$regex" "$image" $status
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

# qcow_tool COMMAND ARGUMENT...: see qcow-image.py
qcow_tool () {
  "$PYTHON" "$srcdir/qcow-image.py" "$@"
}

# plain RAW IMAGE [OPTION...], tapdisk RAW IMAGE [OPTION...]
plain () {
  qcow_tool plain "$@"
}

tapdisk () {
  qcow_tool tapdisk "$@"
}

# to_raw IMAGE RAW: what QEMU reads.
to_raw () {
  rm -f "$2"
  qemu-img convert -q -f qcow -O raw "$1" "$2"
}

# digest FILE...: see qcow2-lib.sh; but files may be of any length, and the
# host may take its time with giving blocks to new files.
digest () {
  if test -n "$(find "$@" -size +100M)"; then
    qcow_tool digest "$@"
  else
    sha256sum "$@"
  fi
  stat -c '%n %s %Y %y %Z %z %a' "$@"
}
