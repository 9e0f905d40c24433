# Common parts of the behaviour tests of writing through the qcow2 plugin;
# qcow-write-lib.sh makes them those of the qcow plugin.
#
# Source it after functions.sh and qcow2-lib.sh.
#
# LOAD_SEEDS="1 2 3 ..." runs other seeds than the test's own, LOAD_OPS
# another number of requests: both to look for rare failures by hand.
#
# SPDX-License-Identifier: BSD-3-Clause

# seeds DEFAULT...: print the seeds to use.
seeds () {
  echo ${LOAD_SEEDS:-$*}
}

# sound IMAGE: QEMU finds neither errors nor leaks.
sound () {
  qemu-img check -q -f qcow2 "$1" > check.log 2>&1 || {
    head -20 check.log >&2
    fail "$1: qemu-img check finds faults"
  }
}

# sound_but_leaks IMAGE: QEMU finds no errors.
sound_but_leaks () {
  local status=0
  qemu-img check -q -f qcow2 "$1" > check.log 2>&1 || status=$?
  if [ $status -ne 0 ] && [ $status -ne 3 ]; then
    head -20 check.log >&2
    fail "$1: qemu-img check says $status"
  fi
}

# holds IMAGE MODEL: QEMU reads these bytes.  (It leaves out the end of
# a disk that is not a multiple of 512.)
holds () {
  local size
  to_raw "$1" qemu.raw
  size=$(stat -c %s qemu.raw)
  [ "$size" -eq $(($(stat -c %s "$2") / 512 * 512)) ] ||
    fail "$1: QEMU sees $size bytes"
  cmp -n "$size" qemu.raw "$2" >&2 || fail "$1: QEMU reads other bytes"
  rm -f qemu.raw
}

# cluster_size IMAGE
cluster_size () {
  echo $((1 << $(be32 "$1" 20)))
}

# drive IMAGE MODEL [OPTION-OF-qcow2-load.py...]: random load on the image
# until the server has ended in order.  Parameters for the plugin come from
# the array plugin_args.
plugin_args=()
load_ops=600
drive () {
  local image=$1 model=$2
  shift 2
  rm -f load.sock
  start_nbdkit -P load.pid -U load.sock $tested_format "$image" \
               "${plugin_args[@]}"
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

# crash IMAGE MODEL [OPTION-OF-qcow2-load.py...]: load, SIGKILL, and what QEMU
# finds then.  MODEL becomes what is on the disk now.
crash () {
  local image=$1 model=$2
  shift 2
  rm -f crash.sock state
  start_nbdkit -P crash.pid -U crash.sock $tested_format "$image" \
               "${plugin_args[@]}"
  "$PYTHON" "$srcdir/qcow2-load.py" --ops 100000 --barriers 0 \
            --cluster "$(cluster_size "$image")" \
            --kill "$(cat crash.pid)" --state state "$@" \
            'nbd+unix:///?socket=crash.sock' "$model" ||
    fail "$image: load $*"
  kill_nbdkit crash.pid
  sound_but_leaks "$image"
  to_raw "$image" crash.raw
  "$PYTHON" "$srcdir/qcow2-load.py" --judge state crash.raw ||
    fail "$image: after a kill: $*"
  cp crash.raw "$model"
}

# model_of IMAGE: its model has its name with .model in place of .FORMAT, and
# the bytes that QEMU reads now.
model_of () {
  to_raw "$1" "${1%.$tested_format}.model"
}

# fresh IMAGE SIZE [OPTION-OF-qemu-img-create...]: an image, and its model.
fresh () {
  create "$@"
  model_of "$1"
}

# writing PYTHON-FILE IMAGE [PLUGIN-PARAMETER...]: run a program with the
# handle 'h' on a server that is started and ended in order for it.
writing () {
  local program=$1 image=$2
  shift 2
  rm -f client.sock
  start_nbdkit -P client.pid -U client.sock $tested_format "$image" "$@"
  "$PYTHON" "$srcdir/qcow2-client.py" "$program" \
            'nbd+unix:///?socket=client.sock' ||
    fail "$image: $program fails"
  stop_nbdkit client.pid
}

# program NAME: write a Python program from standard input.
program () {
  cat > "$1"
}

# meet_limit: the process may make files of 6 MiB, and the image that is
# filled uses all of that.
meet_limit () {
  local image=disk.$tested_format
  cat > limit.py <<'END'
part = 65536

def fill(n):
    while error_of(h.pwrite, bytes([n % 255 + 1]) * part, n * part) is None:
        n += 1
    what = error_of(h.pwrite, b"x" * part, n * part)
    assert what == "ENOSPC", what
    return n

n = fill(0)
# The limit is 6 MiB; tables take at most 5 clusters of 64k.
assert n >= (6 << 20) // part - 5, n
for i in range(n):
    assert h.pread(part, i * part) == bytes([i % 255 + 1]) * part, i
h.flush()
h.trim(10 * part, 5 * part)
assert fill(n) == n + 10
h.flush()
END
  trap '' XFSZ
  create "$image" 64M
  ulimit -S -f 6144
  writing limit.py "$image"
  ulimit -S -f unlimited
  sound "$image"
  test "$(stat -c %s "$image")" -eq $((6144 * 1024)) ||
    fail "the file has $(stat -c %s "$image") bytes"
}
