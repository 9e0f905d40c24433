#!/usr/bin/python3
# Compare an NBD export with what QEMU reads from the same qcow version 1
# image: qcow2-compare.py, which see for usage and options, with QEMU's
# driver for that format.
#
# QEMU ignores what is behind the last whole sector of a disk, and so does
# the export, in its size too.
#
# SPDX-License-Identifier: BSD-3-Clause

import importlib.util
import json
import os
import struct
import subprocess
import sys

spec = importlib.util.spec_from_file_location(
    "compare", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                            "qcow2-compare.py"))
compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)


class Header:
    """The fields of the image's header that the checks depend on."""

    version = 1
    extended = False

    def __init__(self, image):
        with open(image, "rb") as f:
            raw = f.read(48)
        compare.need(raw[:8] == b"QFI\xfb\0\0\0\1",
                     image, "is not a qcow version 1 image")
        self.cluster = 1 << raw[32]
        self.size = struct.unpack(">Q", raw[24:32])[0] // 512 * 512


class Oracle(compare.Oracle):
    """What QEMU says about an image."""

    def convert(self, tmpdir):
        raw = os.path.join(tmpdir, "oracle.raw")
        subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow",
                        "-O", "raw", self.image, raw],
                       check=True, stdin=subprocess.DEVNULL)
        return raw

    def ask(self, *command):
        out = subprocess.run(["qemu-img", *command, "-U", "-f", "qcow",
                              "--output=json", self.image],
                             check=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout
        return json.loads(out)

    def map(self):
        return self.ask("map")

    def host_is_hole(self, depth, host, length):
        if self.files is None:
            self.files = [i["filename"]
                          for i in self.ask("info", "--backing-chain")]
        return super().host_is_hole(depth, host, length)


compare.Header = Header
compare.Oracle = Oracle

if __name__ == "__main__":
    sys.exit(compare.main())
