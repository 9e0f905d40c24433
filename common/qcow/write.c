/* Making room for writes, and linking them.
 *
 * A claim lies in the entries of one page of an L2 table, which stays
 * pinned from reserve to link, so that link has nothing left that can fail.
 * While a claim is out, its range lock keeps everybody else from these
 * entries.
 *
 * New clusters are always filled whole, whatever their size: in an overlay
 * what is not written must read as the backing file did.
 *
 * Streams of compressed clusters are put into clusters of their own, one
 * behind the other.  Nothing counts how many are in one, so that none of
 * them is ever free again: what replaces a compressed cluster is therefore
 * stored plain, where it can be overwritten, or a disk that is written
 * again and again would grow without end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>

#include "include/checked.h"
#include "qcow/writer.h"

/* claim->cookie */
enum {
  COOKIE_PAGE,                  /* struct page *, pinned */
};

/* How many clusters from the slot on, of 'wanted', need new space? */
static uint64_t
count_new (const struct image *img, const struct qcow_slot *slot,
           uint64_t wanted)
{
  struct qcow_cluster c;
  uint64_t i;

  for (i = 1; i < MIN (wanted, slot->nr); ++i) {
    qcow_slot_decode (img, slot, i, &c);
    if (c.kind == QCOW_DAMAGED || qcow_is_writable (img, &c))
      break;
  }
  return i;
}

/* Room for the slot's clusters; each may drop what it held. */
static int
take_room (struct image *img, const struct qcow_slot *slot,
           struct claim *claim)
{
  const struct qcow *q = qcow_state (img);
  const unsigned bits = q->header.cluster_bits;
  struct qcow_space *space = q->writer->space;
  const uint64_t start = round_down (claim->guest, q->cluster_len);
  const uint64_t end = claim->guest + claim->len;
  const uint64_t wanted =
    count_new (img, slot, div_round_up (end - start, q->cluster_len));
  uint64_t first;
  int64_t n;

  if (qcow_space_promise (space, wanted) == -1)
    return -1;
  n = qcow_space_take (space, wanted, 1, QCOW_ONCE, &first,
                       &claim->reads_zero);
  if (n == -1) {
    const int err = errno;

    qcow_space_unpromise (space, wanted);
    errno = err;
    return -1;
  }
  qcow_space_unpromise (space, wanted - n);
  claim->src = img->source;
  claim->fill_start = start;
  claim->fill_end = start + ((uint64_t) n << bits);
  claim->len = MIN (end, claim->fill_end) - claim->guest;
  claim->host = (first << bits) + (claim->guest - start);
  return 0;
}

/* Room for the claim's stream. */
static int
take_stream_room (struct image *img, struct claim *claim)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_writer *w = q->writer;
  const uint64_t len = round_up (claim->packed_len, QCOW_SECTOR_LEN);
  uint64_t first, host;
  bool reads_zero;

  if (w->pack_end - w->pack_host < len) {
    if (qcow_space_take (w->space, 1, 1, QCOW_SHARED, &first,
                         &reads_zero) == -1)
      return -1;
    host = first << q->header.cluster_bits;
    if (host != w->pack_end)
      w->pack_host = host;
    w->pack_end = host + q->cluster_len;
  }
  if (w->pack_host >> qcow_packed_bits (&q->header) != 0) {
    errno = ENOTSUP;
    return -1;
  }
  claim->host = w->pack_host;
  w->pack_host += len;
  return 0;
}

/* The slot's one cluster, as a stream. */
static int
pack (struct image *img, const struct qcow_slot *slot, struct claim *claim)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_writer *w = q->writer;
  const uint64_t entry = load_entry_be64 (slot->bytes);
  int err;

  if (entry & QCOW_PACKED && entry != w->zero_entry) {
    errno = ENOTSUP;
    return -1;
  }
  if (qcow_space_promise (w->space, 1) == -1)
    return -1;
  if (take_stream_room (img, claim) == -1) {
    err = errno;
    qcow_space_unpromise (w->space, 1);
    errno = err;
    return -1;
  }
  claim->src = img->source;
  claim->len = q->cluster_len;
  claim->fill_start = claim->guest;
  claim->fill_end = claim->guest + q->cluster_len;
  return 0;
}

/* A claim of one of the two kinds. */
static int
reserve (struct image *img, struct claim *claim,
         int (*take) (struct image *img, const struct qcow_slot *slot,
                      struct claim *claim))
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow_slot slot;
  struct qcow_cluster c;
  int r;

  if (qcow_slot_get (img, claim->guest, &slot) == -1)
    return -1;
  qcow_slot_decode (img, &slot, 0, &c);
  if (c.kind == QCOW_DAMAGED) {
    errno = EIO;                /* reported by the lookup */
    r = -1;
  }
  else
    r = take (img, &slot, claim);
  if (r == -1) {
    const int err = errno;

    qcow_slot_put (img, &slot);
    errno = err;
    return -1;
  }
  claim->cookie[COOKIE_PAGE] = (uintptr_t) slot.page;
  return 0;
}

int
qcow_reserve (struct image *img, uint64_t guest, uint64_t len,
              struct claim *claim)
{
  *claim = (struct claim) { .guest = guest, .len = len };
  return reserve (img, claim, take_room);
}

/* Whole sectors are written, and one must be saved; not in images that
 * tapdisk may read, which cannot.
 */
uint32_t
qcow_max_packed_len (const struct image *img)
{
  const struct qcow *q = qcow_state (img);

  return q->header.xen == QCOW_XEN_NONE ? q->cluster_len - QCOW_SECTOR_LEN
    : 0;
}

int
qcow_reserve_packed (struct image *img, uint64_t guest, uint32_t packed_len,
                     struct claim *claim)
{
  *claim = (struct claim) { .guest = guest, .packed_len = packed_len };
  return reserve (img, claim, pack);
}

/* The slot that the claim was made for. */
static struct qcow_slot
slot_of (const struct image *img, const struct claim *claim)
{
  const struct qcow *q = qcow_state (img);
  struct page *page = (struct page *) (uintptr_t) claim->cookie[COOKIE_PAGE];
  const uint64_t index = qcow_l2_index (q, claim->guest);

  /* Tables lie at multiples of the page length. */
  return (struct qcow_slot) {
    .page = page,
    .bytes = page->bytes + index * 8 % cache_page_len (img->cache),
  };
}

static uint64_t
claimed_first (const struct image *img, const struct claim *claim)
{
  return (claim->host - (claim->guest - claim->fill_start))
    >> qcow_state (img)->header.cluster_bits;
}

static uint64_t
claimed_nr (const struct image *img, const struct claim *claim)
{
  return (claim->fill_end - claim->fill_start)
    >> qcow_state (img)->header.cluster_bits;
}

void
qcow_link (struct image *img, const struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  const struct qcow *q = qcow_state (img);
  const unsigned bits = q->header.cluster_bits;
  const uint64_t first = claimed_first (img, claim);
  const uint64_t nr = claimed_nr (img, claim);
  struct qcow_slot slot = slot_of (img, claim);

  pass_begin_change (img);
  if (claim->packed_len > 0)
    qcow_slot_replace (img, &slot, 0,
                       qcow_packed_entry (&q->header, claim->host,
                                          claim->packed_len));
  else
    for (uint64_t i = 0; i < nr; ++i)
      qcow_slot_replace (img, &slot, i, (first + i) << bits);
  pass_end_change (img);
  qcow_slot_put (img, &slot);
}

void
qcow_abandon (struct image *img, const struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow_space *space = qcow_state (img)->writer->space;
  const uint64_t nr = claimed_nr (img, claim);
  struct qcow_slot slot = slot_of (img, claim);

  /* A stream's room is found again when the image is opened next. */
  if (claim->packed_len == 0)
    qcow_space_undo (space, claimed_first (img, claim), nr);
  qcow_space_unpromise (space, nr);
  qcow_slot_put (img, &slot);
}
