/* Converting tapdisk's L1 table to big endian, in place, once.
 *
 * Whatever write is the last before a power cut: the image is then what it
 * was, or what it becomes, or a state that the next run finishes.  Nothing
 * is touched but entries that differ, and in the extended header the
 * flags, a reversed magic, a checksum that was valid, and
 * min_cluster_alloc where a table does not follow tapdisk's formula.
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

/* What conversion would make of the image: the judged table, a few header
 * bytes, and what an earlier run left to be finished.
 */
struct qcow_plan {
  bool is_needed;               /* something is to be written */
  const char *why_not;          /* NULL, or why it cannot be: "entries of
                                   its L1 table are damaged"; then nothing
                                   is needed either */
  uint8_t head[QCOW_HEAD_LEN];  /* the headers as they will be */
  bool writes_table, writes_head;
  bool must_finish;             /* an earlier conversion, interrupted */
  uint64_t intent_host;         /* of its record in the file; 0: none */
  uint64_t home_host;           /* where the L1 table is to lie */
};

/* Make the plan for an image whose table was judged.  Reads, changes
 * nothing.  0; -1, reported, errno EIO, ENOMEM.
 */
extern int qcow_convert_plan (struct source *src, const char *name,
                              const struct qcow_header *h,
                              const struct qcow_verdict *v,
                              struct qcow_plan *plan);

/* Carry it out.  The growing way (G) puts a copy of the table at or behind
 * 'end', which is behind everything that the image uses, for a source that
 * can grow; it ends with the table in its old place and the file as long
 * as before.  The fixed way (F) writes where things are.
 *
 * The caller has the image for itself.  0: durable; -1, reported: nothing
 * is lost, run it again.
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
 * the conversion (entries that are damaged stay as they are).  Threads:
 * any.
 */
extern void qcow_convert_view (const struct qcow_header *h,
                               const struct qcow_verdict *v,
                               const struct qcow_plan *plan,
                               void *buf, size_t len, uint64_t host);

#endif /* NDF_QCOW_CONVERT_H */
