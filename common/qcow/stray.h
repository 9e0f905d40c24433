/* The stray header of Xen 3.3 and 3.4.
 *
 * Their tapdisk wrote the 512-byte header a second time behind the L1
 * table's block (or 512 bytes later), from memory, with fields in the
 * order of the host: bytes fb 49 46 51 01 00 00 00.  Where a first L2
 * table lies, 64 of its entries are gone; tapdisk's formula brings them
 * back.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_STRAY_H
#define NDF_QCOW_STRAY_H

#include <stdbool.h>
#include <stdint.h>

#include "qcow/header.h"
#include "qcow/judge.h"
#include "source/source.h"

struct qcow_stray {
  bool is_found;                /* and it lies on a table in use */
  uint64_t host;                /* of the stray header, bytes */
  uint64_t l2_host;             /* of the table that it damaged */
  uint64_t l1_index;            /* of the entry that names the table */
  bool can_repair;              /* no backing file, and the rest of the
                                   table follows the formula */
};

/* Look for it.  Reads, changes nothing, tells nothing.  0; -1, reported. */
extern int qcow_stray_find (struct source *src, const char *name,
                            const struct qcow_header *h,
                            const struct qcow_verdict *v,
                            struct qcow_stray *stray);

/* Put the 64 entries back, durably.  One sector is written. */
extern int qcow_stray_repair (struct source *src, const char *name,
                              const struct qcow_header *h,
                              const struct qcow_stray *stray);

#endif /* NDF_QCOW_STRAY_H */
