/* The refcount table and blocks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_REFCOUNT_H
#define NDF_QCOW2_REFCOUNT_H

#include "qcow2/state.h"

/* The refcount table may have so many bytes. */
#define REFCOUNT_TABLE_MAX_LEN (UINT64_C (8) << 20)

/* Check what the header says of the refcount table.
 * Returns 0; -1, reported, errno EINVAL.
 */
extern int refcount_table_check (const struct image *img,
                                 const struct qcow2_header *h);

/* Why the refcounts do not allow changes of the image: a part sentence, or
 * NULL.
 */
extern const char *
refcount_table_why_read_only (const struct image *img,
                              const struct qcow2_header *h);

#endif /* NDF_QCOW2_REFCOUNT_H */
