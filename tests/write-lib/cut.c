/* An image on recorded sources, whose power may be cut.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "include/testing.h"
#include "cut.h"

/* ---- what may be leaked */

struct job {
  size_t begun, done;           /* positions of the log */
  uint64_t clusters;            /* that it can allocate or give up */
  bool is_flush;
};

struct work {
  struct lock lock;             /* guards all */
  struct job *jobs;
  size_t nr, room;
  uint64_t cluster_len;
  uint64_t first_leaks;
  uint64_t overhead;            /* clusters, whatever is asked for */
};

static size_t
work_begin (struct crash *c, uint64_t len, bool is_flush)
{
  const size_t position = record_position (c->record);
  struct work *w = c->work;

  LOCK_SCOPE (&w->lock);

  if (w->nr == w->room) {
    w->room = w->room * 2 + 16;
    w->jobs = realloc (w->jobs, w->room * sizeof *w->jobs);
    CHECK (w->jobs != NULL);
  }
  w->jobs[w->nr] = (struct job) {
    .begun = position, .done = SIZE_MAX, .is_flush = is_flush,
    /* New space and the old one; two ends; a compressed cluster may lie
     * in two.  Each table counts for itself and for the one it replaces.
     */
    .clusters = 3 * (len / w->cluster_len + 2) + 4,
  };
  return w->nr++;
}

static void
work_done (struct crash *c, size_t job, bool ok)
{
  const size_t position = record_position (c->record);
  struct work *w = c->work;

  LOCK_SCOPE (&w->lock);

  w->jobs[job].done = position;
  if (!ok)
    w->jobs[job].is_flush = false;
}

/* A flush makes durable what was given up before it, the next one that it
 * is free: all but what was asked for since the flush before the last may
 * not leak.
 */
static uint64_t
allowed_leaks (struct work *w, size_t position)
{
  size_t last = 0, before = 0, i, j;
  uint64_t sum;

  LOCK_SCOPE (&w->lock);

  for (i = 0; i < w->nr; ++i) {
    const struct job *b = &w->jobs[i];

    if (!b->is_flush || b->done > position)
      continue;
    for (j = 0; j < i; ++j)
      if (w->jobs[j].is_flush && w->jobs[j].done < b->begun)
        before = MAX (before, w->jobs[j].begun);
    last = MAX (last, b->done);
  }
  sum = w->first_leaks + w->overhead;
  for (i = 0; i < w->nr; ++i)
    if (!w->jobs[i].is_flush && w->jobs[i].done >= before &&
        w->jobs[i].begun <= position)
      sum += w->jobs[i].clusters;
  return sum;
}

/* ---- the image at first */

static struct source *
record_source (struct crash *c, const char *name, struct source *src)
{
  struct source *recorded = record_add (c->record, name, src, c->bed.limit);

  CHECK (recorded != NULL);
  source_put (src);
  return recorded;
}

void
crash_begin (struct crash *c, const struct form *form)
{
  CLEANUP_FREE uint8_t *buf = NULL;

  *c = (struct crash) { .finish_position = SIZE_MAX };
  c->work = calloc (1, sizeof *c->work);
  CHECK (c->work != NULL);
  lock_init (&c->work->lock);
  bed_make (&c->bed, form);
  c->work->cluster_len = kind.cluster_len (&c->bed);
  kind.measure_leaks (&c->bed, &c->work->first_leaks, &c->work->overhead);
  c->record = record_new ();
  CHECK (c->record != NULL);
  c->bed.src = record_source (c, "image", c->bed.src);
  if (c->bed.data)
    c->bed.data = record_source (c, "data", c->bed.data);
  bed_open (&c->bed);
  buf = malloc (c->bed.len);
  CHECK (buf != NULL);
  CHECK (image_read (c->bed.img, buf, c->bed.len, 0) == 0);
  c->history = history_new (buf, c->bed.len);
}

void
crash_end (struct crash *c)
{
  bed_free (&c->bed);
  history_free (c->history);
  record_free (c->record);
  lock_destroy (&c->work->lock);
  free (c->work->jobs);
  free (c->work);
}

int
crash_try_reopen (struct crash *c)
{
  bed_close (&c->bed);
  return bed_try_open (&c->bed);
}

uint64_t
crash_first_leaks (const struct crash *c)
{
  return c->work->first_leaks;
}

/* ---- requests */

static void
enter (struct crash *c)
{
  if (c->arm)
    c->arm (true);
}

/* Pass on what the image answered. */
static int
leave (struct crash *c, int r)
{
  const int err = errno;

  if (c->arm)
    c->arm (false);
  if (r == -1)
    c->nr_failures++;
  errno = err;
  return r;
}

/* After what may have been done in part, the disk tells. */
static void
adopt (struct crash *c, uint64_t len, uint64_t guest)
{
  const uint64_t start = round_down (guest, HISTORY_SECTOR);
  const uint64_t end = round_up (guest + len, HISTORY_SECTOR);
  CLEANUP_FREE uint8_t *buf = malloc (end - start);

  CHECK (buf != NULL);
  /* A planted fault may strike here; it does so once. */
  CHECK (image_read (c->bed.img, buf, end - start, start) == 0 ||
         image_read (c->bed.img, buf, end - start, start) == 0);
  CHECK (history_adopt (c->history, buf, end - start, start,
                        record_position (c->record)));
}

static int
answered (struct crash *c, size_t job, int r, uint64_t len, uint64_t guest)
{
  const int err = errno;

  work_done (c, job, true);
  history_done (c->history, len, guest, r == -1);
  if (r == -1)
    adopt (c, len, guest);
  errno = err;
  return r;
}

int
crash_write (struct crash *c, uint64_t *state, uint64_t len, uint64_t guest)
{
  const size_t job = work_begin (c, len, false);
  CLEANUP_FREE uint8_t *buf = malloc (len);
  int r;

  CHECK (buf != NULL);
  chance_fill (state, buf, len);
  history_begin (c->history, buf, len, guest, record_position (c->record));
  enter (c);
  r = leave (c, image_write (c->bed.img, buf, len, guest));
  return answered (c, job, r, len, guest);
}

int
crash_zero (struct crash *c, uint64_t len, uint64_t guest, bool may_trim,
            bool fast)
{
  const size_t job = work_begin (c, len, false);
  int r;

  history_begin (c->history, NULL, len, guest, record_position (c->record));
  enter (c);
  r = image_zero (c->bed.img, len, guest, may_trim, fast);
  if (r == -1 && fast && errno == ENOTSUP) {
    if (c->arm)
      c->arm (false);           /* an answer, not a failure */
  }
  else
    leave (c, r);
  return answered (c, job, r, len, guest);
}

int
crash_trim (struct crash *c, uint64_t len, uint64_t guest)
{
  const size_t job = work_begin (c, len, false);
  int r, err;

  history_begin (c->history, NULL, len, guest, record_position (c->record));
  enter (c);
  r = leave (c, image_trim (c->bed.img, len, guest));
  err = errno;
  answered (c, job, -1, len, guest); /* old or zero, in any case */
  errno = err;
  return r;
}

/* 'ask' makes everything durable. */
static int
flush_by (struct crash *c, int (*ask) (struct image *img))
{
  const size_t job = work_begin (c, 0, true);
  const uint64_t ticket = history_flush_begin (c->history);
  int r;

  enter (c);
  r = leave (c, ask (c->bed.img));
  work_done (c, job, r == 0);
  if (r == 0)
    history_flush_done (c->history, ticket, record_position (c->record));
  return r;
}

int
crash_flush (struct crash *c)
{
  return flush_by (c, image_flush);
}

int
crash_finish (struct crash *c)
{
  c->finish_position = record_position (c->record);
  return flush_by (c, image_finish);
}

static uint64_t
max_request (const struct crash *c)
{
  return c->bed.form->max_request ?: MIN (5 * c->work->cluster_len,
                                          3 * c->bed.len / 8);
}

void
crash_request (struct crash *c, uint64_t *state, uint64_t start,
               uint64_t end)
{
  uint64_t guest, len;

  chance_range (state, start, end, max_request (c), &guest, &len);
  switch (chance_below (state, 16)) {
  case 0: case 1: case 2: case 3: case 4: case 5: case 6: case 7:
    crash_write (c, state, len, guest);
    break;
  case 8: case 9: case 10:
    crash_zero (c, len, guest, chance_below (state, 2),
                chance_below (state, 3) == 0);
    break;
  case 11: case 12: case 13:
    crash_trim (c, len, guest);
    break;
  default:
    crash_flush (c);
  }
}

void
crash_check_running (struct crash *c)
{
  adopt (c, c->bed.len, 0);
}

/* ---- after the power cut */

__attribute__ ((format (printf, 2, 3)))
static bool
complain (const struct crash_cut *cut, const char *fmt, ...)
{
  va_list args;

  if (cut->loud) {
    fprintf (stderr, "power cut at %zu, seed %" PRIu64 ", mode %d: ",
             cut->position, cut->seed, (int) cut->mode);
    va_start (args, fmt);
    vfprintf (stderr, fmt, args);
    va_end (args);
    fprintf (stderr, "\n");
  }
  return false;
}

/* Is each sector of the opened image what it may be? */
static bool
check_content (struct crash *c, struct bed *after,
               const struct crash_cut *cut, const uint8_t *buf)
{
  FILE *fp = cut->loud ? stderr : NULL;
  uint64_t bad;

  if (!history_allows (c->history, buf, after->len, 0, cut->position, &bad))
  {
    if (cut->loud)
      record_print (c->record, stderr, cut->position > 40
                    ? cut->position - 40 : 0, cut->position);
    return complain (cut, "foreign or lost data at guest offset %" PRIu64
                     ", beginning with %02x", bad, buf[bad]);
  }
  if (!kind.may_become (after, history_is_first (c->history, buf,
                                                 after->len, 0), fp))
    return complain (cut, "the image must not become what it is");
  return true;
}

static uint64_t
all_leaks (const struct report *report)
{
  return kind.counts_leaks && !report->is_dirty
    ? report->nr_leaks + report->nr_beyond : 0;
}

static bool
check_structure (struct crash *c, struct bed *after, struct report *report,
                 const struct crash_cut *cut)
{
  const uint64_t allowed = allowed_leaks (c->work, cut->position);

  kind.check (after, cut->loud ? stderr : NULL, report);
  if (!report->is_image || report->nr_errors > 0)
    return complain (cut, "%" PRIu64 " errors in the metadata",
                     report->nr_errors);
  if (all_leaks (report) > allowed)
    return complain (cut, "%" PRIu64 " leaks, at most %" PRIu64 " can be",
                     all_leaks (report), allowed);
  return true;
}

/* Reads of the image after the cut; NULL when that fails. */
static uint8_t *
read_disk (struct bed *bed)
{
  uint8_t *buf = malloc (bed->len);

  CHECK (buf != NULL);
  if (image_read (bed->img, buf, bed->len, 0) == 0)
    return buf;
  free (buf);
  return NULL;
}

/* Do others find the same? */
static bool
check_by_others (struct bed *after, const struct report *report,
                 const struct crash_cut *cut, const uint8_t *buf)
{
  const bool ask_qemu = cut->ask_qemu && bed_has_qemu ();
  FILE *fp = cut->loud ? stderr : NULL;
  int status;

  if (report->is_dirty)         /* it would be repaired first */
    return true;
  if (ask_qemu && kind.can_qemu_check) {
    bed_export (after);
    status = bed_qemu_check ();
    if (status != 0 && status != 3) {
      if (cut->loud)
        bed_run ("head -20 said >&2");
      return complain (cut, "qemu-img check says %d", status);
    }
    /* What it calls leaks, we do. */
    if ((status == 3) != (report->nr_leaks > 0))
      return complain (cut, "qemu-img check says %d, but there are %" PRIu64
                       " leaks", status, report->nr_leaks);
  }
  if (!bed_reads_as (after, ask_qemu, buf, fp))
    return complain (cut, "others read something else");
  return true;
}

/* Write here and there; 'buf' is what the disk holds then, but for what a
 * trim has done: that is asked of the disk.
 */
static void
go_on (struct bed *after, const struct crash_cut *cut, uint8_t *buf)
{
  uint64_t state = cut->seed + cut->position;
  const uint64_t len = MIN (after->len, UINT64_C (9) * 4096 + 7);
  const uint64_t trim = after->len / 5, trim_len = after->len / 3;
  CLEANUP_FREE uint8_t *now = malloc (MAX (len, trim_len));

  CHECK (now != NULL);
  for (uint64_t guest = 0; guest + len <= after->len; guest += 3 * len) {
    chance_fill (&state, now, len);
    if (image_write (after->img, now, len, guest) == -1) {
      CHECK (errno == ENOSPC && after->form->room);
      CHECK (image_read (after->img, now, len, guest) == 0);
    }
    memcpy (buf + guest, now, len);
  }
  CHECK (image_trim (after->img, trim_len, trim) == 0);
  CHECK (image_read (after->img, now, trim_len, trim) == 0);
  for (uint64_t i = 0; i < trim_len; ++i)
    CHECK (now[i] == 0 || now[i] == buf[trim + i]);
  memcpy (buf + trim, now, trim_len);
}

/* Write to it and close it cleanly: what was not written to is as before,
 * and nothing more leaks.  'buf' is what the disk holds.
 */
static bool
check_going_on (struct crash *c, struct bed *after, struct report *report,
                const struct crash_cut *cut, uint8_t *buf)
{
  const uint64_t leaks = all_leaks (report) +
    (report->gives_up ? c->work->first_leaks : 0);
  CLEANUP_FREE uint8_t *now = NULL;

  go_on (after, cut, buf);
  now = read_disk (after);
  if (now == NULL || memcmp (now, buf, after->len) != 0)
    return complain (cut, "going on changes what was not written to");
  CHECK (image_finish (after->img) == 0);
  kind.check (after, cut->loud ? stderr : NULL, report);
  if (report->is_dirty || report->nr_errors > 0)
    return complain (cut, "going on makes %" PRIu64 " errors",
                     report->nr_errors);
  if (all_leaks (report) > leaks)
    return complain (cut, "going on makes %" PRIu64 " leaks of %" PRIu64,
                     all_leaks (report), leaks);
  if (!bed_reads_as (after, cut->ask_qemu, buf, cut->loud ? stderr : NULL))
    return complain (cut, "others read something else after going on");
  return true;
}

static bool
check_after (struct crash *c, struct bed *after,
             const struct crash_cut *cut)
{
  CLEANUP_FREE uint8_t *buf = NULL;
  struct report report;

  if (!check_structure (c, after, &report, cut))
    return false;
  if (bed_try_open (after) == -1)
    return complain (cut, "cannot be opened");
  buf = read_disk (after);
  if (buf == NULL)
    return complain (cut, "cannot be read");
  return check_content (c, after, cut, buf) &&
    check_by_others (after, &report, cut, buf) &&
    (!cut->go_on || check_going_on (c, after, &report, cut, buf));
}

bool
crash_check (struct crash *c, const struct crash_cut *cut)
{
  struct bed after = c->bed;
  bool ok;

  after.img = NULL;
  after.data = NULL;
  after.first = source_get (c->bed.first);
  after.base = c->bed.base ? source_get (c->bed.base) : NULL;
  after.src = record_crash_image (c->record, c->bed.src, cut->position,
                                  cut->seed, cut->mode);
  CHECK (after.src != NULL);
  if (c->bed.data) {
    after.data = record_crash_image (c->record, c->bed.data, cut->position,
                                     cut->seed, cut->mode);
    CHECK (after.data != NULL);
  }
  ok = check_after (c, &after, cut);
  bed_free (&after);
  return ok;
}

bool
crash_check_range (struct crash *c, const struct crash_range *range)
{
  unsigned n = 0;

  for (size_t p = range->from; p <= range->to; p += range->step) {
    for (unsigned i = 0; i < 2 + range->seeds; ++i, ++n) {
      const struct crash_cut cut = {
        .position = p,
        .mode = i == 0 ? RECORD_ALL : i == 1 ? RECORD_NONE : RECORD_RANDOM,
        .seed = i < 2 ? 0 : p * 1000 + i,
        .loud = range->loud,
        .go_on = n % 8 == 3,
        .ask_qemu = range->nr_qemu && n % range->nr_qemu == 1,
      };

      if (!crash_check (c, &cut))
        return false;
    }
  }
  return true;
}

void
crash_check_reopened (struct crash *c)
{
  const struct crash_cut now = {
    .position = record_position (c->record), .loud = true,
  };
  CLEANUP_FREE uint8_t *buf = read_disk (&c->bed);
  struct report report;

  CHECK (buf != NULL);
  kind.check (&c->bed, stderr, &report);
  CHECK (report.nr_errors == 0);
  CHECK (check_content (c, &c->bed, &now, buf));
}

static void
check_sound (struct crash *c, uint64_t allowed, struct report *report)
{
  kind.check (&c->bed, stderr, report);
  if (all_leaks (report) > allowed)
    fprintf (stderr, "%s: %" PRIu64 " and %" PRIu64 " leaks\n",
             c->bed.form->name, report->nr_leaks, report->nr_beyond);
  CHECK (report->is_image && !report->is_dirty);
  CHECK (report->nr_errors == 0);
  CHECK (all_leaks (report) <= allowed);
}

void
crash_check_sound (struct crash *c, uint64_t allowed)
{
  struct report report;

  check_sound (c, allowed, &report);
}

void
crash_check_closed (struct crash *c, uint64_t allowed)
{
  struct report report;
  int status, expected;

  check_sound (c, allowed, &report);
  if (!bed_has_qemu () || !kind.can_qemu_check)
    return;
  bed_export (&c->bed);
  expected = report.nr_leaks > 0 ? 3 : 0;
  status = bed_qemu_check ();
  if (status != expected)
    bed_run ("head -20 said >&2");
  CHECK (status == expected);
}
