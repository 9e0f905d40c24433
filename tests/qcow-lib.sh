# Common parts of the behaviour tests of the qcow plugin: those of the
# qcow2 plugin (qcow2-lib.sh, which see), for version 1 of the format.
#
# Source it after functions.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

nbdkit qcow --version > /dev/null ||
  fail "the plugin under test can not be loaded"
. "$srcdir/qcow2-lib.sh"
tested_format=qcow

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
