#!/usr/bin/env bash
# Region tables and metadata in every form that is allowed: either table
# damaged, any order, anything unknown beside what is known.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# The table that must not count places BAT and metadata elsewhere.
make <<'END'
def damaged (which, how):
    i = Image (4 * MIB)
    i.fill (2, order=1)
    bad = i.tables[which]
    if how == "crc":
        bad.wrong_crc = True
    elif how == "signature":
        bad.signature = b"regj"
    bad.find (BAT_REGION).at = i.metadata_at
    bad.find (METADATA_REGION).at = i.bat_at
    i.seal ()
    if how == "bit":
        i.file.flip (TABLES[which] + 65535)
    elif how == "gone":
        i.file.put (TABLES[which], bytes (65536))
    elif how == "torn":
        i.file.put (TABLES[which] + 4096, b"\x11" * 4096)
    i.save ("damaged%d-%s.vhdx" % (which, how))

for how in "crc", "signature", "bit", "gone", "torn":
    damaged (0, how)
    damaged (1, how)

# Both are sound and differ: the first one counts.
i = Image (4 * MIB)
i.fill (3)
i.tables[1].find (BAT_REGION).at = i.allocate (MIB)
i.save ("differ.vhdx")
END
for image in damaged*.vhdx differ.vhdx; do
  same $image
done
qemu_same differ.vhdx
qemu_same damaged1-gone.vhdx

# Order, the Required bit, other bits; regions that nobody knows: as many
# as fit, with data of their own.
make <<'END'
for flags in 0, 1, 2, 0xfffffffe, 0xffffffff:
    i = Image (4 * MIB)
    i.fill (4)
    for t in i.tables:
        for r in t.regions:
            r.flags = flags
        t.regions.reverse ()
    i.save ("flags%d.vhdx" % flags)
i = Image (4 * MIB)
i.set (0)
at = i.allocate (3 * MIB)
i.set (1)
far = i.allocate (MIB, 1 << 33)
i.add_region (at, 3 * MIB)
i.add_region (far, MIB)
for t in i.tables:
    t.regions.sort (key=lambda r: -r.at)
i.set (3)
i.build ()
i.file.put (at, b"\x5a" * (3 * MIB))
i.file.put (far, b"\x5a" * MIB)
i.save ("unknown.vhdx")
i = Image (4 * MIB)
i.fill (5)
at = i.allocate (2045 * MIB)
for n in range (2045):
    i.add_region (at + n * MIB, MIB)
for t in i.tables:
    random.Random (1).shuffle (t.regions)
i.save ("many.vhdx")
i = Image (4 * MIB, place=dict (metadata=2 * MIB, bat=200 * MIB,
                                data=400 * MIB))
i.fill (6)
i.region (BAT_REGION, lambda r: setattr (r, "length", 100 * MIB))
i.region (METADATA_REGION, lambda r: setattr (r, "length", 128 * MIB))
i.save ("long.vhdx")
END
for image in flags*.vhdx unknown.vhdx many.vhdx long.vhdx; do
  quietly same $image
done
qemu_same flags0.vhdx

# The metadata: any order in the table and in the region, on any byte, with
# items of the user and unknown ones; empty ones.
make <<'END'
for seed in range (4):
    i = Image (4 * MIB)
    i.fill (7 + seed)
    rnd = random.Random (seed)
    i.items += [Item (guid (), b"user" * n, USER) for n in range (1, 5)]
    i.items += [Item (guid (), b"else" * n, rnd.choice ((0, VIRTUAL)))
                for n in range (1, 5)]
    i.items += [Item (guid (), b"", USER, at=0), Item (guid (), b"", 0, at=0)]
    # A user may use the same GUID as a system item, for other things.
    i.items.append (Item (DISK_SIZE, b"mine", USER))
    rnd.shuffle (i.items)
    at = MIB
    for item in i.items:
        if item.at is None:
            at -= len (item.data) + rnd.choice ((0, 1, 3, 4000))
            item.at = at
    rnd.shuffle (i.items)
    i.save ("items%d.vhdx" % seed)
# 2047 entries; an item as long as may be, in a region of 2 MiB.
i = Image (4 * MIB, place=dict (metadata=2 * MIB, bat=4 * MIB,
                                data=5 * MIB))
i.region (METADATA_REGION, lambda r: setattr (r, "length", 2 * MIB))
i.fill (12)
i.items = [Item (guid (), b"", USER, at=0) for _ in range (1024)] + i.items
i.items += [Item (guid (), b"x" * 8, 0) for _ in range (2047 - 1024 - 6)]
i.items.append (Item (guid (), b"y" * MIB, 0, at=MIB))
assert len (i.items) == 2047
i.save ("items2047.vhdx")
# GUIDs of Microsoft's that are no secret: accepted though required.
for n, text in enumerate (["da02d7bc-3d3a-423c-ac88-2a36ab21479b",
                           "10e1ae8a-4b7e-4169-a40f-cd70de928393"]):
    i = Image (4 * MIB)
    i.fill (13)
    i.items.append (Item (text_guid (text), bytes (8), REQUIRED))
    i.save ("microsoft%d.vhdx" % n)
END
for image in items*.vhdx microsoft*.vhdx; do
  quietly same $image
done
