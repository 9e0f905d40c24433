# Common parts of the behaviour tests of the vhdx plugin: those of the qcow2
# plugin (qcow2-lib.sh, which see), for this format.
#
# Source it after functions.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

nbdkit vhdx --version > /dev/null ||
  fail "the plugin under test can not be loaded"
. "$srcdir/qcow2-lib.sh"
tested_format=vhdx
requires qemu-nbd --version

# make: run a Python program, standard input, that makes images: see
# vhdx-image.py.  "Image (...).save ('x.vhdx')" makes x.raw too, the disk.
make () {
  cat > make.py
  "$PYTHON" "$srcdir/vhdx-image.py" run make.py || fail "make.py"
}

# faults NAME...: make images with one thing wrong, NAME.vhdx.
faults () {
  "$PYTHON" "$srcdir/vhdx-image.py" fault . "$@"
}

# serve IMAGE [PLUGIN-PARAMETER...] -- COMMAND: run a shell command with the
# image served; $uri is where.
serve () {
  local args=()
  while [ "$1" != -- ]; do
    args+=("$1")
    shift
  done
  nbdkit "${server_flags[@]}" -U - vhdx "${args[@]}" --run "$2"
}

# same IMAGE [PLUGIN-PARAMETER...]: the image reads as the raw file beside
# it, or that in $oracle.  Options for vhdx-compare.py: compare_options.
oracle=
same () {
  same_raw="${oracle:-${1%.vhdx}.raw}"
  export same_raw
  serve "$@" -- "
    exec '$PYTHON' '$srcdir/vhdx-compare.py' ${compare_options[*]} \
         \"\$uri\" \"\$same_raw\"" ||
    fail "$*: the export differs from $same_raw"
}

# qemu_same IMAGE: QEMU reads the same: so that what we hold ourselves
# against is right.
qemu_same () {
  "$PYTHON" "$srcdir/vhdx-compare.py" --qemu "$1" "${1%.vhdx}.raw" ||
    fail "$1: QEMU reads something else"
}

# like_qemu IMAGE [PLUGIN-PARAMETER...]: the export is what QEMU reads.
like_qemu () {
  rm -f qemu.raw
  qemu-img convert -q -f vhdx -O raw "$1" qemu.raw
  oracle=qemu.raw same "$@"
}

# quietly COMMAND...: its messages must not hold a warning or an error.
quietly () {
  ("$@") 2> quiet.log || { cat quiet.log >&2; fail "$*"; }
  expect_no_text quiet.log 'error:|warning:'
}

# digest FILE...: see qcow2-lib.sh; but files may be of any length, and what
# a file system does with space that was just written does not matter.
digest () {
  "$PYTHON" "$srcdir/vhdx-image.py" digest "$@"
  stat -c '%n %s %Y %y %Z %z %a' "$@"
}
