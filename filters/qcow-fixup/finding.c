/* What the filter finds in the bytes below.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stddef.h>

#include "finding.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/intent.h"
#include "report/report.h"

int
finding_glance (struct source *src, enum found *found)
{
  uint8_t head[8];
  uint32_t version;

  *found = FOUND_OTHER;
  if (source_len (src) < QCOW_HEADER_LEN)
    return 0;
  if (source_pread (src, head, sizeof head, 0) == -1)
    return -1;
  version = load_be32 (head + 4);
  if (load_be32 (head) != QCOW_MAGIC)
    return 0;
  if (version == QCOW_VERSION)
    *found = FOUND_QCOW;
  else if (version == 2 || version == 3)
    *found = FOUND_QCOW2;
  return 0;
}

static int
judge (struct source *src, const char *name, struct finding *f)
{
  const struct qcow_header *h = &f->header;
  struct qcow_verdict *v = &f->verdict;

  if (qcow_judge (src, name, h, v) == -1 ||
      qcow_convert_plan (src, name, h, v, &f->plan) == -1)
    return -1;
  return qcow_stray_find (src, name, h, v, &f->stray);
}

int
finding_make (struct source *src, const char *name, struct finding *f)
{
  uint8_t head[QCOW_HEAD_LEN];

  *f = (struct finding) { .found = FOUND_OTHER };
  if (finding_glance (src, &f->found) == -1)
    return -1;
  if (f->found != FOUND_QCOW)
    return 0;
  if (source_pread_padded (src, head, sizeof head, 0) == -1)
    return -1;
  if (qcow_header_check (name, head, source_len (src), &f->header) == -1) {
    report_warning ("%s: is passed on as it is, for this reason", name);
    f->found = FOUND_OTHER;
    return 0;
  }
  if (judge (src, name, f) == -1) {
    finding_free (f);
    return -1;
  }
  return 0;
}

void
finding_free (struct finding *f)
{
  if (f->found == FOUND_QCOW)
    qcow_verdict_free (&f->verdict);
  *f = (struct finding) { .found = FOUND_OTHER };
}

bool
finding_next_range (const struct finding *f, uint64_t host, uint64_t unit,
                    uint64_t *start, uint64_t *end)
{
  const struct qcow_header *h = &f->header;
  const uint64_t l1_len = h->nr_l1 * 8;
  const uint64_t ranges[][2] = {
    { 0, 512 },
    { h->l1_host, l1_len },
    { f->plan.home_host, l1_len },
    { f->plan.intent_host, QCOW_GAP_UNIT },
  };
  bool is_found = false;

  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
    const uint64_t a = round_down (ranges[i][0], unit);
    const uint64_t b = round_up (ranges[i][0] + ranges[i][1], unit);

    if (b > host && (!is_found || a < *start)) {
      *start = a;
      *end = b;
      is_found = true;
    }
  }
  return is_found;
}
