/* What an open qcow image is made of: img->state.
 *
 * Private to this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_STATE_H
#define NDF_QCOW_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/damage.h"
#include "image/image.h"
#include "include/byte-order.h"
#include "qcow/entry.h"
#include "qcow/header.h"
#include "qcow/judge.h"

struct qcow_writer;

/* All constant since open, but for what says otherwise. */
struct qcow {
  struct qcow_header header;    /* changes in begin_writing, prepare and
                                   resize, where nobody else looks */
  struct qcow_verdict verdict;  /* likewise; .table is the L1 table where
                                   the one on disk is not what it means */
  uint32_t cluster_len;

  struct damage_log damage;     /* has its own lock */
  _Atomic bool has_warned_of_end;

  struct qcow_writer *writer;   /* NULL: not open for writing; owned */
};

static inline struct qcow *
qcow_state (const struct image *img)
{
  return img->state;
}

/* Does what is not allocated read as a backing file (or would, if there
 * were the one that is recorded)?
 */
static inline bool
qcow_has_base (const struct image *img)
{
  return img->wants_backing || img->backing != NULL;
}

static inline uint64_t
qcow_l1_index (const struct qcow *q, uint64_t guest)
{
  return guest >> qcow_span_bits (&q->header);
}

static inline uint64_t
qcow_l2_index (const struct qcow *q, uint64_t guest)
{
  return (guest >> q->header.cluster_bits)
    & (qcow_l2_entries (&q->header) - 1);
}

/* Where the L1 entry lies in the file. */
static inline uint64_t
qcow_l1_place (const struct qcow *q, uint64_t l1_index)
{
  return q->header.l1_host + l1_index * 8;
}

/* How many 8-byte entries there are in the page from file offset 'place'
 * on?
 */
static inline uint64_t
qcow_entries_in_page (const struct cache *cache, uint64_t place)
{
  const uint32_t page_len = cache_page_len (cache);

  return (page_len - (place & (page_len - 1))) / 8;
}

/* Does 'entry', not 0, name a place where an L2 table may lie now?  What
 * follows the file's end, up to a cluster, may: see writing.c.
 */
extern bool qcow_l1_entry_is_sound (const struct image *img,
                                    uint64_t entry);

/* What L1 entry 'l1_index' says: 1 and the table's offset, 0 for none, -1,
 * reported, when it makes no sense (errno EIO) or cannot be read.
 */
extern int qcow_l1_get (struct image *img, uint64_t l1_index,
                        uint64_t *l2_host);

/* Tell of an L2 entry that makes no sense. */
extern void qcow_report_damage (struct image *img,
                                const struct qcow_cluster *c,
                                uint64_t entry, uint64_t place,
                                uint64_t guest);

extern ssize_t qcow_lookup (struct image *img, uint64_t guest, uint64_t len,
                            struct extent *ext, size_t max);

#endif /* NDF_QCOW_STATE_H */
