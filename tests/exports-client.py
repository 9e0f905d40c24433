#!/usr/bin/python3
# Look at the exports of a server.
#
# usage: exports-client.py SOCKET list
#                                 describe NAME
#                                 copy NAME FILE
#                                 map NAME
#                                 refuse NAME...
#                                 readonly NAME...
#                                 writable NAME...
#
# 'list' prints name and description of each export, with a tab between;
# 'describe' the description that a client gets; 'copy' writes the content to
# a file; 'map' prints extents (start, length, flags), with neighbours of one
# kind as one; 'refuse' is content when none of the exports can be had,
# 'readonly' and 'writable' when all are that.
#
# SPDX-License-Identifier: BSD-3-Clause

import sys

import nbd

PIECE = 1 << 20


class Client:
    """A connection that is ended in order."""

    def __init__(self, socket, name):
        self.handle = nbd.NBD()
        self.handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        self.handle.set_full_info(True)
        self.handle.set_export_name(name)
        self.handle.connect_unix(socket)

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        self.handle.shutdown()


def list_exports(socket):
    found = []
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_unix(socket)
    h.opt_list(lambda name, text: found.append((name, text)))
    h.opt_abort()
    for name, text in found:
        print(name + "\t" + text)


def describe(socket, name):
    with Client(socket, name) as h:
        print(h.get_export_description())


def copy(socket, name, path):
    with Client(socket, name) as h, open(path, "wb") as f:
        size = h.get_size()
        for at in range(0, size, PIECE):
            f.write(h.pread(min(PIECE, size - at), at))


def print_map(socket, name):
    runs = []

    def extents(context, at, entries, err):
        for length, flags in zip(entries[::2], entries[1::2]):
            if runs and runs[-1][2] == flags:
                runs[-1][1] += length
            else:
                runs.append([at, length, flags])
            at += length

    with Client(socket, name) as h:
        size = h.get_size()
        at = 0
        while at < size:
            h.block_status(min(size - at, 1 << 30), at, extents)
            at = runs[-1][0] + runs[-1][1]
    for run in runs:
        print(*run)


def refuse(socket, *names):
    for name in names:
        try:
            with Client(socket, name):
                pass
        except nbd.Error:
            continue
        sys.exit("%r can be had" % name)


def is_readonly(socket, wanted, names):
    for name in names:
        with Client(socket, name) as h:
            if h.is_read_only() != wanted:
                sys.exit("%r: read-only is %s" % (name, not wanted))


def main(socket, command, *args):
    if command == "list":
        list_exports(socket)
    elif command == "describe":
        describe(socket, *args)
    elif command == "copy":
        copy(socket, *args)
    elif command == "map":
        print_map(socket, *args)
    elif command == "refuse":
        refuse(socket, *args)
    elif command in ("readonly", "writable"):
        is_readonly(socket, command == "readonly", args)
    else:
        sys.exit("usage: see the head of this file")


main(*sys.argv[1:])
