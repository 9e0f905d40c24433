/* Reference counts of an image's clusters, and what follows from them:
 * which space is free, and when dropped space becomes so.
 *
 * Counts live in refcount blocks, read and written through the metadata
 * cache; the table that names the blocks is kept in memory as well.  A
 * count goes up, in PASS_FILL, before anything names the cluster; it goes
 * down only when the pass that dropped the reference is durable.  So the
 * count itself keeps dropped space from being reused too early.
 *
 * Everything here is called with the format lock held, but for
 * qcow2_counts_durable.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Host cluster management".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_COUNTS_H
#define NDF_QCOW2_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "qcow2/guard.h"

/* Refcount table entry, spec "Refcount table". */
#define REFCOUNT_TABLE_BLOCK UINT64_C (0xfffffffffffffe00)
/* QEMU refuses a longer table. */
#define REFCOUNT_TABLE_MAX (8 * 1024 * 1024)

/* What lay in space that is dropped. */
enum qcow2_drop_kind {
  DROP_DATA,
  DROP_PACKED,                  /* decoded copies may be about */
  DROP_TABLE,                   /* pages may be cached; it leaves the guard */
};

struct qcow2_drop {
  uint64_t first;               /* cluster */
  uint64_t nr;
  uint64_t cut;                 /* durable with this pass */
  enum qcow2_drop_kind kind;
};

struct qcow2_counts {
  struct image *img;
  unsigned cluster_bits;
  unsigned order;               /* a count has 1 << order bits */
  uint64_t max;                 /* of a count */
  uint64_t per_block;           /* counts in one block */
  uint64_t max_clusters;        /* that the file may ever have */

  uint64_t *table;              /* host bytes; owned */
  uint8_t *is_full;             /* by block: no count in it is 0; owned */
  uint64_t nr_table;            /* entries, those on disk */
  uint64_t table_host;
  uint64_t table_clusters;

  struct qcow2_guard guard;
  uint64_t next_free;           /* every cluster before it is in use */
  uint64_t zero_from;           /* host bytes at or beyond read as zero */
  uint64_t end;                 /* host bytes: beyond nothing is in use */
  uint64_t len_at_open;         /* of the file, bytes */

  struct qcow2_drop *drops;     /* in order of cut; owned */
  size_t nr_drops;
  size_t nr_promised;           /* drops that have a place reserved */
  size_t drops_room;
};

/* Read the table and find out what is free.  'host' and 'clusters' come
 * from a checked header.  NULL, reported, errno EIO or ENOMEM, or EINVAL
 * when the counts cannot be trusted for writing.
 */
extern struct qcow2_counts *
qcow2_counts_open (struct image *img, unsigned cluster_bits, unsigned order,
                   uint64_t table_host, uint64_t table_clusters);
extern void qcow2_counts_free (struct qcow2_counts *c);

/* The count of one cluster.  -1, reported, errno EIO or ENOMEM. */
extern int qcow2_count_get (struct qcow2_counts *c, uint64_t cluster,
                            uint64_t *count);

/* Find up to 'wanted' neighbouring free clusters and count each once.
 * Returns how many (> 0, the first in *first); -1, errno ENOSPC unreported,
 * or EIO, ENOMEM, EFBIG reported.  Opens a change section.
 */
extern int64_t qcow2_alloc (struct qcow2_counts *c, uint64_t wanted,
                            uint64_t *first);

/* Does the space of a fresh allocation read as zeroes?  Call once with each
 * allocation; from then on it is taken to be written.
 */
extern bool qcow2_alloc_reads_zero (struct qcow2_counts *c, uint64_t first,
                                    uint64_t nr);

/* Have the host allocate the space of clusters that a table is to lie in,
 * so that the pass which writes the table cannot run out of space: where a
 * file is sparse, zeroes are written.  -1, reported, errno ENOSPC, EIO.
 */
extern int qcow2_take_space (struct qcow2_counts *c, uint64_t first,
                             uint64_t nr);

/* Give back what was allocated and never named.  Cannot fail: in the worst
 * case the clusters leak.
 */
extern void qcow2_alloc_undo (struct qcow2_counts *c, uint64_t first,
                              uint64_t nr);

/* Make sure that n more drops can be noted: they cannot fail then.  Each
 * promise ends with qcow2_drop_end.  -1, ENOMEM, reported.
 */
extern int qcow2_drop_begin (struct qcow2_counts *c, size_t n);
extern void qcow2_drop_end (struct qcow2_counts *c, size_t n);

/* One reference to each of these clusters goes with the change section
 * that is open.
 */
extern void qcow2_drop (struct qcow2_counts *c, uint64_t first, uint64_t nr,
                        enum qcow2_drop_kind kind);

/* Free what was dropped before the cut.  Takes the format lock. */
extern void qcow2_counts_durable (struct qcow2_counts *c, uint64_t cut);

/* Take the space behind the last cluster in use from the file. */
extern int qcow2_counts_trim_file (struct qcow2_counts *c);

#endif /* NDF_QCOW2_COUNTS_H */
