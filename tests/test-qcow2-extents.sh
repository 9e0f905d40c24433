#!/usr/bin/env bash
# Extents to the byte: every boundary, and nothing cut in two.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

K=1024

# extents IMAGE [PARAMETER...] < LIST: check_extents, and compare with QEMU.
extents () {
  check_extents "$@"
  compare_options=(--coalesced)
  compare "$1"
}

# Runs over clusters, over L2 tables (2 MiB here), over tables that do not
# exist; data at scattered places in the host file is still one run.
create run.qcow2 16M -o cluster_size=4k
io run.qcow2 'write -P 2 1M 2M' 'write -P 1 512k 512k' \
   'write -P 3 9M 4k' 'write -c -P 4 9220k 4k' 'write -P 5 9224k 4k'
extents run.qcow2 <<'END'
512*K HOLE
2560*K DATA
6*1024*K HOLE
12*K DATA
(16384-9216-12)*K HOLE
END

# Zeroes with and without host space, and never written.
create zero.qcow2 1M
io zero.qcow2 'write -P 1 0 512k' 'write -z 64k 128k' 'discard 192k 64k' \
   'write -z 640k 64k'
extents zero.qcow2 <<'END'
64*K DATA
128*K ZERO
64*K HOLE
256*K DATA
512*K HOLE
END

# Subclusters of 2 KiB.
create sub.qcow2 256k -o cluster_size=64k,extended_l2=on
io sub.qcow2 'write -P 1 0 6k' 'write -z 2k 2k' 'write -P 2 126k 4k' \
   'write -P 3 192k 64k' 'write -z 192k 32k'
cat > sub.py <<'END'
# Space that is reserved and not in use may be called a hole or not.
want = [(0, 2, {0}), (2, 2, {2}), (4, 2, {0}), (6, 120, {2, 3}),
        (126, 4, {0}), (130, 62, {2, 3}), (192, 32, {2}), (224, 32, {0})]
got = {}
for at, n, kind in status (0, 256 * 1024):
    for k in range (at // 1024, (at + n) // 1024):
        got[k] = kind
    assert at % 2048 == 0 and n % 2048 == 0, (at, n)
for at, n, kinds in want:
    for k in range (at, at + n):
        assert got[k] in kinds, (k, got[k])
END
client sub.py sub.qcow2 || fail "sub.qcow2: extents"
compare_options=(--coalesced)
compare sub.qcow2

# A chain: data of the overlay and of its base side by side is one run; the
# base ends where it ends, not with its cluster or sector.
head -c 300001 /dev/zero | tr '\0' 'x' > base.raw
create over.qcow2 1M -b base.raw -F raw
io over.qcow2 'write -P 1 64k 64k' 'write -z 128k 64k' 'write -P 2 512k 64k'
extents over.qcow2 <<'END'
128*K DATA
64*K HOLE
300001-192*K DATA
512*K-300001 HOLE
64*K DATA
448*K HOLE
END

# Zeroes of the overlay, holes of a raw base, nothing at all: one hole.
truncate -s 1M sparse.raw
create hole.qcow2 3M -b sparse.raw -F raw
io hole.qcow2 'write -z -u 448k 128k'
extents hole.qcow2 <<'END'
3*1024*K HOLE
END

# A large disk in few answers.
create large.qcow2 1T
io large.qcow2 'write -P 1 512G 64k'
cat > large.py <<'END'
size = h.get_size ()
at = 0
calls = 0
seen = []
while at < size:
    n = min (2 ** 32 - 1, size - at)
    for a, n, kind in status (at, n):
        if seen and seen[-1][1:] == (a, kind):
            seen[-1] = (seen[-1][0], a + n, kind)
        else:
            seen.append ((a, a + n, kind))
        at = a + n
    calls += 1
half = 512 << 30
assert seen == [(0, half, 3), (half, half + 65536, 0),
                (half + 65536, size, 3)], seen
assert calls <= 600, calls
END
client large.py large.qcow2 || fail "large.qcow2: extents"

# Holes in the host file inside of clusters that are allocated.
create punched.qcow2 2M -o preallocation=full
io punched.qcow2 'write -P 7 0 2M'
host=$(($(be64 punched.qcow2 $(image_tool entry punched.qcow2 0)) &
    0xfffffffffffe00))
sync punched.qcow2
if fallocate -p -o $((host + 128 * K)) -l $((72 * K)) punched.qcow2; then
  fallocate -p -o $((host + 500 * K)) -l $((4 * K)) punched.qcow2
  cat > holes.py <<'END'
K = 1024
got = [(at // K, n // K, bool (k & 2)) for at, n, k in status (0, 2048 * K)]
assert got == [(0, 128, False), (128, 72, True), (200, 300, False),
               (500, 4, True), (504, 1544, False)], got
END
  client holes.py punched.qcow2 || fail "punched.qcow2: extents"
  compare punched.qcow2
fi

# nbdcopy makes a sparse file of it, with the same bytes.
nbdkit -r -U - qcow2 large.qcow2 --run 'nbdcopy "$uri" copy.raw'
test $(stat -c %b copy.raw) -lt 4096 || fail "the copy is not sparse"
test $(stat -c %s copy.raw) -eq $((1 << 40))
rm copy.raw
nbdkit -r -U - qcow2 over.qcow2 --run 'nbdcopy "$uri" copy.raw'
qemu-img compare -f qcow2 -F raw over.qcow2 copy.raw > compare.log
