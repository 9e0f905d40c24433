#!/usr/bin/python3
# Random load on an NBD export, held against a model of the disk.
#
# usage: qcow2-load.py [options] NBD-URI MODEL
#        qcow2-load.py --judge STATE RAW
#
# MODEL is a raw file with the bytes that the export must have now; at the
# end it has those that the export must have then.  Requests of all kinds
# and alignments are kept in flight on several connections at once.  Two
# requests never touch one 512-byte sector at the same time unless both
# only read; nothing larger is kept apart, so that requests of several
# connections meet in clusters and subclusters all the time.
#
# What a trim, or a request that was allowed to fail, has left behind is
# read back: old or new bytes in each place, and nothing else, may be there;
# from then on that is what must stay.
#
# Now and then everything is drained and flushed, and the whole disk and its
# extents are compared.  The connections end in order, whatever happened.
#
# With --kill PID the server is killed in the middle; then STATE (--state)
# says what each sector may hold, and --judge compares that with the bytes
# which QEMU found in the image.
#
# Everything random comes from the seed; what the server's threads make of
# it does not.
#
# SPDX-License-Identifier: BSD-3-Clause

import argparse
import errno
import os
import pickle
import random
import select
import signal
import sys

import nbd

SECTOR = 512
CHUNK = 4 << 20
STALLED = 300                   # seconds without any reply: a hang
MIX = "write=40,zero=14,fast=4,trim=10,read=24,cache=2,flush=6"


class Difference(Exception):
    """The export is not what it has to be."""


class Op:
    """One request, with what the model has to know about it."""

    def __init__(self, number, kind, offset, length, flags, data=None):
        self.number = number
        self.kind = kind
        self.offset = offset
        self.end = offset + length
        self.flags = flags
        self.data = data        # what the range reads as afterwards
        self.changes = kind in ("write", "zero", "fast", "trim")
        self.buf = None
        self.handle = None
        self.err = None
        self.checking = False   # its range is being read back
        self.seq = None         # its version of the sectors (see Versions)
        self.seen = None        # for a flush: the versions it covers

    def __str__(self):
        return "#%d on %s: %s %d+%d flags %d" % (
            self.number, self.handle, self.kind, self.offset,
            self.end - self.offset, self.flags)

    def sectors(self):
        return range(self.offset // SECTOR, (self.end - 1) // SECTOR + 1)


def overlay(old, at, op, data):
    """Sector 'old', at offset 'at', with the part of 'data' (the bytes of
    the whole request) that falls into it."""
    start = max(at, op.offset)
    end = min(at + len(old), op.end)
    return old[:start - at] + \
        bytes(data[start - op.offset:end - op.offset]) + old[end - at:]


class Versions:
    """What each sector may hold if the server dies now.

    A sector that is not in 'sectors' holds what the model says.  Of the
    others all versions from the last one known to be durable are listed in
    order, as (sequence number, bytes).
    """

    def __init__(self, model):
        self.model = model
        self.sectors = {}
        self.seq = 0
        self.complete = {}      # sector: sequence number, flush or no flush

    def next_seq(self):
        self.seq += 1
        return self.seq

    def of_model(self, sector):
        at = sector * SECTOR
        return bytes(self.model[at:at + SECTOR])

    def begin(self, op):
        """A change was sent."""
        op.seq = self.next_seq()
        for sector in op.sectors():
            now = self.of_model(sector)
            known = self.sectors.setdefault(sector, [(op.seq, now)])
            known.append((op.seq, overlay(now, sector * SECTOR, op,
                                          op.data)))

    def end(self, op):
        """A change is complete and in the model."""
        op.seq = self.next_seq()
        durable = op.flags & nbd.CMD_FLAG_FUA and not op.err
        for sector in op.sectors():
            at = sector * SECTOR
            now = self.of_model(sector)
            known = self.sectors[sector]
            known.append((op.seq, now))
            self.complete[sector] = op.seq
            if durable:
                # Bytes of the sector beside the request may be older.
                mine = self.model[op.offset:op.end]
                known[:] = [(seq, overlay(b, at, op, mine))
                            for seq, b in known]
                if op.offset <= at and op.end >= at + len(now):
                    self.drop_before(sector, op.seq)

    def flush_begins(self, op):
        op.seen = dict(self.complete)

    def flush_ends(self, op):
        for sector, seq in op.seen.items():
            self.drop_before(sector, seq)

    def drop_before(self, sector, seq):
        known = self.sectors.get(sector)
        if known is None:
            return
        known[:] = [k for k in known if k[0] >= seq] or known[-1:]
        if len(known) == 1:
            del self.sectors[sector]
            self.complete.pop(sector, None)

    def save(self, name):
        with open(name, "wb") as f:
            pickle.dump((bytes(self.model),
                         {s: [b for _, b in known]
                          for s, known in self.sectors.items()}), f)


def judge(state, raw):
    """Does the raw file hold what a killed server may have left?"""
    with open(state, "rb") as f:
        model, several = pickle.load(f)
    with open(raw, "rb") as f:
        found = f.read()
    length = len(model) // SECTOR * SECTOR      # QEMU sees whole sectors
    if len(found) < length:
        raise Difference("%s is %d bytes long" % (raw, len(found)))
    for at in range(0, length, SECTOR):
        sector = found[at:at + SECTOR]
        allowed = several.get(at // SECTOR, [model[at:at + SECTOR]])
        if sector not in allowed:
            raise Difference("the sector at %d holds none of the %d versions "
                             "that it may hold (zero: %s)"
                             % (at, len(allowed), not any(sector)))
    changed = sum(1 for s in several
                  if found[s * SECTOR:][:SECTOR] !=
                  model[s * SECTOR:][:SECTOR])
    print("%d sectors were not durable, %d are older than the last write"
          % (len(several), changed))


def merge_known(old, new, got):
    """First place where 'got' has neither the old nor the new byte."""
    if got == old or got == new:
        return None
    for at in range(0, len(got), SECTOR):
        o, n, g = (x[at:at + SECTOR] for x in (old, new, got))
        if g == o or g == n:
            continue
        for i, byte in enumerate(g):
            if byte not in (o[i], n[i]):
                return at + i
    return None


class Load:
    def __init__(self, args):
        self.args = args
        self.rnd = random.Random(args.seed)
        with open(args.model, "rb") as f:
            self.model = bytearray(f.read())
        self.size = len(self.model)
        self.versions = Versions(self.model) if args.kill else None
        self.active = []
        self.finished = []
        self.history = []
        self.counts = {}
        self.number = 0
        self.killed = False
        self.handles = []
        kinds = [k.split("=") for k in args.mix.split(",")]
        self.kinds = [k for k, _ in kinds]
        self.weights = [int(w) for _, w in kinds]
        span = args.cluster * 4
        self.hot = [self.rnd.randrange(max(1, self.size - span))
                    // args.cluster * args.cluster for _ in range(3)]
        # The last bytes of a disk are a place of their own.
        self.hot.append(max(0, self.size - span) // args.cluster *
                        args.cluster)

    def connect(self):
        for _ in range(self.args.connections):
            h = nbd.NBD()
            h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            h.connect_uri(self.args.uri)
            self.handles.append(h)
        h = self.handles[0]
        if h.get_size() != self.size:
            raise Difference("the export has %d bytes, not %d"
                             % (h.get_size(), self.size))
        if h.is_read_only():
            raise Difference("the export is read-only")
        for what in ("flush", "fua", "trim", "zero", "fast_zero", "cache",
                     "multi_conn"):
            if not getattr(h, "can_" + what)():
                raise Difference("the export cannot do: " + what)

    def shutdown(self):
        """A vanishing client is bad manners: end every connection."""
        for h in self.handles:
            try:
                while h.aio_in_flight() > 0 and not self.killed:
                    if h.poll(STALLED * 1000) == 0:
                        break
                h.shutdown()
            except nbd.Error as e:
                if not self.killed:
                    print("shutdown: " + e.string, file=sys.stderr)

    # --- what to ask for

    def choose_range(self):
        rnd = self.rnd
        cluster = self.args.cluster
        unit = rnd.choice((1, 1, SECTOR, SECTOR, 4096,
                           max(cluster // 32, SECTOR), cluster, cluster))
        longest = rnd.choice((unit, 3000, cluster // 2, cluster,
                              self.args.largest))
        longest = max(1, min(longest, self.args.largest) // unit)
        length = unit * rnd.randrange(1, longest + 1)
        if rnd.random() < 0.6:
            start = rnd.choice(self.hot) + rnd.randrange(4 * cluster)
        else:
            start = rnd.randrange(self.size)
        start = min(start, self.size - 1) // unit * unit
        return start, min(length, self.size - start)

    def conflicts(self, start, end, changes):
        start, end = start // SECTOR, (end - 1) // SECTOR
        return any(op.end > op.offset and
                   (changes or op.changes) and
                   op.offset // SECTOR <= end and
                   (op.end - 1) // SECTOR >= start for op in self.active)

    def choose(self):
        """A request that may run beside those in flight, or None."""
        rnd = self.rnd
        kind = rnd.choices(self.kinds, self.weights)[0]
        if kind == "flush":
            return Op(self.number, kind, 0, 0, 0)
        for _ in range(30):
            start, length = self.choose_range()
            if not self.conflicts(start, start + length,
                                  kind not in ("read", "cache")):
                break
        else:
            return None
        flags = 0
        data = None
        if kind in ("write", "zero", "fast", "trim") and rnd.random() < 0.04:
            flags |= nbd.CMD_FLAG_FUA
        if kind == "write":
            data = bytes(length) if rnd.random() < 0.08 \
                else rnd.randbytes(length)
        elif kind in ("zero", "fast", "trim"):
            data = bytes(length)
        if kind in ("zero", "fast") and rnd.random() < 0.5:
            flags |= nbd.CMD_FLAG_NO_HOLE
        if kind == "fast":
            flags |= nbd.CMD_FLAG_FAST_ZERO
        return Op(self.number, kind, start, length, flags, data)

    # --- sending and collecting

    def completion(self, op):
        def done(err):
            op.err = getattr(err, "value", err)
            self.finished.append(op)
            return 1
        return done

    def submit(self, op, index):
        h = self.handles[index]
        op.handle = index
        length = op.end - op.offset
        done = self.completion(op)
        if op.checking or op.kind == "read":
            op.buf = nbd.Buffer(length)
            h.aio_pread(op.buf, op.offset, done)
        elif op.kind == "write":
            op.buf = nbd.Buffer.from_bytearray(bytearray(op.data))
            h.aio_pwrite(op.buf, op.offset, done, op.flags)
        elif op.kind in ("zero", "fast"):
            h.aio_zero(length, op.offset, done, op.flags)
        elif op.kind == "trim":
            h.aio_trim(length, op.offset, done, op.flags)
        elif op.kind == "cache":
            h.aio_cache(length, op.offset, done)
        else:
            h.aio_flush(done)

    def start(self, op, index):
        self.number += 1
        self.counts[op.kind] = self.counts.get(op.kind, 0) + 1
        self.active.append(op)
        if op.changes:
            self.history.append(op)
        if self.versions:
            if op.changes:
                self.versions.begin(op)
            elif op.kind == "flush":
                self.versions.flush_begins(op)
        self.submit(op, index)

    def poll(self):
        """Wait until something happens on some connection."""
        p = select.poll()
        by_fd = {}
        for h in self.handles:
            if h.aio_in_flight() == 0:
                continue
            fd = h.aio_get_fd()
            by_fd[fd] = h
            direction = h.aio_get_direction()
            p.register(fd,
                       (select.POLLIN
                        if direction & nbd.AIO_DIRECTION_READ else 0) |
                       (select.POLLOUT
                        if direction & nbd.AIO_DIRECTION_WRITE else 0))
        events = p.poll(STALLED * 1000)
        if not events:
            raise Difference("no reply to:\n  " +
                             "\n  ".join(str(op) for op in self.active))
        for fd, what in events:
            h = by_fd[fd]
            direction = h.aio_get_direction()
            if what & (select.POLLIN | select.POLLHUP | select.POLLERR) \
               and direction & nbd.AIO_DIRECTION_READ:
                h.aio_notify_read()
            elif direction & nbd.AIO_DIRECTION_WRITE:
                h.aio_notify_write()

    def collect(self):
        while self.finished:
            self.settle(self.finished.pop(0))

    def settle(self, op):
        if self.killed and op.err:
            self.active.remove(op)
            return
        if op.checking:
            self.settle_check(op)
            return
        if op.err:
            name = errno.errorcode.get(op.err, str(op.err))
            if op.kind == "fast" and name in ("ENOTSUP", "EOPNOTSUPP"):
                self.counts["not fast"] = self.counts.get("not fast", 0) + 1
            elif name not in self.args.may_fail:
                raise Difference("%s: %s" % (op, os.strerror(op.err)))
            else:
                self.counts[name] = self.counts.get(name, 0) + 1
        if op.kind == "read" and not op.err:
            self.expect(op, op.buf.to_bytearray(),
                        self.model[op.offset:op.end])
        if op.kind == "flush" and not op.err and self.versions:
            self.versions.flush_ends(op)
        if op.changes and (op.err or op.kind == "trim") and not self.killed:
            op.checking = True
            op.failed = op.err
            self.submit(op, self.rnd.randrange(len(self.handles)))
            return
        if op.changes and not self.killed:
            self.model[op.offset:op.end] = op.data
            if self.versions:
                self.versions.end(op)
        self.active.remove(op)

    def settle_check(self, op):
        if op.err:
            raise Difference("reading back %s: %s"
                             % (op, os.strerror(op.err)))
        op.err = op.failed
        got = op.buf.to_bytearray()
        old = self.model[op.offset:op.end]
        bad = merge_known(old, op.data, got)
        if bad is not None:
            self.expect(op, got, old, bad)
        self.model[op.offset:op.end] = got
        if self.versions:
            self.versions.end(op)
        self.active.remove(op)

    def expect(self, op, got, want, at=None):
        if at is None:
            if got == want:
                return
            at = next(i for i in range(len(want)) if got[i] != want[i])
        place = op.offset + at
        last = [o for o in self.history if o.offset <= place < o.end][-6:]
        raise Difference(
            "%s: byte %d is 0x%02x, expected 0x%02x; the last changes "
            "there:\n  %s\nin flight:\n  %s"
            % (op, place, got[at], want[at], "\n  ".join(map(str, last)),
               "\n  ".join(str(o) for o in self.active if o.changes)))

    # --- the whole run

    def drain(self):
        while self.active:
            self.poll()
            self.collect()

    def check_all(self, why):
        """Everything is at rest: the whole disk, and what the extents say,
        on one connection; the flush on another."""
        self.drain()
        flush = Op(self.number, "flush", 0, 0, 0)
        self.start(flush, self.rnd.randrange(len(self.handles)))
        self.drain()
        h = self.rnd.choice(self.handles)
        for at in range(0, self.size, CHUNK):
            length = min(CHUNK, self.size - at)
            op = Op(self.number, why, at, length, 0)
            self.expect(op, h.pread(length, at), self.model[at:at + length])
        self.check_extents(h)

    def check_extents(self, h):
        at = 0
        while at < self.size:
            found = []

            def extents(context, start, entries, err):
                for i in range(0, len(entries), 2):
                    found.append((start, entries[i], entries[i + 1]))
                    start += entries[i]

            h.block_status(self.size - at, at, extents)
            for start, length, flags in found:
                if flags & nbd.STATE_ZERO and \
                   any(self.model[start:start + length]):
                    raise Difference("extent %d+%d is called zero and is not"
                                     % (start, length))
                at = start + length

    def run(self):
        args = self.args
        self.check_all("first look")
        self.number = 0
        barriers = [args.ops * i // (args.barriers + 1)
                    for i in range(1, args.barriers + 1)]
        while self.number < args.ops:
            self.fill()
            if args.kill and self.number >= args.kill_at:
                self.kill()
                return
            if self.active:
                self.poll()
                self.collect()
            if barriers and self.number >= barriers[0]:
                barriers.pop(0)
                self.check_all("barrier")
        if args.kill:
            raise Difference("too few requests: nothing was killed")
        self.check_all("last look")

    def fill(self):
        for index, h in enumerate(self.handles):
            while h.aio_in_flight() < self.args.in_flight and \
                  self.number < self.args.ops:
                op = self.choose()
                if op is None:
                    return
                self.start(op, index)

    def kill(self):
        """Kill the server now; take the replies that it sent before."""
        for _ in range(self.rnd.randrange(4)):
            self.poll()
            self.collect()
        os.kill(self.args.kill, signal.SIGKILL)
        self.killed = True
        for h in self.handles:
            try:
                while h.aio_in_flight() > 0:
                    h.poll(STALLED * 1000)
            except nbd.Error:
                pass            # the connection is dead
        self.collect_killed()
        self.versions.save(self.args.state)

    def collect_killed(self):
        for op in self.finished:
            if op.checking or op.err:
                continue        # both old and new remain possible
            if op.kind == "flush":
                self.versions.flush_ends(op)
            elif op.changes and op.kind != "trim":
                self.model[op.offset:op.end] = op.data
                self.versions.end(op)
            elif op.kind == "read":
                self.expect(op, op.buf.to_bytearray(),
                            self.model[op.offset:op.end])
        self.finished = []

    def save(self):
        with open(self.args.model, "wb") as f:
            f.write(self.model)


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("uri")
    p.add_argument("model")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--ops", type=int, default=1000)
    p.add_argument("--barriers", type=int, default=2)
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--in-flight", type=int, default=6,
                   help="requests on each connection")
    p.add_argument("--cluster", type=int, default=65536,
                   help="what to centre places and lengths on")
    p.add_argument("--largest", type=int, default=1 << 20,
                   help="length of the largest request")
    p.add_argument("--mix", default=MIX, help="weights of the requests")
    p.add_argument("--may-fail", action="append", default=[],
                   help="an errno that changes may fail with")
    p.add_argument("--kill", type=int, metavar="PID")
    p.add_argument("--kill-at", type=int, default=0, metavar="OPS")
    p.add_argument("--state", help="where to write what may be there then")
    p.add_argument("--judge", action="store_true",
                   help="the arguments are STATE and RAW")
    return p.parse_args()


def main():
    args = parse_args()
    if args.judge:
        try:
            judge(args.uri, args.model)
        except Difference as e:
            print("%s: %s" % (sys.argv[0], e), file=sys.stderr)
            return 1
        return 0

    load = Load(args)
    try:
        load.connect()
        load.run()
    except (Difference, nbd.Error) as e:
        print("%s: seed %d, request %d: %s"
              % (sys.argv[0], args.seed, load.number, e), file=sys.stderr)
        return 1
    finally:
        load.shutdown()
    if not args.kill:
        load.save()
    print("seed %d: %s" % (args.seed, load.counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
