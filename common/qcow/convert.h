/* Converting tapdisk's L1 table to big endian, in place, once.
 *
 * Whatever write is the last before a power cut: the image is then what it
 * was, or what it becomes, or a state that the next run finishes.  Nothing
 * is touched but entries that differ, and in the extended header the
 * flags, a reversed magic, a checksum that was valid, and then
 * min_cluster_alloc where a table does not follow tapdisk's formula.
 * While it goes on a record lies in the free page behind the headers, see
 * qcow/intent.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_CONVERT_H
#define NDF_QCOW_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcow/header.h"
#include "qcow/judge.h"
#include "source/source.h"

/* The header bytes that conversion may change are among these. */
#define QCOW_CONVERT_HEAD_LEN 64

/* What conversion would make of the image: the judged table, a few header
 * bytes, and what an earlier run left to be finished.
 */
struct qcow_plan {
  bool is_needed;               /* something is to be written */
  const char *why_not;          /* NULL, or why what would be needed cannot
                                   be done, a part sentence: "entries of
                                   its L1 table are damaged" */
  uint8_t before[QCOW_CONVERT_HEAD_LEN]; /* the headers as they are */
  uint8_t head[QCOW_CONVERT_HEAD_LEN];   /* ... and as they will be */
  bool writes_table, writes_head;
  bool must_finish;             /* an earlier run, interrupted while its
                                   copy of the table was the valid one */
  uint64_t intent_host;         /* of the first sector that may hold records
                                   of an earlier run; 0: none does */
  uint8_t intent_sectors;       /* which do: bit 0 is that one */
  uint64_t home_host;           /* where the L1 table is to lie */
};

/* Make the plan for an image whose table was judged.  Reads, changes
 * nothing in the image; a table that is to move back to its place is put
 * into v->table.
 *
 * Nothing is needed, or looked at, without Xen's header.  0; -1, reported,
 * errno EIO, ENOMEM.
 */
extern int qcow_convert_plan (struct source *src, const char *name,
                              const struct qcow_header *h,
                              struct qcow_verdict *v,
                              struct qcow_plan *plan);

/* Carry it out.  The growing way (G) puts a copy of the table at or behind
 * 'end', which is behind everything that the image uses (the end of the
 * file and the tables are looked at in any case); it ends with the table
 * in its old place and the file as long as before.  It is for a source
 * that can grow and a table where tapdisk puts it; for any other it does
 * as the fixed way (F), which writes where things are.
 *
 * The caller has the image for itself; what is found changed since the
 * plan was made is not written over.  0: durable; -1, reported: nothing is
 * lost, judge and run it again.  errno ENOTSUP: entries are ambiguous, and
 * there is no room for the record that F needs.
 */
extern int qcow_convert_growing (struct source *src, const char *name,
                                 const struct qcow_header *h,
                                 const struct qcow_verdict *v,
                                 const struct qcow_plan *plan,
                                 uint64_t end);
extern int qcow_convert_fixed (struct source *src, const char *name,
                               const struct qcow_header *h,
                               const struct qcow_verdict *v,
                               const struct qcow_plan *plan);

/* Make buf[0..len-1], just read from byte 'host' on, what it would be after
 * the conversion, also one that cannot be done (entries that are damaged
 * stay as they are).  Threads: any.
 */
extern void qcow_convert_view (const struct qcow_header *h,
                               const struct qcow_verdict *v,
                               const struct qcow_plan *plan,
                               void *buf, size_t len, uint64_t host);

#endif /* NDF_QCOW_CONVERT_H */
