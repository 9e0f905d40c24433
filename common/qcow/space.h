/* Which host clusters are in use, and how.
 *
 * The format has no record of that: it is gathered from all tables when an
 * image is opened for writing, kept in memory, two bits for each cluster,
 * and forgotten at the end.
 *
 * A cluster that a change no longer uses stays in use until the pass that
 * made the drop durable is over; then it is punched out of the file, and
 * is free.
 *
 * Locks: everything under the format lock, but qcow_space_use, which any
 * thread may call at any time about a cluster that its range lock keeps
 * mapped.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_SPACE_H
#define NDF_QCOW_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"

enum qcow_use {
  QCOW_FREE,
  QCOW_ONCE,                    /* guest data of one entry */
  QCOW_SHARED,                  /* of several, or a compressed stream: is
                                   neither written in place nor freed */
  QCOW_META,                    /* the header or a table */
};

/* So many clusters can be told apart: 256 MiB of memory when all are in
 * use in an image of 512 GiB with clusters of 512 bytes.
 */
#define QCOW_MAX_CLUSTERS (UINT64_C (1) << 30)

struct qcow_space;

/* An empty map for the image's file.  NULL, reported, errno ENOMEM. */
extern struct qcow_space *qcow_space_new (struct image *img,
                                          unsigned cluster_bits);
extern void qcow_space_free (struct qcow_space *s);

/* While it is gathered: clusters [first, first+nr) are used so.  Data that
 * meet data become shared.  0; 1: there is (or would be) a table in the
 * way, which is marked as one; -1, reported, errno ENOMEM, EFBIG.
 */
extern int qcow_space_mark (struct qcow_space *s, uint64_t first,
                            uint64_t nr, enum qcow_use use);

/* Everything in use has been marked: what lies behind that and the end of
 * the file reads as zeroes until it is taken.
 */
extern void qcow_space_gathered (struct qcow_space *s);

extern enum qcow_use qcow_space_use (const struct qcow_space *s,
                                     uint64_t cluster);

/* The first cluster behind all that are in use. */
extern uint64_t qcow_space_end (const struct qcow_space *s);

/* How many clusters were looked at in search of free ones; format lock. */
extern uint64_t qcow_space_looked_at (const struct qcow_space *s);

/* Take 'wanted' clusters in a row, or fewer, but 'least'; have the file
 * reach to their end: where it cannot grow so far, what is free in it is
 * taken.  Returns how many, from *first on; *reads_zero tells whether all
 * read as zeroes.
 *
 * -1: errno ENOSPC, unreported; ENOMEM, EIO..., reported.
 */
extern int64_t qcow_space_take (struct qcow_space *s, uint64_t wanted,
                                uint64_t least, enum qcow_use use,
                                uint64_t *first, bool *reads_zero);

/* Give clusters back that were taken and never linked. */
extern void qcow_space_undo (struct qcow_space *s, uint64_t first,
                             uint64_t nr);

/* Promise room for 'nr' drops, which then cannot fail; take back what was
 * promised and not used.  -1, reported, errno ENOMEM.
 */
extern int qcow_space_promise (struct qcow_space *s, uint64_t nr);
extern void qcow_space_unpromise (struct qcow_space *s, uint64_t nr);

/* Clusters [first, first+nr), used once, or tables, are no longer used.  In
 * a change section; uses one promise.
 */
extern void qcow_space_drop (struct qcow_space *s, uint64_t first,
                             uint64_t nr);

/* What was dropped before 'cut' is durably so.  No lock held. */
extern void qcow_space_durable (struct qcow_space *s, uint64_t cut);

/* Cut off what the file was grown by since qcow_space_gathered and is not
 * used.  -1, reported.
 */
extern int qcow_space_trim_file (struct qcow_space *s);

#endif /* NDF_QCOW_SPACE_H */
