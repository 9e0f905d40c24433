# Common parts of the behaviour tests of writing through the qcow plugin.
#
# Source it after functions.sh and qcow-lib.sh.
#
# LOAD_SEEDS="1 2 3 ..." runs other seeds than the test's own, LOAD_OPS
# another number of requests: both to look for rare failures by hand.
#
# SPDX-License-Identifier: BSD-3-Clause

# seeds DEFAULT...: print the seeds to use.
seeds () {
  echo ${LOAD_SEEDS:-$*}
}

# sound IMAGE: everything in it has a place of its own.  The bytes that
# nothing refers to are in $leaked.
sound () {
  leaked=$(qcow_tool check "$1") || fail "$1: its structure is damaged"
}

# holds IMAGE MODEL: QEMU reads these bytes.
holds () {
  to_raw "$1" qemu.raw
  [ "$(stat -c %s qemu.raw)" -eq "$(stat -c %s "$2")" ] ||
    fail "$1: QEMU sees $(stat -c %s qemu.raw) bytes"
  cmp qemu.raw "$2" >&2 || fail "$1: QEMU reads other bytes"
  rm -f qemu.raw
}

# cluster_size IMAGE
cluster_size () {
  echo $((1 << $(qcow_tool get "$1" cluster-bits)))
}

# drive IMAGE MODEL [OPTION-OF-qcow2-load.py...]: random load on the image
# until the server has ended in order.  Parameters for the plugin come from
# the array plugin_args.
plugin_args=()
load_ops=400
drive () {
  local image=$1 model=$2
  shift 2
  rm -f load.sock
  start_nbdkit -P load.pid -U load.sock qcow "$image" "${plugin_args[@]}"
  "$PYTHON" "$srcdir/qcow2-load.py" --ops "${LOAD_OPS:-$load_ops}" \
            --cluster "$(cluster_size "$image")" "$@" \
            'nbd+unix:///?socket=load.sock' "$model" ||
    fail "$image: load $*"
  stop_nbdkit load.pid
}

# exercise IMAGE MODEL [OPTION-OF-qcow2-load.py...]: drive, then judge.
exercise () {
  drive "$@"
  sound "$1"
  holds "$1" "$2"
}

# model_of IMAGE: its model has its name with .model in place of .qcow, and
# the bytes that QEMU reads now.
model_of () {
  to_raw "$1" "${1%.qcow}.model"
}

# writing PYTHON-FILE IMAGE [PLUGIN-PARAMETER...]: run a program with the
# handle 'h' on a server that is started and ended in order for it.
writing () {
  local program=$1 image=$2
  shift 2
  rm -f client.sock
  start_nbdkit -P client.pid -U client.sock qcow "$image" "$@"
  "$PYTHON" "$srcdir/qcow2-client.py" "$program" \
            'nbd+unix:///?socket=client.sock' ||
    fail "$image: $program fails"
  stop_nbdkit client.pid
}
