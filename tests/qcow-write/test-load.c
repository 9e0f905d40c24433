/* qcow disks under random parallel load.
 *
 * Usage: test-load [PART NR_PARTS | long | FORM]
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "build.h"
#include "prove.h"

/* Larger than those that the power is cut for. */
static const struct form more_forms[] = {
  { .name = "large", .shape = SHAPE (12, 9, SHAPE_PLAIN | SHAPE_PACKED,
                                     8 * MIB) },
  { .name = "large, base",
    .shape = SHAPE (12, 9, SHAPE_BACKING, 6 * MIB),
    .backing_len = 5 * MIB + 1000 },
  { .name = "large, tapdisk",
    .shape = SHAPE (12, 9, SHAPE_XEN | SHAPE_FORMULA, 7 * MIB) },
  { .name = "large clusters and tables",
    .shape = SHAPE (16, 13, SHAPE_PLAIN | SHAPE_BACKING, 6 * MIB + 512),
    .backing_len = 7 * MIB },
  { .name = "too small", .shape = SHAPE (12, 9, 0, 2 * MIB), .room = MIB },
};

int
main (int argc, char **argv)
{
  const struct load load = {
    .forms = more_forms,
    .nr_forms = sizeof more_forms / sizeof more_forms[0],
  };

  bed_use_work_directory ();
  prove_load (&load, argc, argv);
  return EXIT_SUCCESS;
}
