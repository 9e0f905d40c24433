/* The power may be cut at any moment: what was flushed is there, every
 * other sector is old or new, and the metadata are sound.
 *
 * And a test of the test: with any one sync left out it turns red.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "include/checked.h"
#include "include/testing.h"
#include "toy/test-cut.h"

#define KIB UINT64_C (1024)
#define LEN (256 * KIB)
#define HOST_LEN (2048 * KIB)

static const struct bed_form forms[] = {
  { .name = "plain", .len = LEN, .host_len = HOST_LEN,
    .cache_limit = 1024 * KIB },
  { .name = "backing, pressed", .len = LEN, .host_len = HOST_LEN,
    .features = TOY_BACKING, .backing_len = LEN * 3 / 4 },
  { .name = "data file", .len = LEN, .host_len = HOST_LEN,
    .features = TOY_DATA_FILE, .cache_limit = 64 * KIB },
  { .name = "fixed", .len = LEN, .host_len = 512 * KIB,
    .cache_limit = 64 * KIB, .is_fixed = true },
};
#define NR_FORMS (sizeof forms / sizeof forms[0])

/* ---- requests one after the other */

static void
run_single (const struct bed_form *form, uint64_t seed)
{
  uint64_t state = seed;
  struct crash c;

  crash_begin (&c, form, seed);
  for (unsigned i = 0; i < 60; ++i)
    crash_request (&c, &state, 0, form->len);
  CHECK (crash_finish (&c) == 0);
  CHECK (crash_check_range (&c, 0, record_position (c.record), 1, 2, true));
  crash_end (&c);
}

/* ---- several at once */

static void
run_parallel (const struct bed_form *form, uint64_t seed)
{
  struct crash c;

  crash_begin (&c, form, seed);
  crash_parallel (&c, seed, 25);
  CHECK (crash_flush (&c) == 0);
  CHECK (crash_check_range (&c, 0, record_position (c.record), 3, 1, true));
  crash_end (&c);
}

/* ---- how many syncs, and none of them too many */

/* Where the first half is mapped (populate in test-cut.c). */
#define MAPPED (1 * TOY_UNIT)
#define UNMAPPED (LEN * 3 / 4)

static size_t
syncs_of_flush (struct crash *c)
{
  const size_t before = record_count (c->record, RECORD_SYNC);

  CHECK (crash_flush (c) == 0);
  return record_count (c->record, RECORD_SYNC) - before;
}

/* The kinds of change, by what their pass has to do.  Each goes far enough
 * that only the flush is missing.
 */
enum scenario {
  FIRST_CHANGE,                 /* the mark in the header is one sync */
  DATA_ONLY,
  ALLOCATION,                   /* data and counts, then entries */
  NEW_BLOCK,                    /* the directory in between */
  REUSE,                        /* of space that was freed */
  NR_SCENARIOS,
};

static void
play (struct crash *c, enum scenario scenario)
{
  uint64_t state = 99;

  if (scenario != FIRST_CHANGE) {
    CHECK (crash_write (c, &state, 100, MAPPED) == 0);
    CHECK (crash_flush (c) == 0);
    CHECK (syncs_of_flush (c) == 0);
  }
  switch (scenario) {
  case FIRST_CHANGE:
  case NR_SCENARIOS:
    break;
  case DATA_ONLY:
    CHECK (crash_write (c, &state, 3000, MAPPED + 500) == 0);
    break;
  case ALLOCATION:
    CHECK (crash_write (c, &state, 3000, UNMAPPED + 500) == 0);
    break;
  case NEW_BLOCK:
    /* One half fills the first group nearly, what is shared or has no
     * place in the other half needs the next.
     */
    CHECK (crash_write (c, &state, LEN / 2, LEN / 2) == 0);
    CHECK (crash_flush (c) == 0);
    CHECK (syncs_of_flush (c) == 0);
    CHECK (crash_write (c, &state, LEN / 2, 0) == 0);
    break;
  case REUSE:
    /* Enough to come round to the start of the free space. */
    for (unsigned i = 0; i < 40; ++i) {
      CHECK (crash_trim (c, LEN / 2, 0) == 0);
      CHECK (crash_flush (c) == 0);
      CHECK (crash_write (c, &state, LEN / 2, 0) == 0);
      CHECK (crash_flush (c) == 0);
    }
    CHECK (crash_trim (c, LEN / 2, 0) == 0);
    break;
  }
}

/* The change of FIRST_CHANGE comes after the syncs are tampered with. */
static size_t
play_last (struct crash *c, enum scenario scenario)
{
  const size_t before = record_count (c->record, RECORD_SYNC);
  uint64_t state = 77;

  if (scenario == FIRST_CHANGE)
    CHECK (crash_write (c, &state, 2048, MAPPED) == 0);
  CHECK (crash_flush (c) == 0);
  if (scenario == REUSE) {
    /* What was trimmed is written over. */
    CHECK (crash_write (c, &state, LEN / 2, LEN / 2) == 0);
    CHECK (crash_flush (c) == 0);
  }
  return record_count (c->record, RECORD_SYNC) - before;
}

static void
count_syncs (void)
{
  static const size_t wanted[NR_SCENARIOS] = {
    [FIRST_CHANGE] = 2, [DATA_ONLY] = 1, [ALLOCATION] = 2, [NEW_BLOCK] = 3,
  };

  for (enum scenario s = 0; s < REUSE; ++s) {
    struct crash c;
    size_t n;

    crash_begin (&c, &forms[0], 5);
    play (&c, s);
    n = play_last (&c, s);
    if (n != wanted[s])
      fprintf (stderr, "scenario %d: %zu syncs, not %zu\n", (int) s, n,
               wanted[s]);
    CHECK (n == wanted[s]);
    /* Shared places were given up: their counts go down later. */
    if (s == NEW_BLOCK)
      CHECK (syncs_of_flush (&c) == 1);
    CHECK (syncs_of_flush (&c) == 0);
    crash_end (&c);
  }
}

/* ---- with a sync left out */

static void
skip_each_sync (const struct bed_form *form, enum scenario scenario)
{
  size_t nr = 1;

  for (size_t skip = 0; skip <= nr; ++skip) {
    struct crash c;
    size_t from;
    bool ok;

    crash_begin (&c, form, 5);
    play (&c, scenario);
    from = record_position (c.record);
    record_skip_sync (c.record, skip, false);
    nr = play_last (&c, scenario);
    ok = crash_check_range (&c, from, record_position (c.record), 1, 20,
                            skip == 0);
    if (ok != (skip == 0))
      fprintf (stderr, "%s: scenario %d without sync %zu of %zu: the cut "
               "was %s\n", form->name, (int) scenario, skip, nr,
               ok ? "not noticed" : "harmful");
    CHECK (ok == (skip == 0));
    crash_end (&c);
  }
}

/* The end: counts go down, then the mark goes.  Of finish only the pass
 * that clears the mark depends on order, and the last sync only says that
 * it is over.
 */
static void
skip_sync_of_finish (const struct bed_form *form)
{
  bool noticed = false;
  size_t nr = 1;

  for (size_t skip = 0; skip <= nr; ++skip) {
    uint64_t state = 3;
    struct crash c;
    size_t before, from;
    bool ok;

    crash_begin (&c, form, 6);
    CHECK (crash_write (&c, &state, LEN / 4, 0) == 0);
    from = record_position (c.record);
    before = record_count (c.record, RECORD_SYNC);
    record_skip_sync (c.record, skip, false);
    CHECK (crash_finish (&c) == 0);
    nr = record_count (c.record, RECORD_SYNC) - before;
    ok = crash_check_range (&c, from, record_position (c.record), 1, 20,
                            skip == 0);
    CHECK (ok || skip > 0);
    if (nr >= 2 && skip == nr - 1)
      noticed = !ok;
    crash_end (&c);
  }
  CHECK (noticed);
}

int
main (void)
{
  count_syncs ();
  for (size_t i = 0; i < NR_FORMS; ++i) {
    run_single (&forms[i], i + 1);
    run_parallel (&forms[i], i + 1);
  }
  for (enum scenario s = 0; s < REUSE; ++s)
    skip_each_sync (&forms[0], s);
  skip_each_sync (&forms[2], ALLOCATION);
  skip_each_sync (&forms[3], REUSE);
  skip_sync_of_finish (&forms[0]);
  return EXIT_SUCCESS;
}
