/* Would the image mean the same when it has been converted?
 *
 * Ambiguous entries are decided by evidence, some of which conversion may
 * take away: the order of others in their sector, or a checksum that was
 * right.  So the image is judged once more, as it will be.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "qcow/after.h"
#include "report/report.h"

/* The image through the plan. */
struct after {
  struct source src;            /* must be first */
  struct source *below;         /* borrowed, like the next */
  const struct qcow_header *h;
  const struct qcow_verdict *v;
  const struct qcow_plan *plan;
};

static int
after_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  const struct after *a = (const struct after *) src;

  if (source_pread_padded (a->below, buf, len, host) == -1)
    return -1;
  qcow_convert_view (a->h, a->v, a->plan, buf, len, host);
  return 0;
}

static const struct source_ops after_ops = {
  .kind = "converted",
  .pread = after_pread,
};

static bool
is_same_table (const struct qcow_header *h, const struct qcow_verdict *a,
               const struct qcow_verdict *b)
{
  /* Without a table it is what lies there: what the plan wrote. */
  return b->nr_damaged == 0 &&
    (b->table == NULL ||
     memcmp (a->table, b->table, h->nr_l1 * sizeof a->table[0]) == 0);
}

int
qcow_after_is_same (struct source *src, const char *name,
                    const struct qcow_header *h,
                    const struct qcow_verdict *v,
                    const struct qcow_plan *plan)
{
  struct after a = { .below = src, .h = h, .v = v, .plan = plan };
  uint8_t head[QCOW_HEAD_LEN];
  struct qcow_verdict then;
  struct qcow_header after;
  int r = 0;

  if (source_init (&a.src, &after_ops, name) == -1) {
    report_error ("%s: no memory to judge its L1 table", name);
    errno = ENOMEM;
    return -1;
  }
  a.src.len = source_len (src);
  report_set_quiet (true);
  if (source_pread_padded (&a.src, head, sizeof head, 0) == -1 ||
      qcow_header_check (name, head, a.src.len, &after) == -1 ||
      qcow_judge (&a.src, name, &after, &then) == -1)
    r = errno == EIO || errno == ENOMEM ? -1 : 0;
  else {
    r = is_same_table (h, v, &then);
    qcow_verdict_free (&then);
  }
  report_set_quiet (false);
  if (r == -1) {
    const int err = errno;

    report_error ("%s: its L1 table could not be judged as it would be after "
                  "a conversion: %m", name);
    errno = err;
  }
  source_destroy (&a.src);
  return r;
}
