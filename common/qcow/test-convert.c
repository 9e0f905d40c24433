/* Conversion of L1 tables: any call may fail once; what must not be
 * converted; what it costs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "qcow/test-conversion.h"
#include "report/test-messages.h"

/* ---- any call may fail once */

/* The nth call of 'op' fails.  false: there are not so many. */
static bool
fail_one (struct bed *bed, const struct ways *ways, enum record_op op,
          size_t nth)
{
  struct tape tape;
  size_t count;
  int r;

  test_messages_forget ();
  tape_begin (&tape, bed->image.src, ways->can_grow);
  count = record_count (tape.record, op);
  record_fail_at (tape.record, op, nth, EIO, false);
  r = convert (tape.src, ways->first);
  count = record_count (tape.record, op) - count;
  if (count < nth)
    CHECK (r == 0);
  else {
    CHECK (r == -1 && test_messages.nr_errors > 0);
    for (unsigned mode = RECORD_ALL; mode <= RECORD_RANDOM; ++mode) {
      CLEANUP_SOURCE struct source *src =
        cut (&tape, record_position (tape.record), nth, mode);

      CHECK (goes_on (bed, src, ways->second, true));
    }
  }
  tape_end (&tape);
  return count >= nth;
}

static void
test_faults (struct bed *bed, const struct ways *ways)
{
  static const enum record_op ops[] = {
    RECORD_READ, RECORD_WRITE, RECORD_SYNC, RECORD_TRUNCATE,
  };

  for (unsigned i = 0; i < sizeof ops / sizeof ops[0]; ++i)
    for (size_t nth = 1; fail_one (bed, ways, ops[i], nth); ++nth)
      ;
}

/* ---- what must not be converted */

static void
check_untouched (struct source *src, struct source *before, enum way way,
                 const char *why_not)
{
  struct tape tape;
  struct run run;

  tape_begin (&tape, src, true);
  CHECK (run_begin (&run, tape.src) == 0);
  CHECK (!run.plan.is_needed);
  CHECK (run.plan.why_not != NULL && strstr (run.plan.why_not, why_not));
  CHECK (run_carry_out (&run, tape.src, way) == 0);
  CHECK (nr_changes (&tape) == 0);
  CHECK (source_len (before) == source_len (tape.src));
  CHECK (first_difference (before, tape.src, source_len (before)) ==
         source_len (before));
  qcow_verdict_free (&run.v);
  tape_end (&tape);
}

/* Entries that make no sense stay as they are, the others are seen right. */
static void
test_damaged (void)
{
  static const struct form form = {
    "damaged", { SMALL, .xen = TEST_QCOW_XEN_16, .order = TEST_QCOW_LITTLE },
    .flags = 3,
  };
  struct bed bed;
  uint8_t bytes[16];
  struct run run;

  bed_make (&bed, &form);
  test_qcow_set_l1 (&bed.image, 8, UINT64_C (0x1234567800000000), true);
  check_untouched (bed.image.src, bed.image.src, GROWING, "damaged");
  check_untouched (bed.image.src, bed.image.src, FIXED, "damaged");

  CHECK (run_begin (&run, bed.image.src) == 0);
  CHECK (source_pread (bed.image.src, bytes, 16, 4096 + 7 * 8) == 0);
  qcow_convert_view (&run.h, &run.v, &run.plan, bytes, 16, 4096 + 7 * 8);
  CHECK (load_be64 (bytes) == bed.image.l1[7]);
  CHECK (load_be64 (bytes + 8) == UINT64_C (0x1234567800000000));
  qcow_verdict_free (&run.v);
  bed_free (&bed);
}

/* A big endian table under the flag needs nothing; so what is damaged
 * keeps it from nothing.
 */
static void
test_damaged_big (void)
{
  static const struct form form = {
    "damaged, big", { SMALL, .xen = TEST_QCOW_XEN_16 }, .is_nothing = true,
  };
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  test_qcow_set_l1 (&bed.image, 8, 12345, true);
  CHECK (run_begin (&run, bed.image.src) == 0);
  CHECK (run.v.nr_damaged == 1);
  CHECK (!run.plan.is_needed && run.plan.why_not == NULL);
  qcow_verdict_free (&run.v);
  bed_free (&bed);
}

static void
test_unaligned (void)
{
  static const struct form form = {
    "unaligned", { SMALL, .xen = TEST_QCOW_XEN_16, .l1_host = 4100,
                   .order = TEST_QCOW_LITTLE }, .flags = 3,
    .new_cksum = true,
  };
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  check_untouched (bed.image.src, bed.image.src, GROWING, "multiple of 8");
  check_untouched (bed.image.src, bed.image.src, FIXED, "multiple of 8");
  CHECK (run_begin (&run, bed.image.src) == 0);
  CHECK (same_view (&bed, &run, bed.image.src));
  qcow_verdict_free (&run.v);
  bed_free (&bed);
}

/* Somebody else writes after the plan was made. */
static void
change_behind_back (uint64_t host, uint8_t byte, enum way way)
{
  static const struct form form = {
    "changed", { SMALL, .xen = TEST_QCOW_XEN_16,
                 .order = TEST_QCOW_LITTLE }, .flags = 3, .new_cksum = true,
  };
  struct tape tape;
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  tape_begin (&tape, bed.image.src, true);
  CHECK (run_begin (&run, tape.src) == 0);
  CHECK (source_pwrite (tape.src, &byte, 1, host) == 0);
  test_messages_forget ();
  CHECK_FAILS (run_carry_out (&run, tape.src, way), EIO);
  CHECK (test_messages.nr_errors == 1);
  CHECK (strstr (test_messages.error, "changed") != NULL);
  CHECK (nr_changes (&tape) == 1);
  qcow_verdict_free (&run.v);
  tape_end (&tape);
  bed_free (&bed);
}

static void
test_changed (void)
{
  for (enum way way = GROWING; way <= FIXED; ++way) {
    change_behind_back (63, 0xff, way); /* flags */
    change_behind_back (31, 0xff, way); /* length of the disk */
    change_behind_back (4096 + 140 * 8 + 2, 0x11, way);
  }
}

/* Nor is a plan made with a header that is out of date: its table would be
 * taken for what an interrupted run left, and be cut off.
 */
static void
test_stale_header (void)
{
  static const struct form form = {
    "stale header", { SMALL, .xen = TEST_QCOW_XEN_16,
                      .order = TEST_QCOW_LITTLE }, .flags = 3,
    .new_cksum = true,
  };
  struct tape tape;
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  CHECK (run_begin (&run, bed.image.src) == 0);
  test_qcow_poke (&bed.image, QCOW_AT_L1_HOST, 8, 1 << 20);
  tape_begin (&tape, bed.image.src, true);
  test_messages_forget ();
  CHECK_FAILS (qcow_convert_plan (tape.src, "image", &run.h, &run.v,
                                  &run.plan), EIO);
  CHECK (test_messages.nr_errors == 1);
  CHECK (!run.plan.is_needed && run.plan.why_not == NULL);
  for (enum way way = GROWING; way <= FIXED; ++way)
    CHECK (run_carry_out (&run, tape.src, way) == 0);
  CHECK (nr_changes (&tape) == 0);
  qcow_verdict_free (&run.v);
  tape_end (&tape);
  bed_free (&bed);
}

/* Ambiguous entries, and nowhere to note what they mean: in place it is
 * refused, with a copy it is done.
 */
static void
test_no_room (void)
{
  static const struct form form = {
    "ambiguous, no room",
    { .disk_len = 20 << 20, .xen = TEST_QCOW_XEN_16,
      .order = TEST_QCOW_LITTLE, .nr_data = 1,
      .first_l2 = UINT64_C (0x102000000),
      .file_len = UINT64_C (16) << 30 },
    full_gap, .flags = 3, .new_cksum = true, .stays_longer = true,
  };
  struct tape tape;
  struct bed bed;

  bed_make (&bed, &form);
  tape_begin (&tape, bed.image.src, true);
  test_messages_forget ();
  CHECK_FAILS (convert (tape.src, FIXED), ENOTSUP);
  CHECK (test_messages.nr_errors == 1 && nr_changes (&tape) == 0);
  CHECK (convert (tape.src, GROWING) == 0);
  CHECK (is_wanted (&bed, tape.src, true));
  check_cuts (&bed, &tape, GROWING, 3);
  tape_end (&tape);
  bed_free (&bed);
}

/* A table behind its usual place is taken for the copy of an interrupted
 * run only if that place holds the same entries, and nothing else.
 */
static bool
is_interrupted (struct bed *bed, struct run *run)
{
  bool r;

  CHECK (run_begin (run, bed->image.src) == 0);
  r = run->plan.must_finish;
  CHECK (run->plan.is_needed == r && run->plan.why_not == NULL);
  qcow_verdict_free (&run->v);
  return r;
}

static void
test_table_elsewhere (void)
{
  static const struct form form = {
    "elsewhere", { SMALL, .xen = TEST_QCOW_XEN_16, .l1_host = 65536 },
    .is_nothing = true,
  };
  struct test_qcow *t;
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  t = &bed.image;
  CHECK (!is_interrupted (&bed, &run));
  for (uint64_t i = 0; i < t->nr_l1; ++i)
    test_qcow_poke (t, 4096 + i * 8, 8,
                    i < 70 ? t->l1[i] : __builtin_bswap64 (t->l1[i]));
  CHECK (is_interrupted (&bed, &run));
  CHECK (run.plan.home_host == 4096);

  test_qcow_poke (t, 4096 + 8, 8, 512);         /* not of the table */
  CHECK (!is_interrupted (&bed, &run));
  test_qcow_poke (t, 4096 + 8, 8, 0);
  CHECK (is_interrupted (&bed, &run));
  test_qcow_set_l1 (t, 1, 4096 + 512, true);    /* uses the place */
  CHECK (!is_interrupted (&bed, &run));
  test_qcow_set_l1 (t, 1, 0, true);
  test_qcow_poke (t, 60, 4, 1);                 /* copies are flagged */
  CHECK (run_begin (&run, t->src) == 0);
  CHECK (!run.plan.must_finish && run.plan.writes_head);
  qcow_verdict_free (&run.v);
  bed_free (&bed);
}

/* The file ends in the flags: there is nothing to convert. */
static void
test_tiny (void)
{
  static const struct form form = {
    "tiny", { SMALL, .xen = TEST_QCOW_XEN_16, .is_empty = true,
              .order = TEST_QCOW_LITTLE }, .is_nothing = true,
  };
  struct bed bed;
  struct run run;

  bed_make (&bed, &form);
  CHECK (source_truncate (bed.image.src, 63) == 0);
  CHECK (run_begin (&run, bed.image.src) == 0);
  CHECK (!run.plan.is_needed && run.plan.why_not == NULL);
  qcow_verdict_free (&run.v);
  bed_free (&bed);
}

/* An image that needs nothing costs a few reads of pages. */
static void
test_cost (void)
{
  static const struct form form = {
    "cost", { LONG, .xen = TEST_QCOW_XEN_16 }, .is_nothing = true,
  };
  struct tape tape;
  struct bed bed;
  struct run run;
  size_t before;

  bed_make (&bed, &form);
  tape_begin (&tape, bed.image.src, true);
  CHECK (run_begin (&run, tape.src) == 0);
  before = record_count (tape.record, RECORD_READ);
  CHECK (qcow_convert_plan (tape.src, "image", &run.h, &run.v, &run.plan)
         == 0);
  CHECK (record_count (tape.record, RECORD_READ) - before <= 2);
  CHECK (run_carry_out (&run, tape.src, GROWING) == 0);
  CHECK (record_count (tape.record, RECORD_READ) - before <= 2);
  CHECK (record_count (tape.record, RECORD_SYNC) == 0);
  qcow_verdict_free (&run.v);
  tape_end (&tape);
  bed_free (&bed);
}

int
main (void)
{
  for (size_t i = 0; i < nr_forms; ++i) {
    struct bed bed;

    bed_make (&bed, &all_forms[i]);
    for (unsigned w = 0; w < NR_WAYS; ++w)
      test_faults (&bed, &all_ways[w]);
    bed_free (&bed);
  }
  test_damaged ();
  test_damaged_big ();
  test_unaligned ();
  test_changed ();
  test_stale_header ();
  test_no_room ();
  test_table_elsewhere ();
  test_tiny ();
  test_cost ();
  return EXIT_SUCCESS;
}
