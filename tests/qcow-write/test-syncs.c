/* How many syncs a flush of a qcow image costs, and that none of them is
 * too many.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "include/testing.h"
#include "build.h"
#include "prove.h"

/* ---- the changes; see forms.c and content in build.c for what is there */

/* One sector that is mapped, so that whatever the first change costs is
 * over.
 */
static void
touch (struct crash *c)
{
  syncs_write (c, 0, 512);
}

static void
change_nothing (struct crash *c)
{
  (void) c;
}

static void
write_mapped (struct crash *c)
{
  syncs_write (c, 700, 1500);
}

/* The last quarter of the disk is empty. */
static void
write_unmapped (struct crash *c)
{
  syncs_write (c, c->bed.len * 3 / 4 + 100, 3000);
}

static void
write_two (struct crash *c)
{
  syncs_write (c, c->bed.len * 3 / 4 + 100, 3000);
  syncs_write (c, c->bed.len * 7 / 8 + 100, 3000);
}

/* Over cluster 3 of 4 KiB, a compressed one. */
static void
write_packed (struct crash *c)
{
  syncs_write (c, 3 * 4096 + 100, 300);
}

static void
trim_mapped (struct crash *c)
{
  CHECK (crash_trim (c, c->bed.len / 8, 0) == 0);
}

/* Over a base, cluster 2 of 4 KiB: the stream that reads as zeroes. */
static void
zero_unmapped (struct crash *c)
{
  CHECK (crash_zero (c, 4096, 2 * 4096, true, true) == 0);
}

/* Space is given up, and soon used for something else. */
static void
trim_and_reuse (struct crash *c)
{
  CHECK (crash_trim (c, 128 * KIB, 0) == 0);
  syncs_flush (c);
  syncs_write (c, 400 * KIB, 112 * KIB);
}

static const struct sync_scenario scenarios[] = {
  { "nothing", "usual", touch, change_nothing, 0, 0, 0 },
  { "data", "usual", touch, write_mapped, 1, 0, 0 },
  { "allocation", "usual", touch, write_unmapped, 2, 0, 0 },
  { "first of all", "usual", NULL, write_unmapped, 2, 0, 0 },
  { "table and cluster", "empty", NULL, write_unmapped, 2, 0, 0 },
  { "several tables", "small", touch, write_two, 2, 0, 0 },
  { "two clusters", "small cache", touch, write_two, 2, 0, 0 },
  { "over a base", "base", touch, write_unmapped, 2, 0, 0 },
  { "over a base, 4k", "base, 4k", touch, write_unmapped, 2, 0, 0 },
  { "compressed", "mixed", touch, write_packed, 2, 0, 0 },
  { "trim", "usual", touch, trim_mapped, 1, 0, 0 },
  { "zero over a base", "base, 4k", touch, zero_unmapped, 2, 0, 0 },
  { "trap", "trap", touch, write_unmapped, 2, 0, 0 },
  { "fixed", "fixed", touch, write_unmapped, 2, 0, 0 },
  { "reuse", "fixed", touch, trim_and_reuse, 3, 0, 0 },

  /* Its readers must not believe their formula any more, before. */
  { "xen, data", "xen", NULL, write_mapped, 2, 0, 0 },
  /* What is written to new places is not seen before the second. */
  { "xen, allocation", "xen, small tables", NULL, write_unmapped, 3, 0, 1 },
  { "xen, data again", "xen", touch, write_mapped, 1, 0, 0 },
  { "xen, allocation again", "xen, small tables", touch, write_unmapped, 2,
    0, 0 },
  { "xen, base", "xen, base", NULL, write_unmapped, 2, 0, 0 },
};

/* Large, of the usual kind. */
static const struct form large = {
  .name = "large", .shape = SHAPE (12, 9, 0, 32 * MIB),
};

int
main (void)
{
  bed_use_work_directory ();
  prove_syncs (scenarios, sizeof scenarios / sizeof scenarios[0]);
  prove_growth_syncs (&large, 64 * KIB);
  return EXIT_SUCCESS;
}
