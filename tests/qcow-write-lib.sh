# Common parts of the behaviour tests of writing through the qcow plugin:
# those of the qcow2 plugin (qcow2-write-lib.sh, which see), with another
# judge of the structure.
#
# Source it after functions.sh and qcow-lib.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/qcow2-write-lib.sh"
load_ops=400

# sound IMAGE: everything in it has a place of its own.  The bytes that
# nothing refers to are in $leaked.
sound () {
  leaked=$(qcow_tool check "$1") || fail "$1: its structure is damaged"
}

# cluster_size IMAGE
cluster_size () {
  echo $((1 << $(qcow_tool get "$1" cluster-bits)))
}

# sound_but_leaks IMAGE: leaks are no fault, since nothing says what is free.
sound_but_leaks () {
  sound "$1"
}
