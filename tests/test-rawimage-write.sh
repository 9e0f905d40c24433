# Everything that changes a disk, over several connections at once, against
# a model of it.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit rawimage --version
requires_python

cat > model.py <<'END'
import errno, nbd, random, sys, threading

uri, size, parts = sys.argv[1], int (sys.argv[2]), 4
share = size // parts
results = [None] * parts

def connect ():
    h = nbd.NBD ()
    h.set_strict_mode (h.get_strict_mode () & ~nbd.STRICT_COMMANDS)
    h.connect_uri (uri)
    return h

def change (h, rnd, disk, start):
    at = rnd.randrange (len (disk))
    n = min (rnd.choice ((1, 511, 512, 4096, 65536, 200000)),
             len (disk) - at)
    fua = rnd.choice ((0, 0, 0, nbd.CMD_FLAG_FUA))
    what = rnd.randrange (10)
    if what < 5:
        data = bytes ((rnd.randrange (1, 256),)) * n
        h.pwrite (data, start + at, fua)
        disk[at:at+n] = data
    elif what < 8:
        flags = fua | rnd.choice ((0, nbd.CMD_FLAG_NO_HOLE))
        try:
            h.zero (n, start + at, flags |
                    rnd.choice ((0, nbd.CMD_FLAG_FAST_ZERO)))
        except nbd.Error as e:
            if e.errnum != errno.ENOTSUP:
                raise
            h.zero (n, start + at, flags)
        disk[at:at+n] = bytes (n)
    elif what == 8:
        h.trim (n, start + at, fua)     # what is there now nobody knows
        disk[at:at+n] = h.pread (n, start + at)
    else:
        h.flush ()
    assert h.pread (n, start + at) == disk[at:at+n]

def load (part):
    try:
        rnd = random.Random (part)
        h = connect ()
        start = part * share
        disk = bytearray (share)
        for _ in range (150):
            change (h, rnd, disk, start)
        h.flush ()
        assert h.pread (share, start) == disk
        results[part] = disk
        h.shutdown ()
    except BaseException as e:
        print ("connection %d: %r" % (part, e), file=sys.stderr)

h = connect ()
assert h.get_size () == size
assert not h.is_read_only ()
assert h.can_multi_conn () and h.can_fua () and h.can_flush ()
assert h.can_trim () and h.can_zero () and h.can_fast_zero ()
assert h.can_cache ()
assert h.get_block_size (nbd.SIZE_MINIMUM) == 1
threads = [threading.Thread (target=load, args=(i,)) for i in range (parts)]
for t in threads:
    t.start ()
for t in threads:
    t.join ()
assert None not in results
h.cache (size, 0)
expected = b"".join (results) + bytes (size - parts * share)
assert h.pread (size, 0) == expected        # a fifth connection
open ("expected", "wb").write (expected)
h.shutdown ()
END

# An odd size as well: the last byte counts.
for size in 4194304 1000003; do
  rm -f disk.raw
  truncate -s $size disk.raw
  nbdkit -U - rawimage disk.raw \
    --run "exec '$PYTHON' model.py \"\$uri\" $size" 2> log ||
    { cat log >&2; fail "size $size"; }
  cmp disk.raw expected || fail "size $size: the file differs"
done

# What is zeroed or trimmed shows in the map, for raw disks as holes.
truncate -s 1M holes.raw
cat > holes.py <<'END'
import nbd, sys
h = nbd.NBD ()
h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri (sys.argv[1])
h.pwrite (b"x" * 1048576, 0)
h.zero (65536, 131072)
runs = []
h.block_status (1048576, 0, lambda c, o, e, err: runs.extend (e))
assert sum (runs[::2]) == 1048576, runs
at = 0
for n, flags in zip (runs[::2], runs[1::2]):
    if flags & nbd.STATE_ZERO:
        assert at >= 131072 and at + n <= 196608, runs
    at += n
one = []
h.block_status (983040, 65536, lambda c, o, e, err: one.extend (e),
                nbd.CMD_FLAG_REQ_ONE)
assert len (one) == 2, one
h.shutdown ()
END
nbdkit -U - rawimage holes.raw \
  --run "exec '$PYTHON' holes.py \"\$uri\""
