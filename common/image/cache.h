/* The metadata cache: pages of one source, in on-disk byte order.
 *
 * A page is 'page_len' bytes at a multiple of page_len.  It is found, read
 * and pinned by cache_get; while pinned it stays, and its bytes may be read
 * with load_entry_be64 without a lock.  Bytes past the end of the source
 * are zero.
 *
 * Changing a page: inside a change section (pass.h) with a lock of the
 * format that keeps other changers of the same page away; say with
 * cache_dirty in which phase of the pass the page is to be written.  Dirty
 * pages reach the source only by a pass.
 *
 * Clean pages that nobody has pinned are evicted when the cache holds more
 * than its limit; dirty ones never, so changers ask cache_is_pressed before
 * they begin, and run a pass.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CACHE_H
#define NDF_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/source.h"

struct cache;

/* When, within a pass, a page is written; see pass.h. */
enum pass_phase {
  PASS_FILL,            /* new tables, refcount increments */
  PASS_COUNT,           /* entries that make new refcount blocks count */
  PASS_LINK,            /* entries that make data and tables reachable */
  PASS_HEADER,          /* the header or commit record */
  PASS_NR_PHASES,
  PASS_CLEAN = PASS_NR_PHASES,
};

struct page {
  uint64_t host;                /* multiple of page_len; constant */
  uint8_t *bytes;               /* page_len bytes, 8-aligned; constant */

  /* The rest is the cache's own. */
  struct page *next;            /* hash chain, or that of spare pages;
                                   guarded by the shard */
  struct page *older, *newer;   /* age list; guarded by the shard */
  unsigned pins;                /* guarded by the shard */
  bool busy;                    /* being read; guarded by the shard */
  bool failed;                  /* could not be read; going away */
  bool recent;                  /* used since the hand last passed */
  enum pass_phase phase;        /* guarded by the cache's dirty_lock */
  struct page *dirty_prev, *dirty_next; /* list of dirty pages; likewise */
};

/* A cache over 'src' (borrowed) that keeps about 'limit' bytes.  page_len
 * is a power of two, at least 512.  NULL with errno ENOMEM.
 */
extern struct cache *cache_new (struct source *src, uint32_t page_len,
                                uint64_t limit);

/* Another limit.  Nobody else uses the cache meanwhile. */
extern void cache_set_limit (struct cache *cache, uint64_t limit);

/* Dirty pages are lost: the caller has run the last pass. */
extern void cache_free (struct cache *cache);

extern uint32_t cache_page_len (const struct cache *cache);

/* Pin the page that holds byte 'host', reading it when it is not there.
 * NULL, reported, errno EIO or ENOMEM.  Threads: any; no leaf lock held.
 */
extern struct page *cache_get (struct cache *cache, uint64_t host);

/* Pin the page of a new structure: all zero, nothing is read, dirty in
 * PASS_FILL.  What the cache held for that place is overwritten.  Called
 * in a change section.  NULL, reported, errno ENOMEM.
 */
extern struct page *cache_create (struct cache *cache, uint64_t host);

/* Unpin; NULL is fine. */
extern void cache_put (struct cache *cache, struct page *page);

/* Have the pages of [host, host+len) read, missing ones in as few requests
 * as they allow.  A hint: it never fails and is bounded by a fraction of
 * the limit.
 */
extern void cache_read_ahead (struct cache *cache, uint64_t host,
                              uint64_t len);

/* Copy the bytes of [host, host+len), whole pages, to 'buf', without
 * keeping pages that are not there: for a look at a long table that will
 * not soon be needed again.  0; -1, reported, errno EIO or ENOMEM.
 */
extern int cache_peek (struct cache *cache, uint64_t host, uint64_t len,
                       uint8_t *buf);

/* The page changed and is to be written in 'phase'; of several changes
 * before one cut the earliest phase holds.  Called in a change section,
 * page pinned.  Cannot fail: the page cannot be evicted from now on.
 */
extern void cache_dirty (struct cache *cache, struct page *page,
                         enum pass_phase phase);

/* Drop the pages of [host, host+len), dirty or not: the space has been
 * freed.  None may be pinned.  Called in a change section.
 */
extern void cache_forget (struct cache *cache, uint64_t host, uint64_t len);

/* Are there so many dirty pages that a pass should run first? */
extern bool cache_is_pressed (struct cache *cache);
extern bool cache_is_dirty (struct cache *cache);

/* For passes: a copy of every dirty page, which become clean (but stay
 * pinned until cache_release_copies), sorted by phase and place.  What
 * neighbours in the array neighbours in memory too.  Called with the
 * change section held exclusively.  -1 with errno ENOMEM, reported, and
 * nothing changed.
 */
struct page_copy {
  struct page *page;            /* pinned */
  uint64_t host;
  uint8_t *bytes;               /* page_len bytes; owned */
  enum pass_phase phase;
};
extern int cache_copy_dirty (struct cache *cache, struct page_copy **copies,
                             size_t *nr_copies);
extern void cache_release_copies (struct cache *cache,
                                  struct page_copy *copies, size_t nr_copies);

#endif /* NDF_CACHE_H */
