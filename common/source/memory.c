/* Bytes in memory as a source.
 *
 * Pages exist where something was written.  They hang in chunks, and the
 * chunks in an array sorted by position, so that the next page after a
 * wide hole is found quickly.
 *
 * Invariant: bytes of a page at or beyond the length are zero, so that
 * growing only changes the length.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/lock.h"
#include "source/memory.h"

#define PAGE_LEN UINT64_C (4096)
#define CHUNK_PAGES UINT64_C (512)

struct chunk {
  uint64_t index;               /* page index / CHUNK_PAGES */
  unsigned nr_pages;            /* not NULL */
  uint8_t *pages[CHUNK_PAGES];
};

struct memory {
  struct source src;            /* must be first */
  uint64_t limit;               /* bytes; fixed */
  pthread_rwlock_t lock;        /* guards what follows */
  struct chunk **chunks;        /* sorted by index; none is empty */
  size_t nr_chunks;
  size_t max_chunks;            /* allocated */
};

static const struct source_ops memory_ops;

static struct memory *
memory_of (struct source *src)
{
  assert (src->ops == &memory_ops);
  return (struct memory *) src;
}

static void
lock_shared (struct memory *m)
{
  lock_must (pthread_rwlock_rdlock (&m->lock));
}

static void
lock_exclusive (struct memory *m)
{
  lock_must (pthread_rwlock_wrlock (&m->lock));
}

static void
unlock (struct memory *m)
{
  lock_must (pthread_rwlock_unlock (&m->lock));
}

/* The place in the array of the first chunk whose index is not below. */
static size_t
find_chunk (const struct memory *m, uint64_t index)
{
  size_t low = 0, high = m->nr_chunks;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (m->chunks[middle]->index < index)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* The page, or NULL where nothing was written. */
static uint8_t *
find_page (const struct memory *m, uint64_t page)
{
  size_t i = find_chunk (m, page / CHUNK_PAGES);

  if (i == m->nr_chunks || m->chunks[i]->index != page / CHUNK_PAGES)
    return NULL;
  return m->chunks[i]->pages[page % CHUNK_PAGES];
}

/* The first page that exists at or after 'page', UINT64_MAX for none. */
static uint64_t
next_page (const struct memory *m, uint64_t page)
{
  for (size_t i = find_chunk (m, page / CHUNK_PAGES); i < m->nr_chunks; i++) {
    const struct chunk *c = m->chunks[i];
    uint64_t first = c->index * CHUNK_PAGES;

    for (uint64_t p = MAX (page, first); p < first + CHUNK_PAGES; p++)
      if (c->pages[p - first] != NULL)
        return p;
  }
  return UINT64_MAX;
}

static int
make_room_for_chunk (struct memory *m)
{
  size_t max = m->max_chunks == 0 ? 16 : 2 * m->max_chunks;
  struct chunk **chunks;

  if (m->nr_chunks < m->max_chunks)
    return 0;
  chunks = reallocarray (m->chunks, max, sizeof *chunks);
  if (chunks == NULL)
    return -1;
  m->chunks = chunks;
  m->max_chunks = max;
  return 0;
}

static void
insert_chunk (struct memory *m, size_t place, struct chunk *c)
{
  memmove (&m->chunks[place + 1], &m->chunks[place],
           (m->nr_chunks - place) * sizeof *m->chunks);
  m->chunks[place] = c;
  m->nr_chunks++;
}

/* The page, made of zeroes if it did not exist; NULL for ENOMEM. */
static uint8_t *
get_page (struct memory *m, uint64_t page)
{
  uint64_t index = page / CHUNK_PAGES;
  size_t place = find_chunk (m, index);
  bool exists = place < m->nr_chunks && m->chunks[place]->index == index;
  uint8_t **slot;
  uint8_t *bytes;
  struct chunk *c;

  if (exists) {
    slot = &m->chunks[place]->pages[page % CHUNK_PAGES];
    if (*slot != NULL)
      return *slot;
  }

  bytes = calloc (1, PAGE_LEN);
  if (bytes == NULL)
    return NULL;
  if (!exists) {
    c = make_room_for_chunk (m) == -1 ? NULL : calloc (1, sizeof *c);
    if (c == NULL) {
      free (bytes);
      return NULL;
    }
    c->index = index;
    insert_chunk (m, place, c);
  }
  c = m->chunks[place];
  c->pages[page % CHUNK_PAGES] = bytes;
  c->nr_pages++;
  return bytes;
}

static void
drop_page (struct memory *m, uint64_t page)
{
  size_t place = find_chunk (m, page / CHUNK_PAGES);
  struct chunk *c = m->chunks[place];

  free (c->pages[page % CHUNK_PAGES]);
  c->pages[page % CHUNK_PAGES] = NULL;
  if (--c->nr_pages > 0)
    return;
  free (c);
  m->nr_chunks--;
  memmove (&m->chunks[place], &m->chunks[place + 1],
           (m->nr_chunks - place) * sizeof *m->chunks);
}

/* Zero a range in the pages that exist; whole ones go when 'drop'. */
static void
clear (struct memory *m, uint64_t host, uint64_t end, bool drop)
{
  uint64_t page = host / PAGE_LEN;

  while ((page = next_page (m, page)) < div_round_up (end, PAGE_LEN)) {
    uint64_t first = page * PAGE_LEN;
    uint64_t from = MAX (host, first);
    uint64_t to = MIN (end, first + PAGE_LEN);

    if (drop && to - from == PAGE_LEN)
      drop_page (m, page);
    else
      memset (find_page (m, page) + (from - first), 0, to - from);
    page++;
  }
}

static int
memory_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct memory *m = memory_of (src);
  char *p = buf;

  lock_shared (m);
  while (len > 0) {
    uint64_t start = host % PAGE_LEN;
    size_t n = MIN (len, PAGE_LEN - start);
    const uint8_t *bytes = find_page (m, host / PAGE_LEN);

    if (bytes != NULL)
      memcpy (p, bytes + start, n);
    else
      memset (p, 0, n);
    p += n;
    host += n;
    len -= n;
  }
  unlock (m);
  return 0;
}

static int
store_locked (struct memory *m, const char *p, size_t len, uint64_t host)
{
  while (len > 0) {
    uint64_t start = host % PAGE_LEN;
    size_t n = MIN (len, PAGE_LEN - start);
    uint8_t *bytes = get_page (m, host / PAGE_LEN);

    if (bytes == NULL) {
      source_note_length (&m->src, host);
      errno = ENOMEM;
      return -1;
    }
    memcpy (bytes + start, p, n);
    p += n;
    host += n;
    len -= n;
  }
  return 0;
}

static int
memory_pwrite (struct source *src, const void *buf, size_t len,
               uint64_t host)
{
  struct memory *m = memory_of (src);
  int r;

  if (host + len > m->limit) {
    errno = ENOSPC;
    return -1;
  }
  lock_exclusive (m);
  r = store_locked (m, buf, len, host);
  unlock (m);
  return r;
}

static int
memory_zero (struct source *src, uint64_t len, uint64_t host,
             enum source_zero_mode mode)
{
  struct memory *m = memory_of (src);

  lock_exclusive (m);
  clear (m, host, host + len, mode == SOURCE_ZERO_PUNCH);
  unlock (m);
  return 0;
}

static int
memory_sync (struct source *src)
{
  (void) src;
  return 0;
}

static int
memory_truncate (struct source *src, uint64_t len)
{
  struct memory *m = memory_of (src);

  if (len > m->limit) {
    errno = ENOSPC;
    return -1;
  }
  lock_exclusive (m);
  if (len < source_len (src))
    clear (m, len, round_up (source_len (src), PAGE_LEN), true);
  unlock (m);
  return 0;
}

static struct source_extent
memory_extent (struct source *src, uint64_t host, uint64_t len)
{
  struct memory *m = memory_of (src);
  uint64_t first = host / PAGE_LEN;
  uint64_t last = (host + len - 1) / PAGE_LEN;
  uint64_t page;
  bool hole;

  lock_shared (m);
  hole = find_page (m, first) == NULL;
  if (hole)
    page = next_page (m, first);
  else
    for (page = first + 1; page <= last; page++)
      if (find_page (m, page) == NULL)
        break;
  unlock (m);

  if (page <= last)
    len = page * PAGE_LEN - host;
  return (struct source_extent) { .len = len, .hole = hole };
}

static void
memory_close (struct source *src)
{
  struct memory *m = memory_of (src);

  for (size_t i = 0; i < m->nr_chunks; i++) {
    for (size_t j = 0; j < CHUNK_PAGES; j++)
      free (m->chunks[i]->pages[j]);
    free (m->chunks[i]);
  }
  free (m->chunks);
  lock_must (pthread_rwlock_destroy (&m->lock));
  source_destroy (src);
  free (m);
}

struct source *
source_memory (const char *name, uint64_t len, uint64_t limit)
{
  struct memory *m = calloc (1, sizeof *m);

  assert (len <= limit && len <= INT64_MAX);
  if (m == NULL)
    return NULL;
  if (source_init (&m->src, &memory_ops, name) == -1) {
    free (m);
    return NULL;
  }
  lock_must (pthread_rwlock_init (&m->lock, NULL));
  m->limit = MIN (limit, (uint64_t) INT64_MAX);
  m->src.len = len;
  m->src.writable = true;
  m->src.can_grow = limit > len;
  return &m->src;
}

struct source *
source_memory_copy (const char *name, const void *data, uint64_t len,
                    uint64_t limit)
{
  struct source *src = source_memory (name, len, limit);

  if (src != NULL && source_pwrite (src, data, len, 0) == -1) {
    source_put (src);
    errno = ENOMEM;
    return NULL;
  }
  return src;
}

void
source_memory_set_readonly (struct source *src, bool readonly)
{
  memory_of (src)->src.writable = !readonly;
}

static const struct source_ops memory_ops = {
  .kind = "memory",
  .pread = memory_pread,
  .pwrite = memory_pwrite,
  .zero = memory_zero,
  .sync = memory_sync,
  .truncate = memory_truncate,
  .extent = memory_extent,
  .close = memory_close,
};
