/* Conversion of L1 tables: what it makes of every kind of image, that the
 * power may be cut at any moment, that any call may fail once.
 *
 * What is expected is made by hand from the image as it was, so that every
 * byte that is not to change is compared too.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/convert.h"
#include "qcow/intent.h"
#include "qcow/test-image.h"
#include "qcow/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define SPAN (32 * UINT64_C (1024))     /* with SMALL */
#define LIMIT INT64_MAX                 /* of a file that can grow */

/* Clusters of 512 bytes, tables of one sector; every 7th of 150 spans.  The
 * table has three sectors, or it is a long one.
 */
#define SMALL                                                           \
  .cluster_bits = 9, .l2_bits = 6, .disk_len = 150 * SPAN,              \
  .every_nth = 7, .nr_data = 1
#define LONG                                                            \
  .cluster_bits = 9, .l2_bits = 6, .disk_len = 9000 * SPAN,             \
  .every_nth = 500, .nr_data = 1
#define TAPDISK .disk_len = UINT64_C (300) << 20, .every_nth = 20, .nr_data = 1
#define OVERLAY                                                         \
  .disk_len = UINT64_C (300) << 20, .every_nth = 20, .nr_data = 3,      \
  .backing = "/var/base.img"

struct form {
  const char *name;
  struct test_qcow_spec spec;
  void (*edit) (struct test_qcow *t);

  /* What comes out. */
  bool is_nothing;              /* nothing is to be done */
  uint32_t flags;               /* 0: there are none */
  bool new_cksum;
  uint32_t min_cluster_alloc;   /* 0: as before */
  bool stays_longer;            /* after a power cut, by a copy */
};

/* ---- edits */

static void
cksum_of_little (struct test_qcow *t)
{
  test_qcow_set_cksum (t, false);
}

static void
hidden_byte (struct test_qcow *t)
{
  test_qcow_poke (t, 64, 1, 1);
}

static void
entry_off_formula (struct test_qcow *t)
{
  test_qcow_poke (t, t->l1[7] + 8 * 5, 8, 0);
}

static void
entry_behind_end (struct test_qcow *t)
{
  test_qcow_set_l1 (t, 3, round_up (source_len (t->src), 4096), false);
  test_qcow_set_cksum (t, false);
}

static void
odd_length (struct test_qcow *t)
{
  CHECK (source_grow (t->src, source_len (t->src) + 4096 + 77) == 0);
}

static void
short_file (struct test_qcow *t)
{
  CHECK (source_truncate (t->src, t->l1[0] + 100) == 0);
  for (uint64_t i = 1; i < t->nr_l1; ++i)
    test_qcow_set_l1 (t, i, 0, false);
  test_qcow_set_cksum (t, false);
}

static void
full_gap (struct test_qcow *t)
{
  for (uint64_t host = 512; host < 4096; host += 512)
    test_qcow_poke (t, host + 100, 1, 0xee);
}

static void
old_page (struct test_qcow *t)
{
  test_qcow_poke (t, 100, 8, UINT64_C (0x0102030405060708));
  test_qcow_poke (t, 3000, 8, UINT64_C (0x1122334455667788));
  test_qcow_poke (t, t->spec.l1_host + t->nr_l1 * 8 + 3, 1, 0xaa);
}

/* 40 tables at places that make sense in either order, all in tapdisk's
 * formula: two sectors of records.
 */
static void
many_ambiguous (struct test_qcow *t)
{
  for (uint64_t i = 0; i < 40; ++i) {
    const uint64_t host = (i + 2) << 32 | UINT64_C (1) << 24;

    for (uint64_t j = 0; j < 512; ++j)
      test_qcow_poke (t, host + j * 8, 8, host + 4096 + j * 4096);
    test_qcow_set_l1 (t, i, host, t->spec.order == TEST_QCOW_BIG);
  }
  test_qcow_set_cksum (t, t->spec.order == TEST_QCOW_BIG);
}

/* ---- all kinds of images */

static const struct form forms[] = {
  { "little", { SMALL, .xen = TEST_QCOW_XEN_16,
                .order = TEST_QCOW_LITTLE },
    .flags = 3, .new_cksum = true },
  { "little, tapdisk's geometry", { TAPDISK, .xen = TEST_QCOW_XEN_16,
                                    .order = TEST_QCOW_LITTLE },
    .flags = 3, .new_cksum = true },
  { "little, bytes kept", { SMALL, .xen = TEST_QCOW_XEN_16,
                            .order = TEST_QCOW_LITTLE }, old_page,
    .flags = 3, .new_cksum = true },
  { "little, long", { LONG, .xen = TEST_QCOW_XEN_16,
                      .order = TEST_QCOW_LITTLE },
    .flags = 3, .new_cksum = true },
  { "little, straight checksum", { SMALL, .xen = TEST_QCOW_XEN_16,
                                   .order = TEST_QCOW_LITTLE,
                                   .cksum_is_straight = true },
    .flags = 3, .new_cksum = true },
  { "little, stale", { SMALL, .xen = TEST_QCOW_XEN_16,
                       .order = TEST_QCOW_LITTLE,
                       .cksum = TEST_QCOW_CKSUM_STALE }, .flags = 3 },
  { "little, checksum of big", { SMALL, .xen = TEST_QCOW_XEN_16,
                                 .order = TEST_QCOW_LITTLE,
                                 .cksum = TEST_QCOW_CKSUM_BIG },
    .flags = 3 },
  { "little, never closed", { SMALL, .xen = TEST_QCOW_XEN_16,
                              .order = TEST_QCOW_LITTLE,
                              .cksum = TEST_QCOW_CKSUM_CREATED },
    .flags = 3 },
  { "little, reserved", { SMALL, .xen = TEST_QCOW_XEN_16,
                          .order = TEST_QCOW_LITTLE, .is_reserved = true },
    .flags = 2, .new_cksum = true },
  { "3.0.4", { SMALL, .xen = TEST_QCOW_XEN_16, .order = TEST_QCOW_LITTLE,
               .has_flags = true, .flags = 2 },
    .flags = 3, .new_cksum = true },
  { "flag first", { SMALL, .xen = TEST_QCOW_XEN_16,
                    .order = TEST_QCOW_LITTLE, .has_flags = true,
                    .flags = 3 }, .flags = 3, .new_cksum = true },
  { "flag first, unknown flags", { SMALL, .xen = TEST_QCOW_XEN_16,
                                   .order = TEST_QCOW_LITTLE,
                                   .has_flags = true,
                                   .flags = 0x80000013 },
    .flags = 0x80000013, .new_cksum = true },
  { "big without flag", { SMALL, .xen = TEST_QCOW_XEN_16,
                          .has_flags = true, .flags = 1 }, .flags = 3 },
  { "big without flag, old checksum", { SMALL, .xen = TEST_QCOW_XEN_16,
                                        .has_flags = true, .flags = 1 },
    cksum_of_little, .flags = 3, .new_cksum = true },
  { "big without flag, off the formula", { SMALL, .xen = TEST_QCOW_XEN_16,
                                           .has_flags = true, .flags = 1 },
    entry_off_formula, .flags = 3, .min_cluster_alloc = 1 },
  { "big", { SMALL, .xen = TEST_QCOW_XEN_16 }, .is_nothing = true },
  { "big, old checksum", { SMALL, .xen = TEST_QCOW_XEN_16 },
    cksum_of_little, .is_nothing = true },
  { "big, off the formula", { SMALL, .xen = TEST_QCOW_XEN_16 },
    entry_off_formula, .is_nothing = true },
  { "not tapdisk's", { SMALL }, .is_nothing = true },
  { "mixed", { SMALL, .xen = TEST_QCOW_XEN_16, .order = TEST_QCOW_MIXED,
               .nr_big = 64 }, .flags = 3, .new_cksum = true },
  { "mixed in a sector", { SMALL, .xen = TEST_QCOW_XEN_16,
                           .order = TEST_QCOW_MIXED, .nr_big = 90,
                           .has_flags = true, .flags = 3 },
    .flags = 3, .new_cksum = true },
  { "mixed, alternating", { SMALL, .xen = TEST_QCOW_XEN_16,
                            .order = TEST_QCOW_ALTERNATE,
                            .cksum = TEST_QCOW_CKSUM_STALE },
    .flags = 3 },
  { "mixed, 3.0.4", { SMALL, .xen = TEST_QCOW_XEN_16,
                      .order = TEST_QCOW_MIXED, .nr_big = 20,
                      .has_flags = true, .flags = 2 },
    .flags = 3, .new_cksum = true },
  { "reversed, old checksum", { SMALL, .xen = TEST_QCOW_XEN_REVERSED },
    cksum_of_little, .flags = 3, .new_cksum = true },
  { "reversed", { SMALL, .xen = TEST_QCOW_XEN_REVERSED }, .flags = 3 },
  { "reversed, mixed", { SMALL, .xen = TEST_QCOW_XEN_REVERSED,
                         .order = TEST_QCOW_MIXED, .nr_big = 30,
                         .has_flags = true, .flags = 3 },
    .flags = 3, .new_cksum = true },
  { "overlay, 12 bytes", { OVERLAY, .xen = TEST_QCOW_XEN_12,
                           .order = TEST_QCOW_LITTLE },
    .new_cksum = true },
  { "overlay, 12 bytes, created", { OVERLAY, .xen = TEST_QCOW_XEN_12,
                                    .order = TEST_QCOW_LITTLE,
                                    .cksum = TEST_QCOW_CKSUM_CREATED } },
  { "overlay, 12 bytes, big, old checksum", { OVERLAY,
                                              .xen = TEST_QCOW_XEN_12 },
    cksum_of_little, .new_cksum = true },
  { "overlay, 12 bytes, big", { OVERLAY, .xen = TEST_QCOW_XEN_12 },
    .is_nothing = true },
  { "overlay, 16 bytes", { OVERLAY, .xen = TEST_QCOW_XEN_16,
                           .order = TEST_QCOW_LITTLE,
                           .cksum = TEST_QCOW_CKSUM_CREATED }, .flags = 3 },
  { "overlay, 16 bytes, mixed", { OVERLAY, .xen = TEST_QCOW_XEN_16,
                                  .order = TEST_QCOW_ALTERNATE },
    .flags = 3, .new_cksum = true },
  { "overlay, 20 bytes", { OVERLAY, .xen = TEST_QCOW_XEN_20,
                           .order = TEST_QCOW_LITTLE }, hidden_byte,
    .flags = 3, .new_cksum = true },
  { "off the formula", { SMALL, .xen = TEST_QCOW_XEN_16,
                         .order = TEST_QCOW_LITTLE }, entry_off_formula,
    .flags = 3, .new_cksum = true, .min_cluster_alloc = 1 },
  { "entry behind the end", { TAPDISK, .xen = TEST_QCOW_XEN_16,
                              .order = TEST_QCOW_LITTLE },
    entry_behind_end, .flags = 3, .new_cksum = true,
    .min_cluster_alloc = 1 },
  { "empty", { SMALL, .xen = TEST_QCOW_XEN_16, .is_empty = true,
               .order = TEST_QCOW_LITTLE }, .flags = 3 },
  { "odd length", { SMALL, .xen = TEST_QCOW_XEN_16,
                    .order = TEST_QCOW_LITTLE }, odd_length,
    .flags = 3, .new_cksum = true },
  { "short file", { SMALL, .xen = TEST_QCOW_XEN_16,
                    .order = TEST_QCOW_LITTLE }, short_file,
    .flags = 3, .new_cksum = true, .min_cluster_alloc = 1 },
  { "ambiguous", { .disk_len = 20 << 20, .xen = TEST_QCOW_XEN_16,
                   .order = TEST_QCOW_LITTLE, .nr_data = 1,
                   .first_l2 = UINT64_C (0x102000000),
                   .file_len = UINT64_C (16) << 30 },
    .flags = 3, .new_cksum = true },
  { "ambiguous, mixed", { .disk_len = 20 << 20, .xen = TEST_QCOW_XEN_16,
                          .order = TEST_QCOW_ALTERNATE, .nr_data = 1,
                          .first_l2 = UINT64_C (0x102000000),
                          .file_len = UINT64_C (16) << 30 },
    .flags = 3, .new_cksum = true },
  { "many ambiguous", { .disk_len = UINT64_C (200) << 20,
                        .xen = TEST_QCOW_XEN_16, .is_empty = true,
                        .order = TEST_QCOW_LITTLE, .has_flags = true,
                        .flags = 3, .file_len = UINT64_C (1) << 39 },
    many_ambiguous, .flags = 3, .new_cksum = true },
  { "table in sector 0", { SMALL, .xen = TEST_QCOW_XEN_16,
                           .order = TEST_QCOW_LITTLE, .l1_host = 64 },
    .flags = 3, .new_cksum = true },
  { "table elsewhere", { SMALL, .xen = TEST_QCOW_XEN_16,
                         .order = TEST_QCOW_LITTLE, .l1_host = 8192 + 24,
                         .has_flags = true, .flags = 2 },
    .flags = 3, .new_cksum = true },
  { "no room for a record", { SMALL, .xen = TEST_QCOW_XEN_16,
                              .order = TEST_QCOW_LITTLE }, full_gap,
    .flags = 3, .new_cksum = true, .stays_longer = true },
};
#define NR_FORMS (sizeof forms / sizeof forms[0])

/* ---- comparing sources that are mostly holes */

/* Where they differ first below 'end', or 'end'. */
static uint64_t
first_difference (struct source *a, struct source *b, uint64_t end)
{
  static uint8_t buf_a[65536], buf_b[65536];
  uint64_t host = 0;

  while (host < end) {
    const struct source_extent ea = source_extent (a, host, end - host);
    const struct source_extent eb = source_extent (b, host, end - host);
    uint64_t len = MIN (ea.len, eb.len);

    if (!ea.hole || !eb.hole) {
      len = MIN (len, (uint64_t) sizeof buf_a);
      CHECK (source_pread_padded (a, buf_a, len, host) == 0);
      CHECK (source_pread_padded (b, buf_b, len, host) == 0);
      for (uint64_t i = 0; i < len; ++i)
        if (buf_a[i] != buf_b[i])
          return host + i;
    }
    host += len;
  }
  return end;
}

static struct source *
copy_of (struct source *src, uint64_t limit)
{
  const uint64_t end = source_len (src);
  struct source *copy = source_memory ("image", end, limit);
  static uint8_t buf[65536];
  uint64_t host = 0;

  CHECK (copy != NULL);
  while (host < end) {
    const struct source_extent ext = source_extent (src, host, end - host);
    const uint64_t len = ext.hole ? ext.len
      : MIN (ext.len, (uint64_t) sizeof buf);

    if (!ext.hole) {
      CHECK (source_pread (src, buf, len, host) == 0);
      CHECK (source_pwrite (copy, buf, len, host) == 0);
    }
    host += len;
  }
  return copy;
}

/* ---- an image, and what it is to become */

struct bed {
  const struct form *form;
  struct test_qcow image;
  struct source *wanted;
};

static void
make_wanted (struct bed *bed)
{
  struct test_qcow t = bed->image;

  t.src = bed->wanted = copy_of (bed->image.src, LIMIT);
  if (bed->form->is_nothing)
    return;
  test_qcow_poke (&t, 48, 4, QCOW_XEN_MAGIC);
  if (bed->form->flags != 0)
    test_qcow_poke (&t, 60, 4, bed->form->flags);
  if (bed->form->min_cluster_alloc != 0)
    test_qcow_poke (&t, 56, 4, bed->form->min_cluster_alloc);
  for (uint64_t i = 0; i < t.nr_l1; ++i)
    if (t.l1[i] != 0)
      test_qcow_set_l1 (&t, i, t.l1[i], true);
  if (bed->form->new_cksum)
    test_qcow_set_cksum (&t, true);
}

static void
bed_make (struct bed *bed, const struct form *form)
{
  bed->form = form;
  test_qcow_make (&bed->image, &form->spec);
  if (form->edit)
    form->edit (&bed->image);
  make_wanted (bed);
}

static void
bed_free (struct bed *bed)
{
  source_put (bed->wanted);
  test_qcow_free (&bed->image);
}

/* ---- one run, as a driver does it */

enum way { GROWING, FIXED };

struct run {
  struct qcow_header h;
  struct qcow_verdict v;
  struct qcow_plan plan;
};

static int
run_begin (struct run *run, struct source *src)
{
  uint8_t head[QCOW_HEAD_LEN];

  memset (run, 0, sizeof *run);
  if (source_pread_padded (src, head, sizeof head, 0) == -1)
    return -1;
  CHECK (qcow_header_check ("image", head, source_len (src), &run->h) == 0);
  if (qcow_judge (src, "image", &run->h, &run->v) == -1)
    return -1;
  return qcow_convert_plan (src, "image", &run->h, &run->v, &run->plan);
}

static int
run_carry_out (struct run *run, struct source *src, enum way way)
{
  if (way == FIXED)
    return qcow_convert_fixed (src, "image", &run->h, &run->v, &run->plan);
  return qcow_convert_growing (src, "image", &run->h, &run->v, &run->plan,
                               source_len (src));
}

static int
convert (struct source *src, enum way way)
{
  struct run run;
  int r = run_begin (&run, src);

  if (r == 0)
    r = run_carry_out (&run, src, way);
  qcow_verdict_free (&run.v);
  return r;
}

/* ---- what holds at every moment */

static bool
same_table (struct bed *bed, struct run *run, struct source *src)
{
  for (uint64_t i = 0; i < run->h.nr_l1; ++i) {
    uint8_t bytes[8];
    uint64_t entry;

    CHECK (source_pread_padded (src, bytes, 8, run->h.l1_host + i * 8) == 0);
    entry = run->v.table ? run->v.table[i] : load_be64 (bytes);
    if (entry != bed->image.l1[i])
      return false;
  }
  return true;
}

/* What readers are shown is what will be there, whatever the pieces. */
static bool
same_view (struct bed *bed, struct run *run, struct source *src)
{
  const uint64_t end = MIN (source_len (bed->wanted),
                            bed->image.spec.l1_host +
                            bed->image.nr_l1 * 8 + 9000);
  static const size_t lens[] = { 4096, 3, 513, 64, 77, 1, 5000 };
  uint8_t now[5000], wanted[5000];
  uint64_t host = 0;
  unsigned i = 0;

  for (; host < end; host += lens[i++ % 7]) {
    const size_t len = MIN (lens[i % 7], end - host);

    CHECK (source_pread_padded (src, now, len, host) == 0);
    CHECK (source_pread_padded (bed->wanted, wanted, len, host) == 0);
    qcow_convert_view (&run->h, &run->v, &run->plan, now, len, host);
    if (memcmp (now, wanted, len) != 0)
      return false;
  }
  return true;
}

/* Is the image finished, bytes and length? */
static bool
is_wanted (struct bed *bed, struct source *src, bool exact)
{
  const uint64_t end = source_len (bed->wanted);
  const uint64_t at = first_difference (src, bed->wanted, end);

  if (at != end || source_len (src) < end ||
      (exact && source_len (src) != end)) {
    fprintf (stderr, "%s: differs at byte %" PRIu64 ", %" PRIu64
             " bytes long, not %" PRIu64 "\n", bed->form->name, at,
             source_len (src), end);
    return false;
  }
  return true;
}

/* The power was cut (or a call failed).  It means what it meant; another
 * run finishes it.
 */
static bool
goes_on (struct bed *bed, struct source *src, enum way way, bool exact)
{
  struct run run;
  bool ok;

  CHECK (run_begin (&run, src) == 0);
  ok = run.plan.why_not == NULL && run.v.nr_damaged == 0 &&
    same_table (bed, &run, src) && same_view (bed, &run, src);
  if (!ok)
    fprintf (stderr, "%s: does not mean the same\n", bed->form->name);
  ok = ok && run_carry_out (&run, src, way) == 0 &&
    is_wanted (bed, src, exact && !bed->form->stays_longer);
  qcow_verdict_free (&run.v);
  if (!ok)
    return false;

  CHECK (run_begin (&run, src) == 0);
  ok = !run.plan.is_needed;
  qcow_verdict_free (&run.v);
  return ok;
}

/* ---- recorded */

struct tape {
  struct record *record;
  struct source *src;
};

static void
tape_begin (struct tape *tape, struct source *initial, bool can_grow)
{
  tape->record = record_new ();
  CHECK (tape->record != NULL);
  tape->src = record_add (tape->record, "image", initial,
                          can_grow ? (uint64_t) LIMIT
                          : source_len (initial));
  CHECK (tape->src != NULL);
}

static void
tape_end (struct tape *tape)
{
  source_put (tape->src);
  record_free (tape->record);
}

static size_t
nr_changes (const struct tape *tape)
{
  return record_count (tape->record, RECORD_WRITE) +
    record_count (tape->record, RECORD_ZERO) +
    record_count (tape->record, RECORD_TRUNCATE);
}

static struct source *
cut (struct tape *tape, size_t position, uint64_t seed,
     enum record_mode mode)
{
  struct source *src = record_crash_image (tape->record, tape->src, position,
                                           seed, mode);

  CHECK (src != NULL);
  return src;
}

struct ways {
  enum way first, second;
  bool can_grow;
};

static bool
check_cut (struct bed *bed, struct tape *tape, size_t position,
           uint64_t seed, enum record_mode mode, enum way second)
{
  CLEANUP_SOURCE struct source *src = cut (tape, position, seed, mode);

  if (goes_on (bed, src, second, true))
    return true;
  fprintf (stderr, "%s: power cut at %zu, seed %" PRIu64 ", mode %d\n",
           bed->form->name, position, seed, (int) mode);
  record_print (tape->record, stderr, 0, position);
  return false;
}

static void
check_cuts (struct bed *bed, struct tape *tape, enum way second,
            unsigned seeds)
{
  for (size_t p = 0; p <= record_position (tape->record); ++p) {
    CHECK (check_cut (bed, tape, p, 0, RECORD_ALL, second));
    CHECK (check_cut (bed, tape, p, 0, RECORD_NONE, second));
    for (unsigned i = 0; i < seeds; ++i)
      CHECK (check_cut (bed, tape, p, p * 1000 + i, RECORD_RANDOM, second));
  }
}

/* ---- the tests */

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
  check_cuts (bed, &tape, ways->second, 6);

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

static void
test_form (const struct form *form, bool thoroughly)
{
  static const struct ways all_ways[] = {
    { GROWING, GROWING, true },
    { FIXED, FIXED, false },
    { GROWING, FIXED, true },
    { FIXED, GROWING, true },
  };
  struct bed bed;

  bed_make (&bed, form);
  for (unsigned i = 0; i < 4; ++i) {
    test_cuts (&bed, &all_ways[i]);
    test_faults (&bed, &all_ways[i]);
    if (thoroughly)
      test_two_cuts (&bed, &all_ways[i]);
  }
  test_cut_then_fixed (&bed);
  bed_free (&bed);
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

  bed_make (&bed, &forms[0]);
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

/* The record is gone: what is left is seen from the table alone. */
static void
test_record_lost (void)
{
  static const uint8_t zeroes[512];
  struct tape tape;
  struct bed bed;
  unsigned nr_finished = 0;

  bed_make (&bed, &forms[0]);
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
  static const char *const thoroughly[] = {
    "little", "3.0.4", "many ambiguous", "overlay, 12 bytes",
    "mixed in a sector",
  };

  for (size_t i = 0; i < NR_FORMS; ++i) {
    bool is_thorough = false;

    for (size_t j = 0; j < sizeof thoroughly / sizeof thoroughly[0]; ++j)
      if (strcmp (forms[i].name, thoroughly[j]) == 0)
        is_thorough = true;
    test_form (&forms[i], is_thorough);
  }
  test_damaged ();
  test_damaged_big ();
  test_unaligned ();
  test_changed ();
  test_no_room ();
  test_used_in_between ();
  test_record_lost ();
  test_cost ();
  return EXIT_SUCCESS;
}
