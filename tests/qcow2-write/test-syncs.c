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

/* A kind of change, by what its pass has to do. */
struct scenario {
  const char *name;
  const char *form;
  /* Done, and flushed, before; may be NULL. */
  void (*before) (struct crash *c);
  /* What is measured; it does not flush. */
  void (*change) (struct crash *c);
  size_t nr_syncs;              /* of the change and the flush after it */
  size_t nr_later;              /* of one more flush: counts go down */
  /* One bit for each sync that may be missing with nothing lost, 1 for the
   * first, because a later one does its work before anything depends on
   * it.
   */
  unsigned harmless;
};

static uint64_t state = 5;

static size_t
nr_syncs (const struct crash *c)
{
  return record_count (c->record, RECORD_SYNC);
}

static void
flush (struct crash *c)
{
  CHECK (crash_flush (c) == 0);
}

static void
settle (struct crash *c)
{
  flush (c);
  flush (c);
}

static void
write_at (struct crash *c, uint64_t guest, uint64_t len)
{
  CHECK (crash_write (c, &state, len, guest) == 0);
}

/* ---- the changes; see forms.c and populate in bed.c for what is there */

/* One sector that is mapped, so that whatever the first change costs is
 * over.
 */
static void
touch (struct crash *c)
{
  write_at (c, 0, 512);
}

static void
change_nothing (struct crash *c)
{
  (void) c;
}

static void
write_mapped (struct crash *c)
{
  write_at (c, 700, 1500);
}

static void
write_unmapped (struct crash *c)
{
  write_at (c, c->bed.len * 3 / 4 + 100, 3000);
}

static void
write_two (struct crash *c)
{
  write_at (c, c->bed.len * 3 / 4 + 100, 3000);
  write_at (c, c->bed.len * 7 / 8 + 100, 3000);
}

/* Where the disk has a table already. */
static void
prepare_table (struct crash *c)
{
  write_at (c, c->bed.len - 512, 512);
}

/* Blocks count 32 KiB of the file each. */
static void
write_into_new_block (struct crash *c)
{
  write_at (c, 96 * KIB, 40 * KIB);
}

/* The table, nearly full, names 2 MiB. */
static void
write_into_new_table (struct crash *c)
{
  write_at (c, 2750 * KIB, 40 * KIB);
}

static void
trim_mapped (struct crash *c)
{
  CHECK (crash_trim (c, c->bed.len / 8, 0) == 0);
}

/* Space is given up, and soon used for something else. */
static void
trim_and_reuse (struct crash *c)
{
  CHECK (crash_trim (c, 128 * KIB, 0) == 0);
  flush (c);
  write_at (c, 200 * KIB, 56 * KIB);
}

static const struct scenario scenarios[] = {
  { "nothing", "usual", touch, change_nothing, 0, 0, 0 },
  { "data", "usual", touch, write_mapped, 1, 0, 0 },
  { "allocation", "snapshot", prepare_table, write_unmapped, 2, 0, 0 },
  { "table and cluster", "empty", NULL, write_unmapped, 2, 0, 0 },
  { "two clusters", "small cache", prepare_table, write_two, 2, 0, 0 },
  { "over a base", "base", touch, write_unmapped, 2, 0, 0 },
  { "subclusters", "extended, base", prepare_table, write_unmapped, 2, 0,
    0 },
  { "copy on write", "snapshot", NULL, write_mapped, 2, 1, 0 },
  { "trim", "usual", touch, trim_mapped, 1, 1, 0 },
  { "new block", "width 32", touch, write_into_new_block, 3, 0, 0 },
  { "longer table", "table growth", touch, write_into_new_table, 3, 1, 0 },
  { "data file, data", "data file", touch, write_mapped, 1, 0, 0 },
  { "data file, table", "empty data file", NULL, write_unmapped, 3, 0, 0 },
  { "data file, allocation", "data file", touch, write_unmapped, 2, 0, 0 },
  { "autoclear", "autoclear", NULL, write_mapped, 2, 0, 0 },
  /* The header is switched to the new counts by the second sync; before
   * it the image stays dirty, and is repaired again.
   */
  { "repair", "dirty", NULL, write_mapped, 3, 0, 2 },
  { "reuse", "fixed", touch, trim_and_reuse, 3, 0, 0 },
};
#define NR_SCENARIOS (sizeof scenarios / sizeof scenarios[0])

static void
begin (struct crash *c, const struct scenario *s)
{
  state = 5;
  crash_begin (c, bed_form (s->form));
  if (s->before) {
    s->before (c);
    settle (c);
  }
}

static void
count (const struct scenario *s)
{
  struct crash c;
  size_t at_first, n;

  begin (&c, s);
  at_first = nr_syncs (&c);
  s->change (&c);
  flush (&c);
  n = nr_syncs (&c) - at_first;
  if (n != s->nr_syncs)
    fprintf (stderr, "%s: %zu syncs, not %zu\n", s->name, n, s->nr_syncs);
  CHECK (n == s->nr_syncs);
  flush (&c);
  n = nr_syncs (&c) - at_first - n;
  if (n != s->nr_later)
    fprintf (stderr, "%s: %zu syncs later, not %zu\n", s->name, n,
             s->nr_later);
  CHECK (n == s->nr_later);
  at_first = nr_syncs (&c);
  flush (&c);
  CHECK (nr_syncs (&c) == at_first);
  crash_end (&c);
}

/* Is any cut during the change harmful when sync 'skip' is left out? */
static bool
is_sound_without (const struct scenario *s, size_t skip)
{
  struct crash_range range = { .step = 1, .loud = skip == 0 };
  struct crash c;
  bool ok;

  range.seeds = skip == 0 && IS_SANITIZED ? 2 : 24;
  begin (&c, s);
  range.from = record_position (c.record);
  record_skip_sync (c.record, skip, false);
  s->change (&c);
  flush (&c);
  range.to = record_position (c.record);
  ok = crash_check_range (&c, &range);
  crash_end (&c);
  return ok;
}

static void
leave_out_each (const struct scenario *s)
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

/* A large image of the usual kind, one cluster and one flush at a time:
 * growing tables add next to nothing.
 */
static void
count_growth (void)
{
  static const struct form form = {
    .name = "large", .shape = { 3, 16, 4, 0, 32 * MIB },
  };
  const size_t nr_flushes = 400;
  struct crash c;
  size_t i, n;

  crash_begin (&c, &form);
  for (i = 0; i < nr_flushes; ++i) {
    write_at (&c, i * 64 * KIB, 512);
    flush (&c);
  }
  n = nr_syncs (&c);
  fprintf (stderr, "%zu syncs for %zu flushes\n", n, nr_flushes);
  CHECK (n <= 2 * nr_flushes + nr_flushes / 100);
  crash_end (&c);
}

int
main (void)
{
  bed_use_work_directory ();
  for (size_t i = 0; i < NR_SCENARIOS; ++i) {
    fprintf (stderr, "%s\n", scenarios[i].name);
    count (&scenarios[i]);
    leave_out_each (&scenarios[i]);
  }
  count_growth ();
  return EXIT_SUCCESS;
}
