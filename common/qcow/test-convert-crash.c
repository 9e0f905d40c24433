/* Conversion, and the power may be cut at any moment.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/test-conversion.h"
#include "source/memory.h"

/* It is over: nothing is missing whatever happens. */
static void
check_durable (struct bed *bed, struct tape *tape)
{
  CLEANUP_SOURCE struct source *src =
    cut (tape, record_position (tape->record), 0, RECORD_NONE);

  CHECK (is_wanted (bed, src, true));
}

/* One run does it, a second one has nothing to do; and all the cuts. */
static void
test_cuts (struct bed *bed, const struct ways *ways)
{
  struct tape tape;
  size_t changes;

  tape_begin (&tape, bed->image.src, ways->can_grow);
  CHECK (convert (tape.src, ways->first) == 0);
  CHECK (is_wanted (bed, tape.src, true));
  changes = nr_changes (&tape);
  CHECK ((changes == 0) == bed->form->is_nothing);
  check_cuts (bed, &tape, ways->second, 4);
  check_durable (bed, &tape);

  CHECK (convert (tape.src, ways->second) == 0);
  CHECK (nr_changes (&tape) == changes);
  CHECK (is_wanted (bed, tape.src, true));
  tape_end (&tape);
}

/* The second run is cut too. */
static void
test_two_cuts (struct bed *bed, const struct ways *ways)
{
  struct tape tape;

  tape_begin (&tape, bed->image.src, ways->can_grow);
  CHECK (convert (tape.src, ways->first) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p) {
    CLEANUP_SOURCE struct source *src = cut (&tape, p, p, RECORD_RANDOM);
    struct tape again;

    tape_begin (&again, src, ways->can_grow);
    CHECK (convert (again.src, ways->second) == 0);
    check_cuts (bed, &again, p % 2 ? ways->first : ways->second, 2);
    tape_end (&again);
  }
  tape_end (&tape);
}

/* A copy that was begun in a file, which can no longer grow or shrink. */
static void
test_cut_then_fixed (struct bed *bed)
{
  struct tape tape;

  tape_begin (&tape, bed->image.src, true);
  CHECK (convert (tape.src, GROWING) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p)
    for (unsigned i = 0; i < 3; ++i) {
      CLEANUP_SOURCE struct source *src = cut (&tape, p, i, RECORD_RANDOM);
      CLEANUP_SOURCE struct source *fixed = copy_of (src, source_len (src));

      CHECK (goes_on (bed, fixed, p % 2 ? FIXED : GROWING, false));
    }
  tape_end (&tape);
}

/* ---- between two runs */

/* After the copy became valid QEMU adds a table at the end of the file: it
 * is neither lost nor cut off.
 */
static void
test_used_in_between (void)
{
  struct tape tape;
  struct bed bed;
  unsigned nr_used = 0;

  bed_make (&bed, form_named ("little"));
  tape_begin (&tape, bed.image.src, true);
  CHECK (convert (tape.src, GROWING) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p) {
    CLEANUP_SOURCE struct source *src = cut (&tape, p, 0, RECORD_ALL);
    const uint64_t end = round_up (source_len (src), 512);
    uint8_t bytes[8], entry[8];
    struct run run;

    CHECK (run_begin (&run, src) == 0);
    qcow_verdict_free (&run.v);
    if (run.plan.writes_table)
      continue;                 /* QEMU would not read it right */
    store_be64 (bytes, end);
    CHECK (source_grow (src, end + 512 + 512) == 0);
    CHECK (source_pwrite (src, bytes, 8, run.h.l1_host + 149 * 8) == 0);
    store_be64 (entry, end + 512);
    CHECK (source_pwrite (src, entry, 8, end) == 0);

    CHECK (convert (src, p % 2 ? GROWING : FIXED) == 0);
    CHECK (source_len (src) == end + 1024);
    CHECK (source_pread (src, entry, 8, 4096 + 149 * 8) == 0);
    CHECK (memcmp (entry, bytes, 8) == 0);
    CHECK (run_begin (&run, src) == 0);
    CHECK (!run.plan.is_needed && run.h.l1_host == 4096);
    CHECK (run.v.nr_damaged == 0);
    qcow_verdict_free (&run.v);
    nr_used++;
  }
  CHECK (nr_used > 10);
  tape_end (&tape);
  bed_free (&bed);
}

/* The table is home, the copy still there, and somebody has used that: an
 * entry points behind the old end; a byte was written there; the file is
 * longer.  Then it is not cut off.
 */
static void
use_tail (struct source *src, uint64_t old_len, unsigned how)
{
  const uint64_t len = source_len (src);
  uint8_t bytes[8];

  store_be64 (bytes, round_up (old_len, 512));
  if (how == 0)
    CHECK (source_pwrite (src, bytes, 8, 4096 + 149 * 8) == 0);
  else if (how == 1)
    CHECK (source_pwrite (src, "x", 1, len - 1) == 0);
  else
    CHECK (source_grow (src, len + 512) == 0);
}

static void
test_tail_used (void)
{
  unsigned nr_used = 0;
  struct tape tape;
  struct bed bed;

  bed_make (&bed, form_named ("little"));
  tape_begin (&tape, bed.image.src, true);
  CHECK (convert (tape.src, GROWING) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p)
    for (unsigned how = 0; how <= 3; ++how) {
      CLEANUP_SOURCE struct source *src = cut (&tape, p, 0, RECORD_ALL);
      const uint64_t old_len = source_len (bed.image.src);
      struct test_qcow t = { .src = src };
      uint64_t len;

      if (test_qcow_peek (&t, 60, 4) != 3 || source_len (src) == old_len ||
          test_qcow_peek (&t, 40, 8) != 4096)
        continue;
      if (how < 3)
        use_tail (src, old_len, how);
      len = source_len (src);
      CHECK (convert (src, GROWING) == 0);
      CHECK (source_len (src) == (how < 3 ? len : old_len));
      nr_used++;
    }
  CHECK (nr_used >= 8);
  tape_end (&tape);
  bed_free (&bed);
}

/* The record is gone: what is left is seen from the table alone. */
static void
test_record_lost (void)
{
  static const uint8_t zeroes[512];
  struct tape tape;
  struct bed bed;
  unsigned nr_finished = 0;

  bed_make (&bed, form_named ("little"));
  tape_begin (&tape, bed.image.src, true);
  CHECK (convert (tape.src, GROWING) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p) {
    CLEANUP_SOURCE struct source *src = cut (&tape, p, p, RECORD_RANDOM);
    struct run run;

    CHECK (source_pwrite (src, zeroes, 512, 512) == 0);
    CHECK (run_begin (&run, src) == 0);
    nr_finished += run.plan.must_finish;
    qcow_verdict_free (&run.v);
    CHECK (goes_on (&bed, src, GROWING, false));
  }
  CHECK (nr_finished > 4);
  tape_end (&tape);
  bed_free (&bed);
}

/* ---- sectors that are not written whole */

static void
add_ambiguous (struct test_qcow *t)
{
  test_qcow_set_l1 (t, 5, UINT64_C (0x102000000), false);
  test_qcow_set_l1 (t, 9, UINT64_C (0x103000000), false);
}

/* Entry by entry what was there or what is to be there. */
static void
tear_table (struct bed *bed, struct source *src, uint64_t seed)
{
  const uint64_t host = bed->image.spec.l1_host;

  for (uint64_t i = 0; i < bed->image.nr_l1; ++i) {
    uint8_t bytes[8];

    seed = seed * UINT64_C (6364136223846793005) + 1442695040888963407;
    CHECK (source_pread (seed >> 63 ? bed->image.src : bed->wanted, bytes, 8,
                         host + i * 8) == 0);
    CHECK (source_pwrite (src, bytes, 8, host + i * 8) == 0);
  }
}

/* Nothing but their neighbours tells what two entries mean; when sectors
 * tear, only the records do.
 */
static void
test_torn_sectors (void)
{
  static const struct form form = {
    "ambiguous, torn", { OVERLAY, .xen = TEST_QCOW_XEN_16,
                         .order = TEST_QCOW_LITTLE,
                         .cksum = TEST_QCOW_CKSUM_CREATED,
                         .file_len = UINT64_C (16) << 30 },
    add_ambiguous, .flags = 3,
  };
  unsigned nr_torn = 0;
  struct tape tape;
  struct bed bed;

  bed_make (&bed, &form);
  tape_begin (&tape, bed.image.src, false);
  CHECK (convert (tape.src, FIXED) == 0);
  for (size_t p = 0; p <= record_position (tape.record); ++p) {
    CLEANUP_SOURCE struct source *all = cut (&tape, p, 0, RECORD_ALL);
    struct test_qcow t = { .src = all };

    if (test_qcow_peek (&t, 4096, 8) ==
        test_qcow_peek (&bed.image, 4096, 8) ||
        test_qcow_peek (&t, 60, 4) == 3)
      continue;                 /* not yet written, or durable */
    for (unsigned i = 0; i < 20; ++i) {
      CLEANUP_SOURCE struct source *src = cut (&tape, p, i, RECORD_RANDOM);

      tear_table (&bed, src, p * 100 + i);
      CHECK (goes_on (&bed, src, FIXED, true));
      nr_torn++;
    }
  }
  CHECK (nr_torn > 20);
  tape_end (&tape);
  bed_free (&bed);
}

int
main (void)
{
  static const char *const twice[] = {
    "little", "3.0.4", "many ambiguous", "overlay, 12 bytes",
    "mixed in a sector",
  };
  struct bed bed;

  for (size_t i = 0; i < nr_forms; ++i) {
    bed_make (&bed, &all_forms[i]);
    for (unsigned w = 0; w < NR_WAYS; ++w)
      test_cuts (&bed, &all_ways[w]);
    test_cut_then_fixed (&bed);
    bed_free (&bed);
  }
  for (size_t i = 0; i < sizeof twice / sizeof twice[0]; ++i) {
    bed_make (&bed, form_named (twice[i]));
    for (unsigned w = 0; w < NR_WAYS; ++w)
      test_two_cuts (&bed, &all_ways[w]);
    bed_free (&bed);
  }
  test_used_in_between ();
  test_tail_used ();
  test_record_lost ();
  test_torn_sectors ();
  return EXIT_SUCCESS;
}
