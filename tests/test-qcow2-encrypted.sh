#!/usr/bin/env bash
# Encrypted images are refused, saying what is missing.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow2-lib.sh"

secret=(--object secret,id=s,data=hunter2)
# QEMU measures how fast it is, and fails when its clock has not moved.
tries=0
until qemu-img create -q -f qcow2 "${secret[@]}" luks.qcow2 8M \
               -o encrypt.format=luks,encrypt.key-secret=s \
               -o encrypt.iter-time=10 2> create.log; do
  grep -q 'CPU usage' create.log && [ $((++tries)) -lt 50 ] ||
    fail "$(cat create.log)"
done
requires qemu-img create -q -f qcow2 "${secret[@]}" aes.qcow2 8M \
         -o encrypt.format=aes,encrypt.key-secret=s
for image in luks aes; do
  qemu-io "${secret[@]}" -c 'write -P 0x41 0 64k' --image-opts \
          driver=qcow2,file.filename=$image.qcow2,encrypt.key-secret=s \
          > io.log
done

before="$(digest luks.qcow2 aes.qcow2)"
refused 'encrypt.*LUKS|LUKS.*encrypt' luks.qcow2
refused 'encrypt.*AES|AES.*encrypt' aes.qcow2
test "$(digest luks.qcow2 aes.qcow2)" = "$before" || fail "images changed"

# The same as a backing file: never ciphertext instead of data.
for image in luks aes; do
  qemu-img create -q -u -f qcow2 -b $image.qcow2 -F qcow2 over.qcow2 8M
  refused "$image.qcow2.*encrypt" over.qcow2
done
