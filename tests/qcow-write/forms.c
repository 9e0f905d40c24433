/* The forms of images that are written to, cut, and failed under.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "bed.h"
#include "build.h"

/* What QEMU makes, and its overlays. */
#define COMMON(f, len) SHAPE (12, 9, (f), (len))
#define OVERLAY(f, len) SHAPE (9, 12, SHAPE_BACKING | (f), (len))
#define SOME (SHAPE_PLAIN | SHAPE_JUNK)
#define MIXED (SHAPE_PLAIN | SHAPE_PACKED | SHAPE_JUNK)
#define TAPDISK (SHAPE_XEN | SHAPE_FORMULA)
#define COMPRESS .wishes = { .compress_level = 1 }

#define CREATE "set -e; rm -f image; qemu-img create -q -f qcow "
#define IO "qemu-io -f qcow -t writeback "

const struct form bed_forms[] = {
  /* First, what each of the tests takes: one of the usual kind. */
  { .name = "usual", .shape = COMMON (SOME, MIB) },

  { .name = "empty", .shape = COMMON (0, MIB) },
  { .name = "full", .shape = SHAPE (12, 6, SHAPE_FULL, 512 * KIB),
    .is_like_others = true },
  { .name = "mixed", .shape = COMMON (MIXED, 512 * KIB),
    .is_like_others = true },
  { .name = "full, packed",
    .shape = COMMON (SHAPE_FULL | SHAPE_PACKED, 256 * KIB),
    .is_like_others = true },
  { .name = "small cache", .shape = SHAPE (9, 6, MIXED, 192 * KIB),
    .cache_limit = 1, .max_request = 20 * KIB },
  { .name = "twins",
    .shape = COMMON (SOME | SHAPE_TWINS | SHAPE_ODD, 256 * KIB),
    .is_like_others = true },
  { .name = "beyond",
    .shape = SHAPE (12, 6, SOME | SHAPE_BEYOND, 512 * KIB),
    .is_like_others = true },

  /* Small clusters and tables: many tables. */
  { .name = "small", .shape = SHAPE (9, 6, MIXED, 192 * KIB),
    .max_request = 20 * KIB },
  { .name = "small clusters", .shape = SHAPE (9, 9, MIXED, 300 * KIB),
    .max_request = 20 * KIB,
    .is_like_others = true },
  { .name = "small tables", .shape = SHAPE (16, 6, MIXED, 6 * MIB),
    .is_like_others = true },
  { .name = "long tables",
    .shape = SHAPE (12, 13, SOME | SHAPE_L1_FAR, 512 * KIB),
    .is_like_others = true },
  { .name = "large clusters", .shape = SHAPE (16, 13, MIXED, 1536 * KIB),
    .is_like_others = true },
  { .name = "odd length",
    .shape = SHAPE (16, 9, MIXED, MIB + 300 * KIB + 512) },

  { .name = "trap", .shape = SHAPE (9, 6, SOME | SHAPE_TRAP, 192 * KIB),
    .max_request = 20 * KIB },
  { .name = "trap, beyond",
    .shape = SHAPE (12, 6, MIXED | SHAPE_TRAP | SHAPE_BEYOND, MIB) },
  { .name = "trap, far",
    .shape = SHAPE (12, 6, SHAPE_PLAIN | SHAPE_TRAP | SHAPE_L1_FAR, MIB),
    .is_like_others = true },

  { .name = "base", .shape = OVERLAY (SHAPE_PLAIN, 256 * KIB),
    .backing_len = 300 * KIB },
  { .name = "base, mixed", .shape = OVERLAY (MIXED, 256 * KIB),
    .backing_len = 200 * KIB + 77, .max_request = 20 * KIB,
    .is_like_others = true },
  { .name = "base, 4k",
    .shape = COMMON (MIXED | SHAPE_BACKING, 512 * KIB + 512),
    .backing_len = 300 * KIB + 77 },
  { .name = "base, 64k",
    .shape = SHAPE (16, 9, MIXED | SHAPE_BACKING, MIB + 1536),
    .backing_len = 900 * KIB,
    .is_like_others = true },
  { .name = "base, long name",
    .shape = SHAPE (9, 6, SOME | SHAPE_BACKING | SHAPE_LONG_NAME,
                    192 * KIB),
    .backing_len = 150 * KIB, .max_request = 20 * KIB,
    .is_like_others = true },
  { .name = "base, empty", .shape = OVERLAY (0, 128 * KIB),
    .backing_len = 128 * KIB,
    .is_like_others = true },
  { .name = "base, trap",
    .shape = SHAPE (9, 6, MIXED | SHAPE_BACKING | SHAPE_TRAP, 192 * KIB),
    .backing_len = 192 * KIB, .max_request = 20 * KIB },

  { .name = "compress", .shape = COMMON (SOME, MIB), COMPRESS,
    .is_like_others = true },
  { .name = "compress, mixed", .shape = SHAPE (16, 9, MIXED, 1536 * KIB),
    COMPRESS, .is_like_others = true },
  { .name = "compress, small", .shape = SHAPE (10, 6, MIXED, 192 * KIB),
    COMPRESS, .max_request = 20 * KIB, .is_like_others = true },
  { .name = "compress, base",
    .shape = COMMON (MIXED | SHAPE_BACKING, 512 * KIB + 512),
    .backing_len = 300 * KIB + 77, COMPRESS },
  { .name = "compress, fixed", .shape = COMMON (SOME, 512 * KIB),
    .room = 192 * KIB, COMPRESS, .is_like_others = true },

  { .name = "xen", .shape = COMMON (TAPDISK, MIB) },
  { .name = "xen, empty", .shape = COMMON (SHAPE_XEN, MIB),
    .is_like_others = true },
  { .name = "xen, small tables", .shape = SHAPE (12, 6, TAPDISK, MIB) },
  { .name = "xen, mixed", .shape = SHAPE (12, 6, SHAPE_XEN | MIXED, MIB),
    .is_like_others = true },
  { .name = "xen, base", .shape = OVERLAY (SHAPE_XEN | SHAPE_PLAIN,
                                           256 * KIB),
    .backing_len = 256 * KIB },

  { .name = "fixed", .shape = COMMON (SOME, 512 * KIB), .room = 192 * KIB,
    .is_like_others = true },
  { .name = "fixed, small clusters", .shape = SHAPE (9, 6, MIXED, 192 * KIB),
    .room = 64 * KIB + 100, .max_request = 20 * KIB },
  { .name = "fixed, base", .shape = OVERLAY (MIXED, 256 * KIB),
    .backing_len = 200 * KIB, .room = 100 * KIB, .max_request = 20 * KIB,
    .is_like_others = true },
  { .name = "fixed, xen", .shape = SHAPE (12, 6, TAPDISK, MIB),
    .room = 150 * KIB },
  /* Between header and table there is a gap, and behind the table. */
  { .name = "fixed, xen, small",
    .shape = SHAPE (9, 6, SHAPE_XEN | SHAPE_PLAIN, 96 * KIB),
    .room = 4 * KIB, .max_request = 20 * KIB, .is_like_others = true },
  { .name = "fixed, gap",
    .shape = SHAPE (9, 6, SHAPE_L1_FAR | SHAPE_PLAIN, 96 * KIB),
    .room = 4 * KIB, .max_request = 20 * KIB, .is_like_others = true },

  /* What qemu-img makes. */
  { .name = "qemu", .commands = CREATE "image 512k;"
    IO "-c 'write -P 5 10k 200k' image >/dev/null" },
  /* It does its work, and fails nevertheless. */
  { .name = "qemu: compressed", .commands = "set -e; rm -f image;"
    "seq 1 60000 | head -c 262144 >base;"
    "qemu-img convert -c -f raw -O qcow base image || :;"
    "qemu-img compare -q -f raw -F qcow base image" },
  { .name = "qemu: base", .commands = CREATE "-b base -F raw image 256k;"
    IO "-c 'write -P 5 60k 70k' image >/dev/null",
    .backing_len = 190 * KIB },
};

const size_t bed_nr_forms = sizeof bed_forms / sizeof bed_forms[0];
