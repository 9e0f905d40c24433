/* What is qcow2's own in the tests of writing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "source/memory.h"
#include "bed.h"
#include "build.h"
#include "check.h"

#define KEPT_AUTOCLEAR UINT64_C (2) /* the data file is raw */

static void
build (struct bed *bed)
{
  const struct shape *shape = bed->form->shape;

  bed->src = build_image (shape);
  if (!bed->form->has_data)
    return;
  bed->data = source_memory ("data", shape->features & SHAPE_RAW_DATA
                             ? shape->len : 0, bed->limit);
  CHECK (bed->data != NULL);
}

static void
add_extras (struct bed *bed)
{
  const unsigned extras = bed->form->extras;

  if (extras & EXTRA_SNAPSHOT)
    build_snapshot (bed->src, "one");
  if (extras & EXTRA_AUTOCLEAR)
    build_autoclear (bed->src);
  if (extras & EXTRA_DIRTY)
    build_dirty (bed->src);
}

static void
check (const struct bed *bed, FILE *fp, struct report *report)
{
  check_image (bed->src, true, fp, report);
}

/* Bitmaps count as leaked once the image has been written to. */
static void
measure_leaks (const struct bed *bed, uint64_t *first, uint64_t *overhead)
{
  CLEANUP_FREE uint8_t *bytes = bed_bytes (bed->first);
  CLEANUP_SOURCE struct source *copy = NULL;
  const uint64_t len = source_len (bed->first);
  struct report report;

  if (load_be32 (bytes + 4) >= 3)
    store_be64 (bytes + 88, 0);
  copy = source_memory_copy ("copy", bytes, len, len);
  CHECK (copy != NULL);
  check_image (copy, false, NULL, &report);
  CHECK (report.is_image);
  CHECK (report.is_dirty || report.nr_errors == 0);
  /* Counts of a dirty image are made anew, but the old ones' blocks are
   * free then.
   */
  *first = report.is_dirty ? 0 : report.nr_leaks;
  /* What growth of the refcounts may take once, and tables once each
   * flush.
   */
  *overhead = 24;
}

static uint64_t
cluster_len (const struct bed *bed)
{
  uint8_t field[4];

  CHECK (source_pread (bed->first, field, sizeof field, 20) == 0);
  return UINT64_C (1) << load_be32 (field);
}

static bool
may_become (const struct bed *bed, bool is_same, FILE *fp)
{
  uint8_t head[96];
  uint64_t autoclear;

  CHECK (source_pread (bed->src, head, sizeof head, 0) == 0);
  autoclear = load_be32 (head + 4) >= 3 ? load_be64 (head + 88) : 0;
  if (is_same || (autoclear & ~KEPT_AUTOCLEAR) == 0)
    return true;
  if (fp)
    fprintf (fp, "changed, but the autoclear bits are set: %" PRIx64 "\n",
             autoclear);
  return false;
}

const struct kind kind = {
  .format = &qcow2_format,
  .can_qemu_check = true,
  .counts_leaks = true,
  .build = build,
  .add_extras = add_extras,
  .check = check,
  .measure_leaks = measure_leaks,
  .cluster_len = cluster_len,
  .may_become = may_become,
};
