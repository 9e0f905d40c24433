# A conversion that stops after any of its writes or flushes is finished by
# the next one, and the clients of the first read the image all the same.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_plugin eval

disk disk.raw $((11 << 20))

# serve_limited IMAGE N: serve it by a plugin whose changes fail after N
# writes and flushes that succeed.
serve_limited () {
  echo "$2" > left
  by_eval "$1"
  eval=("${eval[@]/#pwrite=/pwrite=$take; }")
  serve_fixup -- eval image-bytes=true "${eval[@]}" \
    thread_model='echo serialize_all_requests' \
    can_flush='exit 0' flush="$take"
}

# A shell command that takes one of what is left, or fails.
take="n=\$(cat '$tmpdir/left')
if [ \$n -le 0 ]; then echo 'EIO no more changes' >&2; exit 1; fi
echo \$((n - 1)) > '$tmpdir/left'"

check_steps () {
  local name="$1" n=0 is_done=no

  shift
  tapdisk disk.raw original "$@"
  while [ "$is_done" = no ]; do
    cp original image
    serve_limited image "$n"
    "$PYTHON" - "$uri" original.converted > writable <<'EOF'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
data = open(sys.argv[2], "rb").read(16384)
assert h.pread(len(data), 0) == data, "other bytes are served"
print("no" if h.is_read_only() else "yes")
h.shutdown()
EOF
    stop_fixup
    is_done="$(cat writable)"
    if [ "$is_done" = no ]; then
      expect_text log 'error: .*(no more|EIO|Input/output)' \
        'is served read-only'
    else
      same image original.converted
    fi
    serve_fixup -- file image
    nbdinfo --can write "$uri"
    stop_fixup
    same image original.converted ||
      fail "$name, stopped after $n: not finished"
    n=$((n + 1))
    [ "$n" -lt 40 ] || fail "$name: never done"
  done
  # The table, the head, and a flush after each.
  [ "$n" -gt 4 ] || fail "$name: done after $n steps"
}

check_steps little
check_steps alternate --table alternate
check_steps copy --growing restored:2
