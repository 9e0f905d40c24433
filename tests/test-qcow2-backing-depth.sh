#!/usr/bin/env bash
# How deep a chain may be, and loops.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

# f000 is at the bottom; each name is as long as the next, so that a copy
# with another name in it is the next layer.
create f000 1M
io f000 'write -P 1 0 1M'
create f001 1M -b f000 -F qcow2
image_tool chain . 200

io f150 'write -P 2 128k 100k'
io f199 'write -P 3 700k 1'
compare f199                            # 200 files
qemu-img create -q -u -f qcow2 -b f199 -F qcow2 f200 1M
refused '200' f200                      # 201

# Loops: of two, of one, through a symbolic link, through a hard link.
loop='loop|itself|cycle|circular'
qemu-img create -q -u -f qcow2 -b c2.qcow2 -F qcow2 c1.qcow2 1M
qemu-img create -q -u -f qcow2 -b c1.qcow2 -F qcow2 c2.qcow2 1M
refused "$loop" c1.qcow2
refused "$loop" c2.qcow2
qemu-img create -q -u -f qcow2 -b self.qcow2 -F qcow2 new.qcow2 1M
mv new.qcow2 self.qcow2
refused "$loop" self.qcow2
qemu-img create -q -u -f qcow2 -b link.qcow2 -F qcow2 target.qcow2 1M
ln -s target.qcow2 link.qcow2
refused "$loop" target.qcow2
refused "$loop" link.qcow2
qemu-img create -q -u -f qcow2 -b hard.qcow2 -F qcow2 first.qcow2 1M
ln first.qcow2 hard.qcow2
refused "$loop" first.qcow2

# A loop that begins below the top, and one made by the user.
qemu-img create -q -u -f qcow2 -b c1.qcow2 -F qcow2 tail.qcow2 1M
refused "$loop" tail.qcow2
create alone.qcow2 1M
refused "$loop" alone.qcow2 backing=alone.qcow2 backing-format=qcow2

