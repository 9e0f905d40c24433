/* The L1 table of an image that was judged, entry by entry.
 *
 * Not for the way of a guest's requests (lookup.c): for walking through
 * all of it once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_L1_H
#define NDF_QCOW_L1_H

#include <stdint.h>

#include "qcow/header.h"
#include "qcow/judge.h"
#include "source/source.h"

/* Reads a piece at a time; cheap when the indexes ascend.  All members are
 * borrowed or its own: nothing to free.
 */
struct qcow_l1_reader {
  struct source *src;
  const struct qcow_header *h;
  const struct qcow_verdict *v;
  uint64_t first;               /* index of the first entry in bytes */
  uint64_t nr;                  /* entries in bytes */
  uint8_t bytes[4096];
};

extern void qcow_l1_begin (struct qcow_l1_reader *r, struct source *src,
                           const struct qcow_header *h,
                           const struct qcow_verdict *v);

/* The word on disk, as a big endian number.  0; -1, reported. */
extern int qcow_l1_word (struct qcow_l1_reader *r, uint64_t index,
                         uint64_t *word);

/* What the entry means: by v->table, or, without one, the word on disk.
 * QCOW_L1_DAMAGED from v->table only.  0; -1, reported.
 */
extern int qcow_l1_entry (struct qcow_l1_reader *r, uint64_t index,
                          uint64_t *entry);

/* Where tapdisk puts cluster i of a span whose table lies at 'l2_host', in
 * an image without backing file.
 */
static inline uint64_t
qcow_formula (const struct qcow_header *h, uint64_t l2_host, uint64_t i)
{
  const uint64_t l2_len = qcow_l2_len (h);
  const uint64_t cluster_len = qcow_cluster_len (h);

  return l2_host + (l2_len > cluster_len ? l2_len : cluster_len) +
    i * cluster_len;
}

#endif /* NDF_QCOW_L1_H */
