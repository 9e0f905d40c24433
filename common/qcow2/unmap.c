/* Zero and trim: entries change, no data moves.
 *
 * What a whole cluster becomes (formats: "zero" and "trim" of QEMU 7.2):
 *
 *   version 3      zero flag; the space is kept, or dropped
 *   version 2      unallocated and dropped; over a base neither can be said
 *                  without writing
 *   extended L2    as version 3, in the bits of the subclusters; single
 *                  subclusters can be zeroed, not freed
 *   data file      the data file is zeroed first, so that it stays what the
 *                  disk reads
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

#define BITMAP_ALL_ZERO (UINT64_C (0xffffffff) << 32)

static uint64_t
cluster_start (const struct qcow2 *q, uint64_t guest)
{
  return round_down (guest, q->cluster_len);
}

/* Does [guest, guest+len) cover the cluster at 'start' as far as the disk
 * goes?
 */
static bool
covers (const struct image *img, uint64_t start, uint64_t guest,
        uint64_t end)
{
  const uint64_t last = MIN (start + qcow2_state (img)->cluster_len,
                             img->len);

  return guest <= start && end >= last;
}

/* Would nothing at all be an answer to the wish? */
static bool
is_done (const struct image *img, const struct cluster *c,
         enum unmap_wish wish)
{
  switch (c->kind) {
  case CLUSTER_BACKING:
    if (wish == UNMAP_TRIM)
      return !c->allocated;
    return !img->wants_backing && (wish == UNMAP_ZERO_KEEP || !c->allocated);
  case CLUSTER_ZERO:
    return wish == UNMAP_ZERO_KEEP || !c->allocated;
  default:
    return false;
  }
}

/* ---- one entry; in a change section */

static void
unmap_cluster (struct image *img, const struct l2_slot *slot, uint64_t i,
               const struct cluster *c, enum unmap_wish wish)
{
  const struct qcow2 *q = qcow2_state (img);
  const bool keep = wish == UNMAP_ZERO_KEEP && c->allocated &&
    c->kind != CLUSTER_PACKED &&
    (q->rules.has_zero_flag || q->rules.is_extended);
  uint64_t entry = keep ? c->host | (c->copied ? L2_COPIED : 0) : 0;

  if (q->rules.has_zero_flag)
    entry |= L2_ZERO;
  qcow2_slot_store (img, slot, i, entry, BITMAP_ALL_ZERO);
  if (!keep)
    qcow2_drop_cluster (img, c);
}

/* Some subclusters of an extended entry. */
static void
zero_subclusters (struct image *img, const struct l2_slot *slot, uint64_t i,
                  uint64_t first, uint64_t last)
{
  const uint8_t *bytes = slot->bytes + (i << qcow2_state (img)->entry_bits);
  const uint64_t mask = ((UINT64_C (1) << last) - 1)
    & ~((UINT64_C (1) << first) - 1);
  uint64_t bitmap = load_entry_be64 (bytes + 8);

  bitmap = (bitmap & ~mask) | mask << 32;
  qcow2_slot_store (img, slot, i, load_entry_be64 (bytes), bitmap);
}

/* ---- a run of entries in one page */

/* A request on the entries of one slot. */
struct run {
  struct image *img;
  const struct l2_slot *slot;
  uint64_t first_start;         /* guest offset of entry 0's cluster */
  uint64_t guest, end;          /* of the request, within the slot */
  enum unmap_wish wish;
};

/* Can entry 'i' be changed as wished?  0; or -1: ENOTSUP unreported, EIO
 * reported by whoever looked it up before.
 */
static int
check_entry (const struct run *run, uint64_t i)
{
  const struct qcow2 *q = qcow2_state (run->img);
  const uint64_t start = run->first_start + i * q->cluster_len;
  struct cluster c;

  qcow2_slot_decode (q, run->slot, i, start, &c);
  if (c.kind == CLUSTER_DAMAGED) {
    errno = EIO;
    return -1;
  }
  if (is_done (run->img, &c, run->wish))
    return 0;
  if (!qcow2_cluster_is_sound (run->img, &c, start)) {
    errno = EIO;
    return -1;
  }
  if (!q->rules.has_zero_flag && !q->rules.is_extended &&
      run->img->wants_backing && run->wish != UNMAP_TRIM) {
    errno = ENOTSUP;
    return -1;
  }
  if (!covers (run->img, start, run->guest, run->end) &&
      c.kind == CLUSTER_PACKED && run->wish != UNMAP_TRIM) {
    errno = ENOTSUP;
    return -1;
  }
  return 0;
}

static void
change_entry (const struct run *run, uint64_t i)
{
  const struct qcow2 *q = qcow2_state (run->img);
  const uint64_t start = run->first_start + i * q->cluster_len;
  struct cluster c;

  qcow2_slot_decode (q, run->slot, i, start, &c);
  if (is_done (run->img, &c, run->wish))
    return;
  if (covers (run->img, start, run->guest, run->end)) {
    if (!q->rules.has_zero_flag && !q->rules.is_extended &&
        run->img->wants_backing)
      return;                   /* a trim that cannot hide the base */
    unmap_cluster (run->img, run->slot, i, &c, run->wish);
  }
  else if (run->wish != UNMAP_TRIM) {
    const uint64_t from = MAX (run->guest, start) - start;
    const uint64_t to = MIN (run->end, start + q->cluster_len) - start;

    zero_subclusters (run->img, run->slot, i, from >> q->subcluster_bits,
                      div_round_up (to, UINT64_C (1) << q->subcluster_bits));
  }
}

/* Zero the external data file in the range first.  0; -1 with ENOTSUP,
 * unreported, or reported.
 */
static int
zero_data_file (const struct run *run)
{
  struct source *src = run->img->data_source;
  const bool is_raw = qcow2_state (run->img)->header.autoclear
    & QCOW2_DATA_FILE_RAW;
  const uint64_t there = source_len (src);
  const enum source_zero_mode mode = run->wish == UNMAP_ZERO_KEEP
    ? SOURCE_ZERO_KEEP : SOURCE_ZERO_PUNCH;
  const uint64_t end = MIN (run->end, there);
  int r;

  if (run->guest >= end || (run->wish == UNMAP_ZERO_KEEP && !is_raw))
    return 0;
  r = source_zero_fast (src, end - run->guest, run->guest, mode);
  if (r == 0)
    pass_data_written (run->img);
  else if (errno == ENOTSUP && !is_raw)
    r = 0;
  return r;
}

/* Work through the slot; the request's bytes done, or -1. */
static ssize_t
change_run (struct run *run)
{
  const struct qcow2 *q = qcow2_state (run->img);
  struct qcow2_counts *counts = q->writer->counts;
  const uint64_t nr = div_round_up (run->end - run->first_start,
                                    q->cluster_len);
  uint64_t i, n;

  for (n = 0; n < nr; ++n)
    if (check_entry (run, n) == -1)
      break;
  if (n == 0)
    return -1;
  if (n < nr)
    run->end = run->first_start + n * q->cluster_len;
  if (q->rules.has_data_file && zero_data_file (run) == -1)
    return -1;
  if (qcow2_drop_begin (counts, n) == -1)
    return -1;
  pass_begin_change (run->img);
  for (i = 0; i < n; ++i)
    change_entry (run, i);
  pass_end_change (run->img);
  qcow2_drop_end (counts, n);
  return run->end - run->guest;
}

/* ---- ranges without a table */

/* How far from 'guest' on are there no L2 tables, so that nothing need be
 * done?  0: there is one; -1.
 */
static ssize_t
skip_holes (struct image *img, uint64_t guest, uint64_t end,
            enum unmap_wish wish)
{
  const struct qcow2 *q = qcow2_state (img);
  uint64_t at = guest;

  if (img->wants_backing && wish != UNMAP_TRIM)
    return 0;
  while (at < end) {
    const uint64_t place = l1_entry_host (q, l1_index_of (q, at));
    struct page *page = cache_get (img->cache, place);
    uint64_t nr = entries_left_in_page (img->cache, place, 3);
    const uint8_t *bytes;

    if (page == NULL)
      return -1;
    bytes = page->bytes + (place - page->host);
    while (nr > 0 && at < end && (load_entry_be64 (bytes) & L1_HOST) == 0) {
      at = MIN (((at >> l2_span_bits (q)) + 1) << l2_span_bits (q), end);
      bytes += 8;
      nr--;
    }
    cache_put (img->cache, page);
    if (nr > 0)
      break;
  }
  return at - guest;
}

/* Before a fast zero begins: is there anything that only writing can do?
 * Only the first and last clusters can be covered in part.
 */
static int
check_fast (struct image *img, uint64_t guest, uint64_t end)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint64_t ends[] = { guest, end - 1 };
  size_t i;

  if (!q->rules.has_zero_flag && !q->rules.is_extended &&
      img->wants_backing) {
    errno = ENOTSUP;
    return -1;
  }
  for (i = 0; i < 2; ++i) {
    struct extent ext;

    if (covers (img, cluster_start (q, ends[i]), guest, end))
      continue;
    if (img->format->lookup (img, ends[i], 1, &ext, 1) == -1)
      return -1;
    if (ext.type == EXTENT_PACKED) {
      errno = ENOTSUP;
      return -1;
    }
  }
  return 0;
}

ssize_t
qcow2_unmap (struct image *img, uint64_t guest, uint64_t len,
             enum unmap_wish wish, bool fast)
{
  LOCK_SCOPE (&img->format_lock);
  const struct qcow2 *q = qcow2_state (img);
  struct l2_slot slot;
  struct run run = {
    .img = img,
    .slot = &slot,
    .first_start = cluster_start (q, guest),
    .guest = guest,
    .wish = wish,
  };
  ssize_t r;

  if (fast && check_fast (img, guest, guest + len) == -1)
    return -1;
  r = skip_holes (img, guest, guest + len, wish);
  if (r != 0)
    return r;
  if (qcow2_slot_get (img, guest, &slot) == -1)
    return -1;
  run.end = MIN (guest + len, run.first_start + slot.nr * q->cluster_len);
  r = change_run (&run);
  qcow2_slot_put (img, &slot);
  return r;
}
