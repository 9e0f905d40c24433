/* Entries of L2 tables, found for changing.
 *
 * A missing table is made before the request that needs it does anything
 * else; that is harmless by itself: the disk reads as before.
 *
 * Invariant: a new table is written, empty, at once, as data are; the L1
 * entry that names it, and what is put into it, in PASS_LINK.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "include/checked.h"
#include "qcow/writer.h"
#include "report/refuse.h"

/* Room that a new table needs, in clusters. */
static uint64_t
table_clusters (const struct qcow *q)
{
  return div_round_up (qcow_l2_len (&q->header), q->cluster_len);
}

/* Write an empty table.  That takes the host's space, too, so that no pass
 * runs out of it.
 */
static int
write_empty (struct image *img, uint64_t host, uint32_t len)
{
  static const uint8_t zeroes[8 << QCOW_MAX_L2_BITS];

  if (source_pwrite (img->source, zeroes, len, host) == -1)
    return -1;
  pass_data_written (img);
  return 0;
}

/* In an image that tapdisk may have made, places whose bytes make sense in
 * the other order, too, are left out: they would be ambiguous entries.
 */
#define AMBIGUOUS_UNIT 65536

static int
take_room (struct image *img, uint64_t nr, uint64_t *first)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_space *space = q->writer->space;
  uint64_t skipped;
  bool reads_zero;
  int64_t r;

  if (qcow_space_take (space, nr, nr, QCOW_META, first, &reads_zero) == -1)
    return -1;
  if (q->header.xen == QCOW_XEN_NONE ||
      (*first << q->header.cluster_bits) % AMBIGUOUS_UNIT != 0)
    return 0;
  skipped = *first;
  r = qcow_space_take (space, nr, nr, QCOW_META, first, &reads_zero);
  qcow_space_undo (space, skipped, nr);
  return r == -1 ? -1 : 0;
}

/* Make the table of the L1 entry at 'place'. */
static int
make_table (struct image *img, uint64_t place, uint64_t *l2_host)
{
  struct qcow *q = qcow_state (img);
  struct qcow_space *space = q->writer->space;
  const uint64_t nr = table_clusters (q);
  const uint32_t len = qcow_l2_len (&q->header);
  struct page *page;
  uint64_t first;

  if (take_room (img, nr, &first) == -1)
    return -1;
  *l2_host = first << q->header.cluster_bits;
  page = cache_get (img->cache, place);
  if (page == NULL || write_empty (img, *l2_host, len) == -1) {
    const int err = errno;

    cache_put (img->cache, page);
    qcow_space_undo (space, first, nr);
    errno = err;
    return -1;
  }
  pass_begin_change (img);
  cache_forget (img->cache, *l2_host, len);
  store_entry_be64 (page->bytes + (place - page->host), *l2_host);
  cache_dirty (img->cache, page, PASS_LINK);
  pass_end_change (img);
  cache_put (img->cache, page);
  return 0;
}

int
qcow_slot_get (struct image *img, uint64_t guest, struct qcow_slot *slot)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t l1_index = qcow_l1_index (q, guest);
  const uint64_t l2_index = qcow_l2_index (q, guest);
  uint64_t l2_host, place;
  int r;

  assert_held (&img->format_lock);
  r = qcow_l1_get (img, l1_index, &l2_host);
  if (r == 0)
    r = make_table (img, qcow_l1_place (q, l1_index), &l2_host);
  if (r == -1)
    return -1;
  place = l2_host + l2_index * 8;
  slot->page = cache_get (img->cache, place);
  if (slot->page == NULL)
    return -1;
  slot->bytes = slot->page->bytes + (place - slot->page->host);
  slot->nr = MIN (qcow_entries_in_page (img->cache, place),
                  qcow_l2_entries (&q->header) - l2_index);
  return 0;
}

void
qcow_slot_put (struct image *img, struct qcow_slot *slot)
{
  cache_put (img->cache, slot->page);
  slot->page = NULL;
}

void
qcow_slot_decode (const struct image *img, const struct qcow_slot *slot,
                  uint64_t i, struct qcow_cluster *c)
{
  qcow_decode (&qcow_state (img)->header,
               load_entry_be64 (slot->bytes + i * 8), c);
}

void
qcow_slot_replace (struct image *img, const struct qcow_slot *slot,
                   uint64_t i, uint64_t entry)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_space *space = q->writer->space;
  struct qcow_cluster old;

  qcow_slot_decode (img, slot, i, &old);
  store_entry_be64 (slot->bytes + i * 8, entry);
  cache_dirty (img->cache, slot->page, PASS_LINK);
  if (qcow_is_writable (img, &old))
    qcow_space_drop (space, old.host >> q->header.cluster_bits, 1);
  else
    qcow_space_unpromise (space, 1);
}

bool
qcow_is_writable (const struct image *img, const struct qcow_cluster *c)
{
  const struct qcow *q = qcow_state (img);

  return img->is_writable && c->kind == QCOW_PLAIN &&
    c->host % q->cluster_len == 0 &&
    qcow_space_use (q->writer->space,
                    c->host >> q->header.cluster_bits) == QCOW_ONCE;
}
