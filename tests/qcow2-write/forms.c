/* The forms of images that are written to, cut, and failed under.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "bed.h"
#include "build.h"

/* 64 KiB clusters and counts of 16 bits, as most images have. */
#define COMMON(len) SHAPE (3, 16, 4, 0, (len))
#define FEATURES(f, bits, len) SHAPE (3, (bits), 4, (f), (len))

#define CREATE "set -e; rm -f image data; qemu-img create -q -f qcow2 "
#define IO "qemu-io -f qcow2 -t writeback "

const struct form bed_forms[] = {
  /* First, what each of the tests takes: one of the usual kind. */
  { .name = "usual", .shape = COMMON (MIB), .populated = MIB / 2 },

  { .name = "empty", .shape = COMMON (MIB) },
  { .name = "full", .shape = COMMON (512 * KIB), .populated = 512 * KIB },
  { .name = "version 2", .shape = SHAPE (2, 12, 4, 0, 256 * KIB),
    .populated = 128 * KIB },
  { .name = "version 2, base",
    .shape = SHAPE (2, 12, 4, SHAPE_BACKING, 256 * KIB),
    .backing_len = 200 * KIB, .populated = 64 * KIB },
  { .name = "small cache", .shape = FEATURES (0, 12, 256 * KIB),
    .populated = 128 * KIB, .cache_limit = 1 },
  { .name = "base", .shape = FEATURES (SHAPE_BACKING, 14, 512 * KIB),
    .backing_len = 300 * KIB + 77, .populated = 128 * KIB },
  { .name = "extended", .shape = FEATURES (SHAPE_EXTENDED, 16, MIB),
    .populated = MIB / 2 },
  { .name = "extended, base",
    .shape = FEATURES (SHAPE_EXTENDED | SHAPE_BACKING, 14, 256 * KIB + 1536),
    .backing_len = 200 * KIB, .populated = 64 * KIB,
    .extras = EXTRA_SNAPSHOT },
  { .name = "snapshot", .shape = FEATURES (0, 12, 256 * KIB),
    .populated = 192 * KIB, .extras = EXTRA_SNAPSHOT },

  /* Small clusters: many tables, blocks that fill up. */
  { .name = "width 1", .shape = SHAPE (3, 9, 0, 0, 192 * KIB),
    .populated = 64 * KIB, .max_request = 20 * KIB },
  { .name = "width 2", .shape = SHAPE (3, 9, 1, 0, 192 * KIB),
    .populated = 64 * KIB, .max_request = 20 * KIB },
  { .name = "width 4", .shape = SHAPE (3, 9, 2, 0, 192 * KIB),
    .populated = 64 * KIB, .extras = EXTRA_SNAPSHOT, .max_request = 20 * KIB },
  { .name = "width 8", .shape = SHAPE (3, 9, 3, 0, 192 * KIB),
    .populated = 64 * KIB, .max_request = 20 * KIB },
  { .name = "width 16", .shape = SHAPE (3, 9, 4, 0, 192 * KIB),
    .populated = 64 * KIB, .extras = EXTRA_SNAPSHOT, .max_request = 20 * KIB },
  { .name = "width 32", .shape = SHAPE (3, 9, 5, 0, 192 * KIB),
    .populated = 64 * KIB, .max_request = 20 * KIB },
  /* One cluster of table names 64 blocks of 64 clusters: 2 MiB, and it is
   * nearly full.
   */
  { .name = "table growth", .shape = SHAPE (3, 9, 6, 0, 3 * MIB),
    .populated = 2624 * KIB, .max_request = 100 * KIB },

  { .name = "data file", .shape = FEATURES (SHAPE_DATA_FILE, 14, 512 * KIB),
    .has_data = true, .populated = 128 * KIB },
  { .name = "empty data file",
    .shape = FEATURES (SHAPE_DATA_FILE, 16, MIB), .has_data = true },
  { .name = "raw data file",
    .shape = FEATURES (SHAPE_DATA_FILE | SHAPE_RAW_DATA, 14, 512 * KIB),
    .has_data = true, .populated = 128 * KIB },
  { .name = "autoclear", .shape = FEATURES (0, 14, 256 * KIB),
    .populated = 128 * KIB, .extras = EXTRA_AUTOCLEAR },
  { .name = "dirty", .shape = FEATURES (0, 12, 256 * KIB),
    .populated = 128 * KIB, .extras = EXTRA_DIRTY },
  { .name = "dirty, snapshot", .shape = SHAPE (3, 9, 3, 0, 192 * KIB),
    .populated = 64 * KIB, .extras = EXTRA_SNAPSHOT | EXTRA_DIRTY,
    .max_request = 20 * KIB },
  { .name = "fixed", .shape = FEATURES (0, 12, 512 * KIB),
    .populated = 128 * KIB, .room = 192 * KIB },
  { .name = "fixed, small clusters", .shape = SHAPE (3, 9, 6, 0, 192 * KIB),
    .populated = 64 * KIB, .room = 64 * KIB + 100, .max_request = 20 * KIB },

  /* What qemu-img makes. */
  { .name = "qemu: snapshots", .commands = CREATE
    "-o cluster_size=4k image 256k;" IO "-c 'write -P 5 0 160k' image"
    " >/dev/null; qemu-img snapshot -c one image;" IO
    "-c 'write -P 6 32k 64k' -c 'discard 128k 16k' image >/dev/null;"
    "qemu-img snapshot -c two image" },
  { .name = "qemu: compressed", .commands = CREATE
    "-o cluster_size=4k image 256k;" IO "-c 'write -P 4 0 256k' image"
    " >/dev/null; (seq 1 30000; head -c 65536 image) | head -c 262144 >base;"
    "qemu-img convert -c -f raw -O qcow2 -o cluster_size=4k base image" },
  { .name = "qemu: compressed, 64k", .commands = CREATE "image 768k;"
    "seq 1 200000 | head -c 786432 >base;"
    "qemu-img convert -c -f raw -O qcow2 base image;"
    "qemu-img snapshot -c one image" },
  { .name = "qemu: base", .commands = CREATE
    "-o cluster_size=8k -b base -F raw image 256k;"
    IO "-c 'write -P 5 60k 70k' -c 'write -z 8k 16k' image >/dev/null",
    .backing_len = 190 * KIB },
  { .name = "qemu: extended", .commands = CREATE
    "-o extended_l2=on,cluster_size=32k image 512k;"
    IO "-c 'write -P 5 3k 170k' -c 'write -z 8k 5k' "
    "-c 'write -z -u 64k 32k' image >/dev/null;"
    "qemu-img snapshot -c one image" },
  { .name = "qemu: bitmaps", .commands = CREATE
    "-o cluster_size=4k image 256k; qemu-img bitmap --add image b;"
    IO "-c 'write -P 5 0 64k' image >/dev/null" },
  { .name = "qemu: dirty", .commands = CREATE
    "-o cluster_size=4k,lazy_refcounts=on image 256k;"
    "(" IO "-c 'write -P 5 0 100k' -c flush -c abort image || :)"
    " >/dev/null 2>&1" },
  { .name = "qemu: dirty, snapshot", .commands = CREATE
    "-o cluster_size=4k,lazy_refcounts=on image 256k;" IO
    "-c 'write -P 4 0 200k' image >/dev/null; qemu-img snapshot -c one image;"
    "(" IO "-c 'write -P 5 30k 100k' -c flush -c abort image || :)"
    " >/dev/null 2>&1" },
  { .name = "qemu: metadata", .commands = CREATE
    "-o preallocation=metadata,cluster_size=16k image 512k" },
  { .name = "qemu: falloc", .commands = CREATE
    "-o preallocation=falloc image 512k", },
  { .name = "qemu: extended, preallocated", .commands = CREATE
    "-o preallocation=metadata,extended_l2=on,cluster_size=16k "
    "-b base -F raw image 256k", .backing_len = 256 * KIB },
  { .name = "qemu: data file", .commands = CREATE
    "-o data_file=data,cluster_size=16k image 512k;"
    IO "-c 'write -P 5 10k 200k' image >/dev/null", .has_data = true },
  { .name = "qemu: raw data file", .commands = CREATE
    "-o data_file=data,data_file_raw=on,cluster_size=16k image 512k;"
    IO "-c 'write -P 5 10k 200k' image >/dev/null", .has_data = true },
};

const size_t bed_nr_forms = sizeof bed_forms / sizeof bed_forms[0];
