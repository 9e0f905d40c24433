/* Changing the length of a disk.
 *
 * Longer: the L1 table has room for more entries, or gets it at a new
 * place, where it is as it was but for zeroes behind it; then what is new
 * is made to read as zeroes, which the old length hides as yet; the length
 * itself last.  Shorter: the clusters behind the new end go, each L2 table
 * in one step with its L1 entry; then the length.  So whenever the power
 * fails, the image is sound and the disk has one length or the other;
 * shorter, it may have lost what it was to lose.
 *
 * The number of L1 entries follows from the length, so what lies behind
 * the table is an entry as soon as the disk is longer.  A failure can leave
 * entries there: then it is no room, and another table is made.
 *
 * Format: block/qcow.c in QEMU 7.2, which cannot do this.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/resize.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/resize.h"
#include "qcow/writer.h"
#include "report/refuse.h"

/* The L1 table is copied in pieces of this length. */
#define PIECE_LEN UINT64_C (65536)

/* So many clusters may wait to be freed. */
#define MAX_DROPS 65536

static uint64_t
nr_l1_for (const struct qcow *q, uint64_t len)
{
  return div_round_up (len, UINT64_C (1) << qcow_span_bits (&q->header));
}

/* What the data path and lookups believe from now on, when 'len' is the
 * length that the header records; on disk nothing has changed.
 */
static void
believe_len (struct image *img, uint64_t len)
{
  struct qcow *q = qcow_state (img);

  q->header.len = len;
  q->header.disk_len = img->len = round_down (len, QCOW_SECTOR_LEN);
  q->header.nr_l1 = nr_l1_for (q, len);
}

/* Change the header, durably, behind everything else; all is in its first
 * sector.  Where the table moves, Xen's header goes with it: its readers
 * know only tables near the start of a file, and conversion would take the
 * old table for what an interrupted one had left.
 */
static int
change_header (struct image *img, uint64_t len, uint64_t l1_host)
{
  struct qcow_header *h = &qcow_state (img)->header;
  struct page *page;

  /* The page's changes so far may be meant for an earlier phase. */
  if (pass_run (img) == -1)
    return -1;
  page = cache_get (img->cache, 0);
  if (page == NULL)
    return -1;
  {
    LOCK_SCOPE (&img->format_lock);

    pass_begin_change (img);
    store_be64 (page->bytes + QCOW_AT_LEN, len);
    store_be64 (page->bytes + QCOW_AT_L1_HOST, l1_host);
    if (l1_host != h->l1_host && h->xen != QCOW_XEN_NONE)
      memset (page->bytes + QCOW_AT_XEN_MAGIC, 0,
              (h->has_flags ? QCOW_AT_FLAGS + 4 : QCOW_AT_FLAGS) -
              QCOW_AT_XEN_MAGIC);
    cache_dirty (img->cache, page, PASS_HEADER);
    pass_end_change (img);
  }
  cache_put (img->cache, page);
  return pass_run (img);
}

/* ---- room for the L1 table where it is */

static int
no_memory (const struct image *img)
{
  return REFUSE (ENOMEM, "%s: no memory to change its size", img->name);
}

/* Is [host, end), in one cluster, zero?  1, 0; -1, reported. */
static int
is_zero (struct image *img, uint64_t host, uint64_t end)
{
  static const uint8_t zeroes[4096];
  const uint32_t page_len = cache_page_len (img->cache);
  int r = 1;

  while (r == 1 && host < end) {
    const uint64_t len = MIN (end - host, page_len - host % page_len);
    struct page *page = cache_get (img->cache, host);

    if (page == NULL)
      return -1;
    r = memcmp (page->bytes + host % page_len, zeroes, len) == 0;
    cache_put (img->cache, page);
    host += len;
  }
  return r;
}

/* Does a stream touch [host, end)?  Nothing else can without being a
 * fault that opening for writing has met.  1, 0; -1, reported.
 */
static int
meets_stream (struct image *img, uint64_t host, uint64_t end)
{
  struct extent ext[64];
  uint64_t guest = 0;

  while (guest < img->len) {
    const ssize_t n = qcow_lookup (img, guest, img->len - guest, ext, 64);

    if (n == -1)
      return -1;
    for (ssize_t i = 0; i < n; ++i) {
      if (ext[i].type == EXTENT_PACKED &&
          qcow_meets (ext[i].host, ext[i].host + ext[i].packed_len, host,
                      end))
        return 1;
      guest += ext[i].len;
    }
  }
  return 0;
}

/* Can the table have 'nr' entries where it is: in the rest of its last
 * cluster, if that is empty?  1, 0; -1, reported.
 */
static int
has_room (struct image *img, uint64_t nr)
{
  const struct qcow *q = qcow_state (img);
  const struct qcow_header *h = &q->header;
  const uint64_t host = qcow_l1_end (h);
  const uint64_t end = h->l1_host + nr * 8;
  int r;

  if (end > round_up (host, q->cluster_len) ||
      (h->backing_host != 0 &&
       qcow_meets (host, end, h->backing_host,
                   h->backing_host + h->backing_len)) ||
      (h->xen != QCOW_XEN_NONE && nr > QCOW_MAX_JUDGED))
    return 0;
  r = is_zero (img, host, end);
  if (r == 1) {
    r = meets_stream (img, host, end);
    r = r == -1 ? -1 : !r;
  }
  return r;
}

/* ---- another L1 table */

/* Copy what there is of the table to 'to'; the rest, up to 'len' bytes, is
 * zero.  The old one is on disk as the cache has it.
 */
static int
write_l1 (struct image *img, uint64_t to, uint64_t len, bool reads_zero)
{
  const struct qcow_header *h = &qcow_state (img)->header;
  const uint64_t old_len = h->nr_l1 * 8;
  CLEANUP_FREE uint8_t *bytes = malloc (PIECE_LEN);
  uint64_t done, n;

  if (bytes == NULL)
    return no_memory (img);
  for (done = 0; done < old_len; done += n) {
    n = MIN (old_len - done, PIECE_LEN);
    if (source_pread_padded (img->source, bytes, n, h->l1_host + done) == -1 ||
        source_pwrite (img->source, bytes, n, to + done) == -1)
      return -1;
  }
  if (!reads_zero && source_zero (img->source, len - old_len, to + old_len,
                                  SOURCE_ZERO_PUNCH) == -1)
    return -1;
  /* Nobody has pages of a place that was free. */
  pass_begin_change (img);
  cache_forget (img->cache, to, len);
  pass_end_change (img);
  return source_sync (img->source);
}

static int64_t
take_l1 (struct image *img, uint64_t nr_clusters, uint64_t *first,
         bool *reads_zero)
{
  LOCK_SCOPE (&img->format_lock);
  const int64_t n =
    qcow_space_take (qcow_state (img)->writer->space, nr_clusters,
                     nr_clusters, QCOW_META, first, reads_zero);

  if (n == -1 && errno == ENOSPC)
    return REFUSE (ENOSPC, "%s: there is no room for the L1 table of the "
                   "larger disk, %" PRIu64 " bytes", img->name,
                   nr_clusters * qcow_state (img)->cluster_len);
  return n;
}

static void
abandon_l1 (struct image *img, uint64_t first, uint64_t nr_clusters)
{
  const int err = errno;
  LOCK_SCOPE (&img->format_lock);

  qcow_space_undo (qcow_state (img)->writer->space, first, nr_clusters);
  errno = err;
}

/* Have the table at another place, where 'nr' entries have room.  The old
 * place is forgotten, and found to be free when the image is next opened.
 */
static int
move_l1 (struct image *img, uint64_t nr)
{
  struct qcow *q = qcow_state (img);
  struct qcow_header *h = &q->header;
  const uint64_t nr_clusters = div_round_up (nr * 8, q->cluster_len);
  uint64_t first, to;
  bool reads_zero;

  if (pass_run (img) == -1 ||
      take_l1 (img, nr_clusters, &first, &reads_zero) == -1)
    return -1;
  to = first << h->cluster_bits;
  if (write_l1 (img, to, nr_clusters << h->cluster_bits, reads_zero) == -1) {
    abandon_l1 (img, first, nr_clusters);
    return -1;
  }
  /* From here on a failure leaves space that is lost for now, at worst. */
  if (change_header (img, h->len, to) == -1)
    return -1;
  h->l1_host = to;
  h->xen = QCOW_XEN_NONE;
  h->has_flags = false;
  h->flags = 0;
  return 0;
}

/* ---- longer */

static int
check_growth (struct image *img, uint64_t len)
{
  const struct qcow *q = qcow_state (img);

  if (len > INT64_MAX || nr_l1_for (q, len) > QCOW_MAX_L1_ENTRIES)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large for "
                   "clusters of %" PRIu32 " bytes and L2 tables of %" PRIu32
                   " entries, the most is %" PRIu64 "; copy it to an image "
                   "with larger ones", img->name, len, q->cluster_len,
                   qcow_l2_entries (&q->header),
                   MIN (QCOW_MAX_L1_ENTRIES << qcow_span_bits (&q->header),
                        (uint64_t) INT64_MAX));
  if (img->wants_backing && img->backing == NULL)
    return REFUSE (EINVAL, "%s: is to grow without its backing file, so it is "
                   "unknown what of that would show in the new part; leave "
                   "backing=none out", img->name);
  return 0;
}

static int
grow_l1 (struct image *img, uint64_t nr)
{
  int r;

  if (nr <= qcow_state (img)->header.nr_l1)
    return 0;
  r = has_room (img, nr);
  return r == 0 ? move_l1 (img, nr) : r == 1 ? 0 : -1;
}

static int
grow (struct image *img, uint64_t len)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t old = q->header.len;

  if (check_growth (img, len) == -1 ||
      grow_l1 (img, nr_l1_for (q, len)) == -1)
    return -1;
  believe_len (img, len);
  if (image_zero_new_part (img, round_down (old, QCOW_SECTOR_LEN)) == 0 &&
      change_header (img, len, q->header.l1_host) == 0)
    return 0;
  believe_len (img, old);
  return -1;
}

/* ---- shorter */

struct clearing {
  struct image *img;
  uint64_t nr_drops;            /* since the last pass, at most */
  uint8_t *l2;                  /* a table's bytes; owned */
};

/* Memory is bounded: run a pass if much is waiting for one. */
static int
make_way (struct clearing *c)
{
  if (!cache_is_pressed (c->img->cache) && c->nr_drops < MAX_DROPS)
    return 0;
  c->nr_drops = 0;
  return pass_run (c->img);
}

/* Clear the entries for [guest, ...) up to the end of their table, as many
 * as one page has; the table is there.  How many; -1.
 */
static int64_t
clear_entries (struct clearing *c, uint64_t guest)
{
  struct image *img = c->img;
  struct qcow_slot slot;
  int r;

  LOCK_SCOPE (&img->format_lock);
  if (qcow_slot_get (img, guest, &slot) == -1)
    return -1;
  r = qcow_space_promise (qcow_state (img)->writer->space, slot.nr);
  if (r == 0) {
    pass_begin_change (img);
    for (uint64_t i = 0; i < slot.nr; ++i)
      qcow_slot_replace (img, &slot, i, 0);
    pass_end_change (img);
    c->nr_drops += slot.nr;
  }
  qcow_slot_put (img, &slot);
  return r == -1 ? -1 : (int64_t) slot.nr;
}

/* Clear what a table that is to stay says of [guest, ...), which begins
 * with a cluster.
 */
static int
clear_rest_of_table (struct clearing *c, uint64_t guest)
{
  const struct qcow *q = qcow_state (c->img);
  const uint64_t end = round_up (guest,
                                 UINT64_C (1) << qcow_span_bits (&q->header));
  uint64_t l2_host;
  int r;

  if (guest == end)
    return 0;
  r = qcow_l1_get (c->img, qcow_l1_index (q, guest), &l2_host);
  while (r == 1 && guest < end) {
    int64_t n;

    if (make_way (c) == -1)
      return -1;
    n = clear_entries (c, guest);
    if (n == -1)
      return -1;
    guest += (uint64_t) n << q->header.cluster_bits;
  }
  return r == -1 ? -1 : 0;
}

/* The table as the cache has it. */
static int
read_l2 (struct clearing *c, uint64_t l2_host)
{
  struct cache *cache = c->img->cache;
  const uint32_t len = qcow_l2_len (&qcow_state (c->img)->header);
  const uint32_t page_len = cache_page_len (cache);

  cache_read_ahead (cache, l2_host, len);
  for (uint32_t done = 0; done < len; done += page_len) {
    struct page *page = cache_get (cache, l2_host + done);

    if (page == NULL)
      return -1;
    memcpy (c->l2 + done, page->bytes, page_len);
    cache_put (cache, page);
  }
  return 0;
}

/* Let go of the clusters that lie wholly in the table, which may share its
 * others with streams; with one drop promised.
 */
static void
drop_table (struct image *img, uint64_t l2_host)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t end = l2_host + qcow_l2_len (&q->header);
  const uint64_t first = div_round_up (l2_host, q->cluster_len);
  const uint64_t last = end >> q->header.cluster_bits;

  cache_forget (img->cache, l2_host, end - l2_host);
  if (first < last)
    qcow_space_drop (q->writer->space, first, last - first);
  else
    qcow_space_unpromise (q->writer->space, 1);
}

/* Let go of what entry 'i' of the table in c->l2 names; likewise. */
static void
drop_entry (struct clearing *c, uint64_t i)
{
  const struct qcow *q = qcow_state (c->img);
  struct qcow_space *space = q->writer->space;
  struct qcow_cluster cluster;

  qcow_decode (&q->header, load_be64 (c->l2 + i * 8), &cluster);
  if (qcow_is_writable (c->img, &cluster))
    qcow_space_drop (space, cluster.host >> q->header.cluster_bits, 1);
  else
    qcow_space_unpromise (space, 1);
}

/* Clear the L1 entry, which names the table at 'l2_host', and let go of all
 * that hangs on it.
 */
static int
clear_l1_entry (struct clearing *c, uint64_t l1_index, uint64_t l2_host)
{
  struct image *img = c->img;
  const struct qcow *q = qcow_state (img);
  const uint64_t place = qcow_l1_place (q, l1_index);
  const uint64_t nr = qcow_l2_entries (&q->header);
  struct page *page;

  LOCK_SCOPE (&img->format_lock);
  if (read_l2 (c, l2_host) == -1 ||
      qcow_space_promise (q->writer->space, nr + 1) == -1)
    return -1;
  page = cache_get (img->cache, place);
  if (page == NULL) {
    qcow_space_unpromise (q->writer->space, nr + 1);
    return -1;
  }
  pass_begin_change (img);
  for (uint64_t i = 0; i < nr; ++i)
    drop_entry (c, i);
  drop_table (img, l2_host);
  store_entry_be64 (page->bytes + (place - page->host), 0);
  cache_dirty (img->cache, page, PASS_LINK);
  pass_end_change (img);
  c->nr_drops += nr + 1;
  cache_put (img->cache, page);
  return 0;
}

/* Clear all L1 entries from 'l1_index' on. */
static int
clear_l1 (struct clearing *c, uint64_t l1_index)
{
  const struct qcow *q = qcow_state (c->img);
  uint64_t l2_host;
  int r;

  for (; l1_index < q->header.nr_l1; ++l1_index) {
    r = qcow_l1_get (c->img, l1_index, &l2_host);
    if (r == -1 ||
        (r == 1 && (make_way (c) == -1 ||
                    clear_l1_entry (c, l1_index, l2_host) == -1)))
      return -1;
  }
  return 0;
}

/* Have zeroes behind the new end in the cluster that it lies in, so that
 * nothing shows there when the disk is made longer by whomever.
 */
static int
zero_tail (struct image *img, uint64_t len)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t end = MIN (round_up (len, q->cluster_len), img->len);
  struct extent ext;

  while (len < end) {
    if (qcow_lookup (img, len, end - len, &ext, 1) == -1)
      return -1;
    if ((ext.type == EXTENT_DATA || ext.type == EXTENT_PACKED) &&
        image_zero (img, ext.len, len, false, false) == -1)
      return -1;
    len += ext.len;
  }
  return 0;
}

static int
shrink (struct image *img, uint64_t len)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t behind = round_up (len, q->cluster_len);
  CLEANUP_FREE uint8_t *l2 = malloc (qcow_l2_len (&q->header));
  struct clearing c = { .img = img, .l2 = l2 };

  if (l2 == NULL)
    return no_memory (img);
  if (len == 0)
    return REFUSE (EINVAL, "%s: an empty disk is not possible in this "
                   "format: its size must be at least 1", img->name);
  if (zero_tail (img, len) == -1 ||
      clear_rest_of_table (&c, behind) == -1 ||
      clear_l1 (&c, nr_l1_for (q, behind)) == -1 ||
      change_header (img, len, q->header.l1_host) == -1)
    return -1;
  believe_len (img, len);
  return 0;
}

/* ---- */

int
qcow_resize (struct image *img, uint64_t len)
{
  return len > img->len ? grow (img, len) : shrink (img, len);
}
