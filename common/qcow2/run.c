/* Long runs of neighbouring clusters.
 *
 * A refcount block is put where the range that it counts begins, so that
 * no run can be longer than one such range, unless its blocks are there
 * before.  For a run that is longer, the blocks of all the ranges that it
 * touches are put behind the first one's block, and the run behind them.
 *
 * A file that can grow is searched behind its end only, where there are no
 * gaps; else everything is.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Host cluster management".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/refuse.h"
#include "qcow2/run.h"

/* Free stretches that are too short, held while the search goes on.  Behind
 * the end of a file that can grow there are none, but for what refcounts
 * that make no sense put there.
 */
#define MAX_HELD 65536
#define MAX_HELD_BEHIND 64

struct held {
  uint64_t first, nr;
};

struct search {
  struct qcow2_counts *c;
  struct held *held;            /* the last one is what has been found;
                                   owned */
  size_t nr_held;
};

static int
no_room (const struct qcow2_counts *c, uint64_t nr)
{
  return REFUSE (ENOSPC, "%s: there is no room for a table of %" PRIu64
                 " neighbouring clusters", c->img->name, nr);
}

/* Note clusters that were allocated: behind the last stretch, or a new one.
 */
static void
note (struct search *s, uint64_t first, uint64_t nr)
{
  struct held *last = &s->held[s->nr_held - 1];

  if (s->nr_held > 0 && last->first + last->nr == first)
    last->nr += nr;
  else
    s->held[s->nr_held++] = (struct held) { .first = first, .nr = nr };
}

static void
give_back (struct search *s)
{
  LOCK_SCOPE (&s->c->img->format_lock);

  while (s->nr_held > 0) {
    s->nr_held--;
    qcow2_alloc_undo (s->c, s->held[s->nr_held].first,
                      s->held[s->nr_held].nr);
  }
}

/* Allocate on until the last stretch is 'nr' long. */
static int
extend (struct search *s, uint64_t nr)
{
  struct qcow2_counts *c = s->c;
  const size_t max_held = c->img->source->can_grow ? MAX_HELD_BEHIND
    : MAX_HELD;

  for (;;) {
    const uint64_t have = s->nr_held ? s->held[s->nr_held - 1].nr : 0;
    uint64_t first;
    int64_t n;

    if (have >= nr)
      return 0;
    if (s->nr_held == max_held)
      return no_room (c, nr);
    if (cache_is_pressed (c->img->cache) && pass_run (c->img) == -1)
      return -1;
    LOCK_SCOPE (&c->img->format_lock);
    n = qcow2_alloc (c, nr - have, &first);
    if (n == -1)
      return errno == ENOSPC ? no_room (c, nr) : -1;
    note (s, first, n);
  }
}

/* ---- blocks for the ranges of a long run */

/* Have refcount block 'i' at cluster 'at', which is counted already. */
static int
place_block (struct qcow2_counts *c, uint64_t i, uint64_t at)
{
  const uint32_t page_len = cache_page_len (c->img->cache);
  const uint64_t cluster_len = UINT64_C (1) << c->cluster_bits;
  const uint64_t host = at << c->cluster_bits;
  const uint64_t entry = c->table_host + i * 8;
  struct page *page;
  uint64_t done;
  int r = 0;

  if (qcow2_guard_reserve (&c->guard, 1) == -1)
    return REFUSE (ENOMEM, "%s: no memory for a refcount block",
                   c->img->name);
  qcow2_alloc_reads_zero (c, at, 1);    /* it is written from now on */
  page = cache_get (c->img->cache, entry);
  if (page == NULL)
    return -1;
  pass_begin_change (c->img);
  for (done = 0; r == 0 && done < cluster_len; done += page_len) {
    struct page *new = cache_create (c->img->cache, host + done);

    r = new ? 0 : -1;
    cache_put (c->img->cache, new);
  }
  if (r == 0) {
    qcow2_guard_add (&c->guard, at);
    c->table[i] = host;
    c->is_full[i] = 0;
    store_entry_be64 (page->bytes + (entry - page->host), host);
    cache_dirty (c->img->cache, page, PASS_COUNT);
  }
  else
    cache_forget (c->img->cache, host, cluster_len);
  pass_end_change (c->img);
  cache_put (c->img->cache, page);
  return r;
}

/* Have refcount block 'i', in the next free cluster. */
static int
add_block (struct qcow2_counts *c, uint64_t i)
{
  LOCK_SCOPE (&c->img->format_lock);
  uint64_t at;

  if (qcow2_alloc (c, 1, &at) == -1)
    return errno == ENOSPC ? no_room (c, 1) : -1;
  if (place_block (c, i, at) == 0)
    return 0;
  qcow2_alloc_undo (c, at, 1);
  return -1;
}

/* Have the refcount table name blocks up to number 'last'.  It grows when a
 * cluster is wanted that it cannot name.
 */
static int
lengthen_table (struct qcow2_counts *c, uint64_t last)
{
  while (c->nr_table <= last) {
    uint64_t first;

    LOCK_SCOPE (&c->img->format_lock);
    c->next_free = c->nr_table * c->per_block;
    if (qcow2_alloc (c, 1, &first) == -1)
      return errno == ENOSPC ? no_room (c, 1) : -1;
    qcow2_alloc_undo (c, first, 1);
  }
  return 0;
}

/* The first range behind everything. */
static uint64_t
fresh_range (const struct qcow2_counts *c)
{
  return div_round_up (c->zero_from >> c->cluster_bits, c->per_block);
}

/* Begin a run of 'nr' clusters in a fresh range, with blocks for as far as
 * it goes.
 */
static int
start_long_run (struct qcow2_counts *c, uint64_t nr)
{
  uint64_t nr_blocks = 1, range, i;

  while (nr_blocks < div_round_up (nr + nr_blocks, c->per_block))
    nr_blocks = div_round_up (nr + nr_blocks, c->per_block);
  /* Lengthening may use up what was fresh. */
  do {
    range = fresh_range (c);
    if (lengthen_table (c, range + nr_blocks) == -1)
      return -1;
  } while (range != fresh_range (c));

  c->next_free = range * c->per_block;
  /* The first one comes by itself, with the first cluster. */
  for (i = 1; i < nr_blocks; ++i)
    if (add_block (c, range + i) == -1)
      return -1;
  return 0;
}

/* ---- all of it */

/* Is the run longer than a range that begins with its block? */
static bool
is_long (const struct qcow2_counts *c, uint64_t nr)
{
  return nr >= c->per_block;
}

/* What the search ends with is the run. */
static int
find (struct search *s, uint64_t nr, uint64_t *first)
{
  struct qcow2_counts *c = s->c;
  struct held *last;

  if (c->img->source->can_grow && is_long (c, nr)) {
    if (start_long_run (c, nr) == -1)
      return -1;
  }
  else if (c->img->source->can_grow)
    c->next_free = MAX (c->next_free, c->zero_from >> c->cluster_bits);
  if (extend (s, nr) == -1)
    return -1;
  last = &s->held[--s->nr_held];
  *first = last->first;
  return 0;
}

int
qcow2_alloc_run (struct qcow2_counts *c, uint64_t nr, uint64_t *first)
{
  CLEANUP_FREE struct held *held = malloc (MAX_HELD * sizeof *held);
  struct search s = { .c = c, .held = held };
  const uint64_t next_free = c->next_free;
  int r, err;

  if (held == NULL)
    return REFUSE (ENOMEM, "%s: no memory to look for free clusters",
                   c->img->name);
  r = find (&s, nr, first);
  err = errno;
  give_back (&s);
  c->next_free = MIN (c->next_free, next_free);
  if (r == 0) {
    LOCK_SCOPE (&c->img->format_lock);
    qcow2_alloc_reads_zero (c, *first, nr);
  }
  errno = err;
  return r;
}
