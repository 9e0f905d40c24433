/* Settling L1 entries that make sense in both byte orders.
 *
 * Internal to the judging of tables: judge.c finds them, resolve.c settles
 * them, cksum.c compares checksums for both.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_RESOLVE_H
#define NDF_QCOW_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcow/entry.h"
#include "qcow/header.h"
#include "qcow/judge.h"
#include "source/source.h"

/* Does [host, end) meet the header, Xen's, the name or the L1 table?  (A
 * name may lie anywhere: head_end alone does not tell.)
 */
static inline bool
qcow_is_on_headers (const struct qcow_header *h, uint64_t host, uint64_t end)
{
  const uint64_t xen_end = h->has_flags ? QCOW_AT_FLAGS + 4 : QCOW_AT_FLAGS;

  return qcow_is_on_header (h, host, end) ||
    (h->xen != QCOW_XEN_NONE && host < xen_end) ||
    (h->backing_host != 0 &&
     qcow_meets (host, end, h->backing_host,
                 h->backing_host + h->backing_len));
}

/* So many are looked into.  Tapdisk's own images of the greatest size that
 * is judged have a few thousand; overlays of files of more than 1 TiB
 * could have as many.
 */
#define QCOW_MAX_AMBIGUOUS 65536

/* What the bytes at a candidate are, as a table; more is better. */
enum qcow_content {
  QCOW_CONTENT_ABSURD,          /* not a table */
  QCOW_CONTENT_EMPTY,           /* zeroes: a table, a hole, or guest data */
  QCOW_CONTENT_FITS,            /* every entry makes sense */
  QCOW_CONTENT_FORMULA,         /* exactly what tapdisk allocates */
};

/* Candidates and what is known of them have index 0 for big endian and 1
 * for little endian.
 */
enum { QCOW_AS_BIG, QCOW_AS_LITTLE, QCOW_UNDECIDED };

struct qcow_ambiguous {
  uint64_t index;               /* in the L1 table */
  uint64_t hosts[2];            /* where the L2 table would be */
  enum qcow_content contents[2];
  bool is_out[2];               /* another entry has that table */
  unsigned choice, vote;        /* QCOW_AS_BIG ... */
};

struct qcow_ambiguities {
  struct qcow_ambiguous *list;  /* by index, until they are settled; owned */
  size_t nr, max;
  size_t nr_by_content;         /* settled by what lies in the tables */
};

/* Note one more.  1; 0 if there are too many; -1 with errno ENOMEM,
 * unreported.
 */
extern int qcow_ambiguities_add (struct qcow_ambiguities *a, uint64_t index,
                                 uint64_t as_big);
extern void qcow_ambiguities_free (struct qcow_ambiguities *a);

/* Settle as many as can be.  'table' has h->nr_l1 entries, QCOW_L1_DAMAGED
 * for these and for the damaged ones; those that are settled are put in.
 * 'is_whole': there are no damaged ones, so that the checksum counts.  The
 * list is in another order afterwards.
 *
 * 0; -1, reported, errno EIO.
 */
extern int qcow_resolve (struct source *src, const struct qcow_header *h,
                         uint64_t *table, bool is_whole,
                         struct qcow_ambiguities *a);

/* Of which form of the table is h->cksum?  Without damaged entries. */
extern enum qcow_cksum qcow_cksum_find (const struct qcow_header *h,
                                        const uint64_t *table,
                                        bool *is_reversed);

#endif /* NDF_QCOW_RESOLVE_H */
