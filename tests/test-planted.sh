# Faults planted in a plugin must fail the test that meets them, in builds
# with the sanitizer that looks for them, and under valgrind.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdinfo --version
[ -f "$builddir/.libs/nbdkit-planted-plugin.so" ] ||
  fail "the planted plugin was not built"

cat > inner.sh <<'END'
. "$srcdir/functions.sh"
start_nbdkit -P pid -U "$tmpdir/sock" planted fault="$FAULT"
nbdinfo --size "nbd+unix:///?socket=$tmpdir/sock" || :
END

# meet FAULT STATUS: a test that meets FAULT must end with STATUS.
meet () {
  local found=0

  FAULT=$1 bash inner.sh > "$1.log" 2>&1 || found=$?
  if [ "$found" -ne "$2" ]; then
    cat "$1.log" >&2
    fail "fault=$1: status $found instead of $2"
  fi
}

# The same, where nbdkit ends with the status of the --run command: only
# the report can tell.
cat > inner-run.sh <<'END'
. "$srcdir/functions.sh"
nbdkit -U - planted fault="$FAULT" --run 'nbdinfo --size "$uri" || :'
END

meet_in_run () {
  local found=0

  FAULT=$1 bash inner-run.sh > "$1.log" 2>&1 || found=$?
  if [ "$found" -ne "$2" ]; then
    cat "$1.log" >&2
    fail "fault=$1 in --run: status $found instead of $2"
  fi
}

# An error of the server's own is no report, and ends it (see early.c).
expect_fail log timeout "$wait_seconds" \
  nbdkit -U - --filter=no-such-filter planted --run true
expect_text log 'No such file or directory'

meet none 0
meet abort 1
if is_valgrind; then
  meet leak 1
  expect_text leak.log 'definitely lost'
  meet overflow 1
  expect_text overflow.log 'Invalid read'
fi
case ,$SANITIZERS, in
  *,address,* )
    meet leak 1
    expect_text leak.log 'LeakSanitizer'
    meet server-leak 1
    expect_text server-leak.log 'LeakSanitizer'
    meet overflow 1
    # Whichever of the two sanitizers is first.
    expect_text overflow.log 'heap-buffer-overflow|insufficient space' ;;
esac
case ,$SANITIZERS, in
  *,address,* )
    meet_in_run none 0
    meet_in_run leak 1
    meet_in_run overflow 1
    case ,$SANITIZERS, in
      *,undefined,* ) meet_in_run undefined 1 ;;
    esac ;;
esac
case ,$SANITIZERS, in
  *,undefined,* )
    meet undefined 1
    expect_text undefined.log 'signed integer overflow' ;;
esac
case ,$SANITIZERS, in
  *,thread,* )
    meet race 1
    expect_text race.log 'data race' ;;
esac
