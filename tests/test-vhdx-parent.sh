#!/usr/bin/env bash
# Which file is the parent: the names in the locator and where they are
# looked for, what may be opened, and whether it is the right one.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Bases of one content each, all with the same identity: which one was
# opened shows in what is read.
cat > bases.py <<'END'
IDENTITY = b"\x31\x41\x59\x26\x53\x58\x97\x49\x83\x23\x84\x62\x64\x33\x83\x27"
LINK = "{%s}" % guid_text (IDENTITY)


def base (path, seed, identity=IDENTITY, **kwargs):
    i = Image (MIB, **kwargs)
    i.set (0, seed=seed, pieces=[(0, fill (seed, 0, 65536))])
    for h in i.headers:
        h.data_write = identity
    os.makedirs (os.path.dirname (path) or ".", exist_ok=True)
    i.save (path)


def over (path, *keys, link=LINK, **kwargs):
    keys = [("parent_linkage", link)] + list (keys)
    Image (MIB, parent="none.vhdx", keys=keys, **kwargs).save (path,
                                                               raw=False)
END
bases () {
  { cat bases.py; cat; } | make
}

# opens RAW IMAGE [PARAMETER...]: ... and shows that disk.
opens () {
  local raw="$1"
  shift
  oracle=$raw quietly same "$@"
}

# One name after the other; the first that exists counts, wherever the keys
# stand in the table.
bases <<'END'
base ("one.vhdx", 1)
base ("two.vhdx", 2)
base ("three.vhdx", 3)
rel = lambda n: ("relative_path", n)
vol = lambda n: ("volume_path", n)
win = lambda n: ("absolute_win32_path", n)
volume = "\\\\?\\Volume{01234567-89ab-cdef-0123-456789abcdef}\\"
over ("relative.vhdx", rel (".\\one.vhdx"))
over ("bare.vhdx", rel ("one.vhdx"))
over ("slash.vhdx", rel ("./one.vhdx"))
over ("parent-dir.vhdx", rel ("..\\" + os.path.basename (os.getcwd ()) +
                              "\\one.vhdx"))
over ("detour.vhdx", rel (".\\sub\\..\\.\\one.vhdx"))
over ("first.vhdx", win ("\\\\?\\d:\\x\\three.vhdx"),
      vol (volume + "two.vhdx"), rel (".\\one.vhdx"))
over ("second.vhdx", win ("\\\\?\\d:\\x\\two.vhdx"),
      rel (".\\gone.vhdx"),
      vol (volume + "x\\two.vhdx"))
over ("third.vhdx", rel (".\\gone.vhdx"), win ("\\\\?\\d:\\x\\three.vhdx"))
over ("order.vhdx", win ("\\\\?\\d:\\x\\three.vhdx"), rel (".\\gone.vhdx"),
      vol (volume + "x\\two.vhdx"))
over ("unc.vhdx", win ("\\\\?\\UNC\\server\\share\\x\\two.vhdx"))
over ("plain.vhdx", win ("C:\\disks\\two.vhdx"))
over ("volume.vhdx", vol (volume + "two.vhdx"))
END
for image in relative bare slash parent-dir detour first; do
  opens one.raw $image.vhdx
done
# Nothing is mapped: beside the child, by the name alone.
for image in second order unc plain volume; do
  opens two.raw $image.vhdx
done
opens three.raw third.vhdx
# Keys do not have other spellings.
bases <<'END'
over ("case.vhdx", ("Relative_Path", ".\\one.vhdx"))
over ("no-linkage.vhdx", ("relative_path", ".\\one.vhdx"),
      ("PARENT_LINKAGE2", LINK), link="{%s}" % guid_text (b"\1" * 16))
END
refused 'path' case.vhdx
refused 'one.vhdx' no-linkage.vhdx

# From another directory, through links.
mkdir elsewhere
ln -s ../relative.vhdx elsewhere/link.vhdx
(cd /; opens "$tmpdir/one.raw" "$tmpdir/relative.vhdx")
cp one.vhdx elsewhere/one.vhdx
opens one.raw elsewhere/link.vhdx

# Names of other letters, and of no letters that Linux knows; names that
# differ in case.
bases <<'END'
names = ["gr\u00f6\u00dfe \u00e9t\u00e9.vhdx", "\u78c1\u76e4.vhdx",
         "\U0001f4be disk.vhdx", "a'b \"c\" $d;e.vhdx", " lead.vhdx"]
for n, name in enumerate (names):
    base (name, 10 + n)
    os.rename (name[:-5] + ".raw", "letters%d.raw" % n)
    over ("letters%d.vhdx" % n, ("relative_path", ".\\" + name))
base ("Mixed.VHDX", 20)
over ("lower.vhdx", ("relative_path", ".\\mixed.vhdx"))
over ("upper.vhdx", ("relative_path", ".\\MIXED.vhdX"))
END
for n in 0 1 2 3 4; do
  opens letters$n.raw letters$n.vhdx
done
for image in lower upper; do
  opens Mixed.raw $image.vhdx
done
# The same letters go before others; of several others none does.
bases <<'END'
base ("mixed.vhdx", 21)
END
opens mixed.raw lower.vhdx
cp Mixed.VHDX mIxed.vhdx
refused 'cannot be told.*several files match' upper.vhdx
expect_no_text refused.log 'not found'
rm mIxed.vhdx mixed.vhdx

# Mapped drives, volumes and shares; the longest prefix or the first; the
# directory that was named may be opened.
mkdir -p mnt/disks/x mnt/share child
cp two.vhdx mnt/disks/two.vhdx
cp three.vhdx mnt/disks/x/three.vhdx
cp three.vhdx mnt/share/two.vhdx
bases <<'END'
over ("child/drive.vhdx", ("absolute_win32_path",
                           "\\\\?\\d:\\disks\\two.vhdx"))
over ("child/deep.vhdx", ("absolute_win32_path",
                          "\\\\?\\D:\\disks\\X\\Three.vhdx"))
over ("child/volume.vhdx", ("volume_path",
      "\\\\?\\Volume{01234567-89AB-cdef-0123-456789abcdef}\\disks\\two.vhdx"))
over ("child/both.vhdx", ("volume_path",
      "\\\\?\\Volume{01234567-89ab-cdef-0123-456789abcdef}\\disks\\two.vhdx"),
      ("absolute_win32_path", "\\\\?\\d:\\disks\\x\\three.vhdx"))
END
opens two.raw child/drive.vhdx path-map=d:=mnt
opens two.raw child/drive.vhdx path-map=D:="$tmpdir/mnt"
opens three.raw child/deep.vhdx path-map=d:=mnt
opens two.raw child/drive.vhdx path-map=c:=child path-map=d:=mnt
map='{01234567-89ab-cdef-0123-456789abcdef}=mnt'
opens two.raw child/volume.vhdx path-map="$map"
opens two.raw child/both.vhdx path-map="$map" path-map=d:=mnt
opens three.raw child/both.vhdx path-map=d:=mnt
# Nothing there: the message has what was recorded, and what to do.
refused 'disks.two.vhdx", ".*disks.x.three.vhdx".*"two.vhdx", "three.vhdx".*(backing=|path-map=)' \
        child/both.vhdx path-map=e:=mnt
refused 'd:.disks.two.vhdx' child/drive.vhdx
bases <<'END'
over ("control.vhdx", ("absolute_win32_path", "d:\\\x1b[31m\nFAKE\\gone.vhdx"))
END
refused 'not found.*"d:..\[31m.FAKE.gone.vhdx"' control.vhdx
# A place that cannot be looked into: no other name is taken.
ln -s circle circle
bases <<'END'
over ("circle.vhdx", ("relative_path", ".\\circle\\one.vhdx"))
over ("round.vhdx", ("relative_path", ".\\Circle\\one.vhdx"))
END
for image in circle round; do
  refused 'circle/one.vhdx: Too many levels of symbolic links' $image.vhdx
done
# Nor has an image a directory that comes by file descriptor.
bases <<'END'
over ("by-fd.vhdx", ("relative_path", ".\\one.vhdx"))
END
opens one.raw by-fd.vhdx
exec 7< by-fd.vhdx
expect_fail fd.log nbdkit -r -U - vhdx fd=7 --run true
exec 7<&-
expect_text fd.log '"one.vhdx", but .* has no directory' 'backing=PATH'
for value in d: =mnt d:= ''; do
  expect_fail map.log nbdkit -r -U - vhdx one.vhdx path-map="$value" \
              --run true
  expect_text map.log path-map
done
expect_fail map.log nbdkit -r -U - vhdx one.vhdx path-map=d:=missing --run true

# What may be opened: only what is beside the child, or what the user said.
mkdir -p deep/er
bases <<'END'
base ("deep/base.vhdx", 30)
os.rename ("deep/base.raw", "deep.raw")
over ("deep/er/over.vhdx", ("relative_path", "..\\base.vhdx"))
END
refused 'allow-path=' deep/er/over.vhdx
opens deep.raw deep/er/over.vhdx allow-path=deep
opens deep.raw deep/er/over.vhdx allow-path=deep/base.vhdx
opens deep.raw deep/er/over.vhdx backing=deep/base.vhdx
refused 'allow-path=' deep/er/over.vhdx allow-path=child
ln -s ../base.vhdx deep/er/link.vhdx
bases <<'END'
over ("deep/er/to-link.vhdx", ("relative_path", ".\\link.vhdx"))
over ("deep/er/fifo.vhdx", ("relative_path", ".\\a-fifo"))
over ("deep/er/dir.vhdx", ("relative_path", "..\\er"))
over ("deep/er/null.vhdx", ("relative_path", "..\\..\\..\\..\\dev\\null"))
over ("deep/er/root.vhdx", ("relative_path", "\\etc\\passwd"))
END
refused 'allow-path=' deep/er/to-link.vhdx
opens deep.raw deep/er/to-link.vhdx allow-path=deep
mkfifo deep/er/a-fifo
for image in fifo dir null root; do
  refused . deep/er/$image.vhdx
  refused . deep/er/$image.vhdx allow-path=/
done

# The identity: by either linkage, in any spelling; otherwise it is another
# disk, and both identities are named.
bases <<'END'
other = guid_text (b"\xaa" * 16)
base ("base.vhdx", 40)
path = ("relative_path", ".\\base.vhdx")
text = guid_text (IDENTITY)
over ("braces.vhdx", path, link=text)
over ("capitals.vhdx", path, link=LINK.upper ())
over ("second-link.vhdx", path, ("parent_linkage2", LINK),
      link="{%s}" % other)
over ("first-link.vhdx", path, ("parent_linkage2", "{%s}" % other))
over ("wrong.vhdx", path, link="{%s}" % other)
over ("both-wrong.vhdx", path, ("parent_linkage2", "{%s}" % other),
      link="{%s}" % other)
base ("sector.vhdx", 41, sector=4096)
over ("sectors.vhdx", ("relative_path", ".\\sector.vhdx"))
over ("wrong-first.vhdx", ("relative_path", ".\\stranger.vhdx"),
      ("absolute_win32_path", "\\\\?\\c:\\base.vhdx"))
base ("stranger.vhdx", 42, b"\xbb" * 16)
END
for image in braces capitals second-link first-link; do
  opens base.raw $image.vhdx
done
link=26594131-5853-4997-8323-846264338327
for image in wrong both-wrong; do
  refused "$link" $image.vhdx
  expect_text refused.log 'aaaaaaaa-aaaa-aaaa' 'parent-mismatch=allow' \
              base.vhdx
  refused "$link" $image.vhdx parent-mismatch=refuse
  oracle=base.raw same $image.vhdx parent-mismatch=allow
done
# The first that exists is the one: nobody searches on.
refused 'bbbbbbbb-bbbb-bbbb' wrong-first.vhdx
refused 'sector' sectors.vhdx
refused 'sector' sectors.vhdx parent-mismatch=allow
# Named by the user: still to be the right one.
refused "$link" wrong.vhdx backing=base.vhdx
oracle=base.raw same wrong.vhdx backing=base.vhdx parent-mismatch=allow
opens base.raw wrong-first.vhdx backing=base.vhdx
# An identity that changed, as with every write to the parent.
cp base.vhdx kept.vhdx
bases <<'END'
base ("base.vhdx", 40, b"\xcc" * 16)
END
refused 'cccccccc-cccc-cccc' braces.vhdx
mv kept.vhdx base.vhdx

# Other formats below, where the user says so; none at all.
head -c $((1 << 20)) /dev/urandom > random.raw
qemu-img convert -f raw -O qcow2 random.raw random.qcow2
before="$(digest *.vhdx random.*)"
oracle=random.raw same wrong.vhdx backing=random.raw backing-format=raw
oracle=random.raw same wrong.vhdx backing=random.qcow2 backing-format=qcow2
truncate -s 1M zero.raw
oracle=zero.raw same wrong.vhdx backing=none
test "$(digest *.vhdx random.*)" = "$before" || fail "a parent changed"
expect_fail mismatch.log nbdkit -r -U - vhdx one.vhdx \
            parent-mismatch=maybe --run true
expect_text mismatch.log 'refuse.*allow'

# Loops: of one, of two, through links.
bases <<'END'
def loop (path, to):
    i = Image (MIB, parent="x.vhdx", keys=[("parent_linkage", LINK),
                                           ("relative_path", ".\\" + to)])
    for h in i.headers:
        h.data_write = IDENTITY
    i.save (path, raw=False)
loop ("self.vhdx", "self.vhdx")
loop ("a.vhdx", "b.vhdx")
loop ("b.vhdx", "a.vhdx")
loop ("c.vhdx", "A.VHDX")
loop ("d.vhdx", "e.vhdx")
END
ln d.vhdx e.vhdx
for image in self a b c d; do
  refused 'loop|itself|cycle|circular' $image.vhdx
done

# A parent that is damaged is named.
bases <<'END'
i = Image (MIB)
i.raw_entries[0] = MIB | PRESENT
for h in i.headers:
    h.data_write = IDENTITY
i.save ("damaged.vhdx")
over ("on-damaged.vhdx", ("relative_path", ".\\damaged.vhdx"))
END
culprit=damaged.vhdx
refused 'BAT' on-damaged.vhdx
culprit=
