#!/usr/bin/env bash
# Damaged entries: an error for their own range, the rest reads on.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# Clusters of 4 KiB: an L2 table maps 2 MiB.
make () {
  create bad.qcow2 8M -o cluster_size=4k${1:+,$1}
  io bad.qcow2 'write -P 1 0 8M'
  entry=$(image_tool entry bad.qcow2 0)
}

# add_to OFFSET NUMBER: add to the big-endian number there.
add_to () {
  poke_be64 bad.qcow2 $1 $(($(be64 bad.qcow2 $1) + $2))
}

# run PROGRAM-LINES: check an export of bad.qcow2 with the functions below.
# Reading does not repair anything.
run () {
  before="$(digest bad.qcow2)"
  cat > program.py - <<'END'
C = 4096


def good (first, end):
    "Clusters that read as they were written."
    n = (end - first) * C
    assert h.pread (n, first * C) == b"\1" * n, (first, end)


def bad (first, end=None):
    "Clusters that can not be read, in whole or in part, nor are zero."
    for c in range (first, end or first + 1):
        assert error_of (h.pread, C, c * C) == "EIO", c
        assert error_of (h.pread, 1, c * C + 5) == "EIO", c
        assert error_of (h.pread, 2, c * C - 1) == "EIO", c
        if error_of (h.block_status, C, c * C, lambda *a: 0) is None:
            assert not status (c * C, C)[0][2] & 2, c


END
  cat >> program.py
  client program.py bad.qcow2 "$@" 2> errors.log || {
    cat errors.log >&2
    fail "bad.qcow2"
  }
  test "$(digest bad.qcow2)" = "$before" || fail "the image changed"
}

# told REGEX: the server has said what was wrong.
told () {
  grep -Ei 'bad.qcow2' errors.log | grep -Eiq "$1" || {
    cat errors.log >&2
    fail "no message matches '$1'"
  }
}

# An L1 entry that is not aligned: 2 MiB are gone.
make
l1=$(be64 bad.qcow2 40)
poke bad.qcow2 $((l1 + 8 + 6)) '\x02'
run <<'END'
good (0, 512)
bad (512, 516)
bad (1020, 1024)
good (1024, 2048)
assert error_of (h.pread, 2 << 20, 1 << 20) == "EIO"
END
told 'L2|L1'

# L2 entries: not aligned (by half a cluster, by 512 bytes).
make
add_to $((entry + 8 * 5)) 512
add_to $((entry + 8 * 9)) 2048
run <<'END'
good (0, 5)
bad (5)
good (6, 9)
bad (9)
good (10, 2048)
END
told 'L2|cluster|align'

# The zero flag in version 2.
make compat=0.10
add_to $((entry + 24)) 1
poke_be64 bad.qcow2 $((entry + 32)) 1
run <<'END'
good (0, 3)
bad (3, 5)
good (5, 2048)
END
told 'zero'

# Compressed: nowhere, in the middle of plain data, in the header, beyond
# the end of the file, with the COPIED flag, and cut short.
make
poke_be64 bad.qcow2 $((entry + 8)) 0x4000000000000000
poke_be64 bad.qcow2 $((entry + 16)) 0x43c0000000010000
poke_be64 bad.qcow2 $((entry + 24)) 0x43ffffffffffffff
poke_be64 bad.qcow2 $((entry + 32)) 0xc3c0000000010000
poke_be64 bad.qcow2 $((entry + 40)) 0xffffffffffffffff
poke_be64 bad.qcow2 $((entry + 48)) \
          $((0x43c0000000000000 + $(stat -c %s bad.qcow2) - 1))
run <<'END'
good (0, 1)
bad (1, 7)
good (7, 2048)
assert error_of (h.pread, 8 << 20, 0) == "EIO"
# An error does not stick to the connection, nor to the next one.
good (0, 1)
also_connect ().pread (4096, 0)
END
told 'compress|inflate|deflate'

# A stream that is damaged does not hurt its neighbour.
make
io bad.qcow2 'discard 4k 8k' 'write -c -P 7 4k 4k' 'write -c -P 7 8k 4k'
host=$(($(be64 bad.qcow2 $((entry + 8))) & 0x3ffffffffffffff))
poke bad.qcow2 $host '\xff\xff'
run <<'END'
good (0, 1)
bad (1)
assert h.pread (4096, 8192) == b"\7" * 4096
good (3, 2048)
END

# Extended L2: both bits, and bits without space.
create bad.qcow2 2M -o cluster_size=16k,extended_l2=on
io bad.qcow2 'write -P 1 0 1M'
entry=$(image_tool entry bad.qcow2 0)
poke_be64 bad.qcow2 $((entry + 16 + 8)) 0x00000001ffffffff
poke_be64 bad.qcow2 $((entry + 48)) 0
poke_be64 bad.qcow2 $((entry + 80 + 8)) 0x80000000ffffffff
run <<'END'
C = 16384
good (0, 1)
bad (1)
good (2, 3)
bad (3)
good (4, 5)
bad (5)
good (6, 64)
END
told 'subcluster|L2'

# Reserved bits are masked away, entries into metadata read happily, and
# what lies beyond the end of the file by less than a cluster is zero.
compare_options=()
make
poke_be64 bad.qcow2 $((entry + 8)) \
          $(($(be64 bad.qcow2 $((entry + 8))) | 0x3f000000000001fe))
poke_be64 bad.qcow2 $((entry + 16)) 0x8000000000000000
poke_be64 bad.qcow2 $((entry + 24)) 0x8000000000001000
poke_be64 bad.qcow2 $((entry + 32)) $((0x8000000000000000 | entry))
compare bad.qcow2
poke_be64 bad.qcow2 $((l1 = $(be64 bad.qcow2 40))) \
          $(($(be64 bad.qcow2 $l1) | 0x7f000000000001ff))
compare bad.qcow2

# Far beyond the end of the file: nothing there, and the server lives.
make
poke_be64 bad.qcow2 $((entry + 8)) 0x80fffffffffff000
poke_be64 bad.qcow2 $((entry + 16)) 0x8000010000000000
run <<'END'
for c in (1, 2):
    assert error_of (h.pread, C, c * C) in (None, "EIO")
    if error_of (h.pread, C, c * C) is None:
        assert h.pread (C, c * C) == bytes (C)
good (0, 1)
good (3, 2048)
END

# An L2 table that is not in the file is no table of zeroes.
make
poke_be64 bad.qcow2 $(be64 bad.qcow2 40) 0x8000000010000000
run <<'END'
bad (1, 4)
bad (510, 512)
good (512, 2048)
END
told 'end of the file'

# The same entries from many connections at once.
make
poke_be64 bad.qcow2 $((entry + 8 * 5)) 0x8000000000000200
run <<'END'
others = [also_connect () for _ in range (5)]
assert failing_reads (others, 12, C) == [5] * 5
END
