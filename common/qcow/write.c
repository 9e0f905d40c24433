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

int
qcow_reserve (struct image *img, uint64_t guest, uint64_t len,
              struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow_slot slot;
  struct qcow_cluster c;
  int r;

  if (qcow_slot_get (img, guest, &slot) == -1)
    return -1;
  *claim = (struct claim) { .guest = guest, .len = len };
  qcow_slot_decode (img, &slot, 0, &c);
  if (c.kind == QCOW_DAMAGED) {
    errno = EIO;                /* reported by the lookup */
    r = -1;
  }
  else
    r = take_room (img, &slot, claim);
  if (r == -1) {
    const int err = errno;

    qcow_slot_put (img, &slot);
    errno = err;
    return -1;
  }
  claim->cookie[COOKIE_PAGE] = (uintptr_t) slot.page;
  return 0;
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
  const unsigned bits = qcow_state (img)->header.cluster_bits;
  const uint64_t first = claimed_first (img, claim);
  const uint64_t nr = claimed_nr (img, claim);
  struct qcow_slot slot = slot_of (img, claim);

  pass_begin_change (img);
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

  qcow_space_undo (space, claimed_first (img, claim), nr);
  qcow_space_unpromise (space, nr);
  qcow_slot_put (img, &slot);
}
