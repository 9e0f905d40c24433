/* Which host clusters are in use: a map in memory.
 *
 * The map is made of chunks that come into being when something in them is
 * marked; a missing chunk is all free.  Chunks never move or go, so that
 * qcow_space_use needs no lock; neighbours in a byte may change under it,
 * hence the atomics.
 *
 * New space is taken behind everything else as long as the file can grow
 * and not too much lies free within it; that keeps what is written
 * together together, and such space reads as zeroes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/pass.h"
#include "include/checked.h"
#include "include/lock.h"
#include "qcow/space.h"
#include "report/refuse.h"

/* Clusters of one chunk, four to a byte. */
#define CHUNK_CLUSTERS UINT64_C (65536)
#define CHUNK_BYTES (CHUNK_CLUSTERS / 4)
#define NR_CHUNKS (QCOW_MAX_CLUSTERS / CHUNK_CLUSTERS)

/* Free space within the file is used again when there is so much of it, in
 * bytes, and it is an eighth of all.
 */
#define REUSE_FROM (UINT64_C (16) << 20)

/* So many clusters are looked at for a run that is long enough while the
 * file can grow instead: what is free may be in pieces.
 */
#define MAX_LOOKED_AT 65536

/* Clusters that are free as soon as pass 'cut' is durable. */
struct drop {
  uint64_t first, nr;
  uint64_t cut;
};

struct qcow_space {
  struct image *img;
  unsigned bits;                /* log2 of the cluster size */
  _Atomic uint8_t *_Atomic chunks[NR_CHUNKS];

  /* All in clusters; format lock. */
  uint64_t end;                 /* everything from here on is free */
  uint64_t zero_from;           /* ... and reads as zeroes from here on, if
                                   it was never taken; UINT64_MAX: none */
  uint64_t nr_free;             /* below 'end' */
  uint64_t cursor;              /* where to look for them */
  uint64_t none_len, none_end;  /* no run of so many is free below that end;
                                   none_end 0: not known */
  uint64_t nr_looked_at;
  uint64_t initial_len;         /* of the file, bytes */

  struct drop *drops;           /* format lock; owned */
  size_t nr_drops, max_drops;
  uint64_t nr_promised;
};

struct qcow_space *
qcow_space_new (struct image *img, unsigned cluster_bits)
{
  struct qcow_space *s = calloc (1, sizeof *s);

  if (s == NULL) {
    report_error ("%s: no memory to open it for writing", img->name);
    errno = ENOMEM;
    return NULL;
  }
  s->img = img;
  s->bits = cluster_bits;
  s->zero_from = UINT64_MAX;
  return s;
}

void
qcow_space_free (struct qcow_space *s)
{
  if (s == NULL)
    return;
  for (size_t i = 0; i < NR_CHUNKS; ++i)
    free ((void *) s->chunks[i]);
  free (s->drops);
  free (s);
}

/* ---- the map */

static unsigned
shift_of (uint64_t cluster)
{
  return cluster % 4 * 2;
}

enum qcow_use
qcow_space_use (const struct qcow_space *s, uint64_t cluster)
{
  const _Atomic uint8_t *chunk;

  if (cluster >= QCOW_MAX_CLUSTERS)
    return QCOW_FREE;
  chunk = atomic_load_explicit (&s->chunks[cluster / CHUNK_CLUSTERS],
                                memory_order_acquire);
  if (chunk == NULL)
    return QCOW_FREE;
  return atomic_load_explicit (&chunk[cluster % CHUNK_CLUSTERS / 4],
                               memory_order_relaxed)
    >> shift_of (cluster) & 3;
}

/* Have the chunks of [first, first+nr). */
static int
have_chunks (struct qcow_space *s, uint64_t first, uint64_t nr)
{
  for (uint64_t i = first / CHUNK_CLUSTERS;
       i <= (first + nr - 1) / CHUNK_CLUSTERS; ++i) {
    void *chunk;

    if (s->chunks[i] != NULL)
      continue;
    chunk = calloc (1, CHUNK_BYTES);
    if (chunk == NULL)
      return REFUSE (ENOMEM, "%s: no memory to know what space is in use",
                     s->img->name);
    atomic_store_explicit (&s->chunks[i], chunk, memory_order_release);
  }
  return 0;
}

/* The chunk is there. */
static void
set_use (struct qcow_space *s, uint64_t cluster, enum qcow_use use)
{
  _Atomic uint8_t *byte = &s->chunks[cluster / CHUNK_CLUSTERS]
    [cluster % CHUNK_CLUSTERS / 4];
  const unsigned shift = shift_of (cluster);
  uint8_t v = atomic_load_explicit (byte, memory_order_relaxed);

  /* Only holders of the format lock change it. */
  v = (v & ~(3 << shift)) | use << shift;
  atomic_store_explicit (byte, v, memory_order_relaxed);
}

static int
check_reach (const struct qcow_space *s, uint64_t first, uint64_t nr)
{
  if (range_is_inside (first, nr, QCOW_MAX_CLUSTERS))
    return 0;
  return REFUSE (EFBIG, "%s: something lies at byte %" PRIu64 "; images "
                 "with clusters of %" PRIu64 " bytes can be written up to "
                 "byte %" PRIu64 " only", s->img->name, first << s->bits,
                 UINT64_C (1) << s->bits, QCOW_MAX_CLUSTERS << s->bits);
}

int
qcow_space_mark (struct qcow_space *s, uint64_t first, uint64_t nr,
                 enum qcow_use use)
{
  int r = 0;

  if (check_reach (s, first, nr) == -1 || have_chunks (s, first, nr) == -1)
    return -1;
  for (uint64_t i = first; i < first + nr; ++i) {
    const enum qcow_use old = qcow_space_use (s, i);

    if (old == QCOW_META || (use == QCOW_META && old != QCOW_FREE)) {
      set_use (s, i, QCOW_META);
      r = 1;
    }
    else
      set_use (s, i, old == QCOW_FREE ? use : QCOW_SHARED);
  }
  s->end = MAX (s->end, first + nr);
  return r;
}

/* Clusters of one chunk that are in use. */
static uint64_t
count_used (const _Atomic uint8_t *chunk)
{
  uint64_t n = 0;

  for (size_t i = 0; i < CHUNK_BYTES; ++i) {
    const unsigned v = atomic_load_explicit (&chunk[i],
                                             memory_order_relaxed);

    n += __builtin_popcount ((v | v >> 1) & 0x55);
  }
  return n;
}

/* Clusters below the end that are free: none behind it is in use. */
static uint64_t
count_free (const struct qcow_space *s)
{
  uint64_t n = s->end;

  for (size_t i = 0; i < NR_CHUNKS; ++i)
    if (s->chunks[i] != NULL)
      n -= count_used (s->chunks[i]);
  return n;
}

void
qcow_space_gathered (struct qcow_space *s)
{
  const struct source *src = s->img->source;

  s->initial_len = source_len (src);
  /* The file's own end counts as used: what lies before it was written by
   * somebody, and is taken only as free space is.
   */
  s->end = MIN (MAX (s->end, div_round_up (s->initial_len,
                                           UINT64_C (1) << s->bits)),
                QCOW_MAX_CLUSTERS);
  /* Entries may name clusters behind the end of the file, which are written
   * in place and may be dropped: only what lies behind those was never used.
   */
  if (src->can_grow)
    s->zero_from = s->end;
  s->nr_free = count_free (s);
}

uint64_t
qcow_space_end (const struct qcow_space *s)
{
  return s->end;
}

uint64_t
qcow_space_looked_at (const struct qcow_space *s)
{
  return s->nr_looked_at;
}

/* ---- taking */

/* Clusters there can be at all. */
static uint64_t
capacity (const struct qcow_space *s)
{
  const struct source *src = s->img->source;

  return src->can_grow ? QCOW_MAX_CLUSTERS
    : MIN (source_len (src) >> s->bits, QCOW_MAX_CLUSTERS);
}

static bool
prefers_reuse (const struct qcow_space *s)
{
  return s->nr_free >= REUSE_FROM >> s->bits && s->nr_free >= s->end / 8;
}

/* How many clusters from 'i' on are free, up to 'max'? */
static uint64_t
free_run (const struct qcow_space *s, uint64_t i, uint64_t max)
{
  uint64_t n = 0;

  while (n < max && qcow_space_use (s, i + n) == QCOW_FREE)
    n++;
  return n;
}

/* Find a run of free clusters below 'end', once round from the cursor, or
 * among 'max' clusters from there.  Its length, from *first on; 0: there is
 * none.
 */
static uint64_t
find_run (struct qcow_space *s, uint64_t end, uint64_t wanted,
          uint64_t least, uint64_t max, uint64_t *first)
{
  uint64_t i = s->cursor < end ? s->cursor : 0, seen = 0, n;

  if (s->nr_free < least || (least >= s->none_len && end <= s->none_end))
    return 0;
  while (seen < MIN (end, max)) {
    n = free_run (s, i, MIN (wanted, end - i));
    s->nr_looked_at += n + 1;
    if (n >= least && n > 0) {
      s->cursor = i + n;
      *first = i;
      return n;
    }
    seen += n + 1;
    i += n + 1;
    if (i >= end)
      i = 0;
  }
  s->cursor = i;                /* where to go on */
  if (max >= end) {
    s->none_len = least;
    s->none_end = end;
  }
  return 0;
}

static uint64_t
find_behind (struct qcow_space *s, uint64_t wanted, uint64_t least,
             uint64_t *first)
{
  const uint64_t end = capacity (s);
  const uint64_t there = end > s->end ? end - s->end : 0;

  if (there < least || there == 0)
    return 0;
  *first = s->end;
  return MIN (wanted, there);
}

/* Have the file reach to the end of the run of 'n' from 'first' on, or of
 * 'least' of them.  How many it is; 0: it cannot; -1, reported.
 */
static int64_t
reach (struct qcow_space *s, uint64_t first, uint64_t n, uint64_t least)
{
  while (source_grow_ahead (s->img->source, (first + n) << s->bits,
                            1 << s->bits) == -1) {
    if (errno != ENOSPC)
      return -1;
    if (n <= MAX (least, 1))
      return 0;
    n = MAX (n / 2, least);
  }
  return n;
}

/* Where space is looked for, in this order. */
enum where {
  REUSED,                       /* where much is free, but not for long */
  BEHIND,                       /* behind everything */
  BELOW,                        /* before the end of what is in use */
  INSIDE,                       /* before the end of the file */
  NOWHERE
};

static uint64_t
find (struct qcow_space *s, enum where where, uint64_t wanted,
      uint64_t least, uint64_t *first)
{
  const uint64_t end = MIN (s->end, capacity (s));

  switch (where) {
  case REUSED:
    return prefers_reuse (s)
      ? find_run (s, end, wanted, least, MAX_LOOKED_AT, first) : 0;
  case BEHIND:
    return find_behind (s, wanted, least, first);
  case BELOW:
    return find_run (s, end, wanted, least, UINT64_MAX, first);
  case INSIDE:
    return find_run (s, MIN (end, source_len (s->img->source) >> s->bits),
                     wanted, least, UINT64_MAX, first);
  case NOWHERE:
    break;
  }
  return 0;
}

/* Note that [first, first+n) is in use. */
static void
take_run (struct qcow_space *s, uint64_t first, uint64_t n,
          enum qcow_use use)
{
  for (uint64_t i = first; i < first + n; ++i) {
    s->nr_free -= i < s->end;
    set_use (s, i, use);
  }
  s->end = MAX (s->end, first + n);
}

int64_t
qcow_space_take (struct qcow_space *s, uint64_t wanted, uint64_t least,
                 enum qcow_use use, uint64_t *first, bool *reads_zero)
{
  enum where where = REUSED;
  int64_t n = 0;

  assert_held (&s->img->format_lock);
  for (; where < NOWHERE && n == 0; ++where) {
    n = find (s, where, wanted, least, first);
    if (n == 0)
      continue;
    if (have_chunks (s, *first, n) == -1)
      return -1;
    n = reach (s, *first, n, least);
  }
  if (n == 0)
    errno = ENOSPC;
  if (n <= 0)
    return -1;
  take_run (s, *first, n, use);
  *reads_zero = *first >= s->zero_from;
  if (s->zero_from != UINT64_MAX)
    s->zero_from = MAX (s->zero_from, *first + n);
  return n;
}

static void
set_free (struct qcow_space *s, uint64_t first, uint64_t nr)
{
  for (uint64_t i = first; i < first + nr; ++i)
    set_use (s, i, QCOW_FREE);
  s->nr_free += nr;
  s->none_end = 0;
}

void
qcow_space_undo (struct qcow_space *s, uint64_t first, uint64_t nr)
{
  assert_held (&s->img->format_lock);
  set_free (s, first, nr);
}

/* ---- dropping */

int
qcow_space_promise (struct qcow_space *s, uint64_t nr)
{
  const uint64_t needed = s->nr_drops + s->nr_promised + nr;
  struct drop *drops;
  size_t max;

  assert_held (&s->img->format_lock);
  if (needed > s->max_drops) {
    max = MAX (needed, s->max_drops * 2);
    drops = realloc (s->drops, max * sizeof *drops);
    if (drops == NULL)
      return REFUSE (ENOMEM, "%s: no memory to free space", s->img->name);
    s->drops = drops;
    s->max_drops = max;
  }
  s->nr_promised += nr;
  return 0;
}

void
qcow_space_unpromise (struct qcow_space *s, uint64_t nr)
{
  assert_held (&s->img->format_lock);
  assert (nr <= s->nr_promised);
  s->nr_promised -= nr;
}

void
qcow_space_drop (struct qcow_space *s, uint64_t first, uint64_t nr)
{
  const uint64_t cut = pass_next_cut (s->img);
  struct drop *last = s->nr_drops > 0 ? &s->drops[s->nr_drops - 1] : NULL;

  assert_held (&s->img->format_lock);
  assert (s->nr_promised > 0);
  s->nr_promised--;
  if (last && last->cut == cut && last->first + last->nr == first)
    last->nr += nr;
  else
    s->drops[s->nr_drops++] = (struct drop) {
      .first = first, .nr = nr, .cut = cut
    };
}

/* Take the drops of 'cut' and before off the list, which is in the order of
 * the cuts; the caller frees them.  NULL: none, or no memory: next time.
 */
static struct drop *
take_drops (struct qcow_space *s, uint64_t cut, size_t *nr)
{
  struct drop *drops;

  LOCK_SCOPE (&s->img->format_lock);

  for (*nr = 0; *nr < s->nr_drops && s->drops[*nr].cut <= cut; ++*nr)
    ;
  drops = *nr > 0 ? malloc (*nr * sizeof *drops) : NULL;
  if (drops == NULL)
    return NULL;
  memcpy (drops, s->drops, *nr * sizeof *drops);
  s->nr_drops -= *nr;
  memmove (s->drops, s->drops + *nr, s->nr_drops * sizeof *drops);
  return drops;
}

/* Punching is I/O, and nobody can take the space before it is done. */
void
qcow_space_durable (struct qcow_space *s, uint64_t cut)
{
  struct source *src = s->img->source;
  size_t nr;
  struct drop *drops = take_drops (s, cut, &nr);

  if (drops == NULL)
    return;
  for (size_t i = 0; i < nr; ++i) {
    const uint64_t host = drops[i].first << s->bits;
    const uint64_t there = source_len (src);

    /* A failure leaves old bytes in space that nobody takes for zeroes. */
    if (host < there)
      source_zero_fast (src, MIN (drops[i].nr << s->bits, there - host),
                        host, SOURCE_ZERO_PUNCH);
  }
  {
    LOCK_SCOPE (&s->img->format_lock);

    for (size_t i = 0; i < nr; ++i)
      set_free (s, drops[i].first, drops[i].nr);
  }
  free (drops);
}

/* ---- the end */

int
qcow_space_trim_file (struct qcow_space *s)
{
  struct source *src = s->img->source;
  const uint64_t least = s->initial_len >> s->bits;
  uint64_t end = s->end;

  assert_held (&s->img->format_lock);
  while (end > least && qcow_space_use (s, end - 1) == QCOW_FREE)
    end--;
  end = MAX (end << s->bits, s->initial_len);
  if (!src->can_grow || source_len (src) <= end)
    return 0;
  return source_truncate (src, end);
}
