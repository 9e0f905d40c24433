#!/usr/bin/env bash
# The parameters of the vhdx plugin alone: what they may say, and where
# path-map= leads.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

make <<'END'
Image(2 * MIB).save("disk.vhdx")
base = Image(2 * MIB)
base.fill(seed=5)
base.save("base.vhdx")
for name, key, path in (
        ("drive", "absolute_win32_path", "D:\\VMs\\Old\\base.vhdx"),
        ("verbatim", "absolute_win32_path", "\\\\?\\D:\\VMs\\Old\\base.vhdx"),
        ("share", "absolute_win32_path",
         "\\\\?\\UNC\\Server\\Share\\VMs\\Old\\base.vhdx"),
        ("volume", "volume_path",
         "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}"
         "\\VMs\\Old\\base.vhdx")):
    child = Image(2 * MIB, parent="base.vhdx", keys=[(key, path)])
    child.set(1, seed=6)
    child.save(name + ".vhdx")
END
mkdir -p there/VMs/Old elsewhere empty
mv base.vhdx there/VMs/Old

# wrong TEXT PARAMETER...: refused before anything is looked at.
wrong () {
  local text=$1
  shift
  expect_fail log nbdkit -r -U - vhdx disk.vhdx "$@" --run true
  expect_text log "$text"
}

wrong 'check=all: must be none or open' check=all
wrong 'check=: must be none or open' check=
wrong 'log=Strict: must be lenient or strict' log=Strict
wrong 'parent-mismatch=true: must be refuse or allow' parent-mismatch=true
wrong 'path-map=d:: must be PREFIX=DIRECTORY' path-map=d:
wrong 'path-map==there: must be PREFIX=DIRECTORY' path-map==there
wrong 'path-map=d:=: must be PREFIX=DIRECTORY' path-map=d:=
wrong 'nowhere.*No such file' path-map=d:=nowhere
for twice in log=strict check=open parent-mismatch=allow; do
  wrong "${twice%=*}" $twice $twice
done
for key in create=true resize=4M snapshot=1 data-file=disk.raw fixup=memory \
           block-size=1M; do
  wrong "unknown parameter '?${key%=*}" $key
done
wrong 'disk.vhdx: .*image does not have a backing file' \
      backing=there/VMs/Old/base.vhdx

# All may be said of any disk.
same disk.vhdx check=none log=lenient parent-mismatch=refuse
same disk.vhdx check=open log=strict parent-mismatch=allow path-map=d:=there \
     path-map=e:=elsewhere

# ---- where paths lead

for image in drive verbatim share volume; do
  expect_fail log nbdkit -r -U - vhdx $image.vhdx --run true
  expect_text log "$image.vhdx.*VMs.Old.base.vhdx"
done
for image in drive verbatim; do
  same $image.vhdx path-map=d:=there
  same $image.vhdx path-map=D:="$PWD/there"
  same $image.vhdx 'path-map=d:\vms=there/VMs'
  same $image.vhdx path-map=e:=elsewhere path-map=d:=there
done
same share.vhdx 'path-map=UNC\Server\Share=there'
same share.vhdx 'path-map=unc\server\share=there'
same volume.vhdx 'path-map={26A21BDA-a627-11d7-9931-806e6f6e6963}=there'
same volume.vhdx 'path-map=Volume{26a21bda-a627-11d7-9931-806e6f6e6963}=there'

# Not by a part of a name, nor by another one; the first that fits counts.
for map in d=there 'd:\VM=there' e:=there 'server\share=there' \
           '{26a21bda-a627-11d7-9931-806e6f6e6964}=there'; do
  for image in drive share volume; do
    expect_fail log nbdkit -r -U - vhdx $image.vhdx path-map="$map" --run true
    expect_text log "$image.vhdx.*not found"
  done
done
expect_fail log nbdkit -r -U - vhdx drive.vhdx path-map=d:=empty \
  path-map=d:=there --run true
expect_text log 'drive.vhdx.*not found'

# Without a map the file beside the image is taken, as the last one looked
# for; a map is asked first.
cp there/VMs/Old/base.vhdx .
same drive.vhdx
rm base.vhdx
printf 'no image' > base.vhdx
same drive.vhdx path-map=d:=there
