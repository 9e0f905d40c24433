/* Test the filling of large units: what a write does not cover is copied
 * in bounded parts, and no failure on the way is lost.
 *
 * The driver here has units of 2 MiB, each with one place of its own in
 * the file, and mapped or not.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "raw/raw.h"
#include "source/memory.h"
#include "source/record.h"

#define UNIT (UINT64_C (2) << 20)
#define NR_UNITS 3
#define LEN (NR_UNITS * UNIT - 12345) /* the last unit is cut short */
#define BASE_LEN (LEN - UNIT / 2)

/* ---- the driver */

static struct {
  bool mapped[NR_UNITS];
  bool reads_zero;              /* new space does */
  bool with_backing;
  unsigned nr_claims;           /* not linked nor abandoned */
} big;

static int
big_open (struct image *img)
{
  img->len = LEN;
  img->unit = img->zero_unit = UNIT;
  img->wants_backing = big.with_backing;
  return 0;
}

static ssize_t
big_lookup (struct image *img, uint64_t guest, uint64_t len,
            struct extent *ext, size_t max)
{
  CHECK (max > 0);
  ext[0] = (struct extent) {
    .type = big.mapped[guest / UNIT] ? EXTENT_DATA : EXTENT_BACKING,
    .len = MIN (len, UNIT - guest % UNIT),
    .src = img->source, .host = guest, .writable = true,
  };
  return 1;
}

static int
big_reserve (struct image *img, uint64_t guest, uint64_t len,
             struct claim *claim)
{
  const uint64_t start = round_down (guest, UNIT);

  big.nr_claims++;
  *claim = (struct claim) {
    .guest = guest, .len = MIN (len, start + UNIT - guest),
    .src = img->source, .host = guest,
    .fill_start = start, .fill_end = start + UNIT,
    .reads_zero = big.reads_zero,
  };
  return 0;
}

static void
big_link (struct image *img, const struct claim *claim)
{
  (void) img;
  CHECK (!big.mapped[claim->guest / UNIT]);
  big.mapped[claim->guest / UNIT] = true;
  big.nr_claims--;
}

static void
big_abandon (struct image *img, const struct claim *claim)
{
  (void) img;
  CHECK (!big.mapped[claim->guest / UNIT]);
  big.nr_claims--;
}

static const struct format big_format = {
  .name = "big",
  .open = big_open,
  .lookup = big_lookup,
  .reserve = big_reserve,
  .link = big_link,
  .abandon = big_abandon,
};

/* ---- the disk and its model */

static uint8_t model[LEN], buf[LEN];

struct disk {
  struct record *record;
  struct image *img;
};

/* New space is full of rubbish unless the driver says that it is zero. */
static struct source *
make_source (struct record *record)
{
  CLEANUP_SOURCE struct source *memory =
    source_memory ("big", NR_UNITS * UNIT, NR_UNITS * UNIT);
  struct source *src;

  CHECK (memory != NULL);
  memset (buf, 0xee, LEN);
  if (!big.reads_zero)
    CHECK (source_pwrite (memory, buf, LEN, 0) == 0);
  src = record_add (record, "big", memory, NR_UNITS * UNIT);
  CHECK (src != NULL);
  return src;
}

/* A recorded base: reading it may fail, too. */
static struct image *
make_base (struct record *record)
{
  CLEANUP_SOURCE struct source *memory =
    source_memory_copy ("base", model, BASE_LEN, BASE_LEN);
  CLEANUP_SOURCE struct source *src = NULL;
  struct image *base;

  CHECK (memory != NULL);
  src = record_add (record, "base", memory, BASE_LEN);
  CHECK (src != NULL);
  base = image_open (&raw_format, src, "base", 0);
  CHECK (base != NULL && image_connect (base, NULL, NULL) == 0);
  return base;
}

static void
disk_make (struct disk *disk, bool with_backing, bool reads_zero)
{
  CLEANUP_SOURCE struct source *src = NULL;

  memset (&big, 0, sizeof big);
  big.with_backing = with_backing;
  big.reads_zero = reads_zero;
  memset (model, 0, LEN);
  if (with_backing)
    for (uint64_t i = 0; i < BASE_LEN; ++i)
      model[i] = i * 31 % 251 ^ i >> 16;

  disk->record = record_new ();
  CHECK (disk->record != NULL);
  src = make_source (disk->record);
  disk->img = image_open (&big_format, src, "big", 0);
  CHECK (disk->img != NULL);
  CHECK (image_connect (disk->img,
                        with_backing ? make_base (disk->record) : NULL,
                        NULL) == 0);
  image_begin_writing (disk->img);
}

static void
disk_free (struct disk *disk)
{
  CHECK (big.nr_claims == 0);
  image_close (disk->img);
  record_free (disk->record);
}

static void
expect_model (struct disk *disk)
{
  CHECK (image_read (disk->img, buf, LEN, 0) == 0);
  CHECK (memcmp (buf, model, LEN) == 0);
}

static const struct { uint64_t guest, len; } writes[] = {
  { 0, 1 },                             /* the head of a unit */
  { UNIT / 2 - 3, 700 },                /* its middle */
  { 2 * UNIT - 5, 5 },                  /* its end */
  { 0, 3 * UNIT / 4 },                  /* most of it */
  { UNIT - 100, UNIT + 200 },           /* three in one request */
  { 3 * UNIT - 20000, 100 },            /* the short one */
  { LEN - 1, 1 },
};
#define NR_WRITES (sizeof writes / sizeof writes[0])

static int
write_nth (struct disk *disk, size_t i)
{
  const uint64_t len = writes[i].len;
  CLEANUP_FREE uint8_t *data = malloc (len);

  CHECK (data != NULL);
  memset (data, 'a' + i, len);
  return image_write (disk->img, data, len, writes[i].guest);
}

static void
test_fill (bool with_backing, bool reads_zero)
{
  for (size_t i = 0; i < NR_WRITES; ++i) {
    struct disk disk;

    disk_make (&disk, with_backing, reads_zero);
    CHECK (write_nth (&disk, i) == 0);
    memset (model + writes[i].guest, 'a' + i, writes[i].len);
    expect_model (&disk);
    disk_free (&disk);
  }
}

/* The old bytes, or, where several units are written, the new ones. */
static void
expect_old_or_new (struct disk *disk, size_t i)
{
  CHECK (image_read (disk->img, buf, LEN, 0) == 0);
  for (uint64_t g = 0; g < LEN; ++g) {
    const bool inside = g - writes[i].guest < writes[i].len;

    CHECK (buf[g] == model[g] || (inside && buf[g] == 'a' + i));
  }
}

/* Every read and every write fails once. */
static void
test_failures (bool with_backing, size_t i)
{
  for (enum record_op op = RECORD_READ; op <= RECORD_WRITE; ++op)
    for (size_t nth = 1; ; ++nth) {
      struct disk disk;
      size_t before;
      bool struck;
      int r;

      disk_make (&disk, with_backing, false);
      before = record_count (disk.record, op);
      record_fail_at (disk.record, op, nth, EIO, false);
      r = write_nth (&disk, i);
      struck = record_count (disk.record, op) - before >= nth;
      record_fail_at (disk.record, op, 0, 0, false);
      CHECK (r == (struck ? -1 : 0));
      expect_old_or_new (&disk, i);

      CHECK (write_nth (&disk, i) == 0);
      memset (model + writes[i].guest, 'a' + i, writes[i].len);
      expect_model (&disk);
      disk_free (&disk);
      if (!struck)
        break;
    }
}

int
main (void)
{
  test_fill (false, false);
  test_fill (false, true);
  test_fill (true, false);
  test_fill (true, true);
  for (size_t i = 1; i < NR_WRITES; i += 3) /* the middle, three units */
    test_failures (true, i);
  return EXIT_SUCCESS;
}
