/* Long runs of neighbouring clusters, for tables that must be in one piece.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_RUN_H
#define NDF_QCOW2_RUN_H

#include <stdint.h>

#include "qcow2/counts.h"

/* Find 'nr' neighbouring free clusters and count each once; the first in
 * *first.  Takes the format lock, and may run passes.  Nobody else
 * allocates meanwhile.
 *
 * 0; -1, reported, errno ENOSPC, EFBIG, EIO, ENOMEM.  Refcount blocks made
 * for it stay.
 */
extern int qcow2_alloc_run (struct qcow2_counts *c, uint64_t nr,
                            uint64_t *first);

#endif /* NDF_QCOW2_RUN_H */
