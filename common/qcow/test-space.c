/* Test the map of space in use.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>

#include "image/image.h"
#include "image/pass.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/qcow.h"
#include "qcow/space.h"
#include "qcow/test-image.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)
#define BITS 12
#define C (UINT64_C (1) << BITS)

/* A map of its own, beside an image that is open for writing only because
 * drops belong to passes.
 */
struct bed {
  struct test_qcow t;
  struct image *img;
  struct qcow_space *s;
};

/* Put the file where it can grow up to 'limit' only. */
static void
set_limit (struct test_qcow *t, uint64_t limit)
{
  const size_t len = source_len (t->src);
  CLEANUP_FREE uint8_t *bytes = malloc (len);

  CHECK (bytes != NULL);
  CHECK (source_pread (t->src, bytes, len, 0) == 0);
  source_put (t->src);
  t->src = source_memory_copy ("image", bytes, len, limit);
  CHECK (t->src != NULL);
}

static void
bed_make_limited (struct bed *bed, uint64_t file_len, bool can_grow,
                  uint64_t limit)
{
  const struct test_qcow_spec spec = {
    .disk_len = 8 * MIB, .is_empty = true, .file_len = file_len,
  };

  test_qcow_make (&bed->t, &spec);
  set_limit (&bed->t, limit);
  bed->t.src->can_grow = can_grow;
  bed->img = image_open (&qcow_format, bed->t.src, "image", MIB);
  CHECK (bed->img != NULL);
  CHECK (image_connect (bed->img, NULL, NULL) == 0);
  CHECK (image_begin_writing (bed->img) == 0);
  bed->s = qcow_space_new (bed->img, BITS);
  CHECK (bed->s != NULL);
}

static void
bed_make (struct bed *bed, uint64_t file_len, bool can_grow)
{
  bed_make_limited (bed, file_len, can_grow, INT64_MAX);
}

static void
bed_free (struct bed *bed)
{
  qcow_space_free (bed->s);
  image_close (bed->img);
  test_qcow_free (&bed->t);
}

/* Take and be sure of the answer; returns the first cluster. */
static uint64_t
take (struct bed *bed, uint64_t wanted, uint64_t least, int64_t n,
      bool zero)
{
  uint64_t first;
  bool reads_zero;

  LOCK_SCOPE (&bed->img->format_lock);
  CHECK (qcow_space_take (bed->s, wanted, least, QCOW_ONCE, &first,
                          &reads_zero) == n);
  CHECK (reads_zero == zero);
  for (int64_t i = 0; i < n; ++i)
    CHECK (qcow_space_use (bed->s, first + i) == QCOW_ONCE);
  return first;
}

static void
check_full (struct bed *bed, uint64_t wanted, uint64_t least)
{
  uint64_t first;
  bool reads_zero;

  LOCK_SCOPE (&bed->img->format_lock);
  CHECK_FAILS (qcow_space_take (bed->s, wanted, least, QCOW_ONCE, &first,
                                &reads_zero), ENOSPC);
}

static uint64_t
drop (struct bed *bed, uint64_t first, uint64_t nr)
{
  uint64_t cut;

  LOCK_SCOPE (&bed->img->format_lock);
  CHECK (qcow_space_promise (bed->s, 1) == 0);
  pass_begin_change (bed->img);
  cut = pass_next_cut (bed->img);
  qcow_space_drop (bed->s, first, nr);
  pass_end_change (bed->img);
  return cut;
}

static void
test_marks (void)
{
  struct bed bed;

  bed_make (&bed, 0, true);
  CHECK (qcow_space_mark (bed.s, 0, 2, QCOW_META) == 0);
  CHECK (qcow_space_mark (bed.s, 5, 1, QCOW_ONCE) == 0);
  CHECK (qcow_space_mark (bed.s, 5, 1, QCOW_ONCE) == 0);
  CHECK (qcow_space_mark (bed.s, 1, 1, QCOW_ONCE) == 1);
  CHECK (qcow_space_mark (bed.s, 5, 1, QCOW_META) == 1);
  CHECK (qcow_space_mark (bed.s, 7, 1, QCOW_SHARED) == 0);
  CHECK (qcow_space_use (bed.s, 0) == QCOW_META);
  CHECK (qcow_space_use (bed.s, 1) == QCOW_META);
  CHECK (qcow_space_use (bed.s, 2) == QCOW_FREE);
  CHECK (qcow_space_use (bed.s, 5) == QCOW_META);
  CHECK (qcow_space_use (bed.s, 7) == QCOW_SHARED);
  CHECK (qcow_space_use (bed.s, UINT64_MAX) == QCOW_FREE);
  CHECK (qcow_space_end (bed.s) == 8);
  CHECK_FAILS (qcow_space_mark (bed.s, QCOW_MAX_CLUSTERS - 1, 2, QCOW_ONCE),
               EFBIG);
  CHECK_FAILS (qcow_space_mark (bed.s, UINT64_MAX, 2, QCOW_ONCE), EFBIG);
  bed_free (&bed);
}

/* In a file that grows, new space comes behind all that is there, and reads
 * as zeroes; the file has that length.
 */
static void
test_growing (void)
{
  struct bed bed;
  uint64_t first;

  bed_make (&bed, 10 * C + 100, true);
  CHECK (qcow_space_mark (bed.s, 0, 1, QCOW_META) == 0);
  qcow_space_gathered (bed.s);
  first = take (&bed, 4, 1, 4, true);
  CHECK (first == 11);
  CHECK (source_len (bed.t.src) >= 15 * C);
  CHECK (take (&bed, 100, 1, 100, true) == 15);
  CHECK (take (&bed, 1, 1, 1, true) == 115);
  bed_free (&bed);
}

/* A cluster behind the end of the file, which an entry names, was written
 * in place and dropped, and could not be punched: it is not zero.
 */
static void
test_behind_end (void)
{
  const uint64_t far = 3 * 16 * MIB / C;
  struct bed bed;
  uint64_t first;

  bed_make (&bed, 10 * C, true);
  CHECK (qcow_space_mark (bed.s, 0, 10, QCOW_META) == 0);
  CHECK (qcow_space_mark (bed.s, 12, 1, QCOW_ONCE) == 0);
  CHECK (qcow_space_mark (bed.s, far, 1, QCOW_ONCE) == 0);
  qcow_space_gathered (bed.s);
  {
    LOCK_SCOPE (&bed.img->format_lock);
    qcow_space_undo (bed.s, 12, 1);
  }
  first = take (&bed, 8, 8, 8, false);
  CHECK (first == 10);
  CHECK (take (&bed, far, far, far, true) == far + 1);
  bed_free (&bed);
}

/* A file system has a limit, too: all of the file can be used, up to that,
 * and what is free in it.
 */
static void
test_limit (void)
{
  const uint64_t limit = 5 * MIB / C + 3;
  struct bed bed;
  uint64_t cut;

  bed_make_limited (&bed, 10 * C, true, limit * C + 100);
  CHECK (qcow_space_mark (bed.s, 0, 4, QCOW_META) == 0);
  CHECK (qcow_space_mark (bed.s, 9, 1, QCOW_ONCE) == 0);
  qcow_space_gathered (bed.s);
  CHECK (take (&bed, limit - 12, 1, limit - 12, true) == 10);
  CHECK (take (&bed, 4, 3, 4, false) == 4);     /* 2 are left behind */
  CHECK (take (&bed, 8, 1, 2, true) == limit - 2);
  CHECK (source_len (bed.t.src) == limit * C);
  check_full (&bed, 3, 3);
  CHECK (take (&bed, 8, 1, 1, false) == 8);
  check_full (&bed, 1, 1);
  cut = drop (&bed, 20, 4);
  qcow_space_durable (bed.s, cut);
  CHECK (take (&bed, 8, 1, 4, false) == 20);
  check_full (&bed, 1, 1);
  bed_free (&bed);
}

/* Behind a cluster that an entry names far beyond what the file can reach
 * nothing can be taken, but before it.
 */
static void
test_far (void)
{
  const uint64_t limit = 20, far = UINT64_C (1) << 24;
  struct bed bed;

  bed_make_limited (&bed, 10 * C, true, limit * C);
  CHECK (qcow_space_mark (bed.s, 0, 10, QCOW_META) == 0);
  CHECK (qcow_space_mark (bed.s, far, 1, QCOW_ONCE) == 0);
  qcow_space_gathered (bed.s);
  CHECK (take (&bed, 7, 1, 7, false) == 10);
  CHECK (take (&bed, 2, 2, 2, false) == 17);
  CHECK (take (&bed, 1, 1, 1, false) == 19);
  check_full (&bed, 1, 1);
  {
    LOCK_SCOPE (&bed.img->format_lock);
    qcow_space_undo (bed.s, 12, 1);
  }
  CHECK (take (&bed, 1, 1, 1, false) == 12);
  bed_free (&bed);
}

/* That nothing is free is found out once. */
static void
test_full (void)
{
  const uint64_t nr = MIB / C * 64;
  struct bed bed;
  uint64_t i, looked, cut;

  bed_make (&bed, nr * C, false);
  for (i = 0; i < nr; i += 2)
    CHECK (qcow_space_mark (bed.s, i, 1, QCOW_ONCE) == 0);
  qcow_space_gathered (bed.s);
  check_full (&bed, 2, 2);
  looked = qcow_space_looked_at (bed.s);
  CHECK (looked >= nr);
  for (i = 2; i < 100; ++i)
    check_full (&bed, i, i);
  CHECK (qcow_space_looked_at (bed.s) == looked);

  /* Shorter ones may be there, and longer ones after something was freed. */
  CHECK (take (&bed, 2, 1, 1, false) % 2 == 1);
  cut = drop (&bed, 100, 1);
  check_full (&bed, 2, 2);
  qcow_space_durable (bed.s, cut);
  CHECK (take (&bed, 3, 3, 3, false) == 99);
  check_full (&bed, 2, 2);
  bed_free (&bed);
}

/* What the end of the file cuts off is what grew and is not used. */
static void
test_trim (void)
{
  struct bed bed;

  bed_make (&bed, 10 * C, true);
  CHECK (qcow_space_mark (bed.s, 0, 1, QCOW_META) == 0);
  qcow_space_gathered (bed.s);
  CHECK (take (&bed, 4, 1, 4, true) == 10);
  {
    LOCK_SCOPE (&bed.img->format_lock);
    qcow_space_undo (bed.s, 12, 2);
    CHECK (qcow_space_trim_file (bed.s) == 0);
    CHECK (source_len (bed.t.src) == 12 * C);
    qcow_space_undo (bed.s, 10, 2);
    CHECK (qcow_space_trim_file (bed.s) == 0);
    CHECK (source_len (bed.t.src) == 10 * C);   /* as it was */
  }
  bed_free (&bed);
}

/* On a device there is what there is; runs are found where they are. */
static void
test_device (void)
{
  struct bed bed;
  const uint64_t nr = 16;
  uint64_t cut;

  bed_make (&bed, nr * C, false);
  CHECK (qcow_space_mark (bed.s, 0, 4, QCOW_META) == 0);
  CHECK (qcow_space_mark (bed.s, 6, 1, QCOW_ONCE) == 0);
  CHECK (qcow_space_mark (bed.s, 10, 1, QCOW_SHARED) == 0);
  qcow_space_gathered (bed.s);
  CHECK (take (&bed, 8, 4, 5, false) == 11);
  CHECK (take (&bed, 8, 1, 2, false) == 4);
  check_full (&bed, 8, 4);
  CHECK (take (&bed, 8, 3, 3, false) == 7);
  check_full (&bed, 1, 1);

  /* Dropped space is free only after the pass. */
  cut = drop (&bed, 6, 1);
  check_full (&bed, 1, 1);
  qcow_space_durable (bed.s, cut - 1);
  check_full (&bed, 1, 1);
  qcow_space_durable (bed.s, cut);
  CHECK (take (&bed, 1, 1, 1, false) == 6);
  bed_free (&bed);
}

/* Dropped space is punched out of the file, and never taken for zeroes. */
static void
test_drop (void)
{
  struct bed bed;
  static const uint8_t ones[4] = { 1, 1, 1, 1 };
  uint8_t now[4];
  uint64_t cut, host;

  bed_make (&bed, 0, true);
  CHECK (qcow_space_mark (bed.s, 0, 4, QCOW_META) == 0);
  qcow_space_gathered (bed.s);
  host = take (&bed, 2, 2, 2, true) * C;
  CHECK (source_pwrite (bed.t.src, ones, 4, host) == 0);
  CHECK (source_pwrite (bed.t.src, ones, 4, host + C) == 0);
  cut = drop (&bed, host / C, 1);
  CHECK (source_pread (bed.t.src, now, 4, host) == 0 && now[0] == 1);
  qcow_space_durable (bed.s, cut);
  CHECK (source_pread (bed.t.src, now, 4, host) == 0 && now[0] == 0);
  CHECK (source_pread (bed.t.src, now, 4, host + C) == 0 && now[0] == 1);
  CHECK (qcow_space_use (bed.s, host / C) == QCOW_FREE);
  CHECK (qcow_space_use (bed.s, host / C + 1) == QCOW_ONCE);
  bed_free (&bed);
}

/* Space that is freed within a long file is used again. */
static void
test_reuse (void)
{
  struct bed bed;
  const uint64_t nr = 2 * (UINT64_C (16) << 20) / C;
  uint64_t first, cut;

  bed_make (&bed, 0, true);
  qcow_space_gathered (bed.s);
  first = take (&bed, nr, nr, nr, true);
  cut = drop (&bed, first, nr / 2 - 2);     /* cluster 0 is free, too */
  qcow_space_durable (bed.s, cut);
  CHECK (take (&bed, 1, 1, 1, true) == first + nr);     /* not enough */
  cut = drop (&bed, first + nr / 2 - 2, 2);
  qcow_space_durable (bed.s, cut);
  CHECK (take (&bed, 4, 1, 4, false) < first + nr);
  bed_free (&bed);
}

/* Free space in pieces that are too small is not all looked through while
 * the file can grow; the search goes on with the next taker.
 */
static void
test_pieces (void)
{
  const uint64_t nr = 131072;
  struct bed bed;
  uint64_t i;

  bed_make (&bed, 0, true);
  for (i = 0; i < nr; i += 2)
    CHECK (qcow_space_mark (bed.s, i, 1, QCOW_ONCE) == 0);
  CHECK (qcow_space_mark (bed.s, nr + 1, 1, QCOW_ONCE) == 0);
  qcow_space_gathered (bed.s);
  CHECK (take (&bed, 2, 2, 2, true) == nr + 2);
  CHECK (take (&bed, 2, 2, 2, false) == nr - 1);
  CHECK (take (&bed, 2, 1, 1, false) == 1);
  bed_free (&bed);
}

int
main (void)
{
  test_marks ();
  test_growing ();
  test_behind_end ();
  test_limit ();
  test_far ();
  test_full ();
  test_trim ();
  test_device ();
  test_drop ();
  test_reuse ();
  test_pieces ();
  return 0;
}
