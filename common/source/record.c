/* Sources that remember every change: the log, the faults, the counts.
 *
 * Each call makes one log entry when it begins and one when it ends, so
 * that the replay knows what really came before what.  The bytes change
 * between the two, outside the lock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "source/memory.h"
#include "source/record-log.h"

static const struct source_ops record_ops;

static struct recorded *
recorded_of (struct source *src)
{
  assert (src->ops == &record_ops);
  return (struct recorded *) src;
}

/* Count a call; -1 with errno when it is to fail. */
static int
count_locked (struct record *r, enum record_op op)
{
  const struct fault *f = &r->faults[op];
  size_t n = ++r->counts[op];

  assert_held (&r->lock);
  if (f->at == 0 || n < f->at || (n > f->at && !f->sticky))
    return 0;
  errno = f->err;
  return -1;
}

static int
make_room_locked (struct record *r)
{
  size_t max = r->max_changes == 0 ? 64 : 2 * r->max_changes;
  struct change *changes;

  assert_held (&r->lock);
  if (r->nr_changes < r->max_changes)
    return 0;
  changes = reallocarray (r->changes, max, sizeof *changes);
  if (changes == NULL)
    return -1;
  r->changes = changes;
  r->max_changes = max;
  return 0;
}

/* Is the sync that was counted last to be a barrier? */
static bool
sync_is_skipped_locked (const struct record *r)
{
  size_t n = r->counts[RECORD_SYNC] - r->skip_from;

  if (r->skip_nth == 0)
    return false;
  return r->skip_every ? n % r->skip_nth == 0 : n == r->skip_nth;
}

/* Count the call and log its beginning.  Takes over what.data, if it
 * succeeds.  Returns the change's index, or -1 with errno.
 */
static ssize_t
begin (struct source *src, struct change what)
{
  struct recorded *rs = recorded_of (src);
  struct record *r = rs->record;

  LOCK_SCOPE (&r->lock);
  if (count_locked (r, what.op) == -1 || make_room_locked (r) == -1)
    return -1;
  what.source = rs->index;
  what.is_barrier = what.op == RECORD_SYNC && !sync_is_skipped_locked (r);
  what.begin = r->position++;
  what.end = NOT_ENDED;
  r->changes[r->nr_changes] = what;
  return (ssize_t) r->nr_changes++;
}

static void
end (struct source *src, ssize_t change)
{
  struct record *r = recorded_of (src)->record;

  LOCK_SCOPE (&r->lock);
  r->changes[change].end = r->position++;
}

static int
record_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct recorded *rs = recorded_of (src);
  int r;

  {
    LOCK_SCOPE (&rs->record->lock);
    r = count_locked (rs->record, RECORD_READ);
  }
  return r == -1 ? -1 : source_pread (rs->now, buf, len, host);
}

/* Only calls that cannot fail are logged: the limit is tested before. */
static int
check_limit (struct source *src, uint64_t length)
{
  if (length <= recorded_of (src)->limit)
    return 0;
  errno = ENOSPC;
  return -1;
}

static int
record_pwrite (struct source *src, const void *buf, size_t len,
               uint64_t host)
{
  CLEANUP_FREE uint8_t *data = malloc (len);
  ssize_t change;
  int r;

  if (data == NULL || check_limit (src, host + len) == -1)
    return -1;
  memcpy (data, buf, len);
  change = begin (src, (struct change) { .op = RECORD_WRITE, .host = host,
                                         .len = len, .data = data });
  if (change == -1)
    return -1;
  (void) STEAL (data);          /* the log's */
  r = source_pwrite (recorded_of (src)->now, buf, len, host);
  end (src, change);
  return r;
}

static int
record_zero (struct source *src, uint64_t len, uint64_t host,
             enum source_zero_mode mode)
{
  ssize_t change = begin (src, (struct change) {
    .op = RECORD_ZERO, .host = host, .len = len, .mode = mode });
  int r;

  if (change == -1)
    return -1;
  r = source_zero (recorded_of (src)->now, len, host, mode);
  end (src, change);
  return r;
}

static int
record_sync (struct source *src)
{
  ssize_t change = begin (src, (struct change) { .op = RECORD_SYNC });

  if (change == -1)
    return -1;
  end (src, change);
  return 0;
}

static int
record_truncate (struct source *src, uint64_t len)
{
  ssize_t change;
  int r;

  if (check_limit (src, len) == -1)
    return -1;
  change = begin (src, (struct change) { .op = RECORD_TRUNCATE,
                                         .len = len });
  if (change == -1)
    return -1;
  r = source_truncate (recorded_of (src)->now, len);
  end (src, change);
  return r;
}

static struct source_extent
record_extent (struct source *src, uint64_t host, uint64_t len)
{
  return source_extent (recorded_of (src)->now, host, len);
}

static void
record_close (struct source *src)
{
  struct recorded *rs = recorded_of (src);

  source_put (rs->now);
  source_destroy (src);
  free (rs);
}

struct record *
record_new (void)
{
  struct record *r = calloc (1, sizeof *r);

  if (r != NULL)
    lock_init (&r->lock);
  return r;
}

void
record_free (struct record *r)
{
  if (r == NULL)
    return;
  for (size_t i = 0; i < r->nr_changes; i++)
    free (r->changes[i].data);
  free (r->changes);
  for (unsigned i = 0; i < r->nr_sources; i++)
    source_put (r->initials[i]);
  free (r->initials);
  free (r->limits);
  lock_destroy (&r->lock);
  free (r);
}

/* Give the record one more source; returns its index, -1 for ENOMEM. */
static int
add_initial (struct record *r, struct source *initial, uint64_t limit)
{
  struct source **initials;
  uint64_t *limits;

  LOCK_SCOPE (&r->lock);
  initials = reallocarray (r->initials, r->nr_sources + 1, sizeof *initials);
  if (initials == NULL)
    return -1;
  r->initials = initials;
  limits = reallocarray (r->limits, r->nr_sources + 1, sizeof *limits);
  if (limits == NULL)
    return -1;
  r->limits = limits;
  r->initials[r->nr_sources] = source_get (initial);
  r->limits[r->nr_sources] = limit;
  return (int) r->nr_sources++;
}

struct source *
record_add (struct record *r, const char *name, struct source *initial,
            uint64_t limit)
{
  CLEANUP_SOURCE struct source *first =
    crash_image_copy (name, initial, limit);
  CLEANUP_SOURCE struct source *now = crash_image_copy (name, initial, limit);
  CLEANUP_FREE struct recorded *rs = calloc (1, sizeof *rs);
  int index;

  if (first == NULL || now == NULL || rs == NULL
      || source_init (&rs->src, &record_ops, name) == -1)
    return NULL;
  index = add_initial (r, first, limit);
  if (index == -1) {
    source_destroy (&rs->src);
    return NULL;
  }
  rs->record = r;
  rs->index = (unsigned) index;
  rs->limit = limit;
  rs->src.len = source_len (now);
  rs->src.writable = true;
  rs->src.can_grow = limit > source_len (now);
  rs->now = STEAL (now);
  return &STEAL (rs)->src;
}

size_t
record_position (struct record *r)
{
  LOCK_SCOPE (&r->lock);
  return r->position;
}

void
record_mark (struct record *r, uint64_t id)
{
  LOCK_SCOPE (&r->lock);
  if (make_room_locked (r) == -1)
    abort ();                   /* a test without its marks proves nothing */
  r->changes[r->nr_changes++] = (struct change) {
    .is_mark = true, .host = id, .begin = r->position, .end = r->position };
  r->position++;
}

bool
record_is_marked (struct record *r, size_t position, uint64_t id)
{
  LOCK_SCOPE (&r->lock);
  for (size_t i = 0; i < r->nr_changes; i++) {
    const struct change *c = &r->changes[i];

    if (c->is_mark && c->host == id && c->begin < position)
      return true;
  }
  return false;
}

struct source *
record_crash_image (struct record *r, struct source *src, size_t position,
                    uint64_t seed, enum record_mode mode)
{
  LOCK_SCOPE (&r->lock);
  assert (recorded_of (src)->record == r && position <= r->position);
  return crash_image_locked (r, recorded_of (src)->index, position, seed,
                             mode);
}

size_t
record_count (struct record *r, enum record_op op)
{
  LOCK_SCOPE (&r->lock);
  return r->counts[op];
}

void
record_fail_at (struct record *r, enum record_op op, size_t nth, int err,
                bool sticky)
{
  LOCK_SCOPE (&r->lock);
  r->faults[op] = (struct fault) {
    .at = nth == 0 ? 0 : r->counts[op] + nth, .err = err, .sticky = sticky };
}

void
record_skip_sync (struct record *r, size_t nth, bool every)
{
  LOCK_SCOPE (&r->lock);
  r->skip_from = r->counts[RECORD_SYNC];
  r->skip_nth = nth;
  r->skip_every = every;
}

static void
print_change (struct record *r, FILE *fp, const struct change *c)
{
  static const char *const names[RECORD_NR_OPS] = {
    "read", "write", "zero", "sync", "truncate",
  };

  fprintf (fp, "%6zu: ", c->begin);
  if (c->is_mark) {
    fprintf (fp, "mark %" PRIu64 "\n", c->host);
    return;
  }
  fprintf (fp, "%s: %s", r->initials[c->source]->name, names[c->op]);
  if (c->op == RECORD_TRUNCATE)
    fprintf (fp, " to %" PRIu64, c->len);
  else if (c->op == RECORD_SYNC)
    fprintf (fp, "%s", c->is_barrier ? "" : " (skipped)");
  else
    fprintf (fp, " %" PRIu64 " bytes at %" PRIu64, c->len, c->host);
  if (c->end == NOT_ENDED)
    fprintf (fp, ", not ended\n");
  else
    fprintf (fp, ", ended at %zu\n", c->end);
}

void
record_print (struct record *r, FILE *fp, size_t from, size_t to)
{
  LOCK_SCOPE (&r->lock);
  for (size_t i = 0; i < r->nr_changes; i++)
    if (r->changes[i].begin >= from && r->changes[i].begin < to)
      print_change (r, fp, &r->changes[i]);
}

static const struct source_ops record_ops = {
  .kind = "record",
  .pread = record_pread,
  .pwrite = record_pwrite,
  .zero = record_zero,
  .sync = record_sync,
  .truncate = record_truncate,
  .extent = record_extent,
  .close = record_close,
};
