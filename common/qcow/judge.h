/* In which byte order is the L1 table?
 *
 * Xen's tapdisk wrote L1 entries in the order of its host until 2008;
 * later programs converted them, some wrongly, and some of these stopped
 * half way.  So neither flag nor magic proves anything: every entry is
 * judged by itself, and the checksum is a second opinion.
 *
 * Only an image with Xen's extended header (in either order) is judged
 * that way.  Without it the format says big endian; a table whose entries
 * make sense in little endian only is refused then.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_JUDGE_H
#define NDF_QCOW_JUDGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "qcow/header.h"
#include "source/source.h"

/* Tables of images that carry Xen's header are held in memory when they
 * are not what they mean; with more entries than these they are refused.
 */
#define QCOW_MAX_JUDGED (UINT64_C (1) << 23)

/* In verdict.table: this entry makes no sense in either order, or cannot
 * be decided.
 */
#define QCOW_L1_DAMAGED UINT64_MAX

enum qcow_order {
  QCOW_ORDER_EMPTY,             /* no entry says anything */
  QCOW_ORDER_BIG,               /* as it should be */
  QCOW_ORDER_LITTLE,            /* tapdisk's, never converted */
  QCOW_ORDER_MIXED,             /* some entries of each */
};

/* What form of the decided table has the checksum that is stored? */
enum qcow_cksum {
  QCOW_CKSUM_NONE,              /* no information */
  QCOW_CKSUM_LITTLE,            /* all in little endian */
  QCOW_CKSUM_BIG,
};

/* Owned by whoever judged; freed by qcow_verdict_free. */
struct qcow_verdict {
  enum qcow_order order;        /* of the entries that are sound */
  uint64_t nr_big;              /* entries by what they were decided to be */
  uint64_t nr_little;
  uint64_t nr_damaged;          /* with those that stay undecided */
  uint64_t nr_ambiguous;        /* were so at first; counted above too */
  uint64_t first_damaged;       /* index, if there are any */
  uint64_t nr_fleeting;         /* ambiguous ones decided by something that
                                   goes when the image is written */

  enum qcow_cksum cksum;
  bool cksum_is_reversed;       /* digest bytes as a little endian host
                                   stores them */

  /* With Xen's header only, and only where something in the table on disk
   * is little endian or damaged: what the entries mean, header->nr_l1 of
   * them, in the order of the host; QCOW_L1_DAMAGED for the damaged.  NULL:
   * read the table.
   */
  uint64_t *table;
};

/* What eight bytes of the table are by themselves. */
enum qcow_class {
  QCOW_CLASS_EMPTY,             /* zero */
  QCOW_CLASS_EITHER,            /* sound, and reads the same both ways */
  QCOW_CLASS_BIG,               /* plausible only so */
  QCOW_CLASS_LITTLE,
  QCOW_CLASS_AMBIGUOUS,         /* plausible in both orders */
  QCOW_CLASS_DAMAGED,           /* in neither */
};

/* Judge the table of the image in 'src', whose header was checked.  Entries
 * are told of when they are damaged: some by index, then how many.  Memory
 * is bounded (8 bytes for each of QCOW_MAX_JUDGED entries, and 4 MiB); holes
 * and tables beyond the end of the file cost nothing.
 *
 * Without Xen's header an entry needs no more than to lie on a sector, as
 * in QEMU; v->nr_damaged counts what does not, but there is no table.
 *
 * 0, with *v filled in; -1, reported: errno EIO, ENOMEM, ENOTSUP (too
 * large), EINVAL (no extended header, but a little endian table).
 */
extern int qcow_judge (struct source *src, const char *name,
                       const struct qcow_header *h, struct qcow_verdict *v);

/* Also of a verdict that was never filled in but zeroed. */
extern void qcow_verdict_free (struct qcow_verdict *v);

/* Give up the table in memory, if none of its entries is damaged: the one
 * on disk is what it means.
 */
static inline void
qcow_verdict_use_disk (struct qcow_verdict *v)
{
  if (v->nr_damaged > 0)
    return;
  free (v->table);
  v->table = NULL;
}

/* Could 'v' name an L2 table in a file of 'file_len' bytes: a multiple of
 * the cluster size, not on the header or the L1 table, beginning no later
 * than where the file ends, rounded up to the cluster size?
 */
extern bool qcow_entry_is_plausible (const struct qcow_header *h,
                                     uint64_t file_len, uint64_t v);

/* Class of the entry that is 'as_big' when it is read as big endian. */
extern enum qcow_class qcow_entry_classify (const struct qcow_header *h,
                                            uint64_t file_len,
                                            uint64_t as_big);

/* The stored word for a table: MD5 of its nr * 8 bytes, its first four
 * bytes as a big endian number, or as a little endian one if 'reversed'.
 * 'big': hash the entries in big endian, else in little endian.
 */
extern uint32_t qcow_cksum_of (const uint64_t *table, uint64_t nr, bool big,
                               bool reversed);

#endif /* NDF_QCOW_JUDGE_H */
