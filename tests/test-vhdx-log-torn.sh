#!/usr/bin/env bash
# The last entry of a log that did not get there whole, in every way: the
# sequence ends before it.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# A last entry that did not get there whole: the older ones count.
make <<'END'
def torn (kind, **how):
    i = disk ()
    log = Log (i, seq=5)
    pages = log.steal (i.bat_at) + log.steal (i.metadata_at)
    log.entry (pages)
    bad = poison (i)
    log.entry (bad + [("data", i.bat_at + n * PAGE, b"\6" * PAGE)
                      for n in range (130)], **how)
    dirty (i, "torn-" + kind, log)


# In the file it has a header sector, another one of descriptors, and 132
# of data.
for sector in 0, 1, 2, 80, 133:
    torn ("sector%d" % sector, missing=[sector])
torn ("only-header", missing=range (1, 134))
torn ("only-data", missing=(0, 1))


def put (at, data):
    def change (raw):
        raw[at:at + len (data)] = data
    return change


# Torn within a sector; by one bit.
torn ("header", after=put (512, bytes (3584)))
torn ("descriptors", after=put (4096 + 64, bytes (4032)))
torn ("data", after=put (16384 + 2048, bytes (2048)))
torn ("bit", after=put (133 * 4096 + 100, b"\7"))
# With a right checksum and one thing that is not right.
torn ("signature", signature=b"logE")
torn ("guid", name=bytes (16))
torn ("skip", seq=7)
torn ("same", seq=5)
torn ("before", seq=4)
torn ("length-odd", length=134 * 4096 + 1)
torn ("length-short", length=133 * 4096)
torn ("length-long", length=135 * 4096)
torn ("length-zero", length=0)
torn ("length-ring", length=MIB + 4096)
torn ("length-huge", length=0xfffff000)
torn ("count-more", count=134)
torn ("count-less", count=132)
torn ("count-huge", count=0xffffffff)
torn ("tail-odd", tail=100)
torn ("tail-outside", tail=MIB)
torn ("tail-huge", tail=0xfffff000)
torn ("descriptor-signature", spoil=put (64, b"desk"))
torn ("descriptor-seq", spoil=put (64 + 24, b"\5"))
torn ("descriptor-at", spoil=put (64 + 16, b"\1"))
torn ("zero-seq", spoil=put (128 + 24, b"\5"))
torn ("zero-length", spoil=put (128 + 8, b"\1"))
torn ("data-signature", spoil=put (2 * 4096, b"dats"))
torn ("data-high", spoil=put (3 * 4096 + 4, b"\1"))
torn ("data-low", spoil=put (3 * 4096 - 4, b"\5"))
END
before="$(digest *.vhdx)"
for image in *.vhdx; do
  same $image
done
for image in torn-sector2 torn-bit torn-skip; do
  quietly same $image.vhdx log=strict
done
test "$(digest *.vhdx)" = "$before" || fail "an image changed"
