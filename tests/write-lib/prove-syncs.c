/* How many syncs a flush costs, and that none of them is too many: with
 * any one left out, some power cut does harm.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "include/checked.h"
#include "include/testing.h"
#include "cut.h"
#include "prove.h"

static uint64_t state = 5;

size_t
syncs_so_far (const struct crash *c)
{
  return record_count (c->record, RECORD_SYNC);
}

void
syncs_flush (struct crash *c)
{
  CHECK (crash_flush (c) == 0);
}

static void
settle (struct crash *c)
{
  syncs_flush (c);
  syncs_flush (c);
}

void
syncs_write (struct crash *c, uint64_t guest, uint64_t len)
{
  CHECK (crash_write (c, &state, len, guest) == 0);
}

static void
begin (struct crash *c, const struct sync_scenario *s)
{
  state = 5;
  crash_begin (c, bed_form (s->form));
  if (s->before) {
    s->before (c);
    settle (c);
  }
}

static void
count (const struct sync_scenario *s)
{
  struct crash c;
  size_t at_first, n;

  begin (&c, s);
  at_first = syncs_so_far (&c);
  s->change (&c);
  syncs_flush (&c);
  n = syncs_so_far (&c) - at_first;
  if (n != s->nr_syncs)
    fprintf (stderr, "%s: %zu syncs, not %zu\n", s->name, n, s->nr_syncs);
  CHECK (n == s->nr_syncs);
  syncs_flush (&c);
  n = syncs_so_far (&c) - at_first - n;
  if (n != s->nr_later)
    fprintf (stderr, "%s: %zu syncs later, not %zu\n", s->name, n,
             s->nr_later);
  CHECK (n == s->nr_later);
  at_first = syncs_so_far (&c);
  syncs_flush (&c);
  CHECK (syncs_so_far (&c) == at_first);
  crash_end (&c);
}

/* Is any cut during the change harmful when sync 'skip' is left out? */
static bool
is_sound_without (const struct sync_scenario *s, size_t skip)
{
  struct crash_range range = { .step = 1, .loud = skip == 0 };
  struct crash c;
  bool ok;

  /* To find harm takes more than to find none. */
  range.seeds = skip > 0 ? 24 : IS_SANITIZED ? 2 : 8;
  begin (&c, s);
  range.from = record_position (c.record);
  record_skip_sync (c.record, skip, false);
  s->change (&c);
  syncs_flush (&c);
  range.to = record_position (c.record);
  ok = crash_check_range (&c, &range);
  crash_end (&c);
  return ok;
}

static void
leave_out_each (const struct sync_scenario *s)
{
  CHECK (is_sound_without (s, 0));
  for (size_t skip = 1; skip <= s->nr_syncs; ++skip) {
    const bool is_harmless = s->harmless >> (skip - 1) & 1;

    if (is_sound_without (s, skip) == is_harmless)
      continue;
    fprintf (stderr, "%s: without sync %zu of %zu the cut was %s\n",
             s->name, skip, s->nr_syncs, is_harmless ? "harmful"
             : "not noticed");
    exit (EXIT_FAILURE);
  }
}

void
prove_syncs (const struct sync_scenario *scenarios, size_t nr)
{
  for (size_t i = 0; i < nr; ++i) {
    fprintf (stderr, "%s\n", scenarios[i].name);
    count (&scenarios[i]);
    leave_out_each (&scenarios[i]);
  }
}

void
prove_growth_syncs (const struct form *form, uint64_t step)
{
  const size_t nr_flushes = 400;
  struct crash c;
  size_t i, n;

  crash_begin (&c, form);
  for (i = 0; i < nr_flushes; ++i) {
    syncs_write (&c, i * step, 512);
    syncs_flush (&c);
  }
  n = syncs_so_far (&c);
  fprintf (stderr, "%zu syncs for %zu flushes\n", n, nr_flushes);
  CHECK (n <= 2 * nr_flushes + nr_flushes / 100);
  crash_end (&c);
}
