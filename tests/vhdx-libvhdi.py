#!/usr/bin/python3
# Hold an NBD export against what libvhdi, which shares nothing with us,
# reads from the same VHDX image.
#
# usage: vhdx-libvhdi.py NBD-URI IMAGE [PARENT...]
#
# PARENTs are the images below, nearest first: libvhdi does not look for
# them.  Size and bytes are compared: all bytes of disks up to 64 MiB; of
# larger ones what the export calls data, and what surrounds every MiB,
# because blocks begin and end there.
#
# SPDX-License-Identifier: BSD-3-Clause

import sys

import nbd
import pyvhdi

MIB = 1 << 20
WHOLE = 64 * MIB
AROUND = 4096


def need(is_so, *what):
    if not is_so:
        sys.exit("vhdx-libvhdi.py: " + " ".join(str(w) for w in what))


def open_chain(paths):
    """The files, each upon the next."""
    files = []
    for path in paths:
        f = pyvhdi.file()
        f.open(path)
        files.append(f)
    for upper, lower in zip(files, files[1:]):
        upper.set_parent(lower)
    return files


def extents(h, size):
    at = 0
    while at < size:
        found = []

        def note(context, offset, entries, err):
            found.extend(zip(entries[::2], entries[1::2]))
        h.block_status(min(size - at, (1 << 32) - 512), at, note)
        for length, flags in found:
            yield at, min(at + length, size), flags
            at += length


def ranges(h, size):
    """What is to be compared."""
    if size <= WHOLE:
        yield 0, size
        return
    for start, end, flags in extents(h, size):
        if not flags & nbd.STATE_ZERO:
            yield start, end
    for at in range(0, size + MIB, MIB):
        yield max(at - AROUND, 0), min(at + AROUND, size)


def compare(h, image, start, end):
    while start < end:
        n = min(end - start, MIB)
        ours = h.pread(n, start)
        theirs = image.read_buffer_at_offset(n, start)
        need(len(theirs) == n, "libvhdi reads", len(theirs), "bytes at",
             start, "instead of", n)
        if ours != theirs:
            bad = next(i for i in range(n) if ours[i] != theirs[i])
            need(False, "byte", start + bad, "of the export is",
                 ours[bad:bad + 16].hex(), "but libvhdi reads",
                 theirs[bad:bad + 16].hex())
        start += n


def main(argv):
    uri, paths = argv[0], argv[1:]
    files = open_chain(paths)
    size = files[0].get_media_size()
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    try:
        need(h.get_size() == size, "the export has", h.get_size(),
             "bytes, but libvhdi finds", size)
        for start, end in ranges(h, size):
            compare(h, files[0], start, end)
    finally:
        h.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
