/* The metadata cache: pages, pins, eviction, dirty pages, many threads.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>
#include <string.h>

#include "image/cache.h"
#include "include/byte-order.h"
#include "include/testing.h"
#include "source/memory.h"

#define PAGE 512
#define NR_PAGES 1024
#define NR_THREADS 6

/* A source whose every page begins with its number. */
static struct source *
numbered_source (void)
{
  struct source *src = source_memory ("numbered", NR_PAGES * PAGE,
                                      NR_PAGES * PAGE);
  uint8_t bytes[8];
  uint64_t i;

  CHECK (src != NULL);
  for (i = 0; i < NR_PAGES; ++i) {
    store_be64 (bytes, i);
    CHECK (source_pwrite (src, bytes, sizeof bytes, i * PAGE) == 0);
  }
  return src;
}

static uint64_t
number_at (struct cache *cache, uint64_t i)
{
  struct page *page = cache_get (cache, i * PAGE + 100);
  uint64_t v;

  CHECK (page != NULL && page->host == i * PAGE);
  v = load_entry_be64 (page->bytes);
  cache_put (cache, page);
  return v;
}

/* However small the cache, every page reads right. */
static void
test_eviction (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 16 * PAGE);
  struct page *pinned;
  uint64_t round, i;

  CHECK (cache != NULL && cache_page_len (cache) == PAGE);
  pinned = cache_get (cache, 7 * PAGE);
  CHECK (pinned != NULL);
  for (round = 0; round < 3; ++round)
    for (i = 0; i < NR_PAGES; ++i)
      CHECK (number_at (cache, i) == i);
  CHECK (load_entry_be64 (pinned->bytes) == 7);
  CHECK (cache_get (cache, 7 * PAGE) == pinned);
  cache_put (cache, pinned);
  cache_put (cache, pinned);
  cache_free (cache);
}

/* A lower limit leaves few pages, but those that are pinned. */
static void
test_limit (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 2 * NR_PAGES * PAGE);
  struct page *pinned;
  uint8_t bytes[8];
  uint64_t i, nr_kept = 0;

  CHECK (cache != NULL);
  for (i = 0; i < NR_PAGES; ++i)
    CHECK (number_at (cache, i) == i);
  pinned = cache_get (cache, 7 * PAGE);
  CHECK (pinned != NULL);
  cache_set_limit (cache, NR_PAGES / 4 * PAGE);
  CHECK (cache_get (cache, 7 * PAGE) == pinned);
  cache_put (cache, pinned);
  cache_put (cache, pinned);

  /* Those that are not kept are read again. */
  store_be64 (bytes, NR_PAGES);
  for (i = 0; i < NR_PAGES; ++i)
    CHECK (source_pwrite (src, bytes, sizeof bytes, i * PAGE) == 0);
  CHECK (number_at (cache, 7) == 7);
  for (i = NR_PAGES; i-- > 0; )
    nr_kept += number_at (cache, i) == i;
  CHECK (nr_kept > 0 && nr_kept <= NR_PAGES / 4);
  cache_free (cache);
}

/* All pages at once, each found again where it is. */
static void
test_many (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 2 * NR_PAGES * PAGE);
  struct page *pages[NR_PAGES];
  uint64_t i;

  CHECK (cache != NULL);
  for (i = 0; i < NR_PAGES; ++i) {
    pages[i] = cache_get (cache, i * PAGE);
    CHECK (pages[i] != NULL && load_entry_be64 (pages[i]->bytes) == i);
  }
  for (i = 0; i < NR_PAGES; ++i) {
    CHECK (cache_get (cache, i * PAGE) == pages[i]);
    cache_put (cache, pages[i]);
    cache_put (cache, pages[i]);
  }
  cache_free (cache);
}

/* What lies past the end of the source is zero. */
static void
test_past_end (void)
{
  CLEANUP_SOURCE struct source *src = source_memory ("short", 700, 700);
  struct cache *cache = cache_new (src, PAGE, 1 << 20);
  uint8_t ones[188];
  struct page *page;

  memset (ones, 1, sizeof ones);
  CHECK (source_pwrite (src, ones, sizeof ones, 512) == 0);
  page = cache_get (cache, 512);
  CHECK (page != NULL && page->bytes[187] == 1 && page->bytes[188] == 0);
  cache_put (cache, page);
  page = cache_get (cache, 4096);
  CHECK (page != NULL && page->bytes[0] == 0);
  cache_put (cache, page);
  cache_free (cache);
}

static void
change (struct cache *cache, uint64_t i, uint64_t v, enum pass_phase phase)
{
  struct page *page = cache_get (cache, i * PAGE);

  CHECK (page != NULL);
  store_entry_be64 (page->bytes, v);
  cache_dirty (cache, page, phase);
  cache_put (cache, page);
}

/* Dirty pages survive any pressure; copies come by phase and place. */
static void
test_dirty (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 16 * PAGE);
  struct page_copy *copies;
  size_t n;
  uint64_t i;

  CHECK (!cache_is_dirty (cache) && !cache_is_pressed (cache));
  change (cache, 5, 1005, PASS_LINK);
  change (cache, 3, 1003, PASS_LINK);
  change (cache, 9, 1009, PASS_FILL);
  change (cache, 3, 2003, PASS_COUNT);  /* the earlier phase holds */
  change (cache, 9, 1009, PASS_LINK);   /* in either order */
  for (i = 0; i < NR_PAGES; ++i)
    if (i != 3 && i != 5 && i != 9)
      CHECK (number_at (cache, i) == i);
  CHECK (number_at (cache, 3) == 2003);
  CHECK (cache_is_dirty (cache));

  CHECK (cache_copy_dirty (cache, &copies, &n) == 0 && n == 3);
  CHECK (copies[0].host == 9 * PAGE && copies[0].phase == PASS_FILL);
  CHECK (copies[1].host == 3 * PAGE && copies[1].phase == PASS_COUNT);
  CHECK (copies[2].host == 5 * PAGE && copies[2].phase == PASS_LINK);
  CHECK (copies[1].bytes == copies[0].bytes + PAGE);
  CHECK (!cache_is_dirty (cache));

  /* The page lives on; the copy is what it was at the cut. */
  change (cache, 5, 3005, PASS_LINK);
  CHECK (load_be64 (copies[2].bytes) == 1005);
  CHECK (number_at (cache, 5) == 3005);
  cache_release_copies (cache, copies, n);
  cache_forget (cache, 0, 16 * PAGE);
  CHECK (!cache_is_dirty (cache));
  CHECK (number_at (cache, 5) == 5);    /* nothing was written */

  for (i = 0; !cache_is_pressed (cache); ++i)
    change (cache, i, 1, PASS_LINK);
  CHECK (i > 4 && i < NR_PAGES);
  cache_free (cache);
}

/* A new structure's page is zero whatever was there. */
static void
test_create (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 1 << 20);
  struct page_copy *copies;
  struct page *page;
  size_t n;

  CHECK (number_at (cache, 8) == 8);
  page = cache_create (cache, 8 * PAGE);
  CHECK (page != NULL && load_entry_be64 (page->bytes) == 0);
  cache_put (cache, page);
  CHECK (number_at (cache, 8) == 0);
  page = cache_create (cache, 20 * PAGE);
  CHECK (page != NULL && load_entry_be64 (page->bytes) == 0);
  cache_put (cache, page);
  CHECK (cache_copy_dirty (cache, &copies, &n) == 0 && n == 2);
  CHECK (copies[0].phase == PASS_FILL && copies[1].phase == PASS_FILL);
  cache_release_copies (cache, copies, n);
  cache_free (cache);
}

static void
test_read_ahead (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  struct cache *cache = cache_new (src, PAGE, 1 << 20);
  uint64_t i;

  change (cache, 10, 77, PASS_LINK);
  cache_read_ahead (cache, 0, UINT64_MAX);
  cache_read_ahead (cache, (NR_PAGES - 2) * PAGE + 9, 100 * PAGE);
  for (i = 0; i < NR_PAGES; ++i)
    CHECK (number_at (cache, i) == (i == 10 ? 77 : i));
  cache_free (cache);
}

/* ---- many threads on a cache that is far too small */

static struct cache *shared;

static void *
look (void *opaque)
{
  uint64_t state = (uintptr_t) opaque + 1;
  int i;

  for (i = 0; i < 20000; ++i) {
    uint64_t nr;

    state = state * UINT64_C (6364136223846793005) + 1442695040888963407;
    nr = (state >> 33) % NR_PAGES;
    if (i % 64 == 0)
      cache_read_ahead (shared, nr * PAGE, 40 * PAGE);
    CHECK (number_at (shared, nr) == nr);
  }
  return NULL;
}

static void
test_threads (void)
{
  CLEANUP_SOURCE struct source *src = numbered_source ();
  pthread_t threads[NR_THREADS];
  size_t i;

  shared = cache_new (src, PAGE, 64 * PAGE);
  for (i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_create (&threads[i], NULL, look, (void *) i) == 0);
  for (i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_join (threads[i], NULL) == 0);
  cache_free (shared);
}

int
main (void)
{
  test_eviction ();
  test_limit ();
  test_many ();
  test_past_end ();
  test_dirty ();
  test_create ();
  test_read_ahead ();
  test_threads ();
  return 0;
}
