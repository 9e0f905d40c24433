/* Would the image mean the same when it has been converted?
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_AFTER_H
#define NDF_QCOW_AFTER_H

#include "qcow/convert.h"

/* Judge the image as the plan would leave it, in memory.  1: every entry
 * means what it does now; 0: some do not, or could not be decided any more;
 * -1, reported, errno EIO, ENOMEM.
 */
extern int qcow_after_is_same (struct source *src, const char *name,
                               const struct qcow_header *h,
                               const struct qcow_verdict *v,
                               const struct qcow_plan *plan);

#endif /* NDF_QCOW_AFTER_H */
