/* The format has no record of what is free: space that a disk gave up is
 * used again all the same, whatever became of those who gave it up; a file
 * that grew ends where its last cluster ends.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "build.h"
#include "check.h"
#include "chance.h"
#include "cut.h"

/* Written and trimmed again and again. */
static const struct form churned = {
  .name = "churned", .shape = SHAPE (12, 9, 0, 4 * MIB),
};

/* There is room for all of the disk, but for none of it twice. */
static const struct form tight = {
  .name = "tight", .shape = SHAPE (12, 9, 0, 512 * KIB),
  .room = 512 * KIB + 2 * 4096,
};
static const struct form tight_tables = {
  .name = "tight, tables", .shape = SHAPE (9, 6, 0, 192 * KIB),
  .room = 192 * KIB + 7 * 512,
};

static uint64_t state = 9;

static void
write_at (struct bed *bed, uint64_t guest, uint64_t len)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  chance_fill (&state, buf, len);
  CHECK (image_write (bed->img, buf, len, guest) == 0);
}

static void
check_sound (const struct bed *bed)
{
  struct report report;

  kind.check (bed, stderr, &report);
  CHECK (report.is_image && report.nr_errors == 0);
}

/* A disk of 4 MiB does not make a file of any length. */
static void
test_churn (void)
{
  const uint64_t len = MIB, nr_rounds = 100, bound = 32 * MIB;
  struct bed bed;

  bed_make (&bed, &churned);
  bed_open (&bed);
  for (uint64_t i = 0; i < nr_rounds; ++i) {
    write_at (&bed, i % 4 * MIB, len);
    CHECK (image_trim (bed.img, len, i % 4 * MIB) == 0);
    if (i % 3 == 0)
      CHECK (image_flush (bed.img) == 0);
  }
  fprintf (stderr, "%" PRIu64 " bytes for %" PRIu64 " written\n",
           source_len (bed.src), nr_rounds * len);
  CHECK (source_len (bed.src) <= bound);
  CHECK (image_finish (bed.img) == 0);
  check_sound (&bed);
  CHECK (source_len (bed.src) <= bound);
  bed_free (&bed);
}

/* Space that is used again holds what it held, where it could not be
 * punched: nothing of that is to be seen.
 */
static void
test_stale (void)
{
  struct crash c;

  crash_begin (&c, &churned);
  record_fail_at (c.record, RECORD_ZERO, 1, ENOTSUP, true);
  for (uint64_t i = 0; i < 20; ++i) {
    CHECK (crash_write (&c, &state, MIB, i % 4 * MIB) == 0);
    CHECK (crash_trim (&c, MIB, i % 4 * MIB) == 0);
    CHECK (crash_flush (&c) == 0);
  }
  for (uint64_t guest = 0; guest < c.bed.len; guest += 8192)
    CHECK (crash_write (&c, &state, 100, guest + 1000) == 0);
  crash_check_running (&c);
  /* It was used again. */
  CHECK (source_len (c.bed.src) < 24 * MIB);
  crash_end (&c);
}

/* Closed cleanly, a file that grew ends with its last cluster. */
static void
test_end (const char *name)
{
  struct bed bed;
  uint64_t end, cluster_len;

  bed_make (&bed, bed_form (name));
  cluster_len = kind.cluster_len (&bed);
  bed_open (&bed);
  write_at (&bed, bed.len - 3000, 3000);
  write_at (&bed, bed.len / 2, bed.len / 4);
  CHECK (image_trim (bed.img, bed.len / 8, bed.len / 2) == 0);
  CHECK (image_finish (bed.img) == 0);
  check_sound (&bed);
  end = MAX (round_up (check_end (bed.src), cluster_len),
             source_len (bed.first));
  if (source_len (bed.src) > end)
    fprintf (stderr, "%s: %" PRIu64 " bytes, of which %" PRIu64 " are used\n",
             name, source_len (bed.src), end);
  CHECK (source_len (bed.src) <= end);
  bed_free (&bed);
}

/* Requests of an image that was not closed cleanly cost nothing. */
static void
test_unclean (const struct form *form)
{
  struct bed bed;
  uint64_t guest, len;

  fprintf (stderr, "%s\n", form->name);
  bed_make (&bed, form);
  for (unsigned round = 0; round < 5; ++round) {
    bed_open (&bed);
    for (unsigned i = 0; i < 60; ++i) {
      chance_range (&state, 0, bed.len, bed.len / 4, &guest, &len);
      if (chance_below (&state, 2))
        write_at (&bed, guest, len);
      else
        CHECK (image_trim (bed.img, len, guest) == 0);
      if (chance_below (&state, 8) == 0)
        CHECK (image_flush (bed.img) == 0);
    }
    bed_close (&bed);
    check_sound (&bed);
  }
  bed_open (&bed);
  write_at (&bed, 0, bed.len);
  CHECK (image_flush (bed.img) == 0);
  CHECK (image_trim (bed.img, bed.len, 0) == 0);
  write_at (&bed, 0, bed.len);
  CHECK (image_finish (bed.img) == 0);
  check_sound (&bed);
  bed_free (&bed);
}

/* Nor do requests that failed when they had their space. */
static void
test_failed (void)
{
  struct crash c;
  uint64_t guest;

  crash_begin (&c, &tight);
  for (unsigned i = 0; i < 400; ++i) {
    guest = chance_below (&state, c.bed.len / 4096) * 4096;
    record_fail_at (c.record, RECORD_WRITE, 1 + i % 2, EIO, false);
    crash_write (&c, &state, 4096, guest);
    record_fail_at (c.record, RECORD_WRITE, 0, 0, false);
    CHECK (crash_trim (&c, 4096, guest) == 0);
  }
  CHECK (c.nr_failures > 150);
  CHECK (crash_write (&c, &state, c.bed.len, 0) == 0);
  CHECK (crash_finish (&c) == 0);
  crash_check_running (&c);
  bed_close (&c.bed);
  crash_check_closed (&c, 0);
  crash_end (&c);
}

int
main (void)
{
  test_churn ();
  test_stale ();
  test_failed ();
  test_end ("usual");
  test_end ("empty");
  test_end ("small");
  test_end ("mixed");
  test_end ("large clusters");
  test_end ("base, 4k");
  test_unclean (&tight);
  test_unclean (&tight_tables);
  return EXIT_SUCCESS;
}
