/* What an image open for writing has besides: q->writer.
 *
 * Private to this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_WRITER_H
#define NDF_QCOW2_WRITER_H

#include "qcow2/counts.h"
#include "qcow2/state.h"

struct qcow2_writer {
  struct qcow2_counts *_Atomic counts;  /* NULL: not known yet; set once */
};

/* The entry of guest's cluster in a table that only this disk uses.
 * 'page' is pinned.
 */
struct l2_slot {
  struct page *page;
  uint8_t *bytes;               /* of the entry, in the page */
  uint64_t nr;                  /* entries from here to the page's end */
};

/* Find the slot, making or copying the table if need be.  Format lock held.
 * 0; or -1, reported (but ENOSPC), errno EIO, ENOSPC, ENOMEM, EFBIG.
 */
extern int qcow2_slot_get (struct image *img, uint64_t guest,
                           struct l2_slot *slot);
extern void qcow2_slot_put (struct image *img, struct l2_slot *slot);

/* What the slot's entry number 'i' says; of the cluster at 'guest'. */
extern void qcow2_slot_decode (const struct qcow2 *q,
                               const struct l2_slot *slot, uint64_t i,
                               uint64_t guest, struct cluster *c);

/* Replace entry number 'i'; in a change section. */
extern void qcow2_slot_store (struct image *img, const struct l2_slot *slot,
                              uint64_t i, uint64_t entry, uint64_t bitmap);

/* Does the cluster lie where guest data may lie?  False, reported, when it
 * points into a table: it must not be written, and dropping it would
 * destroy the table.  'guest' is for the message.
 */
extern bool qcow2_cluster_is_sound (struct image *img,
                                    const struct cluster *c, uint64_t guest);

/* Drop what the entry held of the image's file; in a change section, after
 * qcow2_drop_reserve.
 */
extern void qcow2_drop_cluster (struct image *img, const struct cluster *c);

/* format.h: begin_writing, prepare, reserve, link, abandon, unmap, durable,
 * is_metadata, mark_damaged, finish.
 */
extern int qcow2_begin_writing (struct image *img);
extern int qcow2_prepare (struct image *img);
extern int qcow2_reserve (struct image *img, uint64_t guest, uint64_t len,
                          struct claim *claim);
extern void qcow2_link (struct image *img, const struct claim *claim);
extern void qcow2_abandon (struct image *img, const struct claim *claim);
extern ssize_t qcow2_unmap (struct image *img, uint64_t guest, uint64_t len,
                            enum unmap_wish wish, bool fast);
extern void qcow2_durable (struct image *img, uint64_t cut);
extern bool qcow2_is_metadata (struct image *img, uint64_t host,
                               uint32_t len, enum pass_phase phase);
extern int qcow2_mark_damaged (struct image *img);
extern int qcow2_finish (struct image *img);
extern void qcow2_writer_free (struct qcow2_writer *w);

#endif /* NDF_QCOW2_WRITER_H */
