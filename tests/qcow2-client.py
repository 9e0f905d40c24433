#!/usr/bin/python3
# Run a small Python program against an NBD export.
#
# usage: qcow2-client.py PROGRAM-FILE NBD-URI
#
# The program finds the connected handle as 'h', the URI as 'uri', and the
# functions and constants below.  All handles are shut down in order whatever
# happens.
#
# SPDX-License-Identifier: BSD-3-Clause

import errno
import sys

import nbd

uri = sys.argv[2]
handles = []

# Flags of an extent, and of requests.
HOLE, ZERO = 1, 2
NO_HOLE = nbd.CMD_FLAG_NO_HOLE
FAST = nbd.CMD_FLAG_FAST_ZERO


def also_connect():
    """One more handle."""
    c = nbd.NBD()
    c.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    c.connect_uri(uri)
    handles.append(c)
    return c


def error_of(call, *args):
    """The name of the errno that a call fails with, or None."""
    try:
        call(*args)
    except nbd.Error as e:
        return e.errno if isinstance(e.errno, str) else \
            errno.errorcode.get(e.errno, str(e.errno))
    return None


def status(offset, length, flags=0, handle=None):
    """Extents, as [(start, length, flags)]."""
    found = []

    def extents(context, at, entries, err):
        for i in range(0, len(entries), 2):
            found.append((at, entries[i], entries[i + 1]))
            at += entries[i]

    (handle or h).block_status(length, offset, extents, flags)
    return found


def kind(at, length):
    """The flags of a range, which must be one kind of extent."""
    found = {f for _, _, f in status(at, length)}
    assert len(found) == 1, (at, length, status(at, length))
    return found.pop()


def is_zero(at, length):
    return not any(h.pread(length, at))


def failing_reads(others, nr, length):
    """Read the first 'nr' pieces of the disk with every handle, all at the
    same time.  Those that fail, with one handle or the other, in order."""
    answers = []

    def submit(c, i):
        buf = nbd.Buffer(length)

        def done(err):
            answers.append((i, getattr(err, "value", err) != 0))
            return 1

        c.aio_pread(buf, i * length, done)

    for i in range(nr):
        for c in others:
            submit(c, i)
    for c in others:
        while c.aio_in_flight() > 0:
            c.poll(-1)
    assert sorted(i for i, _ in answers) == sorted([*range(nr)] * len(others))
    return sorted(i for i, has_failed in answers if has_failed)


h = also_connect()
try:
    with open(sys.argv[1]) as f:
        exec(compile(f.read(), sys.argv[1], "exec"))
finally:
    for c in handles:
        try:
            c.shutdown()
        except nbd.Error as e:
            print("shutdown: " + e.string, file=sys.stderr)
