# functions.sh itself: what it promises, the other tests rely on.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit null --version

# Run a test of our own making, $1, as the harness would; sets $status.
inner () {
  printf '%s\n' '. "$srcdir/functions.sh"' "$1" > inner.sh
  status=0
  bash inner.sh > inner.log 2>&1 || status=$?
}

expect_status () {
  if [ "$status" -ne "$1" ]; then
    cat inner.sh inner.log >&2
    fail "status $status instead of $1"
  fi
}

# Outcomes.
inner 'true'
expect_status 0
inner 'false; true'
expect_status 1
inner 'false | true'
expect_status 1
inner ': "$no_such_variable"'
[ "$status" -ne 0 ] || fail "an unset variable must end a test"
inner 'fail "as told"'
expect_status 1
expect_text inner.log 'FAILED: as told'
inner 'requires no-such-command-anywhere'
expect_status 77
expect_text inner.log 'no-such-command-anywhere is not installed'
inner 'requires ls /no/such/file; fail "went on"'
expect_status 77

inner 'requires_plugin no-such-plugin; fail "went on"'
expect_status 77
inner 'requires_filter no-such-filter; fail "went on"'
expect_status 77

# The directory goes away, on success and on failure; KEEP=1 keeps it.
inner 'pwd; [ "$PWD" = "$tmpdir" ]'
expect_status 0
[ ! -e "$(tail -n1 inner.log)" ] || fail "the directory was not removed"
inner 'echo "dir=$tmpdir"; false'
expect_status 1
[ ! -e "$(sed -n 's/^dir=//p' inner.log)" ] || fail "not removed on failure"
(
  export KEEP=1
  inner 'echo "dir=$tmpdir"; false'
  expect_status 1
  kept=$(sed -n 's/^dir=//p' inner.log)
  [ -d "$kept" ] || exit 1
  rm -r "$kept"
) || fail "KEEP=1 did not keep the directory"

# Cleanups run last first, also after a failure.
inner 'cleanup_fn echo "first one"; cleanup_fn echo second; false'
expect_status 1
[ "$(grep -E 'first|second' inner.log | tr '\n' ,)" = "second,first one," ] ||
  fail "cleanups in the wrong order"

# expect_fail: neither success, nor signals, nor missing commands.
inner 'expect_fail log sh -c "echo oops >&2; exit 3"
[ "$status" = 3 ]; expect_text log "^oops$"; expect_no_text log good'
expect_status 0
inner 'expect_fail log true'
expect_status 1
inner 'expect_fail log sh -c "kill -SEGV \$\$"'
expect_status 1
inner 'expect_fail log no-such-command-anywhere'
expect_status 1
inner 'echo bad > log; expect_text log good'
expect_status 1
inner 'echo bad > log; expect_no_text log "b.d"'
expect_status 1

# Bytes.
inner 'printf "0123456789" > f
poke f 0x4 "\x41\x00\x42"
[ "$(peek f 3 5)" = 3341004237 ]
poke f "8 + 4" "Z"
[ "$(stat -c %s f)" = 13 ] && [ "$(peek f 10 3)" = 00005a ]'
expect_status 0

# Servers: started, answering, stopped in order, killed, and judged.
inner 'start_nbdkit -P pid -U "$tmpdir/sock" null size=1M
[ -S sock ]; is_running "$(cat pid)"
stop_nbdkit pid; cat pid'
expect_status 0
if is_running "$(tail -n1 inner.log)"; then
  fail "the server is still there"
fi
inner 'start_nbdkit -P pid -U "$tmpdir/sock" null; cat pid'
expect_status 0
if is_running "$(tail -n1 inner.log)"; then
  fail "the server outlived its test"
fi
inner 'start_nbdkit -P pid -U "$tmpdir/sock" null; kill_nbdkit pid'
expect_status 0
inner 'start_nbdkit -P pid -U "$tmpdir/sock" null; kill -KILL "$(cat pid)"
wait_gone "$(cat pid)"'
expect_status 1
expect_text inner.log 'ended with status 137'
inner 'start_nbdkit -P pid -U "$tmpdir/sock" null no-such-parameter=1'
expect_status 1
expect_text inner.log 'did not start'

# A report about a server fails the test, whatever else it says.
inner 'echo "ERROR: planted" > "$NBDKIT_LOG_DIR/report.1"; true'
expect_status 1
expect_text inner.log 'planted' 'reports of a sanitizer'
