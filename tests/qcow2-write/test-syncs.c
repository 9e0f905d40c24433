/* How many syncs a flush of a qcow2 image costs, and that none of them is
 * too many.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "include/testing.h"
#include "build.h"
#include "prove.h"

/* ---- the changes (forms.c and write-lib/bed.c say what is there) */

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

/* Where the disk has a table already. */
static void
prepare_table (struct crash *c)
{
  syncs_write (c, c->bed.len - 512, 512);
}

/* Blocks count 32 KiB of the file each. */
static void
write_into_new_block (struct crash *c)
{
  syncs_write (c, 96 * KIB, 40 * KIB);
}

/* The table, nearly full, names 2 MiB. */
static void
write_into_new_table (struct crash *c)
{
  syncs_write (c, 2750 * KIB, 40 * KIB);
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
  syncs_flush (c);
  syncs_write (c, 200 * KIB, 56 * KIB);
}

static const struct sync_scenario scenarios[] = {
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

/* Large, of the usual kind. */
static const struct form large = {
  .name = "large", .shape = SHAPE (3, 16, 4, 0, 32 * MIB),
};

int
main (void)
{
  bed_use_work_directory ();
  prove_syncs (scenarios, sizeof scenarios / sizeof scenarios[0]);
  prove_growth_syncs (&large, 64 * KIB);
  return EXIT_SUCCESS;
}
