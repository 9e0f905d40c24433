/* A file with the pages of its log laid over it.
 *
 * The patches are cut into pieces that do not overlap: going through all
 * their ends in order, a heap tells which of those that are open is the
 * last in the log.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "report/refuse.h"
#include "vhdx/replay.h"

struct piece {
  uint64_t host, end;           /* bytes */
  uint8_t *page;                /* one page; NULL: zeroes; owned */
};

struct replay {
  struct source src;            /* must be first */
  struct source *file;          /* a reference */
  struct piece *pieces;         /* in order, disjoint; owned; constant */
  size_t nr_pieces;
};

static const struct source_ops replay_ops;

static struct replay *
replay_of (struct source *src)
{
  assert (src->ops == &replay_ops);
  return (struct replay *) src;
}

/* ---- reading */

/* The first piece that ends behind 'host'; nr_pieces: none. */
static size_t
find_piece (const struct replay *r, uint64_t host)
{
  size_t low = 0, high = r->nr_pieces;

  while (low < high) {
    const size_t middle = low + (high - low) / 2;

    if (r->pieces[middle].end <= host)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Where a run of one kind that begins at 'host' ends: in the piece, or in
 * the file up to the piece.
 */
static uint64_t
run_end (const struct replay *r, size_t i, uint64_t host, uint64_t end)
{
  if (i == r->nr_pieces)
    return end;
  return MIN (end, r->pieces[i].host > host ? r->pieces[i].host
              : r->pieces[i].end);
}

static int
replay_pread (struct source *src, void *vbuf, size_t len, uint64_t host)
{
  struct replay *r = replay_of (src);
  const uint64_t end = host + len;
  uint8_t *buf = vbuf;

  for (size_t i = find_piece (r, host); host < end; i = find_piece (r, host)) {
    const uint64_t stop = run_end (r, i, host, end);
    const bool is_file = i == r->nr_pieces || r->pieces[i].host > host;

    if (is_file) {
      if (source_pread_padded (r->file, buf, stop - host, host) == -1)
        return -1;
    }
    else if (r->pieces[i].page)
      memcpy (buf, r->pieces[i].page + (host - r->pieces[i].host),
              stop - host);
    else
      memset (buf, 0, stop - host);
    buf += stop - host;
    host = stop;
  }
  return 0;
}

static struct source_extent
replay_extent (struct source *src, uint64_t host, uint64_t len)
{
  struct replay *r = replay_of (src);
  const size_t i = find_piece (r, host);
  const uint64_t stop = run_end (r, i, host, host + len);

  if (i == r->nr_pieces || r->pieces[i].host > host) {
    struct source_extent ext = source_extent (r->file, host, stop - host);

    /* Behind the end of the file there is a hole. */
    ext.len = MIN (ext.len, stop - host);
    return ext;
  }
  return (struct source_extent) {
    .len = stop - host, .hole = r->pieces[i].page == NULL
  };
}

static void
replay_prefetch (struct source *src, uint64_t host, uint64_t len)
{
  source_prefetch (replay_of (src)->file, host, len);
}

static void
replay_close (struct source *src)
{
  struct replay *r = replay_of (src);

  for (size_t i = 0; i < r->nr_pieces; ++i)
    free (r->pieces[i].page);
  free (r->pieces);
  source_put (r->file);
  source_destroy (src);
  free (r);
}

/* It is never writable, so what changes is not asked for. */
static const struct source_ops replay_ops = {
  .kind = "replay",
  .pread = replay_pread,
  .extent = replay_extent,
  .prefetch = replay_prefetch,
  .close = replay_close,
};

/* ---- cutting into pieces */

/* A heap of patches by their place in the log, the last on top. */
struct heap {
  size_t *items;                /* indices of patches; owned */
  size_t nr;
};

static void
heap_add (struct heap *h, size_t item)
{
  size_t i = h->nr++;

  for (; i > 0 && h->items[(i - 1) / 2] < item; i = (i - 1) / 2)
    h->items[i] = h->items[(i - 1) / 2];
  h->items[i] = item;
}

static void
heap_drop_top (struct heap *h)
{
  const size_t item = h->items[--h->nr];
  size_t i = 0, child;

  while ((child = 2 * i + 1) < h->nr) {
    if (child + 1 < h->nr && h->items[child + 1] > h->items[child])
      child++;
    if (h->items[child] <= item)
      break;
    h->items[i] = h->items[child];
    i = child;
  }
  h->items[i] = item;
}

struct cutter {
  const struct replay_patch *patches;
  size_t nr_patches;
  size_t *by_host;              /* patches in the order of the file; owned */
  uint64_t *ends;               /* all places where something begins or
                                   ends, in order; owned */
  struct heap open;
  struct replay *r;
};

static int
compare_places (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static int
compare_patches (const void *a, const void *b, void *patches)
{
  const struct replay_patch *p = patches;
  const uint64_t x = p[*(const size_t *) a].host;
  const uint64_t y = p[*(const size_t *) b].host;

  return x < y ? -1 : x > y;
}

static int
cutter_init (struct cutter *c)
{
  const size_t nr = c->nr_patches;

  c->by_host = calloc (nr, sizeof *c->by_host);
  c->ends = calloc (nr, 2 * sizeof *c->ends);
  c->open.items = calloc (nr, sizeof *c->open.items);
  c->r->pieces = calloc (nr, 2 * sizeof *c->r->pieces);
  if (!c->by_host || !c->ends || !c->open.items || !c->r->pieces) {
    errno = ENOMEM;
    return -1;
  }
  for (size_t i = 0; i < nr; ++i) {
    c->by_host[i] = i;
    c->ends[2 * i] = c->patches[i].host;
    c->ends[2 * i + 1] = c->patches[i].host + c->patches[i].len;
  }
  qsort (c->ends, 2 * nr, sizeof *c->ends, compare_places);
  qsort_r (c->by_host, nr, sizeof *c->by_host, compare_patches,
           (void *) c->patches);
  return 0;
}

static void
cutter_free (struct cutter *c)
{
  free (c->by_host);
  free (c->ends);
  free (c->open.items);
}

/* The content of a page, of which the log keeps some bytes apart. */
static int
read_page (struct source *file, const struct replay_patch *patch,
           uint8_t **page)
{
  *page = malloc (VHDX_PAGE_LEN);
  if (*page == NULL) {
    errno = ENOMEM;
    return -1;
  }
  if (source_pread (file, *page, VHDX_PAGE_LEN, patch->sector) == -1) {
    free (*page);
    return -1;
  }
  memcpy (*page, patch->leading, sizeof patch->leading);
  memcpy (*page + VHDX_PAGE_LEN - sizeof patch->trailing, patch->trailing,
          sizeof patch->trailing);
  return 0;
}

/* Between 'start' and 'end' this patch counts. */
static int
add_piece (struct cutter *c, const struct replay_patch *patch,
           uint64_t start, uint64_t end)
{
  struct replay *r = c->r;
  struct piece *last = r->nr_pieces ? &r->pieces[r->nr_pieces - 1] : NULL;
  uint8_t *page = NULL;

  if (patch->sector == 0 && last && last->page == NULL &&
      last->end == start) {
    last->end = end;
    return 0;
  }
  if (patch->sector != 0) {
    assert (start == patch->host && end == start + VHDX_PAGE_LEN);
    if (read_page (r->file, patch, &page) == -1)
      return -1;
  }
  r->pieces[r->nr_pieces++] = (struct piece) {
    .host = start, .end = end, .page = page
  };
  return 0;
}

static int
cut (struct cutter *c)
{
  struct heap *open = &c->open;
  size_t next = 0;

  for (size_t i = 0; i + 1 < 2 * c->nr_patches; ++i) {
    const uint64_t at = c->ends[i], end = c->ends[i + 1];
    const struct replay_patch *top;

    for (; next < c->nr_patches &&
           c->patches[c->by_host[next]].host == at; ++next)
      heap_add (open, c->by_host[next]);
    for (; open->nr > 0; heap_drop_top (open)) {
      top = &c->patches[open->items[0]];
      if (top->host + top->len > at)
        break;
    }
    if (end > at && open->nr > 0 && add_piece (c, top, at, end) == -1)
      return -1;
  }
  return 0;
}

struct source *
replay_new (struct source *file, const char *name,
            const struct replay_patch *patches, size_t nr_patches,
            uint64_t len)
{
  struct replay *r = calloc (1, sizeof *r);
  struct cutter c = { .patches = patches, .nr_patches = nr_patches, .r = r };
  int result = 0;

  if (r == NULL || source_init (&r->src, &replay_ops, name) == -1) {
    free (r);
    errno = ENOMEM;
    goto failed;
  }
  r->file = source_get (file);
  if (nr_patches > 0) {
    result = cutter_init (&c);
    if (result == 0) {
      len = MAX (len, c.ends[2 * nr_patches - 1]);
      result = cut (&c);
    }
    cutter_free (&c);
  }
  if (result == -1) {
    const int err = errno;

    source_put (&r->src);
    errno = err;
    goto failed;
  }
  r->src.len = MAX (len, source_len (file));
  return &r->src;

 failed:
  if (errno == ENOMEM)
    report_error ("%s: no memory to replay its log", name);
  return NULL;
}
