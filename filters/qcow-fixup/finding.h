/* What the filter finds in the bytes below, and what it makes of them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_FINDING_H
#define NDF_QCOW_FIXUP_FINDING_H

#include <stdbool.h>
#include <stdint.h>

#include "qcow/convert.h"
#include "qcow/header.h"
#include "qcow/judge.h"
#include "qcow/stray.h"
#include "source/source.h"

enum found {
  FOUND_OTHER,                  /* not an image, or not one for us */
  FOUND_QCOW,                   /* version 1, its header makes sense */
  FOUND_QCOW2,
};

struct finding {
  enum found found;

  /* For FOUND_QCOW. */
  struct qcow_header header;
  struct qcow_verdict verdict;
  struct qcow_plan plan;
  struct qcow_stray stray;
};

/* Do the first bytes look like an image that we care for?  Costs one small
 * read; tells nothing.  0; -1, reported.
 */
extern int finding_glance (struct source *src, enum found *found);

/* Look at it thoroughly: parse, judge, plan.  A version 1 header that makes
 * no sense is FOUND_OTHER, reported.  Changes nothing.
 *
 * 0, *f to be freed; -1, reported, when the bytes cannot be read, or would
 * show another disk than they hold (see qcow_judge).
 */
extern int finding_make (struct source *src, const char *name,
                         struct finding *f);
extern void finding_free (struct finding *f);

/* Must the client see other bytes than there are, as long as these have
 * not been converted?
 */
static inline bool
finding_needs_view (const struct finding *f)
{
  return f->found == FOUND_QCOW && (f->plan.is_needed || f->plan.why_not);
}

/* Where the view may differ from what is there: the next such range that
 * ends behind 'host', or false.  Rounded out to 'unit', a power of two.
 */
extern bool finding_next_range (const struct finding *f, uint64_t host,
                                uint64_t unit, uint64_t *start,
                                uint64_t *end);

#endif /* NDF_QCOW_FIXUP_FINDING_H */
