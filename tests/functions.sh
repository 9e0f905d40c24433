# What the behaviour tests share.  A test begins with
#
#   . "$srcdir/functions.sh"
#   requires qemu-img --version
#
# and may then use what is below.  Each test runs in a directory of its own,
# $tmpdir, which is also where it is when this file has been read; it is
# removed at the end (KEEP=1 keeps it when the test fails).
#
# Set by 'make check', all absolute: srcdir (tests in the source tree),
# top_srcdir, builddir, top_builddir; also PLUGINS and FILTERS (short names
# of what is built), SANITIZERS ("no", or the list) and PYTHON ("no", or a
# python3 that has the libnbd module).  The nbdkit in PATH knows our plugins
# by their short names.
#
# A test fails by any command that fails (set -e), by 'fail', when a server
# ends in any way but an orderly one, and when a sanitizer or valgrind has
# reported anything about a server.
#
# SPDX-License-Identifier: BSD-3-Clause

set -euo pipefail

: "${srcdir:?run me through make check}"
: "${top_srcdir:?}" "${builddir:?}" "${top_builddir:?}"
: "${PLUGINS?}" "${FILTERS?}" "${SANITIZERS:=no}" "${PYTHON:=no}"

# Upper bound of every wait for an event, in seconds: far more than a slow
# machine under valgrind needs.  Reaching it is a failure.
wait_seconds=60

tmpdir=$(mktemp -d)
cd "$tmpdir"
NBDKIT_LOG_DIR=$tmpdir/reports
export NBDKIT_LOG_DIR
mkdir "$NBDKIT_LOG_DIR"

_cleanups=()
_servers=()

# fail MESSAGE...: end the test as failed.
fail () {
  printf '%s: FAILED: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# skip REASON...: end the test as skipped.
skip () {
  printf '%s: skipped: %s\n' "${0##*/}" "$*"
  exit 77
}

# requires COMMAND: skip unless COMMAND can be found.
# requires COMMAND ARG...: skip unless COMMAND ARG... succeeds.
requires () {
  if [ $# -eq 1 ]; then
    command -v "$1" >/dev/null || skip "$1 is not installed"
  else
    "$@" </dev/null >/dev/null 2>&1 || skip "'$*' does not work here"
  fi
}

# requires_plugin NAME: skip unless nbdkit has the plugin.
requires_plugin () {
  requires nbdkit "$1" --version
}

# requires_filter NAME: skip unless nbdkit has the filter.
requires_filter () {
  requires nbdkit --filter="$1" null --version
}

# requires_python: skip unless $PYTHON has the libnbd module.
requires_python () {
  [ "$PYTHON" != no ] || skip "no python3 with the libnbd module"
}

# is_sanitized: is this a build with sanitizers?  (Memory limits and the
# like make no sense there.)
is_sanitized () {
  [ "$SANITIZERS" != no ]
}

# is_valgrind: do servers run under valgrind?
is_valgrind () {
  [ "${NBDKIT_VALGRIND:-0}" = 1 ]
}

# requires_plain_build: skip in a sanitized build and under valgrind.
requires_plain_build () {
  ! is_sanitized || skip "makes no sense with sanitizers"
  ! is_valgrind || skip "makes no sense under valgrind"
}

# cleanup_fn COMMAND ARG...: run that at the end of the test, however it
# ends; the last one registered runs first.
cleanup_fn () {
  _cleanups+=("$(printf '%q ' "$@")")
}

# is_running PID: is that process there, and not a zombie?
is_running () {
  local state

  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' \
            "/proc/$1/status" 2>/dev/null) || return 1
  [ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# wait_until COMMAND ARG...: wait for COMMAND to succeed; false if that
# does not happen within $wait_seconds.
wait_until () {
  local end=$((SECONDS + wait_seconds))

  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# wait_gone PID: wait for a process, child or not, to end.
wait_gone () {
  wait_until _is_gone "$1" || fail "process $1 does not end"
}

_is_gone () {
  ! is_running "$1"
}

_is_up_or_gone () {
  [ -s "$2" ] || ! is_running "$1"
}

# start_nbdkit -P PIDFILE ARG...: start "nbdkit -f -P PIDFILE ARG..." in the
# background, wait until it serves, and have it stopped and judged at the
# end of the test.  Its messages go where this function's standard error
# goes, so that 2>FILE catches them.
start_nbdkit () {
  local pid

  [ "${1:-}" = -P ] && [ $# -ge 3 ] ||
    fail "start_nbdkit: the first arguments must be -P PIDFILE"
  rm -f "$2"
  nbdkit -f "$@" &
  pid=$!
  _servers+=("$pid")
  wait_until _is_up_or_gone "$pid" "$2" ||
    fail "nbdkit does not write $2 in $wait_seconds s"
  [ -s "$2" ] || fail "nbdkit did not start: $*"
  # valgrind and env exec nbdkit: the process is still this one.
  [ "$(cat "$2")" = "$pid" ] || fail "$2 names another process"
}

# stop_nbdkit PIDFILE: end that server in an orderly way, now.  Fails when
# it ends with another status than 0.
stop_nbdkit () {
  local pid

  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || :
  _judge_server "$pid" || fail "nbdkit ($1) did not end in an orderly way"
}

# kill_nbdkit PIDFILE: end that server with SIGKILL, now; that is no fault
# of its own.
kill_nbdkit () {
  local pid

  pid=$(cat "$1")
  _forget_server "$pid"
  kill -KILL "$pid" 2>/dev/null || :    # it may be dead already
  wait "$pid" 2>/dev/null || :
}

_forget_server () {
  local server kept=()

  for server in ${_servers[@]+"${_servers[@]}"}; do
    [ "$server" = "$1" ] || kept+=("$server")
  done
  _servers=(${kept[@]+"${kept[@]}"})
}

# Wait for server $1 and answer whether it ended with status 0.
_judge_server () {
  local status=0

  _forget_server "$1"
  if ! wait_until _is_gone "$1"; then
    printf 'nbdkit (pid %s) does not end; killing it\n' "$1" >&2
    kill -KILL "$1" 2>/dev/null || :
  fi
  wait "$1" || status=$?
  if [ "$status" -eq 97 ] && [ -s "$NBDKIT_LOG_DIR/report.$1" ] &&
     _is_foreign_leak "$NBDKIT_LOG_DIR/report.$1"; then
    status=0
  fi
  [ "$status" -eq 0 ] ||
    printf 'nbdkit (pid %s) ended with status %s\n' "$1" "$status" >&2
  return "$status"
}

# expect_fail LOG COMMAND ARG...: COMMAND must fail of its own will: not by
# a signal, not for want of the command, not by a sanitizer.  Its output,
# standard output and error, is in LOG, its status in $status.
expect_fail () {
  local log=$1

  shift
  status=0
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -eq 0 ]; then
    cat "$log" >&2
    fail "this should have failed: $*"
  fi
  if [ "$status" -ge 97 ]; then
    cat "$log" >&2
    fail "this should have failed in an orderly way, not with $status: $*"
  fi
}

# expect_text LOG PATTERN...: every extended regular expression must match
# some line of LOG.
expect_text () {
  local log=$1 pattern

  shift
  for pattern; do
    if ! grep -Eq -e "$pattern" "$log"; then
      cat "$log" >&2
      fail "$log does not say: $pattern"
    fi
  done
}

# expect_no_text LOG PATTERN...: no line of LOG may match any of them.
expect_no_text () {
  local log=$1 pattern

  shift
  for pattern; do
    if grep -E -e "$pattern" "$log" >&2; then
      fail "$log should not say: $pattern"
    fi
  done
}

# poke FILE OFFSET BYTES: overwrite bytes in FILE, which keeps its length
# unless they lie beyond it.  BYTES is as for printf %b: '\x51\x46'; OFFSET
# may be any arithmetic expression.
poke () {
  printf '%b' "$3" |
    dd of="$1" bs=1 seek="$(($2))" conv=notrunc status=none
}

# peek FILE OFFSET LEN: print LEN bytes of FILE as hexadecimal digits.
peek () {
  od -An -v -tx1 -j "$(($2))" -N "$(($3))" "$1" | tr -d ' \n'
}

# fingerprint FILE...: print what changes when a byte or the time of last
# modification of a file does.
fingerprint () {
  sha256sum -- "$@"
  stat -c '%n %s %y' -- "$@"
}

# _is_foreign_leak REPORT: is that a leak report, and no leak in it is ours?
# nbdkit itself leaks a connection that is open when it ends, with what
# hangs on that.  Frames of ours name a source file, or no module at all:
# nbdkit has closed it (but not its own filters: see early.c).  An indirect
# leak is ours only when we were the ones to allocate.
_is_foreign_leak () {
  awk '
    /ERROR: LeakSanitizer: detected memory leaks/ { leaks = 1; next }
    /ERROR: |WARNING: |runtime error/ { ours = 1 }
    /^(Direct|Indirect) leak of/ { kind = $1; depth = 0 }
    /^ *#[0-9]+ / && ! /libsanitizer|__interceptor_/ {
      depth++
      if ((kind == "Direct" || depth == 1) &&
          ! /\(\/.*\/nbdkit\/(plugins|filters)\/nbdkit-[^\/]*\.so\+/ &&
          /<unknown module>|\.libs\/|\/(common|plugins|filters|tests)\//)
        ours = 1
    }
    END { exit ! (leaks && ! ours) }' "$1"
}

# Print reports of sanitizers and valgrind; true if there are any.
_show_reports () {
  local file found=1

  for file in "$NBDKIT_LOG_DIR"/*; do
    if [ -s "$file" ] && ! _is_foreign_leak "$file"; then
      printf '=== %s\n' "${file##*/}" >&2
      cat "$file" >&2
      found=0
    fi
  done
  return "$found"
}

_at_exit () {
  local status=$? i pid

  trap - EXIT
  set +e
  for pid in ${_servers[@]+"${_servers[@]}"}; do
    kill "$pid" 2>/dev/null
    _judge_server "$pid" || status=1
  done
  for ((i = ${#_cleanups[@]} - 1; i >= 0; i--)); do
    eval "${_cleanups[i]}"
  done
  if _show_reports; then
    printf '%s: FAILED: reports of a sanitizer or valgrind\n' \
      "${0##*/}" >&2
    status=1
  fi
  cd /
  if [ "${KEEP:-0}" = 1 ] && [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
    printf '%s: kept %s\n' "${0##*/}" "$tmpdir" >&2
  else
    rm -rf "$tmpdir"
  fi
  exit "$status"
}
trap _at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
