/* qcow2 disks under random parallel load.
 *
 * Usage: test-load [PART NR_PARTS | long | FORM]
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "build.h"
#include "prove.h"

/* Larger than those that the power is cut for. */
static const struct form more_forms[] = {
  { .name = "large clusters", .shape = SHAPE (3, 21, 4, 0, 9 * MIB + 512),
    .max_request = 3 * MIB },
  { .name = "large", .shape = SHAPE (3, 16, 4, 0, 8 * MIB),
    .populated = 4 * MIB, .extras = EXTRA_SNAPSHOT },
  { .name = "large, base", .shape = SHAPE (3, 16, 4, SHAPE_BACKING, 6 * MIB),
    .backing_len = 5 * MIB + 1000 },
  { .name = "large, extended, base",
    .shape = SHAPE (3, 17, 1, SHAPE_EXTENDED | SHAPE_BACKING, 6 * MIB + 1536),
    .backing_len = 7 * MIB, .populated = MIB, .extras = EXTRA_SNAPSHOT },
  { .name = "width 64", .shape = SHAPE (3, 12, 6, 0, 4 * MIB),
    .populated = MIB, .cache_limit = 1 },
  { .name = "too small", .shape = SHAPE (3, 12, 4, 0, 2 * MIB),
    .room = MIB },
};
#define NR_MORE_FORMS (sizeof more_forms / sizeof more_forms[0])

static bool
has_snapshot (const struct form *form)
{
  return (form->extras & EXTRA_SNAPSHOT) ||
    (form->commands && strstr (form->commands, "snapshot -c one"));
}

static uint8_t *
read_snapshot (const struct bed *bed)
{
  bed_export (bed);
  return bed_qemu_read ("-l snapshot.name=one", bed->len);
}

static void *
note_snapshot (const struct bed *bed)
{
  return has_snapshot (bed->form) && bed_has_qemu () ? read_snapshot (bed)
    : NULL;
}

/* A raw data file is what the disk reads. */
static void
check_raw_data (const struct bed *bed, const uint8_t *disk)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint8_t autoclear[8];

  CHECK (source_pread (bed->src, autoclear, sizeof autoclear, 88) == 0);
  if (bed->data == NULL || !(load_be64 (autoclear) & 2))
    return;
  CHECK (source_len (bed->data) >= bed->len);
  bytes = bed_bytes (bed->data);
  CHECK (memcmp (bytes, disk, bed->len) == 0);
}

static void
check_kept (const struct bed *bed, const uint8_t *disk, void *noted)
{
  CLEANUP_FREE uint8_t *snapshot = noted;

  check_raw_data (bed, disk);
  if (snapshot) {
    CLEANUP_FREE uint8_t *now = read_snapshot (bed);

    CHECK (memcmp (now, snapshot, bed->len) == 0);
  }
}

int
main (int argc, char **argv)
{
  const struct load load = {
    .forms = more_forms, .nr_forms = NR_MORE_FORMS,
    .before = note_snapshot, .after = check_kept,
  };

  bed_use_work_directory ();
  prove_load (&load, argc, argv);
  return EXIT_SUCCESS;
}
