#!/usr/bin/env bash
# Damaged entries: an error for their own range, the rest reads on.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

# Clusters of 4 KiB, and an L2 table maps 256 KiB; no zeroes anywhere.
head -c 1M /dev/zero | tr '\0' '\1' > src.raw
plain src.raw model.qcow --l2-bits 6

make () {
  cp model.qcow bad.qcow
  l1=48
  entry=$(qcow_tool entry bad.qcow 0)
  length=$(stat -c %s bad.qcow)
}

# run PROGRAM-LINES: check an export of bad.qcow with the functions below.
run () {
  before="$(digest bad.qcow)"
  cat > program.py - <<'END'
C = 4096


def good (first, end):
    "Clusters that read as they were written."
    n = (end - first) * C
    assert h.pread (n, first * C) == b"\1" * n, (first, end)


def zero (first, end):
    n = (end - first) * C
    assert h.pread (n, first * C) == bytes (n), (first, end)


def bad (first, end=None):
    "Clusters that can not be read, in whole or in part, nor are zero."
    for c in range (first, end or first + 1):
        assert error_of (h.pread, C, c * C) == "EIO", c
        assert error_of (h.pread, 1, c * C + 5) == "EIO", c
        if c:
            assert error_of (h.pread, 2, c * C - 1) == "EIO", c
        if error_of (h.block_status, C, c * C, lambda *a: 0) is None:
            assert not status (c * C, C)[0][2] & 2, c


END
  cat >> program.py
  client program.py bad.qcow "$@" 2> errors.log || {
    cat errors.log >&2
    fail "bad.qcow"
  }
  test "$(digest bad.qcow)" = "$before" || fail "the image changed"
}

# told REGEX: the server has said what was wrong.
told () {
  grep -Ei 'bad.qcow' errors.log | grep -Eiq "$1" || {
    cat errors.log >&2
    fail "no message matches '$1'"
  }
}

# L1 entries that are not on a sector, lie on the header or on the L1 table
# itself, or where no file can reach: 64 clusters are gone.
for value in 0x1001 0x10007 0xff 1 0x40 \
             0x7fffffffffffffff 0x7ffffffffffff000 0x8000000000001000 \
             0xfffffffffffffe00 0xffffffffffffffff; do
  make
  poke_be64 bad.qcow $((l1 + 8)) $value
  echo "L1 $value"
  run <<'END'
good (0, 64)
bad (64, 66)
bad (127)
good (128, 256)
assert error_of (h.pread, 1 << 20, 0) == "EIO"
also_connect ().pread (4096, 0)
END
  told 'L1|L2'
done

# Tables that are on a sector, and meet the L1 table.
for row in '8192 8192' '4000 3584'; do
  read -r at value <<< "$row"
  plain src.raw bad.qcow --l2-bits 6 --l1-at $at
  poke_be64 bad.qcow $((at + 8)) $value
  run <<'END'
good (0, 64)
bad (64)
bad (127)
good (128, 256)
END
  told 'L1|L2'
done

# Plain entries: not on a sector, on the header, too far, 2 to the 63rd.
make
values=(0x1001 0x180 1 511 0x7fffffffffffffff 0x7ffffffffffff200
        0x7ffffffffffffe00)
for i in "${!values[@]}"; do
  poke_be64 bad.qcow $((entry + 8 * (2 + 2 * i))) ${values[i]}
done
run <<'END'
good (0, 2)
for c in range (2, 16, 2):
    bad (c)
    good (c + 1, c + 2)
good (16, 256)
END
told 'L2|cluster|align|offset'

# A plain cluster on the L1 table.
plain src.raw bad.qcow --l2-bits 6 --l1-at 8192
entry=$(qcow_tool entry bad.qcow 0)
poke_be64 bad.qcow $((entry + 8)) 8192
poke_be64 bad.qcow $((entry + 24)) 4608
run <<'END'
good (0, 1)
bad (1)
good (2, 3)
bad (3)
good (4, 256)
END

# Compressed ones: of no bytes, in the middle of plain data, on the header,
# beyond the end of the file, cut short by it.
make
poke_be64 bad.qcow $((entry + 8)) 0x8000000000010000
poke_be64 bad.qcow $((entry + 16)) 0x8080000000010000
poke_be64 bad.qcow $((entry + 24)) 0xffffffffffffffff
poke_be64 bad.qcow $((entry + 32)) 0x8100000000000000
poke_be64 bad.qcow $((entry + 40)) $((0x8100000000000000 + length))
poke_be64 bad.qcow $((entry + 48)) $((0x8100000000000000 + length - 1))
poke_be64 bad.qcow $((entry + 56)) $((1 << 63))
run <<'END'
good (0, 1)
bad (1, 8)
good (8, 256)
assert error_of (h.pread, 1 << 20, 0) == "EIO"
# An error does not stick to the connection, nor to the next one.
good (0, 1)
assert also_connect ().pread (4096, 0) == b"\1" * 4096
END
told 'compress|inflate|deflate|stream'

# Streams that are too short or too long for a cluster; a damaged one does
# not hurt its neighbour.
stream () {
  "$PYTHON" - "$1" <<'END'
import sys
import zlib
c = zlib.compressobj(9, zlib.DEFLATED, -12)
sys.stdout.buffer.write(c.compress(b"\7" * int(sys.argv[1])) + c.flush())
END
}
# add GUEST-CLUSTER FILE [LENGTH]: let it be this stream, at an odd place.
add () {
  local at=$(($(stat -c %s bad.qcow) + 13)) n=${3:-$(stat -c %s $2)}
  truncate -s $at bad.qcow
  cat $2 >> bad.qcow
  poke_be64 bad.qcow $((entry + 8 * $1)) $((1 << 63 | n << 51 | at))
}
make
for n in 4095 4096 4097 8192 1; do stream $n > s$n; done
add 1 s4095
add 3 s4096
add 5 s4097
add 7 s8192
add 9 s1
head -c 5 s4096 > cut
add 11 cut
echo 'garbage, not a stream at all' > garbage
add 13 garbage
{ printf '\xff'; tail -c +2 s4096; } > flipped
add 15 flipped
add 16 s4096
run <<'END'
bad (1)
assert h.pread (C, 3 * C) == b"\7" * C
# A stream may be longer than what it is needed for, or not: no rubbish.
for c in (5, 7):
    if error_of (h.pread, C, c * C) is None:
        assert h.pread (C, c * C) == b"\7" * C
    else:
        bad (c)
bad (9)
bad (11)
bad (13)
bad (15)
assert h.pread (C, 16 * C) == b"\7" * C
for c in (0, 2, 4, 6, 8, 10, 12, 14):
    good (c, c + 1)
good (17, 256)
END
told 'compress|inflate|deflate|stream'

# Data beyond the end of the file, where a file could be: zeroes, as for
# QEMU.
make
poke_be64 bad.qcow $((entry + 8)) 0x10000000000
poke_be64 bad.qcow $((entry + 16)) $(((length + 4095) / 4096 * 4096))
run <<'END'
good (0, 1)
zero (1, 3)
good (3, 256)
END
compare bad.qcow

# A table just behind the end is one that QEMU was about to write: nothing
# is mapped.  Farther away it was lost, and is no table of zeroes (QEMU makes
# it one).
make
poke_be64 bad.qcow $((l1 + 8)) $(((length + 4095) / 4096 * 4096))
run <<'END'
good (0, 64)
zero (64, 128)
good (128, 256)
END
compare bad.qcow
poke_be64 bad.qcow $((l1 + 16)) 0x10000000000
run <<'END'
good (0, 64)
zero (64, 128)
bad (128, 130)
bad (191)
good (192, 256)
END
told 'L1'

# The same entries from many connections at once.
make
poke_be64 bad.qcow $((entry + 8 * 5)) 0x10001
run <<'END'
others = [also_connect () for _ in range (5)]
assert failing_reads (others, 12, C) == [5] * 5
END

# A table in the wrong byte order is not an empty disk: an image without
# Xen's header whose every entry makes sense only in little endian.
"$PYTHON" - model.qcow bad.qcow <<'END'
import struct
import sys
d = bytearray(open(sys.argv[1], "rb").read())
d[48:80] = struct.pack("<4Q", *struct.unpack(">4Q", d[48:80]))
open(sys.argv[2], "wb").write(d)
END
refused 'endian|byte order' bad.qcow
