/* Changing the length of the disk.
 *
 * Longer: a longer L1 table first, behind which the tables are as they
 * were; then what is new is made to read as zeroes, which the old length
 * hides as yet; the length itself last.  Shorter: the clusters behind the
 * new end go, each L2 table in one step with its L1 entry; then the length.
 * So whenever the power fails, the image is sound and the disk has one
 * length or the other; shorter, it may have lost what it was to lose.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header", "Cluster mapping",
 * "Snapshots".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/resize.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/refuse.h"
#include "qcow2/resize.h"
#include "qcow2/run.h"
#include "qcow2/snapshot.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

/* Fields of the header, all in its first sector. */
#define HEADER_DISK_LEN 24
#define HEADER_L1_SIZE 36
#define HEADER_L1_HOST 40

/* The L1 table is copied in pieces of this length. */
#define PIECE_LEN UINT64_C (65536)

/* So many runs of clusters may wait to be freed. */
#define MAX_DROPS 65536

/* ---- what cannot be done */

/* Snapshots must not change with the disk. */
static int
check_snapshots (struct image *img)
{
  const struct qcow2 *q = qcow2_state (img);
  struct snapshot_reader reader;
  struct snapshot s;
  int r;

  if (q->header.nr_snapshots == 0)
    return 0;
  if (q->header.version < 3)
    return REFUSE (ENOTSUP, "%s: has internal snapshots, which in version 2 "
                   "do not keep a size of their own, so the size cannot be "
                   "changed; delete them, or convert the image to version 3",
                   img->name);
  r = snapshot_reader_start (&reader, img, &q->header);
  while (r == 0 && (r = snapshot_reader_next (&reader, &s)) == 1)
    r = s.has_disk_len ? 0
      : REFUSE (ENOTSUP, "%s: snapshot %" PRIu32 " does not record a size of "
                "its own, so the size of the disk cannot be changed; delete "
                "the snapshot", img->name, reader.index - 1);
  snapshot_reader_free (&reader);
  return r;
}

static uint64_t
nr_l1_for (const struct qcow2 *q, uint64_t len)
{
  return div_round_up (len, UINT64_C (1) << l2_span_bits (q));
}

static int
check_growth (struct image *img, uint64_t len)
{
  const struct qcow2 *q = qcow2_state (img);

  if (len > INT64_MAX || nr_l1_for (q, len) > L1_MAX_ENTRIES)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large for "
                   "clusters of %" PRIu32 " bytes, the most is %" PRIu64
                   "; copy it to an image with larger clusters", img->name,
                   len, q->cluster_len,
                   MIN ((uint64_t) L1_MAX_ENTRIES << l2_span_bits (q),
                        (uint64_t) INT64_MAX));
  if (img->wants_backing && img->backing == NULL)
    return REFUSE (EINVAL, "%s: is to grow without its backing file, so it is "
                   "unknown what of that would show in the new part; leave "
                   "backing=none out", img->name);
  if (q->rules.has_data_file && !img->data_source->can_grow &&
      source_len (img->data_source) < len)
    return REFUSE (ENOSPC, "%s: its data file %s has %" PRIu64 " bytes and "
                   "cannot grow to %" PRIu64, img->name,
                   img->data_source->name, source_len (img->data_source),
                   len);
  return 0;
}

/* ---- the header */

/* Fields of the header's first sector. */
struct header_change {
  uint64_t disk_len;
  uint64_t l1_host;
  uint32_t l1_size;
};

/* Change them, durably, behind everything else.  An L1 table that they name
 * no more is let go.
 */
static int
change_header (struct image *img, const struct header_change *new)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_header *h = &q->header;
  struct qcow2_counts *counts = q->writer->counts;
  const bool moves = new->l1_host != h->l1_host && h->l1_size > 0;
  struct page *page;

  /* The page's changes so far may be meant for an earlier phase. */
  if (pass_run (img) == -1)
    return -1;
  page = cache_get (img->cache, 0);
  if (page == NULL)
    return -1;
  {
    LOCK_SCOPE (&img->format_lock);

    if (qcow2_drop_begin (counts, 1) == -1) {
      cache_put (img->cache, page);
      return -1;
    }
    pass_begin_change (img);
    store_be64 (page->bytes + HEADER_DISK_LEN, new->disk_len);
    store_be32 (page->bytes + HEADER_L1_SIZE, new->l1_size);
    store_be64 (page->bytes + HEADER_L1_HOST, new->l1_host);
    cache_dirty (img->cache, page, PASS_HEADER);
    if (moves)
      qcow2_drop (counts, h->l1_host >> q->rules.cluster_bits,
                  div_round_up (h->l1_size * UINT64_C (8), q->cluster_len),
                  DROP_TABLE);
    pass_end_change (img);
    qcow2_drop_end (counts, 1);
    h->disk_len = new->disk_len;
    h->l1_size = new->l1_size;
    h->l1_host = new->l1_host;
    q->l1.host = new->l1_host;
  }
  cache_put (img->cache, page);
  return pass_run (img);
}

/* The disk's length, in memory and on disk. */
static int
set_len (struct image *img, uint64_t len)
{
  const struct qcow2_header *h = &qcow2_state (img)->header;
  const struct header_change new = {
    .disk_len = len, .l1_host = h->l1_host, .l1_size = h->l1_size,
  };

  return change_header (img, &new);
}

/* What the data path and lookups believe from now on; on disk nothing has
 * changed.
 */
static void
believe_len (struct image *img, uint64_t len)
{
  struct qcow2 *q = qcow2_state (img);

  img->len = len;
  q->l1.nr_entries = nr_l1_for (q, len);
}

/* ---- a longer L1 table */

/* Copy [done, done+len) of the L1 table to the new one at 'to'; what the
 * old one does not have is zero.
 */
static int
copy_piece (struct image *img, uint64_t to, uint64_t done, uint64_t len,
            uint8_t *bytes)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint64_t old_len = q->header.l1_size * UINT64_C (8);
  const uint64_t there = done < old_len ? MIN (len, old_len - done) : 0;

  if (source_pread_padded (img->source, bytes, there,
                           q->header.l1_host + done) == -1)
    return -1;
  memset (bytes + there, 0, len - there);
  return source_pwrite (img->source, bytes, len, to + done);
}

/* Write the new table; the old one is on disk as the cache has it. */
static int
write_l1 (struct image *img, uint64_t to, uint64_t len)
{
  CLEANUP_FREE uint8_t *bytes = malloc (PIECE_LEN);
  uint64_t done, n;

  if (bytes == NULL)
    return REFUSE (ENOMEM, "%s: no memory for a longer L1 table", img->name);
  /* Nobody has pages of a place that was free. */
  pass_begin_change (img);
  cache_forget (img->cache, to, len);
  pass_end_change (img);
  for (done = 0; done < len; done += n) {
    n = MIN (len - done, PIECE_LEN);
    if (copy_piece (img, to, done, n, bytes) == -1)
      return -1;
  }
  /* (The next pass would see to it as well, but only if it has to write.) */
  return source_sync (img->source);
}

static int
guard_l1 (struct image *img, uint64_t first, uint64_t nr)
{
  struct qcow2_guard *guard = &qcow2_state (img)->writer->counts->guard;
  uint64_t i;

  LOCK_SCOPE (&img->format_lock);
  if (qcow2_guard_reserve (guard, nr) == -1)
    return REFUSE (ENOMEM, "%s: no memory for a longer L1 table", img->name);
  for (i = 0; i < nr; ++i)
    qcow2_guard_add (guard, first + i);
  return 0;
}

/* Give back the clusters of a table that did not come to be. */
static void
abandon_l1 (struct image *img, uint64_t first, uint64_t nr)
{
  struct qcow2_counts *counts = qcow2_state (img)->writer->counts;
  const int err = errno;
  uint64_t i;

  LOCK_SCOPE (&img->format_lock);
  for (i = 0; i < nr; ++i)
    qcow2_guard_remove (&counts->guard, first + i);
  qcow2_alloc_undo (counts, first, nr);
  errno = err;
}

static int
grow_l1 (struct image *img, uint64_t nr_entries)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t nr = div_round_up (nr_entries * 8, q->cluster_len);
  struct header_change new = {
    .disk_len = q->header.disk_len,
    .l1_size = nr_entries,
  };
  uint64_t first;

  if (nr_entries <= q->header.l1_size)
    return 0;
  if (pass_run (img) == -1 ||
      qcow2_alloc_run (q->writer->counts, nr, &first) == -1)
    return -1;
  new.l1_host = first << q->rules.cluster_bits;
  if (guard_l1 (img, first, nr) == -1 ||
      write_l1 (img, new.l1_host, nr << q->rules.cluster_bits) == -1) {
    abandon_l1 (img, first, nr);
    return -1;
  }
  /* From here on a failure leaves clusters that leak, at worst. */
  return change_header (img, &new);
}

/* ---- longer */

/* Map [from, to) to the same place in the data file, as a reader of that
 * expects, in as many entries as one page has: the bytes done, or -1.
 */
static int64_t
map_data_file (struct image *img, uint64_t from, uint64_t to)
{
  struct qcow2 *q = qcow2_state (img);
  struct l2_slot slot;
  uint64_t i, nr;

  if (cache_is_pressed (img->cache) && pass_run (img) == -1)
    return -1;
  LOCK_SCOPE (&img->format_lock);
  if (qcow2_slot_get (img, from, &slot) == -1) {
    if (errno == ENOSPC)
      return REFUSE (ENOSPC, "%s: no space left for tables", img->name);
    return -1;
  }
  nr = MIN (slot.nr, div_round_up (to - from, q->cluster_len));
  pass_begin_change (img);
  for (i = 0; i < nr; ++i)
    qcow2_slot_store (img, &slot, i, (from + i * q->cluster_len) | L2_COPIED,
                      UINT32_MAX);
  pass_end_change (img);
  qcow2_slot_put (img, &slot);
  return nr * q->cluster_len;
}

/* The part of the data file that is new to the disk: zeroes. */
static int
grow_data_file (struct image *img, uint64_t old, uint64_t len)
{
  struct source *data = img->data_source;
  const uint64_t there = source_len (data);

  if (!qcow2_state (img)->rules.has_data_file)
    return 0;
  if (old < there &&
      source_zero (data, MIN (len, there) - old, old,
                   SOURCE_ZERO_PUNCH) == -1)
    return -1;
  if (data->can_grow && source_grow (data, len) == -1)
    return -1;
  pass_data_written (img);
  return 0;
}

/* What is written to a raw data file by itself is to be found. */
static int
map_new_part (struct image *img, uint64_t old, uint64_t len)
{
  const struct qcow2 *q = qcow2_state (img);
  uint64_t at = round_up (old, q->cluster_len);

  if (!(q->header.autoclear & QCOW2_DATA_FILE_RAW))
    return 0;
  while (at < len) {
    const int64_t n = map_data_file (img, at, len);

    if (n == -1)
      return -1;
    at += n;
  }
  return 0;
}

static int
grow (struct image *img, uint64_t len)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t old = img->len;

  if (check_growth (img, len) == -1 ||
      grow_l1 (img, nr_l1_for (q, len)) == -1)
    return -1;
  believe_len (img, len);
  if (grow_data_file (img, old, len) == 0 &&
      image_zero_new_part (img, old) == 0 &&
      map_new_part (img, old, len) == 0 &&
      set_len (img, len) == 0)
    return 0;
  believe_len (img, old);
  return -1;
}

/* ---- shorter */

/* Memory is bounded: run a pass if much is waiting for one. */
static int
make_way (struct image *img)
{
  const struct qcow2 *q = qcow2_state (img);

  if (!cache_is_pressed (img->cache) &&
      q->writer->counts->nr_drops < MAX_DROPS)
    return 0;
  return pass_run (img);
}

/* Does what the slot's first 'nr' entries name make sense, so that it can
 * be dropped?
 */
static int
check_entries (struct image *img, const struct l2_slot *slot, uint64_t nr,
               uint64_t guest)
{
  const struct qcow2 *q = qcow2_state (img);
  struct cluster c;
  uint64_t i;

  for (i = 0; i < nr; ++i, guest += q->cluster_len) {
    qcow2_slot_decode (q, slot, i, guest, &c);
    if (c.kind == CLUSTER_DAMAGED)
      return REFUSE (EIO, "%s: the L2 entry for disk offset %" PRIu64 " is "
                     "damaged, so the disk cannot end before it; "
                     CHECK_A_COPY, img->name, guest);
    if (!qcow2_cluster_is_sound (img, &c, guest)) {
      errno = EIO;
      return -1;
    }
  }
  return 0;
}

/* Drop the entry's cluster and clear it.  In a change section. */
static void
clear_entry (struct image *img, const struct l2_slot *slot, uint64_t i,
             uint64_t guest)
{
  struct cluster c;

  qcow2_slot_decode (qcow2_state (img), slot, i, guest, &c);
  qcow2_drop_cluster (img, &c);
  qcow2_slot_store (img, slot, i, 0, 0);
}

/* Clear entries for [from, to), which one table maps, as many as one page
 * has: the bytes done, or -1.
 */
static int64_t
clear_entries (struct image *img, uint64_t from, uint64_t to)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;
  struct l2_slot slot;
  uint64_t i, nr;

  LOCK_SCOPE (&img->format_lock);
  if (qcow2_slot_get (img, from, &slot) == -1) {
    if (errno == ENOSPC)
      return REFUSE (ENOSPC, "%s: no space left for a copy of a table that a "
                     "snapshot uses, too", img->name);
    return -1;
  }
  nr = MIN (slot.nr, div_round_up (to - from, q->cluster_len));
  if (check_entries (img, &slot, nr, from) == -1 ||
      qcow2_drop_begin (counts, nr) == -1) {
    qcow2_slot_put (img, &slot);
    return -1;
  }
  pass_begin_change (img);
  for (i = 0; i < nr; ++i)
    clear_entry (img, &slot, i, from + i * q->cluster_len);
  pass_end_change (img);
  qcow2_drop_end (counts, nr);
  qcow2_slot_put (img, &slot);
  return nr * q->cluster_len;
}

/* A copy of an L2 table as the cache has it. */
static int
read_l2 (struct image *img, uint64_t host, uint8_t *bytes)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint32_t page_len = cache_page_len (img->cache);
  uint64_t done;

  cache_read_ahead (img->cache, host, q->cluster_len);
  for (done = 0; done < q->cluster_len; done += page_len) {
    struct page *page = cache_get (img->cache, host + done);

    if (page == NULL)
      return -1;
    memcpy (bytes + done, page->bytes, page_len);
    cache_put (img->cache, page);
  }
  return 0;
}

/* Drop what the table with these bytes names, one reference of each; then
 * the table, and its L1 entry.
 */
static int
drop_table (struct image *img, uint64_t l1_index, struct page *l1_page,
            uint64_t l2_host, uint8_t *bytes)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;
  const uint64_t place = l1_entry_host (q, l1_index);
  const uint64_t nr = UINT64_C (1) << q->l2_bits;
  const struct l2_slot slot = { .bytes = bytes };
  const uint64_t guest = l1_index << l2_span_bits (q);
  struct cluster c;
  uint64_t i;

  if (check_entries (img, &slot, nr, guest) == -1 ||
      qcow2_drop_begin (counts, nr + 1) == -1)
    return -1;
  pass_begin_change (img);
  for (i = 0; i < nr; ++i) {
    qcow2_slot_decode (q, &slot, i, guest + i * q->cluster_len, &c);
    qcow2_drop_cluster (img, &c);
  }
  qcow2_drop (counts, l2_host >> q->rules.cluster_bits, 1, DROP_TABLE);
  store_entry_be64 (l1_page->bytes + (place - l1_page->host), 0);
  cache_dirty (img->cache, l1_page, PASS_LINK);
  pass_end_change (img);
  qcow2_drop_end (counts, nr + 1);
  return 0;
}

/* Let go of all that the L1 entry names. */
static int
clear_l1_entry (struct image *img, uint64_t l1_index, uint8_t *bytes)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t place = l1_entry_host (q, l1_index);
  struct page *page;
  uint64_t l2_host;
  int r;

  if (make_way (img) == -1)
    return -1;
  LOCK_SCOPE (&img->format_lock);
  page = cache_get (img->cache, place);
  if (page == NULL)
    return -1;
  r = l1_entry_decode (img, l1_index,
                       load_entry_be64 (page->bytes + (place - page->host)),
                       &l2_host);
  if (r == -1)
    errno = EIO;
  if (r == 1)
    r = read_l2 (img, l2_host, bytes) == -1 ? -1
      : drop_table (img, l1_index, page, l2_host, bytes);
  cache_put (img->cache, page);
  return r;
}

/* Let go of the clusters from 'from', where one begins, to the old end. */
static int
clear_behind (struct image *img, uint64_t from)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint64_t nr_l1 = q->l1.nr_entries;
  uint64_t l1_index = nr_l1_for (q, from);
  const uint64_t to = MIN (l1_index << l2_span_bits (q), img->len);
  CLEANUP_FREE uint8_t *bytes = aligned_alloc (512, q->cluster_len);
  struct extent ext;

  if (bytes == NULL)
    return REFUSE (ENOMEM, "%s: no memory to shorten it", img->name);
  while (from < to) {
    int64_t n;

    if (make_way (img) == -1)
      return -1;
    /* Where there is no table, none is to be made. */
    if (img->format->lookup (img, from, to - from, &ext, 1) == -1)
      return -1;
    n = ext.len;
    if (ext.type != EXTENT_BACKING || ext.allocated)
      n = clear_entries (img, from, to);
    if (n == -1)
      return -1;
    from = round_up (from + n, q->cluster_len);
  }
  for (; l1_index < nr_l1; ++l1_index)
    if (clear_l1_entry (img, l1_index, bytes) == -1)
      return -1;
  return 0;
}

/* Have zeroes behind the new end in the cluster that it lies in, so that
 * nothing shows there when the disk is made longer by whomever.
 */
static int
zero_tail (struct image *img, uint64_t len)
{
  const struct qcow2 *q = qcow2_state (img);
  uint64_t end = MIN (round_up (len, q->cluster_len), img->len);
  struct extent ext;

  while (len < end) {
    if (img->format->lookup (img, len, end - len, &ext, 1) == -1)
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
  const struct qcow2 *q = qcow2_state (img);

  if (zero_tail (img, len) == -1 ||
      clear_behind (img, round_up (len, q->cluster_len)) == -1 ||
      set_len (img, len) == -1)
    return -1;
  believe_len (img, len);
  if (!q->rules.has_data_file || !img->data_source->can_grow ||
      source_len (img->data_source) <= len)
    return 0;
  if (source_truncate (img->data_source, len) == -1)
    return -1;
  return source_sync (img->data_source);
}

/* ---- */

int
qcow2_resize (struct image *img, uint64_t len)
{
  if (check_snapshots (img) == -1)
    return -1;
  return len > img->len ? grow (img, len) : shrink (img, len);
}
