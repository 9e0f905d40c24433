/* Entries of L2 tables, found for changing.
 *
 * An entry changes only in a table that belongs to the active disk alone:
 * a missing table is made, a shared one copied, before the request that
 * needs it does anything else.  Both are harmless by themselves: the disk
 * reads as before.
 *
 * Invariant: a new table's pages are written in PASS_FILL, the L1 entry
 * that names it in PASS_LINK.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

/* Pages of a new table, empty or a copy of the one at 'from'.  In a change
 * section.
 */
static int
create_table (struct image *img, uint64_t to)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint32_t page_len = cache_page_len (img->cache);
  uint64_t done;

  for (done = 0; done < q->cluster_len; done += page_len) {
    struct page *page = cache_create (img->cache, to + done);

    if (page == NULL)
      return -1;
    cache_put (img->cache, page);
  }
  return 0;
}

/* Clusters of a shared table are shared, too, whatever its entries say: the
 * copy must not say that they may be written in place.
 */
static void
copy_entries (const struct qcow2 *q, uint8_t *to, const uint8_t *from,
              uint32_t len)
{
  const uint32_t step = 1 << q->entry_bits;
  uint32_t i;

  for (i = 0; i < len; i += 8) {
    uint64_t entry = load_entry_be64 (from + i);

    if (i % step == 0 && !(entry & L2_PACKED) && !q->rules.has_data_file)
      entry &= ~L2_COPIED;
    store_entry_be64 (to + i, entry);
  }
}

/* Copy the entries.  The pages of 'to' are dirty, so they are there; those
 * of 'from' may have to be read, which is why this is no change section:
 * nobody names the new table yet, and a pass that writes half of it does no
 * harm, but each page is changed in a section of its own.
 */
static int
copy_table (struct image *img, uint64_t from, uint64_t to)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint32_t page_len = cache_page_len (img->cache);
  uint64_t done;

  cache_read_ahead (img->cache, from, q->cluster_len);
  for (done = 0; done < q->cluster_len; done += page_len) {
    struct page *old = cache_get (img->cache, from + done);
    struct page *new = old ? cache_get (img->cache, to + done) : NULL;

    if (new) {
      pass_begin_change (img);
      copy_entries (q, new->bytes, old->bytes, page_len);
      cache_dirty (img->cache, new, PASS_FILL);
      pass_end_change (img);
    }
    cache_put (img->cache, new);
    cache_put (img->cache, old);
    if (new == NULL)
      return -1;
  }
  return 0;
}

/* Name the new table in the L1 entry, dropping an old one. */
static void
switch_table (struct image *img, struct page *l1_page, uint8_t *bytes,
              uint64_t old, uint64_t new)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;

  pass_begin_change (img);
  store_entry_be64 (bytes, new | L1_COPIED);
  cache_dirty (img->cache, l1_page, PASS_LINK);
  if (old != 0)
    qcow2_drop (counts, old >> q->rules.cluster_bits, 1, DROP_TABLE);
  pass_end_change (img);
}

/* Make a table of the disk's own for the L1 entry at 'bytes'.  One drop has
 * been promised.
 */
static int
own_table_promised (struct image *img, struct page *l1_page, uint8_t *bytes,
           uint64_t old, uint64_t *l2_host)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;
  uint64_t cluster;
  int r;

  if (qcow2_alloc (counts, 1, &cluster) == -1)
    return -1;
  qcow2_alloc_reads_zero (counts, cluster, 1);
  if (qcow2_take_space (counts, cluster, 1) == -1) {
    int err = errno;

    qcow2_alloc_undo (counts, cluster, 1);
    errno = err;
    return -1;
  }
  if (qcow2_guard_reserve (&counts->guard, 1) == -1) {
    qcow2_alloc_undo (counts, cluster, 1);
    return REFUSE (ENOMEM, "%s: no memory for a new L2 table", img->name);
  }
  qcow2_guard_add (&counts->guard, cluster);
  *l2_host = cluster << q->rules.cluster_bits;

  pass_begin_change (img);
  r = create_table (img, *l2_host);
  pass_end_change (img);
  if (r == 0 && old != 0)
    r = copy_table (img, old, *l2_host);
  if (r == -1) {
    int err = errno;

    /* A pass may be writing its pages: it is free only after the next. */
    pass_begin_change (img);
    qcow2_drop (counts, cluster, 1, DROP_TABLE);
    pass_end_change (img);
    errno = err;
    return -1;
  }
  switch_table (img, l1_page, bytes, old, *l2_host);
  return 0;
}

static int
own_table (struct image *img, struct page *l1_page, uint8_t *bytes,
           uint64_t old, uint64_t *l2_host)
{
  struct qcow2_counts *counts = qcow2_state (img)->writer->counts;
  int r;

  if (qcow2_drop_begin (counts, 1) == -1)
    return -1;
  r = own_table_promised (img, l1_page, bytes, old, l2_host);
  qcow2_drop_end (counts, 1);
  return r;
}

/* The L2 table for guest's cluster, owned. */
static int
get_table (struct image *img, uint64_t guest, uint64_t *l2_host)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t l1_index = l1_index_of (q, guest);
  const uint64_t place = l1_entry_host (q, l1_index);
  struct page *page = cache_get (img->cache, place);
  uint64_t entry;
  uint8_t *bytes;
  int r;

  if (page == NULL)
    return -1;
  bytes = page->bytes + (place - page->host);
  entry = load_entry_be64 (bytes);
  r = l1_entry_decode (img, l1_index, entry, l2_host);
  if (r == -1)
    errno = EIO;
  else if (r == 0)
    r = own_table (img, page, bytes, 0, l2_host);
  else if (entry & L1_COPIED)
    r = 0;
  else
    r = own_table (img, page, bytes, *l2_host, l2_host);
  cache_put (img->cache, page);
  return r;
}

int
qcow2_slot_get (struct image *img, uint64_t guest, struct l2_slot *slot)
{
  struct qcow2 *q = qcow2_state (img);
  uint64_t l2_host, place;

  assert_held (&img->format_lock);
  if (get_table (img, guest, &l2_host) == -1)
    return -1;
  place = l2_entry_host (q, l2_host, l2_index_of (q, guest));
  slot->page = cache_get (img->cache, place);
  if (slot->page == NULL)
    return -1;
  slot->bytes = slot->page->bytes + (place - slot->page->host);
  slot->nr = entries_left_in_page (img->cache, place, q->entry_bits);
  return 0;
}

void
qcow2_slot_put (struct image *img, struct l2_slot *slot)
{
  cache_put (img->cache, slot->page);
  slot->page = NULL;
}

void
qcow2_slot_decode (const struct qcow2 *q, const struct l2_slot *slot,
                   uint64_t i, uint64_t guest, struct cluster *c)
{
  const uint8_t *bytes = slot->bytes + (i << q->entry_bits);

  cluster_decode (&q->rules, load_entry_be64 (bytes),
                  q->rules.is_extended ? load_entry_be64 (bytes + 8) : 0,
                  guest, c);
}

void
qcow2_slot_store (struct image *img, const struct l2_slot *slot, uint64_t i,
                  uint64_t entry, uint64_t bitmap)
{
  struct qcow2 *q = qcow2_state (img);
  uint8_t *bytes = slot->bytes + (i << q->entry_bits);

  if (q->rules.is_extended)
    store_entry_be64 (bytes + 8, bitmap);
  store_entry_be64 (bytes, entry);
  cache_dirty (img->cache, slot->page, PASS_LINK);
}

bool
qcow2_cluster_is_sound (struct image *img, const struct cluster *c,
                        uint64_t guest)
{
  struct qcow2 *q = qcow2_state (img);
  const unsigned bits = q->rules.cluster_bits;
  uint64_t cluster, last = c->host;

  if (!c->allocated || q->rules.has_data_file)
    return true;
  if (c->kind == CLUSTER_PACKED)
    last = c->host + c->packed_len - 1;
  for (cluster = c->host >> bits; cluster <= last >> bits; ++cluster) {
    if (qcow2_guard_has (&q->writer->counts->guard, cluster)) {
      report_error ("%s: the L2 entry for disk offset %" PRIu64 " points "
                    "into a table, at host offset %" PRIu64 "; "
                    CHECK_A_COPY, img->name, guest, cluster << bits);
      image_set_damaged (img);
      return false;
    }
  }
  return true;
}

void
qcow2_drop_cluster (struct image *img, const struct cluster *c)
{
  struct qcow2 *q = qcow2_state (img);
  const unsigned bits = q->rules.cluster_bits;
  uint64_t last = c->host;

  if (!c->allocated || q->rules.has_data_file)
    return;
  if (c->kind == CLUSTER_PACKED)
    last = c->host + c->packed_len - 1;
  qcow2_drop (q->writer->counts, c->host >> bits,
              (last >> bits) - (c->host >> bits) + 1,
              c->kind == CLUSTER_PACKED ? DROP_PACKED : DROP_DATA);
}
