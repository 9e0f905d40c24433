/* What an image open for writing has besides: q->writer.
 *
 * Private to this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_WRITER_H
#define NDF_QCOW_WRITER_H

#include "qcow/space.h"
#include "qcow/state.h"

struct qcow_writer {
  struct qcow_space *space;
  uint64_t tables_end;          /* bytes; when the image was opened */

  /* Where the next stream may go, within clusters that are taken for
   * streams; bytes; format lock.
   */
  uint64_t pack_host, pack_end;

  /* A stream that decodes to one cluster of zeroes, for overlays; set under
   * the format lock, the entry once and for all.
   */
  uint8_t *zero_stream;         /* NULL: not made yet; owned */
  uint32_t zero_len;            /* bytes */
  _Atomic uint64_t zero_entry;  /* 0: it is not in the file yet */
};

/* The entry of guest's cluster.  'page' is pinned. */
struct qcow_slot {
  struct page *page;
  uint8_t *bytes;               /* of the entry, in the page */
  uint64_t nr;                  /* entries from here to the page's end or
                                   the table's */
};

/* Find the slot, making the table if need be.  Format lock held.
 * 0; or -1, reported (but ENOSPC), errno EIO, ENOSPC, ENOMEM.
 */
extern int qcow_slot_get (struct image *img, uint64_t guest,
                          struct qcow_slot *slot);
extern void qcow_slot_put (struct image *img, struct qcow_slot *slot);

/* What the slot's entry number 'i' says. */
extern void qcow_slot_decode (const struct image *img,
                              const struct qcow_slot *slot, uint64_t i,
                              struct qcow_cluster *c);

/* Replace entry number 'i', and drop what it held; in a change section,
 * with one drop promised.
 */
extern void qcow_slot_replace (struct image *img,
                               const struct qcow_slot *slot, uint64_t i,
                               uint64_t entry);

/* May this plain cluster be overwritten in place? */
extern bool qcow_is_writable (const struct image *img,
                              const struct qcow_cluster *c);

/* Gather what is in use; survey.c.  0; -1, reported, errno EINVAL when
 * something lies on a table, EIO, ENOMEM, EFBIG.
 */
extern int qcow_survey (struct image *img);

/* Make the bytes of the zero stream; -1, reported. */
extern int qcow_zero_stream_make (struct image *img);

/* Change a field of the header, for the next pass to write. */
extern int qcow_change_header (struct image *img, unsigned at,
                               const void *bytes, size_t len);

/* format.h: begin_writing, prepare, reserve ..., link, abandon, unmap,
 * durable, is_metadata, finish.
 */
extern int qcow_begin_writing (struct image *img);
extern int qcow_prepare (struct image *img);
extern int qcow_reserve (struct image *img, uint64_t guest, uint64_t len,
                         struct claim *claim);
extern uint32_t qcow_max_packed_len (const struct image *img);
extern int qcow_reserve_packed (struct image *img, uint64_t guest,
                                uint32_t packed_len, struct claim *claim);
extern void qcow_link (struct image *img, const struct claim *claim);
extern void qcow_abandon (struct image *img, const struct claim *claim);
extern ssize_t qcow_unmap (struct image *img, uint64_t guest, uint64_t len,
                           enum unmap_wish wish, bool fast);
extern void qcow_durable (struct image *img, uint64_t cut);
extern bool qcow_is_metadata (struct image *img, uint64_t host,
                              uint32_t len, enum pass_phase phase);
extern int qcow_finish (struct image *img);
extern void qcow_writer_free (struct qcow_writer *w);

#endif /* NDF_QCOW_WRITER_H */
