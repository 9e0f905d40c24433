/* The power may be cut at any moment: what was flushed is there, every
 * other sector is old or new, and the metadata are sound.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/testing.h"
#include "cut.h"
#include "jitter.h"
#include "prove.h"

/* How thoroughly? */
struct measure {
  unsigned nr_seeds;            /* whole runs */
  unsigned nr_requests;
  size_t nr_positions;          /* to cut at, spread over the log */
  unsigned nr_qemu;
};

static const struct measure quick = {
  1, 40, IS_SANITIZED ? 10 : 60, 40
};
static const struct measure thorough = { 8, 90, SIZE_MAX, 60 };

/* Spread the cuts, but not always on the same positions. */
static void
check_all (struct crash *c, const struct measure *m, uint64_t seed)
{
  const size_t end = record_position (c->record);
  const size_t step = MAX (end / m->nr_positions, (size_t) 1);
  const struct crash_range range = {
    .from = seed % step, .to = end, .step = step, .seeds = 1,
    .nr_qemu = m->nr_qemu, .loud = true,
  };
  const struct crash_range at_end = {
    .from = end, .to = end, .step = 1, .seeds = 1, .nr_qemu = 1,
    .loud = true,
  };

  CHECK (crash_check_range (c, &range));
  CHECK (crash_check_range (c, &at_end));
}

/* Every other run is on sources that cannot punch: what is freed and used
 * again holds old data.
 */
static void
refuse_zeroing (struct crash *c, uint64_t seed)
{
  if (seed % 2 == 1)
    record_fail_at (c->record, RECORD_ZERO, 1, ENOTSUP, true);
}

/* ---- requests one after the other */

static void
run_single (const struct form *form, const struct measure *m, uint64_t seed)
{
  uint64_t state = seed;
  struct crash c;

  crash_begin (&c, form);
  refuse_zeroing (&c, seed);
  for (unsigned i = 0; i < m->nr_requests; ++i)
    crash_request (&c, &state, 0, c.bed.len);
  CHECK (c.nr_failures == 0 || form->room);
  crash_check_running (&c);
  CHECK (crash_finish (&c) == 0);
  check_all (&c, m, seed);
  bed_close (&c.bed);
  crash_check_closed (&c, crash_first_leaks (&c));
  crash_end (&c);
}

/* ---- several at once: each thread has sectors of its own, but shares
 * clusters and table pages with its neighbours
 */

#define NR_THREADS 4

struct worker {
  struct crash *crash;
  uint64_t start, end, state;
  unsigned nr_requests;
  pthread_t thread;
};

static void *
work (void *opaque)
{
  struct worker *w = opaque;

  for (unsigned i = 0; i < w->nr_requests; ++i)
    crash_request (w->crash, &w->state, w->start, w->end);
  return NULL;
}

static void
run_parallel (const struct form *form, const struct measure *m,
              uint64_t seed)
{
  struct worker workers[NR_THREADS];
  struct crash c;
  uint64_t share;

  crash_begin (&c, form);
  refuse_zeroing (&c, seed);
  jitter_set (true);
  share = round_down (c.bed.len / NR_THREADS - 3 * HISTORY_SECTOR,
                      HISTORY_SECTOR);
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    struct worker *w = &workers[i];

    *w = (struct worker) {
      .crash = &c, .state = seed * 100 + i,
      .nr_requests = m->nr_requests / 2,
      .start = i * (share + HISTORY_SECTOR),
      .end = i * (share + HISTORY_SECTOR) + share,
    };
    CHECK (pthread_create (&w->thread, NULL, work, w) == 0);
  }
  for (unsigned i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_join (workers[i].thread, NULL) == 0);
  jitter_set (false);
  CHECK (c.nr_failures == 0 || form->room);
  CHECK (crash_flush (&c) == 0);
  crash_check_running (&c);
  check_all (&c, m, seed);
  CHECK (crash_finish (&c) == 0);
  bed_close (&c.bed);
  crash_check_closed (&c, crash_first_leaks (&c));
  crash_end (&c);
}

void
prove_end_of_file (const char *name)
{
  struct crash_range range = { .step = 1, .seeds = 40, .loud = true };
  uint64_t state = 3;
  struct crash c;

  crash_begin (&c, bed_form (name));
  CHECK (crash_write (&c, &state, 835, 100) == 0);
  CHECK (crash_flush (&c) == 0);
  CHECK (crash_write (&c, &state, 2048, 0) == 0);
  CHECK (crash_write (&c, &state, 300, c.bed.len - 300) == 0);
  CHECK (crash_flush (&c) == 0);
  range.to = record_position (c.record);
  CHECK (crash_check_range (&c, &range));
  crash_end (&c);
}

static void
run (const struct form *form, const struct measure *m)
{
  if (!bed_can_make (form))
    return;
  fprintf (stderr, "%s\n", form->name);
  for (unsigned seed = 1; seed <= m->nr_seeds; ++seed) {
    run_single (form, m, seed);
    run_parallel (form, m, seed + 51);
  }
}

void
prove_crashes (int argc, char **argv)
{
  const struct measure *m = &quick;
  size_t part = 0, nr_parts = 1, i;

  if (argc == 2 && strcmp (argv[1], "long") == 0)
    m = &thorough;
  else if (argc == 2) {
    run (bed_form (argv[1]), &thorough);
    return;
  }
  else if (argc == 3) {
    part = strtoul (argv[1], NULL, 10);
    nr_parts = strtoul (argv[2], NULL, 10);
  }
  CHECK (nr_parts > 0);
  for (i = part; i < bed_nr_forms; i += nr_parts)
    run (&bed_forms[i], m);
}
