/* What the tests of conversion share.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/test-conversion.h"
#include "source/memory.h"

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

void
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

/* 80 tables at places that make sense in either order, all in tapdisk's
 * formula: three sectors of records.
 */
static void
many_ambiguous (struct test_qcow *t)
{
  for (uint64_t i = 0; i < 80; ++i) {
    const uint64_t host = (i + 2) << 32 | UINT64_C (1) << 24;

    for (uint64_t j = 0; j < 512; ++j)
      test_qcow_poke (t, host + j * 8, 8, host + 4096 + j * 4096);
    test_qcow_set_l1 (t, i, host, t->spec.order == TEST_QCOW_BIG);
  }
  test_qcow_set_cksum (t, t->spec.order == TEST_QCOW_BIG);
}

/* ---- all kinds of images */

const struct form all_forms[] = {
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
const size_t nr_forms = sizeof all_forms / sizeof all_forms[0];

const struct form *
form_named (const char *name)
{
  for (size_t i = 0; i < nr_forms; ++i)
    if (strcmp (all_forms[i].name, name) == 0)
      return &all_forms[i];
  CHECK (!"a form of that name");
  return NULL;
}

/* ---- comparing sources that are mostly holes */

/* Where they differ first below 'end', or 'end'. */
uint64_t
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

struct source *
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

void
bed_make (struct bed *bed, const struct form *form)
{
  bed->form = form;
  test_qcow_make (&bed->image, &form->spec);
  if (form->edit)
    form->edit (&bed->image);
  make_wanted (bed);
}

void
bed_free (struct bed *bed)
{
  source_put (bed->wanted);
  test_qcow_free (&bed->image);
}

/* ---- one run, as a driver does it */

int
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

int
run_carry_out (struct run *run, struct source *src, enum way way)
{
  if (way == FIXED)
    return qcow_convert_fixed (src, "image", &run->h, &run->v, &run->plan);
  return qcow_convert_growing (src, "image", &run->h, &run->v, &run->plan,
                               source_len (src));
}

int
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
bool
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
bool
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
bool
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

void
tape_begin (struct tape *tape, struct source *initial, bool can_grow)
{
  tape->record = record_new ();
  CHECK (tape->record != NULL);
  tape->src = record_add (tape->record, "image", initial,
                          can_grow ? (uint64_t) LIMIT
                          : source_len (initial));
  CHECK (tape->src != NULL);
}

void
tape_end (struct tape *tape)
{
  source_put (tape->src);
  record_free (tape->record);
}

size_t
nr_changes (const struct tape *tape)
{
  return record_count (tape->record, RECORD_WRITE) +
    record_count (tape->record, RECORD_ZERO) +
    record_count (tape->record, RECORD_TRUNCATE);
}

struct source *
cut (struct tape *tape, size_t position, uint64_t seed,
     enum record_mode mode)
{
  struct source *src = record_crash_image (tape->record, tape->src, position,
                                           seed, mode);

  CHECK (src != NULL);
  return src;
}

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

void
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

const struct ways all_ways[NR_WAYS] = {
  { GROWING, GROWING, true },
  { FIXED, FIXED, false },
  { GROWING, FIXED, true },
  { FIXED, GROWING, true },
};
