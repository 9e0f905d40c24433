/* Passes: cut, write, sync, in order.
 *
 * One pass runs at a time; its runner is whoever asked first.  Those who
 * ask while it runs wait for the next, of which one of them is the runner:
 * so concurrent flushes share a pass.
 *
 * Invariant: copies of a pass that failed are kept and written again,
 * whole, before the next cut.  So a page captured as new is never written
 * later than an entry that names it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "image/image.h"
#include "image/pass.h"
#include "include/checked.h"
#include "include/lock.h"

/* One write of metadata moves at most this many bytes. */
#define WRITE_LEN (1024 * 1024)

struct passes {
  pthread_rwlock_t change;      /* shared: change sections; else the cut */
  _Atomic bool data_written;    /* since the last cut */

  struct lock lock;             /* a leaf */
  struct condition finished;
  bool is_running;              /* guarded by lock, as the next three */
  uint64_t last_cut;            /* number of the last cut begun */
  uint64_t last_finished;       /* pass, successful or not */
  int error;                    /* errno of that pass, or 0 */
  _Atomic uint64_t last_durable;

  /* What the pass under way, or one that failed, has to write; only the
   * runner looks.
   */
  struct page_copy *copies;
  size_t nr_copies;
  _Atomic bool is_standing;     /* it failed and is to be repeated */
  bool has_data;                /* data to be synced */
  _Atomic bool is_marked;       /* as damaged */
  uint64_t cut;                 /* its number */
};

struct passes *
passes_new (void)
{
  struct passes *passes = calloc (1, sizeof *passes);
  pthread_rwlockattr_t attr;

  if (passes == NULL)
    return NULL;
  lock_must (pthread_rwlockattr_init (&attr));
  /* Else a stream of changes would keep the cut waiting for ever. */
  lock_must (pthread_rwlockattr_setkind_np
             (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
  lock_must (pthread_rwlock_init (&passes->change, &attr));
  lock_must (pthread_rwlockattr_destroy (&attr));
  lock_init (&passes->lock);
  condition_init (&passes->finished);
  return passes;
}

void
passes_free (struct passes *passes)
{
  if (passes == NULL)
    return;
  assert (passes->copies == NULL);
  condition_destroy (&passes->finished);
  lock_destroy (&passes->lock);
  lock_must (pthread_rwlock_destroy (&passes->change));
  free (passes);
}

void
passes_discard (struct image *img)
{
  struct passes *passes = img->passes;

  if (passes->copies)
    cache_release_copies (img->cache, passes->copies, passes->nr_copies);
  passes->copies = NULL;
  passes->nr_copies = 0;
}

void
pass_begin_change (struct image *img)
{
  lock_must (pthread_rwlock_rdlock (&img->passes->change));
}

void
pass_end_change (struct image *img)
{
  lock_must (pthread_rwlock_unlock (&img->passes->change));
}

void
pass_data_written (struct image *img)
{
  img->passes->data_written = true;
}

uint64_t
pass_next_cut (struct image *img)
{
  LOCK_SCOPE (&img->passes->lock);
  return img->passes->last_cut + 1;
}

uint64_t
pass_last_durable (struct image *img)
{
  return img->passes->last_durable;
}

/* ---- the steps of a pass; its runner only */

/* Copy what is to be written.  The number of the cut changes while no
 * change section is open, so that pass_next_cut tells it exactly.
 */
static int
cut (struct image *img)
{
  struct passes *passes = img->passes;
  int r = 0;

  lock_must (pthread_rwlock_wrlock (&passes->change));
  if (img->cache)
    r = cache_copy_dirty (img->cache, &passes->copies, &passes->nr_copies);
  if (r == 0) {
    LOCK_SCOPE (&passes->lock);
    passes->cut = ++passes->last_cut;
    passes->has_data = atomic_exchange (&passes->data_written, false);
  }
  lock_must (pthread_rwlock_unlock (&passes->change));
  return r;
}

/* Make what was written so far durable: the data first. */
static int
barrier (struct image *img, bool *unsynced)
{
  struct passes *passes = img->passes;
  const bool same = img->data_source == img->source;

  if (passes->has_data && !same) {
    if (source_sync (img->data_source) == -1)
      return -1;
    passes->has_data = false;
  }
  if (*unsynced || passes->has_data) {
    if (source_sync (img->source) == -1)
      return -1;
    passes->has_data = false;
    *unsynced = false;
  }
  return 0;
}

/* How many copies from i on are of one phase and host-contiguous? */
static size_t
run_length (const struct passes *passes, size_t i, uint32_t page_len)
{
  const struct page_copy *c = &passes->copies[i];
  const size_t max = MIN (passes->nr_copies - i,
                          (size_t) WRITE_LEN / page_len);
  size_t n = 1;

  while (n < max && c[n].phase == c->phase &&
         c[n].host == c->host + n * (uint64_t) page_len)
    n++;
  return n;
}

static int
write_run (struct image *img, const struct page_copy *c, size_t n)
{
  uint64_t len = (uint64_t) n * cache_page_len (img->cache);
  const uint64_t end = source_len (img->source);

  if (img->format->is_metadata &&
      !img->format->is_metadata (img, c->host, len, c->phase)) {
    image_set_damaged (img);
    errno = EIO;
    return -1;
  }
  /* The last page of a device may be longer than what is left of it. */
  if (!img->source->can_grow && c->host < end)
    len = MIN (len, end - c->host);
  return source_pwrite (img->source, c->bytes, len, c->host);
}

static int
write_copies (struct image *img)
{
  struct passes *passes = img->passes;
  enum pass_phase phase = PASS_FILL;
  bool unsynced = false;
  size_t i, n;

  for (i = 0; i < passes->nr_copies; i += n) {
    const struct page_copy *c = &passes->copies[i];

    if (c->phase != phase) {
      if (barrier (img, &unsynced) == -1)
        return -1;
      phase = c->phase;
    }
    n = run_length (passes, i, cache_page_len (img->cache));
    if (write_run (img, c, n) == -1)
      return -1;
    unsynced = true;
  }
  return barrier (img, &unsynced);
}

/* One pass, from a new cut or over the copies of one that failed. */
static int
run_one (struct image *img)
{
  struct passes *passes = img->passes;

  if (!passes->is_standing && cut (img) == -1)
    return -1;
  passes->is_standing = true;
  if (write_copies (img) == -1)
    return -1;
  passes->is_standing = false;
  passes_discard (img);
  passes->last_durable = passes->cut;
  if (img->format->durable)
    img->format->durable (img, passes->cut);
  return 0;
}

/* ---- asking for one */

static bool
sync_has_failed (const struct image *img)
{
  return img->source->sync_failed || img->data_source->sync_failed;
}

/* Has damage been met that the image's own mark does not tell yet? */
static bool
must_mark (const struct image *img)
{
  return img->is_damaged && img->is_writable && img->format->mark_damaged &&
    !img->passes->is_marked;
}

bool
pass_is_needed (struct image *img)
{
  return must_mark (img) || img->passes->data_written ||
    img->passes->is_standing ||
    (img->cache && cache_is_dirty (img->cache));
}

/* The caller is the runner, is_running is set. */
static int
run_passes (struct image *img)
{
  struct passes *passes = img->passes;
  int error = 0;

  if (sync_has_failed (img))
    error = EIO;
  else if (passes->is_standing && run_one (img) == -1)
    error = errno;
  else {
    if (must_mark (img)) {
      passes->is_marked = true;
      img->format->mark_damaged (img);
    }
    if (run_one (img) == -1)
      error = errno;
  }

  LOCK_SCOPE (&passes->lock);
  passes->is_running = false;
  passes->last_finished++;
  passes->error = error;
  condition_wake_all (&passes->finished);
  return error;
}

int
pass_run (struct image *img)
{
  struct passes *passes = img->passes;
  int error;

  {
    LOCK_SCOPE (&passes->lock);
    if (!passes->is_running) {
      if (!pass_is_needed (img)) {
        errno = EIO;
        return sync_has_failed (img) ? -1 : 0;
      }
      passes->is_running = true;
    }
    else {
      /* The cut of the one under way may be over: the next one counts. */
      const uint64_t wanted = passes->last_finished + 2;

      while (passes->is_running && passes->last_finished < wanted)
        condition_wait (&passes->finished, &passes->lock);
      if (passes->last_finished >= wanted) {
        errno = passes->error;
        return errno ? -1 : 0;
      }
      passes->is_running = true;
    }
  }
  error = run_passes (img);
  errno = error;
  return error ? -1 : 0;
}
