#!/usr/bin/env bash
# A file that may not be longer: ENOSPC, up to the last cluster, and space
# that was given back is used again.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"
. "$srcdir/qcow2-write-lib.sh"

program limit.py <<'END_OF_PROGRAM'
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
END_OF_PROGRAM

trap '' XFSZ
create disk.qcow2 64M
ulimit -S -f 6144
writing limit.py disk.qcow2
ulimit -S -f unlimited
sound disk.qcow2
test "$(stat -c %s disk.qcow2)" -eq $((6144 * 1024)) ||
  fail "the file has $(stat -c %s disk.qcow2) bytes"
