/* A toy image on recorded sources, whose power may be cut.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/memory.h"
#include "toy/test-cut.h"

/* ---- the image at first */

/* Data in the first half, with gaps; some of it shared. */
static void
populate (struct bed *bed, uint64_t seed)
{
  const uint64_t half = bed->form.len / 2 / TOY_UNIT;
  uint8_t buf[TOY_UNIT];

  bed_open (bed);
  for (uint64_t u = 0; u < half; ++u) {
    if (u % 4 == 3)
      continue;
    chance_fill (&seed, buf, sizeof buf);
    CHECK (image_write (bed->img, buf, sizeof buf, u * TOY_UNIT) == 0);
  }
  CHECK (image_finish (bed->img) == 0);
  bed_close (bed);
  for (uint64_t u = 0; u + 3 < half; u += 8)
    CHECK (toy_share (bed->src, u, u + 3) == 0);
}

/* Have the sources of the bed recorded from now on. */
static void
record_bed (struct crash *c)
{
  struct bed *bed = &c->bed;
  struct source *src, *data;

  c->record = record_new ();
  CHECK (c->record != NULL);
  src = record_add (c->record, "toy", bed->src, bed->form.host_len);
  CHECK (src != NULL);
  if (bed->data == bed->src)
    data = source_get (src);
  else
    data = record_add (c->record, "toy-data", bed->data,
                       bed->form.host_len);
  CHECK (data != NULL);
  source_put (bed->src);
  source_put (bed->data);
  bed->src = src;
  bed->data = data;
}

void
crash_begin (struct crash *c, const struct bed_form *form, uint64_t seed)
{
  CLEANUP_FREE uint8_t *buf = malloc (form->len);

  CHECK (buf != NULL);
  *c = (struct crash) { .finish_position = SIZE_MAX };
  bed_make (&c->bed, form);
  populate (&c->bed, seed);
  record_bed (c);
  bed_open (&c->bed);
  CHECK (image_read (c->bed.img, buf, form->len, 0) == 0);
  c->history = history_new (buf, form->len);
}

void
crash_end (struct crash *c)
{
  bed_free (&c->bed);
  history_free (c->history);
  record_free (c->record);
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
  if (c->arm)
    c->arm (false);
  if (r == -1)
    c->nr_failures++;
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
answered (struct crash *c, int r, uint64_t len, uint64_t guest)
{
  const int err = errno;

  history_done (c->history, len, guest, r == -1);
  if (r == -1)
    adopt (c, len, guest);
  errno = err;
  return r;
}

int
crash_write (struct crash *c, uint64_t *state, uint64_t len, uint64_t guest)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);
  int r;

  CHECK (buf != NULL);
  chance_fill (state, buf, len);
  history_begin (c->history, buf, len, guest, record_position (c->record));
  enter (c);
  r = image_write (c->bed.img, buf, len, guest);
  return answered (c, leave (c, r), len, guest);
}

int
crash_zero (struct crash *c, uint64_t len, uint64_t guest, bool may_trim)
{
  int r;

  history_begin (c->history, NULL, len, guest, record_position (c->record));
  enter (c);
  r = image_zero (c->bed.img, len, guest, may_trim, false);
  return answered (c, leave (c, r), len, guest);
}

int
crash_trim (struct crash *c, uint64_t len, uint64_t guest)
{
  int r;

  history_begin (c->history, NULL, len, guest, record_position (c->record));
  enter (c);
  r = image_trim (c->bed.img, len, guest);
  leave (c, r);
  answered (c, -1, len, guest); /* old or zero, in any case */
  return r;
}

int
crash_flush (struct crash *c)
{
  const uint64_t ticket = history_flush_begin (c->history);
  int r;

  enter (c);
  r = image_flush (c->bed.img);
  if (leave (c, r) == 0)
    history_flush_done (c->history, ticket, record_position (c->record));
  return r;
}

int
crash_finish (struct crash *c)
{
  const uint64_t ticket = history_flush_begin (c->history);
  int r;

  c->finish_position = record_position (c->record);
  enter (c);
  r = image_finish (c->bed.img);
  if (leave (c, r) == 0)
    history_flush_done (c->history, ticket, record_position (c->record));
  return r;
}

void
crash_request (struct crash *c, uint64_t *state, uint64_t start,
               uint64_t end)
{
  uint64_t guest, len;

  chance_range (state, start, end, &guest, &len);
  len = MIN (len, 6 * TOY_UNIT);
  switch (chance_below (state, 16)) {
  case 0: case 1: case 2: case 3: case 4: case 5: case 6: case 7: case 8:
    crash_write (c, state, len, guest);
    break;
  case 9: case 10: case 11:
    crash_zero (c, len, guest, chance_below (state, 2));
    break;
  case 12: case 13:
    crash_trim (c, len, guest);
    break;
  default:
    crash_flush (c);
  }
}

#define NR_WORKERS 4

struct worker {
  struct crash *crash;
  uint64_t start, end, state;
  unsigned nr;
  pthread_t thread;
};

static void *
work (void *opaque)
{
  struct worker *w = opaque;

  for (unsigned i = 0; i < w->nr; ++i)
    crash_request (w->crash, &w->state, w->start, w->end);
  return NULL;
}

void
crash_parallel (struct crash *c, uint64_t seed, unsigned nr)
{
  const uint64_t share = round_down (c->bed.form.len / NR_WORKERS / 2,
                                     TOY_UNIT) + 3 * HISTORY_SECTOR;
  struct worker workers[NR_WORKERS];

  for (unsigned i = 0; i < NR_WORKERS; ++i) {
    workers[i] = (struct worker) {
      .crash = c, .nr = nr, .state = seed * 100 + i,
      .start = i * share, .end = (i + 1) * share,
    };
    CHECK (pthread_create (&workers[i].thread, NULL, work, &workers[i])
           == 0);
  }
  for (unsigned i = 0; i < NR_WORKERS; ++i)
    CHECK (pthread_join (workers[i].thread, NULL) == 0);
}

void
crash_check_running (struct crash *c)
{
  adopt (c, c->bed.form.len, 0);
}

/* ---- after the power cut */

static void
complain (const struct crash_cut *cut, const char *what, uint64_t guest)
{
  if (cut->loud)
    fprintf (stderr, "power cut at %zu, seed %" PRIu64 ", mode %d: %s "
             "(guest offset %" PRIu64 ")\n",
             cut->position, cut->seed, (int) cut->mode, what, guest);
}

/* Is each sector of the opened image what it may be? */
static bool
check_content (struct crash *c, struct bed *after, bool is_dirty,
               const struct crash_cut *cut)
{
  const uint64_t len = c->bed.form.len;
  CLEANUP_FREE uint8_t *buf = malloc (len);
  uint64_t bad;

  CHECK (buf != NULL);
  if (image_read (after->img, buf, len, 0) == -1) {
    complain (cut, "cannot be read", 0);
    return false;
  }
  if (!history_allows (c->history, buf, len, 0, cut->position, &bad)) {
    complain (cut, "foreign or lost data", bad);
    return false;
  }
  if (!is_dirty && cut->position < c->finish_position &&
      !history_is_first (c->history, buf, len, 0)) {
    complain (cut, "changed, but not marked so", 0);
    return false;
  }
  return true;
}

void
crash_check_reopened (struct crash *c)
{
  const struct crash_cut now = {
    .position = record_position (c->record), .loud = true,
  };

  CHECK (check_content (c, &c->bed, true, &now));
}

static bool
check_report (const struct toy_report *report, const struct crash_cut *cut)
{
  if (report->nr_errors == 0)
    return true;
  complain (cut, "metadata are unsound", 0);
  return false;
}

/* Leaks are all that may be left; writing does not make it worse. */
static bool
check_going_on (struct crash *c, struct bed *after,
                const struct crash_cut *cut)
{
  uint64_t state = cut->seed + cut->position;
  const uint64_t len = MIN (c->bed.form.len, 5 * TOY_UNIT + 7);
  CLEANUP_FREE uint8_t *buf = malloc (2 * len);
  struct toy_report report;

  CHECK (buf != NULL);
  chance_fill (&state, buf, len);
  for (uint64_t guest = 0; guest + len <= c->bed.form.len;
       guest += 11 * TOY_UNIT) {
    if (image_write (after->img, buf, len, guest) == -1) {
      CHECK (errno == ENOSPC && after->form.is_fixed);
      continue;
    }
    CHECK (image_read (after->img, buf + len, len, guest) == 0);
    CHECK (memcmp (buf, buf + len, len) == 0);
  }
  CHECK (image_flush (after->img) == 0);
  report = toy_check (after->src, after->data, cut->loud);
  return check_report (&report, cut);
}

bool
crash_check (struct crash *c, const struct crash_cut *cut)
{
  struct bed after = { .form = c->bed.form };
  struct toy_report report;
  bool ok;

  after.src = record_crash_image (c->record, c->bed.src, cut->position,
                                  cut->seed, cut->mode);
  CHECK (after.src != NULL);
  if (c->bed.data == c->bed.src)
    after.data = source_get (after.src);
  else
    after.data = record_crash_image (c->record, c->bed.data, cut->position,
                                     cut->seed, cut->mode);
  CHECK (after.data != NULL);
  if (c->bed.base)
    after.base = source_get (c->bed.base);

  report = toy_check (after.src, after.data, cut->loud);
  ok = check_report (&report, cut);
  if (ok && bed_try_open (&after) == -1) {
    complain (cut, "cannot be opened", 0);
    ok = false;
  }
  ok = ok && check_content (c, &after, report.is_dirty, cut);
  if (ok && cut->go_on)
    ok = check_going_on (c, &after, cut);
  bed_free (&after);
  return ok;
}

bool
crash_check_range (struct crash *c, size_t from, size_t to, size_t step,
                   unsigned seeds, bool loud)
{
  for (size_t p = from; p <= to; p += step) {
    struct crash_cut cut = { .position = p, .loud = loud };

    cut.mode = RECORD_ALL;
    if (!crash_check (c, &cut))
      return false;
    cut.mode = RECORD_NONE;
    cut.go_on = p % 16 == 0;
    if (!crash_check (c, &cut))
      return false;
    cut.mode = RECORD_RANDOM;
    for (unsigned i = 0; i < seeds; ++i) {
      cut.seed = p * 1000 + i;
      cut.go_on = p % 16 == 8;
      if (!crash_check (c, &cut))
        return false;
    }
  }
  return true;
}
