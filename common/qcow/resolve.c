/* Settling L1 entries that make sense in both byte orders.
 *
 * Asked in this order, the first answer counts:
 * the record of a conversion that was interrupted;
 * what lies at both candidates (the wrong one is guest data or a hole);
 * uniqueness, as two spans do not share a table;
 * the checksum, if it fits one way and not the other;
 * the other entries in the same sector, which is written as one.
 *
 * A candidate with something that is no table is never chosen because of
 * its neighbours or because the other one is taken: such evidence
 * contradicts itself, and the entry stays damaged.  Nor does an empty
 * table win over it by what they hold: the right table could be the
 * damaged one, and its span would read as zeroes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/entry.h"
#include "qcow/intent.h"
#include "qcow/resolve.h"

/* Tables are read in such pieces: guest data shows itself at once. */
#define PIECE_LEN 4096

/* No image makes us read more than so much of candidates ... */
#define MAX_READ (UINT64_C (1) << 29)

/* ... or hash more than so much. */
#define MAX_HASHED (UINT64_C (1) << 28)
#define MAX_HASHED_BITS 8

/* What one settles may settle others. */
#define MAX_ROUNDS 4

struct resolver {
  struct source *src;
  const struct qcow_header *h;
  uint64_t file_len;
  uint64_t *table;
  struct qcow_ambiguities *a;
  size_t nr_open;               /* undecided */
  uint64_t nr_read;             /* bytes of candidates */
};

/* ---- the list */

int
qcow_ambiguities_add (struct qcow_ambiguities *a, uint64_t index,
                      uint64_t as_big)
{
  size_t max = MAX (a->max * 2, (size_t) 64);
  struct qcow_ambiguous *list;

  if (a->nr == QCOW_MAX_AMBIGUOUS)
    return 0;
  if (a->nr == a->max) {
    list = reallocarray (a->list, max, sizeof *list);
    if (list == NULL)
      return -1;
    a->list = list;
    a->max = max;
  }
  a->list[a->nr++] = (struct qcow_ambiguous) {
    .index = index,
    .hosts = { as_big, __builtin_bswap64 (as_big) },
    .choice = QCOW_UNDECIDED,
  };
  return 1;
}

void
qcow_ambiguities_free (struct qcow_ambiguities *a)
{
  free (a->list);
  *a = (struct qcow_ambiguities) { .list = NULL };
}

/* By anything but content or the checksum. */
static bool
can_choose (const struct qcow_ambiguous *e, unsigned choice)
{
  return e->contents[choice] != QCOW_CONTENT_ABSURD && !e->is_out[choice];
}

static void
choose (struct resolver *r, struct qcow_ambiguous *e, unsigned choice)
{
  e->choice = choice;
  r->table[e->index] = e->hosts[choice];
  r->nr_open--;
}

/* ---- 1: the record */

static int
compare_index (const void *key, const void *element)
{
  const uint64_t index = *(const uint32_t *) key;
  const struct qcow_ambiguous *e = element;

  return index < e->index ? -1 : index > e->index;
}

static void
settle_one_by_record (struct resolver *r, const struct qcow_intent_item *item)
{
  struct qcow_ambiguous *e = bsearch (&item->index, r->a->list, r->a->nr,
                                      sizeof *e, compare_index);

  if (e == NULL || e->choice != QCOW_UNDECIDED)
    return;
  if (e->hosts[QCOW_AS_BIG] == item->value)
    choose (r, e, QCOW_AS_BIG);
  else if (e->hosts[QCOW_AS_LITTLE] == item->value)
    choose (r, e, QCOW_AS_LITTLE);
}

/* While the list is in order of the indexes. */
static int
settle_by_record (struct resolver *r)
{
  struct qcow_gap gap;
  unsigned i;
  uint32_t k;

  if (qcow_gap_read (r->src, r->h, &gap) == -1)
    return -1;
  for (i = 0; i < gap.nr; ++i)
    if (gap.uses[i] == QCOW_GAP_RECORD)
      for (k = 0; k < gap.records[i].nr_items; ++k)
        settle_one_by_record (r, &gap.records[i].items[k]);
  return 0;
}

/* ---- 2: content */

/* Could this be an entry of an L2 table? */
static bool
fits (const struct resolver *r, uint64_t l2_host, uint64_t entry)
{
  const uint64_t c_len = qcow_cluster_len (r->h);
  struct qcow_cluster c;

  qcow_decode (r->h, entry, &c);
  if (c.kind == QCOW_NOTHING)
    return true;
  if (c.kind == QCOW_DAMAGED ||
      qcow_is_on_headers (r->h, c.host, c.host + c.len) ||
      qcow_meets (c.host, c.host + c.len,
                  l2_host, l2_host + qcow_l2_len (r->h)))
    return false;
  if (c.kind == QCOW_COMPRESSED)
    return range_is_inside (c.host, c.len, r->file_len);
  return c.host % c_len == 0 && c.host <= round_up (r->file_len, c_len);
}

/* Without a backing file tapdisk allocates the clusters of a span directly
 * behind its table.
 */
static uint64_t
formula (const struct qcow_header *h, uint64_t l2_host, uint64_t i)
{
  const uint64_t c_len = qcow_cluster_len (h);

  return l2_host + round_up (qcow_l2_len (h), c_len) + i * c_len;
}

/* What the table is, after its entries 'first' to 'first' + nr - 1, when
 * those before made it 'content'.
 */
static enum qcow_content
look_at_piece (const struct resolver *r, uint64_t l2_host,
               const uint8_t *piece, uint64_t first, uint64_t nr,
               enum qcow_content content)
{
  uint64_t i;

  for (i = 0; i < nr; ++i) {
    uint64_t entry = load_be64 (piece + i * 8);

    if (r->h->backing_host == 0 && entry != 0 &&
        entry == formula (r->h, l2_host, first + i)) {
      if (first + i == 0)
        content = QCOW_CONTENT_FORMULA;
      else if (content == QCOW_CONTENT_EMPTY)
        content = QCOW_CONTENT_FITS;
      continue;
    }
    if (!fits (r, l2_host, entry))
      return QCOW_CONTENT_ABSURD;
    if (content == QCOW_CONTENT_FORMULA ||
        (content == QCOW_CONTENT_EMPTY && entry != 0))
      content = QCOW_CONTENT_FITS;
  }
  return content;
}

/* A table whose holes cost nothing; 1 when too much was read already. */
static int
look_at_table (struct resolver *r, uint64_t l2_host,
               enum qcow_content *content)
{
  const uint64_t l2_len = qcow_l2_len (r->h);
  uint8_t piece[PIECE_LEN];
  uint64_t done, len;

  *content = QCOW_CONTENT_EMPTY;
  if (l2_host >= r->file_len)
    return 0;
  for (done = 0; done < l2_len; done += len) {
    struct source_extent ext = source_extent (r->src, l2_host + done,
                                              l2_len - done);

    if (done == 0 && ext.hole && ext.len == l2_len)
      return 0;
    len = MIN (l2_len - done, (uint64_t) PIECE_LEN);
    if (r->nr_read > MAX_READ)
      return 1;
    r->nr_read += len;
    if (source_pread_padded (r->src, piece, len, l2_host + done) == -1)
      return -1;
    *content = look_at_piece (r, l2_host, piece, done / 8, len / 8, *content);
    if (*content == QCOW_CONTENT_ABSURD)
      return 0;
  }
  return 0;
}

static int
look_at_both (struct resolver *r, struct qcow_ambiguous *e)
{
  unsigned i;

  for (i = QCOW_AS_BIG; i <= QCOW_AS_LITTLE; ++i) {
    int n = look_at_table (r, e->hosts[i], &e->contents[i]);

    if (n == -1)
      return -1;
    if (n == 1) {               /* nothing is known: nothing is chosen */
      e->contents[0] = e->contents[1] = QCOW_CONTENT_ABSURD;
      return 0;
    }
  }
  return 0;
}

static int
settle_by_content (struct resolver *r)
{
  size_t i;

  for (i = 0; i < r->a->nr; ++i) {
    struct qcow_ambiguous *e = &r->a->list[i];
    const enum qcow_content *c = e->contents;

    unsigned choice = QCOW_UNDECIDED;

    if (look_at_both (r, e) == -1)
      return -1;
    if (c[0] > c[1] && c[0] >= QCOW_CONTENT_FITS)
      choice = 0;
    else if (c[1] > c[0] && c[1] >= QCOW_CONTENT_FITS)
      choice = 1;
    if (choice == QCOW_UNDECIDED)
      continue;
    if (e->choice == QCOW_UNDECIDED)
      choose (r, e, choice);
    r->a->nr_by_content += e->choice == choice; /* the record goes first */
  }
  return 0;
}

/* ---- 3: uniqueness */

/* Entries with the same two candidates stand together.
 *
 * Only such entries matter: whatever has one of the candidates for its
 * value has the other one for its reverse, and so was ambiguous too.
 */
static uint64_t
lower_candidate (const struct qcow_ambiguous *e)
{
  return MIN (e->hosts[0], e->hosts[1]);
}

static int
compare_candidates (const void *va, const void *vb)
{
  const struct qcow_ambiguous *a = va, *b = vb;
  uint64_t low_a = lower_candidate (a), low_b = lower_candidate (b);

  if (low_a != low_b)
    return low_a < low_b ? -1 : 1;
  return a->index < b->index ? -1 : a->index > b->index;
}

/* Which of the two places is that: 0 for the lower one. */
static unsigned
place_of (const struct qcow_ambiguous *e, unsigned choice)
{
  return e->hosts[choice] != lower_candidate (e);
}

/* Call 'settle' for each run of entries with the same two candidates. */
typedef int settle_fn (struct resolver *r, size_t first, size_t end);

static int
for_each_group (struct resolver *r, settle_fn *settle)
{
  size_t first, end;

  for (first = 0; first < r->a->nr; first = end) {
    uint64_t low = lower_candidate (&r->a->list[first]);

    for (end = first + 1; end < r->a->nr; ++end)
      if (lower_candidate (&r->a->list[end]) != low)
        break;
    if (settle (r, first, end) == -1)
      return -1;
  }
  return 0;
}

/* What is taken is out for the rest; if that is one entry, the other place
 * must be its own.
 */
static int
settle_by_uniqueness (struct resolver *r, size_t first, size_t end)
{
  bool is_taken[2] = { false, false };
  struct qcow_ambiguous *last = NULL;
  size_t nr_left = 0, i;
  unsigned k;

  for (i = first; i < end; ++i) {
    struct qcow_ambiguous *e = &r->a->list[i];

    if (e->choice != QCOW_UNDECIDED)
      is_taken[place_of (e, e->choice)] = true;
    else {
      nr_left++;
      last = e;
    }
  }
  for (i = first; i < end; ++i)
    for (k = 0; k < 2; ++k) {
      struct qcow_ambiguous *e = &r->a->list[i];

      e->is_out[k] = is_taken[place_of (e, k)];
    }
  if (nr_left != 1 || last->is_out[0] == last->is_out[1])
    return 0;
  k = last->is_out[QCOW_AS_BIG] ? QCOW_AS_LITTLE : QCOW_AS_BIG;
  if (can_choose (last, k))
    choose (r, last, k);
  return 0;
}

/* ---- 4: checksum */

/* Give the open ones the orders that the bits of 'way' say. */
static void
try_way (struct resolver *r, uint32_t way)
{
  size_t i;

  for (i = 0; i < r->a->nr; ++i) {
    const struct qcow_ambiguous *e = &r->a->list[i];

    if (e->choice == QCOW_UNDECIDED) {
      r->table[e->index] = e->hosts[way & 1];
      way >>= 1;
    }
  }
}

/* Take the orders that the bits of 'way' say; or take back the trial. */
static void
end_trial (struct resolver *r, bool is_right, uint32_t way)
{
  size_t i;

  for (i = 0; i < r->a->nr; ++i) {
    struct qcow_ambiguous *e = &r->a->list[i];

    if (e->choice == QCOW_UNDECIDED) {
      if (is_right)
        choose (r, e, way & 1);
      else
        r->table[e->index] = QCOW_L1_DAMAGED;
      way >>= 1;
    }
  }
}

/* All ways to read the open ones; one of them, and no other, must have the
 * checksum that is stored.
 */
static void
settle_by_cksum (struct resolver *r)
{
  uint32_t nr_ways, way, right = 0;
  unsigned nr_right = 0;
  bool is_reversed;

  if (r->nr_open == 0 || r->nr_open > MAX_HASHED_BITS)
    return;
  nr_ways = UINT32_C (1) << r->nr_open;
  if (nr_ways * r->h->nr_l1 * 16 > MAX_HASHED)
    return;
  for (way = 0; way < nr_ways && nr_right < 2; ++way) {
    try_way (r, way);
    if (qcow_cksum_find (r->h, r->table, &is_reversed) != QCOW_CKSUM_NONE) {
      nr_right++;
      right = way;
    }
  }
  end_trial (r, nr_right == 1, right);
}

/* ---- 5: votes */

/* Count the decided entries in the sector of entry 'index', by order. */
static int
count_votes (const struct resolver *r, uint64_t index, unsigned votes[2])
{
  const uint64_t l1_host = r->h->l1_host;
  uint64_t start = round_down (l1_host + index * 8, QCOW_SECTOR_LEN);
  uint64_t first, end, i;
  uint8_t sector[QCOW_SECTOR_LEN];

  votes[0] = votes[1] = 0;
  if (source_pread_padded (r->src, sector, sizeof sector, start) == -1)
    return -1;
  first = start <= l1_host ? 0 : div_round_up (start - l1_host, 8);
  end = MIN ((start + sizeof sector - l1_host) / 8, r->h->nr_l1);
  for (i = first; i < end; ++i) {
    uint64_t as_big = load_be64 (sector + (l1_host + i * 8 - start));
    uint64_t as_little = __builtin_bswap64 (as_big);

    if (as_big == as_little || r->table[i] == QCOW_L1_DAMAGED)
      continue;
    votes[r->table[i] == as_big ? QCOW_AS_BIG : QCOW_AS_LITTLE]++;
  }
  return 0;
}

static int
vote (const struct resolver *r, struct qcow_ambiguous *e)
{
  unsigned votes[2];

  if (count_votes (r, e->index, votes) == -1)
    return -1;
  e->vote = QCOW_UNDECIDED;
  if (votes[0] > 0 && votes[1] == 0 && can_choose (e, QCOW_AS_BIG))
    e->vote = QCOW_AS_BIG;
  else if (votes[1] > 0 && votes[0] == 0 && can_choose (e, QCOW_AS_LITTLE))
    e->vote = QCOW_AS_LITTLE;
  return 0;
}

/* Two who are voted to the same place: neither gets it. */
static int
settle_by_votes (struct resolver *r, size_t first, size_t end)
{
  size_t nr_claims[2] = { 0, 0 }, i;

  for (i = first; i < end; ++i) {
    struct qcow_ambiguous *e = &r->a->list[i];

    if (e->choice == QCOW_UNDECIDED && vote (r, e) == -1)
      return -1;
    if (e->choice != QCOW_UNDECIDED)
      nr_claims[place_of (e, e->choice)]++;
    else if (e->vote != QCOW_UNDECIDED)
      nr_claims[place_of (e, e->vote)]++;
  }
  for (i = first; i < end; ++i) {
    struct qcow_ambiguous *e = &r->a->list[i];

    if (e->choice == QCOW_UNDECIDED && e->vote != QCOW_UNDECIDED &&
        nr_claims[place_of (e, e->vote)] == 1)
      choose (r, e, e->vote);
  }
  return 0;
}

/* ---- all of it */

int
qcow_resolve (struct source *src, const struct qcow_header *h,
              uint64_t *table, bool is_whole, struct qcow_ambiguities *a)
{
  struct resolver r = {
    .src = src,
    .h = h,
    .file_len = source_len (src),
    .table = table,
    .a = a,
    .nr_open = a->nr,
  };
  unsigned round;
  size_t before;

  if (settle_by_record (&r) == -1 || settle_by_content (&r) == -1)
    return -1;
  qsort (a->list, a->nr, sizeof *a->list, compare_candidates);
  for (round = 0; round < MAX_ROUNDS && r.nr_open > 0; ++round) {
    before = r.nr_open;
    for_each_group (&r, settle_by_uniqueness);
    if (is_whole)
      settle_by_cksum (&r);
    if (for_each_group (&r, settle_by_votes) == -1)
      return -1;
    if (r.nr_open == before)
      break;
  }
  return 0;
}
