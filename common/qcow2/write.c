/* Making room for writes, and linking them.
 *
 * A claim lies in the entries of one page of an L2 table, which stays
 * pinned from reserve to link, so that link has nothing left that can fail.
 * While a claim is out, its range lock keeps everybody else from these
 * entries.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Cluster mapping".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "include/checked.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

/* claim->cookie */
enum {
  COOKIE_PAGE,                  /* struct page *, pinned */
  COOKIE_NR,                    /* clusters allocated; 0: space that the
                                   entry held already */
};

static uint64_t
cluster_start (const struct qcow2 *q, uint64_t guest)
{
  return round_down (guest, q->cluster_len);
}

static uint64_t
subcluster_len (const struct qcow2 *q)
{
  return UINT64_C (1) << q->subcluster_bits;
}

/* May the cluster's own space be written, the entry being changed later?
 * Not behind the end of the file, where space was never written and the
 * refcounts may know nothing of it.
 */
static bool
has_own_space (const struct image *img, const struct cluster *c)
{
  return c->allocated && c->copied && c->kind != CLUSTER_PACKED &&
    (img->data_source != img->source ||
     c->host < source_len (img->source));
}

/* The first byte, and the one behind the last, of the cluster that must be
 * carried along when it moves: every subcluster that holds data.
 */
static void
widen_over_data (const struct qcow2 *q, const struct cluster *c,
                 uint64_t start, struct claim *claim)
{
  uint32_t bits = 0;

  if (c->kind == CLUSTER_PACKED || !q->rules.is_extended) {
    claim->fill_start = MIN (claim->fill_start, start);
    claim->fill_end = MAX (claim->fill_end, start + q->cluster_len);
    return;
  }
  if (c->kind == CLUSTER_DATA)
    bits = UINT32_MAX;
  else if (c->kind == CLUSTER_MIXED)
    bits = c->allocated_bits;
  if (bits == 0)
    return;
  claim->fill_start =
    MIN (claim->fill_start,
         start + ((uint64_t) __builtin_ctz (bits) << q->subcluster_bits));
  claim->fill_end =
    MAX (claim->fill_end,
         start + ((uint64_t) (32 - __builtin_clz (bits))
                  << q->subcluster_bits));
}

/* How many clusters from the slot on need new space, as far as 'end'? */
static uint64_t
count_new (struct image *img, const struct l2_slot *slot, uint64_t start,
           uint64_t end)
{
  const struct qcow2 *q = qcow2_state (img);
  const uint64_t wanted = MIN (div_round_up (end - start, q->cluster_len),
                               slot->nr);
  struct cluster c;
  uint64_t i;

  for (i = 1; i < wanted; ++i) {
    qcow2_slot_decode (q, slot, i, start + i * q->cluster_len, &c);
    if (c.kind == CLUSTER_DAMAGED || has_own_space (img, &c) ||
        !qcow2_cluster_is_sound (img, &c, start + i * q->cluster_len))
      break;
  }
  return i;
}

/* Bytes from 'within' a mixed cluster to the next subcluster with data. */
static uint64_t
len_without_data (const struct qcow2 *q, const struct cluster *c,
                  uint64_t within)
{
  const unsigned i = within >> q->subcluster_bits;
  const uint32_t rest = c->allocated_bits >> i;
  const unsigned n = rest ? (unsigned) __builtin_ctz (rest)
    : NR_SUBCLUSTERS - i;

  return ((uint64_t) (i + n) << q->subcluster_bits) - within;
}

/* Write into space that the entry holds: subclusters without data, or a
 * zero cluster with space in reserve.
 */
static int
claim_own_space (struct image *img, const struct cluster *c,
                 uint64_t start, struct claim *claim)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t within = claim->guest - start;

  claim->len = MIN (claim->len, q->cluster_len - within);
  if (c->kind == CLUSTER_MIXED)
    claim->len = MIN (claim->len, len_without_data (q, c, within));
  claim->src = q->rules.has_data_file ? img->data_source : img->source;
  claim->host = c->host + within;
  claim->cookie[COOKIE_NR] = 0;
  return 0;
}

static int
claim_new_space (struct image *img, const struct l2_slot *slot,
                 uint64_t start, struct claim *claim)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;
  uint64_t wanted = count_new (img, slot, start, claim->guest + claim->len);
  uint64_t first;
  int64_t n;

  if (q->rules.has_data_file) {
    claim->src = img->data_source;
    claim->host = claim->guest;
    claim->reads_zero = img->data_source->can_grow &&
      start >= source_len (img->data_source);
    claim->cookie[COOKIE_NR] = 0;
    n = wanted;
    /* Before the write, so that the file never ends within a sector: a
     * power cut could keep the old end and a part of a new sector.
     */
    if (img->data_source->can_grow &&
        source_grow (img->data_source,
                     MIN (start + n * q->cluster_len, img->len)) == -1)
      return -1;
  }
  else {
    /* The old space of each goes with the link. */
    if (qcow2_drop_begin (counts, wanted) == -1)
      return -1;
    n = qcow2_alloc (counts, wanted, &first);
    qcow2_drop_end (counts, n == -1 ? wanted : wanted - n);
    if (n == -1)
      return -1;
    claim->src = img->source;
    claim->host = (first << q->rules.cluster_bits) + claim->guest - start;
    claim->reads_zero = qcow2_alloc_reads_zero (counts, first, n);
    claim->cookie[COOKIE_NR] = n;
  }
  claim->len = MIN (claim->len, start + n * q->cluster_len - claim->guest);
  return 0;
}

/* What is filled round a claim in new space: its own (sub)clusters, and in
 * the first and last cluster what data they hold already.
 */
static void
widen_new (const struct qcow2 *q, const struct l2_slot *slot,
           uint64_t start, struct claim *claim)
{
  const uint64_t last = cluster_start (q, claim->guest + claim->len - 1);
  struct cluster c;

  qcow2_slot_decode (q, slot, 0, start, &c);
  widen_over_data (q, &c, start, claim);
  qcow2_slot_decode (q, slot, (last - start) >> q->rules.cluster_bits, last,
                     &c);
  widen_over_data (q, &c, last, claim);
}

int
qcow2_reserve (struct image *img, uint64_t guest, uint64_t len,
               struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow2 *q = qcow2_state (img);
  const uint64_t start = cluster_start (q, guest);
  struct l2_slot slot;
  struct cluster c;
  bool is_own;
  int r;

  if (qcow2_slot_get (img, guest, &slot) == -1)
    return -1;
  *claim = (struct claim) { .guest = guest, .len = len };
  qcow2_slot_decode (q, &slot, 0, start, &c);
  is_own = has_own_space (img, &c);
  if (c.kind == CLUSTER_DAMAGED ||
      !qcow2_cluster_is_sound (img, &c, start)) {
    errno = EIO;                /* reported, if by the lookup */
    r = -1;
  }
  else if (is_own)
    r = claim_own_space (img, &c, start, claim);
  else
    r = claim_new_space (img, &slot, start, claim);
  if (r == -1) {
    int err = errno;

    qcow2_slot_put (img, &slot);
    errno = err;
    return -1;
  }
  claim->fill_start = round_down (guest, subcluster_len (q));
  claim->fill_end = round_up (guest + claim->len, subcluster_len (q));
  if (!is_own)
    widen_new (q, &slot, start, claim);
  if (q->rules.has_data_file)
    claim->fill_end = MIN (claim->fill_end, img->len);
  claim->cookie[COOKIE_PAGE] = (uintptr_t) slot.page;
  return 0;
}

/* The bits of subclusters that [from, to) of the cluster at 'start' covers;
 * the range is made of whole ones, but for the disk's last.
 */
static uint32_t
covered_bits (const struct qcow2 *q, uint64_t start, uint64_t from,
              uint64_t to)
{
  const uint64_t end = start + q->cluster_len;
  const uint64_t first = (MAX (from, start) - start) >> q->subcluster_bits;
  const uint64_t last = div_round_up (MIN (to, end) - start,
                                      subcluster_len (q));

  return (uint32_t) (((UINT64_C (1) << last) - 1)
                     & ~((UINT64_C (1) << first) - 1));
}

/* Link one cluster of the claim. */
static void
link_cluster (struct image *img, const struct claim *claim,
              const struct l2_slot *slot, uint64_t i, uint64_t start)
{
  struct qcow2 *q = qcow2_state (img);
  const uint64_t host = claim->host - claim->guest + start;
  struct cluster old;
  uint64_t bitmap = 0;

  qcow2_slot_decode (q, slot, i, start, &old);
  if (q->rules.is_extended) {
    const uint32_t new = covered_bits (q, start, claim->fill_start,
                                       claim->fill_end);
    uint32_t zero = 0, allocated = 0;

    if (old.kind == CLUSTER_ZERO)
      zero = UINT32_MAX;
    else if (old.kind == CLUSTER_MIXED) {
      zero = old.zero_bits;
      allocated = old.allocated_bits;
    }
    if (old.host != host)
      allocated = 0;            /* carried along: covered by 'new' */
    bitmap = (uint64_t) (zero & ~new) << 32 | allocated | new;
  }
  qcow2_slot_store (img, slot, i, host | L2_COPIED, bitmap);
  if (old.host != host || old.kind == CLUSTER_PACKED)
    qcow2_drop_cluster (img, &old);
}

/* The slot of a claim, from the page that it pins. */
static struct l2_slot
claim_slot (struct image *img, const struct claim *claim)
{
  struct qcow2 *q = qcow2_state (img);
  struct page *page = (struct page *) (uintptr_t) claim->cookie[COOKIE_PAGE];
  const uint64_t within =
    (l2_index_of (q, claim->guest) << q->entry_bits)
    & (cache_page_len (img->cache) - 1);

  return (struct l2_slot) { .page = page, .bytes = page->bytes + within };
}

void
qcow2_link (struct image *img, const struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow2 *q = qcow2_state (img);
  struct l2_slot slot = claim_slot (img, claim);
  uint64_t start = cluster_start (q, claim->guest);
  uint64_t i;

  pass_begin_change (img);
  for (i = 0; start < claim->guest + claim->len; ++i) {
    link_cluster (img, claim, &slot, i, start);
    start += q->cluster_len;
  }
  pass_end_change (img);
  qcow2_drop_end (q->writer->counts, claim->cookie[COOKIE_NR]);
  qcow2_slot_put (img, &slot);
}

void
qcow2_abandon (struct image *img, const struct claim *claim)
{
  LOCK_SCOPE (&img->format_lock);
  struct qcow2 *q = qcow2_state (img);
  struct l2_slot slot = claim_slot (img, claim);

  qcow2_alloc_undo (q->writer->counts, claim->host >> q->rules.cluster_bits,
                    claim->cookie[COOKIE_NR]);
  qcow2_drop_end (q->writer->counts, claim->cookie[COOKIE_NR]);
  qcow2_slot_put (img, &slot);
}
