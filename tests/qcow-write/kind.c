/* What is qcow's own in the tests of writing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "qcow/qcow.h"
#include "bed.h"
#include "build.h"
#include "check.h"

static void
build (struct bed *bed)
{
  bed->src = build_image (bed->form->shape);
}

static void
check (const struct bed *bed, FILE *fp, struct report *report)
{
  check_image (bed->src, bed->first, fp, report);
}

/* Nothing says what is in use: what is not, is free. */
static void
measure_leaks (const struct bed *bed, uint64_t *first, uint64_t *overhead)
{
  (void) bed;
  *first = *overhead = 0;
}

static uint64_t
cluster_len (const struct bed *bed)
{
  uint8_t bits;

  CHECK (source_pread (bed->first, &bits, 1, 32) == 0);
  return UINT64_C (1) << bits;
}

static bool
may_become (const struct bed *bed, bool is_same, FILE *fp)
{
  (void) is_same;
  return check_kept (bed->src, bed->first, fp);
}

static void
read_disk (const struct bed *bed, uint8_t *buf)
{
  check_read (bed->src, bed->base, buf, bed->len);
}

const struct kind kind = {
  .format = &qcow_format,
  .build = build,
  .check = check,
  .measure_leaks = measure_leaks,
  .cluster_len = cluster_len,
  .may_become = may_become,
  .read = read_disk,
};
