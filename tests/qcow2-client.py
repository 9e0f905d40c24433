#!/usr/bin/python3
# Run a small Python program against an NBD export.
#
# usage: qcow2-client.py PROGRAM-FILE NBD-URI
#
# The program finds the connected handle as 'h', the URI as 'uri', and three
# functions: error_of (function, arguments...) returns the errno name a call
# fails with, or None; status (offset, length, flags) returns extents as
# [(start, length, flags)]; also_connect () returns one more handle.
# All handles are shut down in order whatever happens.
#
# SPDX-License-Identifier: BSD-3-Clause

import errno
import sys

import nbd

uri = sys.argv[2]
handles = []


def also_connect():
    c = nbd.NBD()
    c.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    c.connect_uri(uri)
    handles.append(c)
    return c


def error_of(call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        return e.errno if isinstance(e.errno, str) else \
            errno.errorcode.get(e.errno, str(e.errno))
    return None


def status(offset, length, flags=0, handle=None):
    found = []

    def extents(context, at, entries, err):
        for i in range(0, len(entries), 2):
            found.append((at, entries[i], entries[i + 1]))
            at += entries[i]

    (handle or h).block_status(length, offset, extents, flags)
    return found


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
