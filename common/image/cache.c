/* The metadata cache.
 *
 * Pages are spread over shards by their place; a shard is a hash table with
 * a list of its pages in order of arrival, over which a clock hand goes
 * when room is wanted: a page used since the hand last passed gets another
 * round.  A page being read is marked busy and belongs to its reader;
 * others that want it wait.  No I/O happens under a shard's lock.
 *
 * Which pages are dirty is kept in one list for the whole cache, under
 * dirty_lock, a leaf below the shards.  A dirty page carries a pin, so that
 * eviction never sees it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/cache.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "report/report.h"

#define NR_SHARDS 16
#define MIN_PAGES_PER_SHARD 4

/* Buckets of a shard's hash table, at first and at most. */
#define MIN_BUCKETS 16
#define MAX_BUCKETS (1 << 16)

/* One read-ahead is at most this many bytes... */
#define READ_AHEAD_LEN (256 * 1024)
/* ...and this fraction of the limit. */
#define READ_AHEAD_FRACTION 8

/* Evicted pages that a shard keeps. */
#define MAX_SPARE 32

/* Pages that may be dirty before changers are asked to run a pass. */
#define DIRTY_FRACTION 4

struct shard {
  struct lock lock;
  struct condition read;        /* a page is no longer busy */
  struct page **buckets;
  size_t nr_buckets;            /* a power of two; grows with the pages */
  size_t nr_pages;
  struct page *oldest, *newest;
  struct page *spare;           /* evicted, their memory to be used again */
  unsigned nr_spare;
};

struct cache {
  struct source *src;
  uint32_t page_len;
  unsigned page_bits;
  size_t max_pages;             /* of a shard */
  struct shard shards[NR_SHARDS];

  struct lock dirty_lock;
  struct page *dirty;           /* guarded by dirty_lock */
  size_t nr_dirty;              /* likewise */
  size_t max_dirty;
};

/* ---- the hash of places */

static uint64_t
mix (uint64_t page_index)
{
  uint64_t v = page_index * UINT64_C (0x9e3779b97f4a7c15);

  return v ^ (v >> 32);
}

/* Sixteen neighbours share a shard, so that a read-ahead takes few locks. */
static struct shard *
shard_of (struct cache *cache, uint64_t host)
{
  return &cache->shards[mix (host >> (cache->page_bits + 4)) % NR_SHARDS];
}

static struct page **
bucket_of (const struct cache *cache, struct shard *shard, uint64_t host)
{
  uint64_t h = mix (host >> cache->page_bits);

  return &shard->buckets[(h >> 8) & (shard->nr_buckets - 1)];
}

static struct page *
find_locked (struct cache *cache, struct shard *shard, uint64_t host)
{
  struct page *page;

  assert_held (&shard->lock);
  for (page = *bucket_of (cache, shard, host); page; page = page->next)
    if (page->host == host)
      return page;
  return NULL;
}

/* ---- pages and shards */

static void
page_free (struct page *page)
{
  if (page == NULL)
    return;
  free (page->bytes);
  free (page);
}

/* A page for that place, not yet known to anybody. */
static struct page *
page_new (struct cache *cache, uint64_t host)
{
  struct shard *shard = shard_of (cache, host);
  struct page *page;

  {
    LOCK_SCOPE (&shard->lock);
    page = shard->spare;
    if (page) {
      shard->spare = page->next;
      shard->nr_spare--;
    }
  }
  if (page) {
    *page = (struct page) { .bytes = page->bytes };
  }
  else {
    page = calloc (1, sizeof *page);
    if (page == NULL ||
        (page->bytes = aligned_alloc (512, cache->page_len)) == NULL) {
      page_free (page);
      report_error ("%s: no memory for a page of metadata",
                    cache->src->name);
      errno = ENOMEM;
      return NULL;
    }
  }
  page->host = host;
  page->phase = PASS_CLEAN;
  return page;
}

/* Twice the buckets.  Without memory for them it has to do with those it
 * has, which is slower, but not wrong.
 */
static void
grow_locked (struct cache *cache, struct shard *shard)
{
  const size_t nr_old = shard->nr_buckets;
  struct page **old = shard->buckets;
  struct page **more = calloc (2 * nr_old, sizeof *more);

  assert_held (&shard->lock);
  if (more == NULL)
    return;
  shard->buckets = more;
  shard->nr_buckets = 2 * nr_old;
  for (size_t i = 0; i < nr_old; ++i) {
    while (old[i]) {
      struct page *page = old[i];
      struct page **bucket = bucket_of (cache, shard, page->host);

      old[i] = page->next;
      page->next = *bucket;
      *bucket = page;
    }
  }
  free (old);
}

static void
insert_locked (struct cache *cache, struct shard *shard, struct page *page)
{
  struct page **bucket;

  assert_held (&shard->lock);
  if (shard->nr_pages >= shard->nr_buckets &&
      shard->nr_buckets < MAX_BUCKETS)
    grow_locked (cache, shard);
  bucket = bucket_of (cache, shard, page->host);
  page->next = *bucket;
  *bucket = page;
  page->older = shard->newest;
  page->newer = NULL;
  if (shard->newest)
    shard->newest->newer = page;
  else
    shard->oldest = page;
  shard->newest = page;
  shard->nr_pages++;
}

static void
unlist_locked (struct shard *shard, struct page *page)
{
  assert_held (&shard->lock);
  if (page->older)
    page->older->newer = page->newer;
  else
    shard->oldest = page->newer;
  if (page->newer)
    page->newer->older = page->older;
  else
    shard->newest = page->older;
}

/* Keep the memory of a page that nobody knows any more. */
static void
recycle_locked (struct shard *shard, struct page *page)
{
  assert_held (&shard->lock);
  assert (page->pins == 0);
  if (shard->nr_spare == MAX_SPARE) {
    page_free (page);
    return;
  }
  page->next = shard->spare;
  shard->spare = page;
  shard->nr_spare++;
}

/* Let nobody find the page any more. */
static void
detach_locked (struct cache *cache, struct shard *shard, struct page *page)
{
  struct page **p = bucket_of (cache, shard, page->host);

  assert_held (&shard->lock);
  while (*p != page)
    p = &(*p)->next;
  *p = page->next;
  unlist_locked (shard, page);
  shard->nr_pages--;
}

/* Take the page out; it is not pinned. */
static void
remove_locked (struct cache *cache, struct shard *shard, struct page *page)
{
  detach_locked (cache, shard, page);
  recycle_locked (shard, page);
}

/* Drop a pin of a page that could not be read, and is detached. */
static void
unpin_failed_locked (struct shard *shard, struct page *page)
{
  assert (page->failed && page->pins > 0);
  if (--page->pins == 0)
    recycle_locked (shard, page);
}

/* Let the oldest page begin again as the newest. */
static void
second_chance_locked (struct shard *shard, struct page *page)
{
  assert_held (&shard->lock);
  if (page == shard->newest)
    return;
  unlist_locked (shard, page);
  page->older = shard->newest;
  page->newer = NULL;
  shard->newest->newer = page;
  shard->newest = page;
}

/* Bring the shard down to its size, as far as pages may go.  Bounded: the
 * hand makes two rounds at most.
 */
static void
evict_locked (struct cache *cache, struct shard *shard)
{
  size_t steps = 2 * shard->nr_pages;

  assert_held (&shard->lock);
  while (shard->nr_pages > cache->max_pages && steps-- > 0) {
    struct page *page = shard->oldest;

    if (page->pins > 0 || page->recent) {
      page->recent = false;
      second_chance_locked (shard, page);
    }
    else
      remove_locked (cache, shard, page);
  }
}

static void
shard_free (struct shard *shard)
{
  while (shard->spare) {
    struct page *page = shard->spare;

    shard->spare = page->next;
    page_free (page);
  }
  while (shard->oldest) {
    struct page *page = shard->oldest;

    shard->oldest = page->newer;
    page_free (page);
  }
  free (shard->buckets);
  condition_destroy (&shard->read);
  lock_destroy (&shard->lock);
}

/* ---- the cache */

static void
set_limit (struct cache *cache, uint64_t limit)
{
  cache->max_pages = MAX (limit / cache->page_len / NR_SHARDS,
                          (uint64_t) MIN_PAGES_PER_SHARD);
  cache->max_dirty = MAX (cache->max_pages * NR_SHARDS / DIRTY_FRACTION,
                          (size_t) NR_SHARDS);
}

struct cache *
cache_new (struct source *src, uint32_t page_len, uint64_t limit)
{
  struct cache *cache = calloc (1, sizeof *cache);
  size_t i;

  if (cache == NULL)
    return NULL;
  assert (is_power_of_2 (page_len) && page_len >= 512);
  cache->src = src;
  cache->page_len = page_len;
  cache->page_bits = __builtin_ctz (page_len);
  set_limit (cache, limit);
  lock_init (&cache->dirty_lock);
  for (i = 0; i < NR_SHARDS; ++i) {
    struct shard *shard = &cache->shards[i];

    lock_init (&shard->lock);
    condition_init (&shard->read);
    shard->nr_buckets = MIN_BUCKETS;
    shard->buckets = calloc (MIN_BUCKETS, sizeof *shard->buckets);
  }
  for (i = 0; i < NR_SHARDS; ++i) {
    if (cache->shards[i].buckets == NULL) {
      cache_free (cache);
      errno = ENOMEM;
      return NULL;
    }
  }
  return cache;
}

void
cache_free (struct cache *cache)
{
  size_t i;

  if (cache == NULL)
    return;
  for (i = 0; i < NR_SHARDS; ++i)
    shard_free (&cache->shards[i]);
  lock_destroy (&cache->dirty_lock);
  free (cache);
}

void
cache_set_limit (struct cache *cache, uint64_t limit)
{
  set_limit (cache, limit);
  for (size_t i = 0; i < NR_SHARDS; ++i) {
    struct shard *shard = &cache->shards[i];

    LOCK_SCOPE (&shard->lock);
    evict_locked (cache, shard);
  }
}

uint32_t
cache_page_len (const struct cache *cache)
{
  return cache->page_len;
}

/* A reader is done with a page that was busy: let the others see it, or
 * take it away if it could not be read.
 */
static void
finish_read (struct cache *cache, struct page *page, bool ok)
{
  struct shard *shard = shard_of (cache, page->host);

  LOCK_SCOPE (&shard->lock);
  page->busy = false;
  condition_wake_all (&shard->read);
  if (!ok) {
    page->failed = true;
    detach_locked (cache, shard, page);
    unpin_failed_locked (shard, page);
  }
}

/* Find the page and pin it, waiting while somebody reads it.  NULL: it is
 * not there, or its reader failed (*failed).
 */
static struct page *
pin_present_locked (struct cache *cache, struct shard *shard, uint64_t host,
                    bool *failed)
{
  struct page *page = find_locked (cache, shard, host);

  *failed = false;
  if (page == NULL)
    return NULL;
  page->pins++;
  page->recent = true;
  while (page->busy)
    condition_wait (&shard->read, &shard->lock);
  if (!page->failed)
    return page;

  unpin_failed_locked (shard, page);
  *failed = true;
  return NULL;
}

/* Put a new page, busy and pinned, where none is. */
static void
insert_busy_locked (struct cache *cache, struct shard *shard,
                    struct page *page)
{
  page->pins = 1;
  page->busy = true;
  page->recent = true;
  insert_locked (cache, shard, page);
  evict_locked (cache, shard);
}

/* Pin the page, or put 'fresh' in its place, busy, to be read by the caller;
 * of others that could not read it (a reading ahead, say) that is no
 * verdict.  NULL: it is not there, and 'fresh' is NULL.
 */
static struct page *
pin_or_insert (struct cache *cache, uint64_t host, struct page *fresh)
{
  struct shard *shard = shard_of (cache, host);
  struct page *page;
  bool failed;

  LOCK_SCOPE (&shard->lock);
  do
    page = pin_present_locked (cache, shard, host, &failed);
  while (page == NULL && failed);
  if (page == NULL && fresh != NULL) {
    insert_busy_locked (cache, shard, fresh);
    page = fresh;
  }
  return page;
}

struct page *
cache_get (struct cache *cache, uint64_t host)
{
  struct page *page, *fresh;
  int r;

  host = round_down (host, cache->page_len);
  page = pin_or_insert (cache, host, NULL);
  if (page)
    return page;

  fresh = page_new (cache, host);
  if (fresh == NULL)
    return NULL;
  page = pin_or_insert (cache, host, fresh);
  if (page != fresh) {
    page_free (fresh);
    return page;
  }

  r = source_pread_padded (cache->src, fresh->bytes, cache->page_len, host);
  finish_read (cache, fresh, r == 0);
  if (r == -1) {
    errno = EIO;
    return NULL;
  }
  return fresh;
}

struct page *
cache_create (struct cache *cache, uint64_t host)
{
  struct shard *shard = shard_of (cache, host);
  struct page *page, *fresh;
  bool failed;

  assert (host % cache->page_len == 0);
  fresh = page_new (cache, host);
  if (fresh == NULL)
    return NULL;
  memset (fresh->bytes, 0, cache->page_len);
  {
    LOCK_SCOPE (&shard->lock);
    do
      page = pin_present_locked (cache, shard, host, &failed);
    while (page == NULL && failed);
    if (page == NULL) {
      fresh->pins = 1;
      fresh->recent = true;
      insert_locked (cache, shard, fresh);
      evict_locked (cache, shard);
    }
  }
  if (page) {
    memset (page->bytes, 0, cache->page_len);
    page_free (fresh);
  }
  else
    page = fresh;
  cache_dirty (cache, page, PASS_FILL);
  return page;
}

void
cache_put (struct cache *cache, struct page *page)
{
  struct shard *shard;

  if (page == NULL)
    return;
  shard = shard_of (cache, page->host);
  LOCK_SCOPE (&shard->lock);
  assert (page->pins > 0);
  page->pins--;
}

/* ---- reading ahead */

/* Collect, from *host on, neighbouring pages that are not there, as busy
 * pages of ours.  Stops at the first page that is there.
 */
static size_t
claim_missing (struct cache *cache, uint64_t host, struct page **pages,
               size_t max)
{
  size_t n;

  for (n = 0; n < max; ++n) {
    uint64_t h = host + n * cache->page_len;
    struct shard *shard = shard_of (cache, h);
    struct page *fresh = page_new (cache, h);

    if (fresh == NULL)
      break;
    LOCK_SCOPE (&shard->lock);
    if (find_locked (cache, shard, h)) {
      page_free (fresh);
      break;
    }
    insert_busy_locked (cache, shard, fresh);
    pages[n] = fresh;
  }
  return n;
}

static void
fill_claimed (struct cache *cache, struct page **pages, size_t n)
{
  CLEANUP_FREE uint8_t *buf = malloc (n * cache->page_len);
  bool ok = buf != NULL &&
    source_pread_padded (cache->src, buf, n * cache->page_len,
                         pages[0]->host) == 0;
  size_t i;

  for (i = 0; i < n; ++i) {
    if (ok)
      memcpy (pages[i]->bytes, buf + i * cache->page_len, cache->page_len);
    finish_read (cache, pages[i], ok);
    if (ok)
      cache_put (cache, pages[i]);
  }
}

void
cache_read_ahead (struct cache *cache, uint64_t host, uint64_t len)
{
  const uint64_t limit = (uint64_t) cache->max_pages * NR_SHARDS *
    cache->page_len / READ_AHEAD_FRACTION;
  const uint64_t src_len = source_len (cache->src);
  const size_t max = MIN ((uint64_t) READ_AHEAD_LEN, limit) / cache->page_len;
  CLEANUP_FREE struct page **pages = NULL;
  uint64_t end;

  if (max < 2 || len == 0 || host >= src_len)
    return;
  end = host + MIN (MIN (len, limit), src_len - host);
  host = round_down (host, cache->page_len);
  pages = malloc (max * sizeof *pages);
  while (pages != NULL && host < end) {
    size_t want = MIN (div_round_up (end - host, cache->page_len),
                       (uint64_t) max);
    size_t n = claim_missing (cache, host, pages, want);

    if (n > 0)
      fill_claimed (cache, pages, n);
    host += MAX (n, (size_t) 1) * cache->page_len;
  }
}

/* ---- looking without keeping */

static bool
is_there (struct cache *cache, uint64_t host)
{
  struct shard *shard = shard_of (cache, host);

  LOCK_SCOPE (&shard->lock);
  return find_locked (cache, shard, host) != NULL;
}

/* Pages change by 8-byte entries. */
static int
peek_page (struct cache *cache, uint64_t host, uint8_t *buf)
{
  struct page *page = cache_get (cache, host);
  uint32_t i;

  if (page == NULL)
    return -1;
  for (i = 0; i < cache->page_len; i += 8)
    *(uint64_t *) (buf + i) =
      __atomic_load_n ((uint64_t *) (page->bytes + i), __ATOMIC_ACQUIRE);
  cache_put (cache, page);
  return 0;
}

int
cache_peek (struct cache *cache, uint64_t host, uint64_t len, uint8_t *buf)
{
  const uint64_t end = host + len;

  assert (host % cache->page_len == 0 && len % cache->page_len == 0);
  while (host < end) {
    uint64_t n = 0;

    while (host + n < end && !is_there (cache, host + n))
      n += cache->page_len;
    if (n > 0) {
      if (source_pread_padded (cache->src, buf, n, host) == -1) {
        errno = EIO;
        return -1;
      }
    }
    else {
      n = cache->page_len;
      if (peek_page (cache, host, buf) == -1)
        return -1;
    }
    host += n;
    buf += n;
  }
  return 0;
}

/* ---- dirty pages */

void
cache_dirty (struct cache *cache, struct page *page, enum pass_phase phase)
{
  struct shard *shard = shard_of (cache, page->host);
  bool was_clean;

  {
    LOCK_SCOPE (&cache->dirty_lock);
    was_clean = page->phase == PASS_CLEAN;
    if (was_clean) {
      page->dirty_prev = NULL;
      page->dirty_next = cache->dirty;
      if (cache->dirty)
        cache->dirty->dirty_prev = page;
      cache->dirty = page;
      cache->nr_dirty++;
    }
    page->phase = MIN (page->phase, phase);
  }
  if (was_clean) {
    LOCK_SCOPE (&shard->lock);
    page->pins++;
  }
}

static void
undirty_locked (struct cache *cache, struct page *page)
{
  assert_held (&cache->dirty_lock);
  if (page->dirty_prev)
    page->dirty_prev->dirty_next = page->dirty_next;
  else
    cache->dirty = page->dirty_next;
  if (page->dirty_next)
    page->dirty_next->dirty_prev = page->dirty_prev;
  cache->nr_dirty--;
  page->phase = PASS_CLEAN;
}

void
cache_forget (struct cache *cache, uint64_t host, uint64_t len)
{
  uint64_t end = host + len;

  for (; host < end; host += cache->page_len) {
    struct shard *shard = shard_of (cache, host);
    struct page *page;

    LOCK_SCOPE (&shard->lock);
    page = find_locked (cache, shard, host);
    if (page == NULL)
      continue;
    page->pins++;               /* it stays while we wait for its reader */
    while (page->busy)
      condition_wait (&shard->read, &shard->lock);
    if (page->failed) {
      unpin_failed_locked (shard, page);
      continue;
    }
    page->pins--;
    LOCK_SCOPE (&cache->dirty_lock);
    if (page->phase != PASS_CLEAN) {
      undirty_locked (cache, page);
      page->pins--;
    }
    if (page->pins == 0)
      remove_locked (cache, shard, page);
  }
}

bool
cache_is_pressed (struct cache *cache)
{
  LOCK_SCOPE (&cache->dirty_lock);
  return cache->nr_dirty > cache->max_dirty;
}

bool
cache_is_dirty (struct cache *cache)
{
  LOCK_SCOPE (&cache->dirty_lock);
  return cache->nr_dirty > 0;
}

static int
compare_copies (const void *va, const void *vb)
{
  const struct page_copy *a = va, *b = vb;

  if (a->phase != b->phase)
    return a->phase < b->phase ? -1 : 1;
  return a->host < b->host ? -1 : a->host > b->host;
}

int
cache_copy_dirty (struct cache *cache, struct page_copy **ret,
                  size_t *nr_ret)
{
  struct page_copy *copies;
  struct page *page;
  uint8_t *bytes;
  size_t n = 0, i;

  LOCK_SCOPE (&cache->dirty_lock);
  *ret = NULL;
  *nr_ret = 0;
  if (cache->nr_dirty == 0)
    return 0;

  copies = malloc (cache->nr_dirty * sizeof *copies);
  bytes = malloc (cache->nr_dirty * cache->page_len);
  if (copies == NULL || bytes == NULL) {
    free (copies);
    free (bytes);
    report_error ("%s: no memory to write %zu pages of metadata",
                  cache->src->name, cache->nr_dirty);
    errno = ENOMEM;
    return -1;
  }

  /* The pin that a dirty page carries is the copy's from now on. */
  for (page = cache->dirty; page != NULL; page = page->dirty_next) {
    copies[n++] = (struct page_copy) {
      .page = page,
      .host = page->host,
      .phase = page->phase,
    };
    page->phase = PASS_CLEAN;
  }
  cache->dirty = NULL;
  cache->nr_dirty = 0;
  qsort (copies, n, sizeof *copies, compare_copies);
  for (i = 0; i < n; ++i) {
    copies[i].bytes = bytes + i * cache->page_len;
    memcpy (copies[i].bytes, copies[i].page->bytes, cache->page_len);
  }
  *ret = copies;
  *nr_ret = n;
  return 0;
}

void
cache_release_copies (struct cache *cache, struct page_copy *copies,
                      size_t nr_copies)
{
  size_t i;

  if (nr_copies > 0)
    free (copies[0].bytes);     /* one block for all */
  for (i = 0; i < nr_copies; ++i)
    cache_put (cache, copies[i].page);
  free (copies);
}
