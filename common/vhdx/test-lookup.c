/* Test lookups: every state, across blocks, chunks and pages of bitmaps,
 * against what the entries and bits say when they are looked at one sector
 * at a time; and disks of up to 64 TiB.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "image/image.h"
#include "include/checked.h"
#include "include/testing.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "vhdx/state.h"
#include "vhdx/test-image.h"
#include "vhdx/vhdx.h"

#define CACHE_LIMIT (256 * 1024)
#define MAX_EXTENTS 64

static struct test_vhdx image;

static void
make (const struct test_vhdx_spec *spec)
{
  test_vhdx_free (&image);
  test_vhdx_make (&image, spec);
}

static struct image *
open_image (void)
{
  struct image *img;

  test_messages_forget ();
  img = image_open (&vhdx_format, image.src, "image", CACHE_LIMIT);
  if (img == NULL)
    fprintf (stderr, "%s\n", test_messages.error);
  CHECK (img != NULL && image_connect (img, NULL, NULL) == 0);
  return img;
}

/* ---- one sector at a time, by the format's description */

struct place {
  enum extent_type type;
  uint64_t host;
};

static bool
has_bit (uint64_t sector)
{
  const uint64_t bitmap =
    test_vhdx_peek (&image, test_vhdx_bitmap_place (&image, sector >> 23),
                    8) >> 20 << 20;
  const uint64_t bit = sector % 8388608;

  return test_vhdx_peek (&image, bitmap + bit / 8, 1) >> bit % 8 & 1;
}

static struct place
place_of (uint64_t guest)
{
  const struct test_vhdx_spec *s = &image.spec;
  const uint64_t entry = test_vhdx_peek (
    &image, test_vhdx_block_place (&image, guest / s->block_len), 8);
  const uint64_t host = (entry >> 20 << 20) + guest % s->block_len;

  switch (entry & 7) {
  case 0:
    return (struct place) { s->has_parent ? EXTENT_BACKING : EXTENT_ZERO, 0 };
  case 6:
    return (struct place) { EXTENT_DATA, host };
  case 7:
    if (has_bit (guest / s->sector_len))
      return (struct place) { EXTENT_DATA, host };
    return (struct place) { EXTENT_BACKING, 0 };
  default:
    return (struct place) { EXTENT_ZERO, 0 };
  }
}

/* All sectors that the extent touches are so, and the next one, if it is in
 * the range, is not.
 */
static void
check_extent (const struct image *img, const struct extent *e,
              uint64_t guest, uint64_t end)
{
  const uint64_t unit = image.spec.sector_len;
  const uint64_t stop = guest + e->len;
  struct place p;

  CHECK (e->len > 0 && stop <= end);
  for (uint64_t at = guest; at < stop; at = round_down (at, unit) + unit) {
    p = place_of (at);
    CHECK (e->type == p.type);
    if (e->type == EXTENT_DATA)
      CHECK (e->src == img->source && e->host + (at - guest) == p.host);
  }
  if (stop % unit != 0 && stop < end)
    CHECK (!"it ends within a sector");
}

/* Look up all of [guest, guest+len), at most 'max' extents each time; how
 * many it took.  Neighbours are merged, unless the answer was cut there.
 */
static size_t
check_range (struct image *img, uint64_t guest, uint64_t len, size_t max)
{
  const uint64_t end = guest + len;
  size_t nr = 0;

  while (guest < end) {
    struct extent ext[MAX_EXTENTS];
    const ssize_t n = img->format->lookup (img, guest, end - guest, ext,
                                           max);

    CHECK (n >= 1 && (size_t) n <= max);
    for (ssize_t i = 0; i < n; ++i) {
      check_extent (img, &ext[i], guest, end);
      if (i > 0 && ext[i].type == ext[i - 1].type)
        CHECK (ext[i].type == EXTENT_DATA &&
               ext[i - 1].host + ext[i - 1].len != ext[i].host);
      guest += ext[i].len;
    }
    nr += n;
  }
  return nr;
}

static void
check_everywhere (uint64_t start, uint64_t end)
{
  static const size_t max[] = { 1, 2, 7, MAX_EXTENTS };
  const uint64_t unit = image.spec.sector_len;
  struct image *img = open_image ();
  const size_t nr = check_range (img, start, end - start, MAX_EXTENTS);

  for (unsigned i = 0; i < 4; ++i)
    CHECK (check_range (img, start, end - start, max[i]) >= nr);
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t from = start + (uint64_t) rand () * 977 % (end - start);
    const uint64_t len = 1 + (uint64_t) rand () * 331 %
      MIN (end - from, 100 * unit);

    check_range (img, from, len, max[i % 4]);
  }
  CHECK (test_messages.nr_errors == 0 && !img->is_damaged);
  image_close (img);
}

/* ---- states */

static void
test_states (bool has_parent)
{
  make (&(struct test_vhdx_spec) { .disk_len = 12 * TEST_MIB - 512,
                                   .has_parent = has_parent });
  test_vhdx_set_block (&image, 1, 1);
  test_vhdx_set_block (&image, 2, 2);
  test_vhdx_set_block (&image, 3, 3);
  test_vhdx_add_block (&image, 4, 6);
  test_vhdx_add_block (&image, 5, 6);   /* behind it in the file, too */
  test_vhdx_add_block (&image, 6, 1);   /* with an anchor */
  test_vhdx_add_block (&image, 7, 3);
  test_vhdx_add_block (&image, 9, 6);
  test_vhdx_add_block (&image, 8, 6);   /* the other way round */
  test_vhdx_add_block (&image, 11, 6);  /* a short one */
  check_everywhere (0, image.spec.disk_len);
}

/* ---- bits */

/* Every sector by chance, in runs. */
static void
set_bits (uint64_t block)
{
  const uint64_t nr = image.spec.block_len / image.spec.sector_len;

  for (uint64_t i = 0; i < nr; ) {
    uint64_t run = rand () % 8 ? 1 + rand () % 20 : 1 + rand () % 3000;

    for (bool is_set = rand () % 2; run > 0 && i < nr; --run, ++i)
      if (is_set)
        test_vhdx_set_bit (&image, block * nr + i);
  }
}

static void
test_bits (uint32_t block_len, uint32_t sector_len)
{
  const uint64_t disk_len = 4 * (uint64_t) block_len - 3 * sector_len;

  make (&(struct test_vhdx_spec) {
      .disk_len = disk_len, .block_len = block_len,
      .sector_len = sector_len, .has_parent = true });
  test_vhdx_add_bitmap (&image, 0);
  test_vhdx_add_block (&image, 0, 7);
  test_vhdx_add_block (&image, 1, 7);
  test_vhdx_add_block (&image, 3, 7);
  for (unsigned i = 0; i < 4; ++i)      /* block 2 has bits without meaning */
    set_bits (i);
  check_everywhere (0, disk_len);
}

/* Every sector differs from the next: answers are cut, not wrong. */
static void
test_alternating (void)
{
  struct image *img;

  make (&(struct test_vhdx_spec) { .disk_len = 4 * TEST_MIB,
                                   .has_parent = true });
  test_vhdx_fill (&image, test_vhdx_add_bitmap (&image, 0), 1024, 0x55);
  for (unsigned i = 0; i < 4; ++i)
    test_vhdx_add_block (&image, i, 7);
  img = open_image ();
  CHECK (check_range (img, 0, img->len, MAX_EXTENTS) == 4 * 2048);
  CHECK (check_range (img, 0, img->len, 1) == 4 * 2048);
  image_close (img);
}

/* Where one chunk ends and the next begins, each with its own bitmap. */
static void
test_chunks (uint32_t block_len, uint32_t sector_len)
{
  const uint64_t chunk_len = (UINT64_C (1) << 23) * sector_len;
  const uint64_t ratio = chunk_len / block_len;
  const uint64_t unit = block_len / sector_len;

  make (&(struct test_vhdx_spec) {
      .disk_len = 2 * chunk_len + block_len, .block_len = block_len,
      .sector_len = sector_len, .has_parent = true });
  for (unsigned chunk = 0; chunk < 3; ++chunk)
    test_vhdx_add_bitmap (&image, chunk);
  for (unsigned i = 1; i <= 2; ++i) {
    test_vhdx_add_block (&image, i * ratio - 1, 7);
    test_vhdx_add_block (&image, i * ratio, 7);
    for (unsigned k = 0; k < 9; ++k) {
      test_vhdx_set_bit (&image, i * ratio * unit - 1 - k * k);
      test_vhdx_set_bit (&image, i * ratio * unit + k * k * k);
    }
    check_everywhere (i * chunk_len - 400 * sector_len,
                      i * chunk_len + 900 * sector_len);
  }
}

/* ---- all of a long disk */

struct runs {
  uint64_t end;
  unsigned nr;
};

static int
add_run (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  struct runs *runs = opaque;

  CHECK (guest == runs->end && len > 0);
  CHECK (flags == (STATUS_HOLE | STATUS_ZERO) || flags == 0);
  runs->end += len;
  runs->nr++;
  return 0;
}

/* 64 TiB with a few blocks, at the start, in the middle and at the end. */
static void
test_large (uint32_t block_len, uint32_t sector_len)
{
  const uint64_t disk_len = UINT64_C (1) << 46;
  const uint64_t nr = disk_len / block_len;
  const uint64_t places[] = { 0, nr / 2 - 1, nr / 2, nr - 2, nr - 1 };
  const struct vhdx *v;
  struct runs runs = { .nr = 0 };
  struct image *img;
  uint8_t byte;

  make (&(struct test_vhdx_spec) {
      .disk_len = disk_len, .block_len = block_len,
      .sector_len = sector_len });
  for (unsigned i = 0; i < 5; ++i)
    test_vhdx_poke (&image, test_vhdx_add_block (&image, places[i], 6) +
                    block_len - 1, 1, 'a' + i);
  img = open_image ();
  v = vhdx_state (img);
  CHECK (img->len == disk_len && v->nr_blocks == nr);
  CHECK (v->chunk_ratio ==
         (UINT64_C (8388608) * sector_len) / block_len);
  CHECK (v->nr_entries == nr + (nr - 1) / v->chunk_ratio);
  for (unsigned i = 0; i < 5; ++i) {
    const uint64_t start = places[i] * block_len;

    CHECK (image_read (img, &byte, 1, start + block_len - 1) == 0);
    CHECK (byte == 'a' + i);
    check_range (img, start - MIN (start, UINT64_C (8192)),
                 8192 + block_len / 256, 3);
  }
  /* In bounded steps to the end. */
  for (unsigned step = 0; runs.end < disk_len; ++step) {
    CHECK (step < 100000);
    CHECK (image_status (img, disk_len - runs.end, runs.end, false, add_run,
                         &runs) == 0);
  }
  CHECK (runs.nr >= 5);
  image_close (img);
}

/* Every geometry at its edges, against numbers from the description. */
static void
test_geometry (void)
{
  static const uint64_t lens[] = { 1, 2, 15, 16, 17, 127, 128, 129, 4096,
                                   4097, 8191, 8192, 8193 };

  for (unsigned bits = 20; bits <= 28; ++bits)
    for (unsigned i = 0; i < sizeof lens / sizeof lens[0]; ++i)
      for (unsigned k = 0; k < 4; ++k) {
        const uint32_t sector_len = k & 1 ? 4096 : 512;
        const uint64_t disk_len = (lens[i] << bits) - (k & 2 ? 4096 : 0);
        struct image *img;
        uint64_t nr = lens[i], ratio, entries = 0;

        make (&(struct test_vhdx_spec) {
            .disk_len = disk_len, .block_len = 1u << bits,
            .sector_len = sector_len, .has_parent = i % 2 });
        test_vhdx_add_block (&image, nr - 1, 6);
        ratio = (UINT64_C (8388608) * sector_len) >> bits;
        for (uint64_t b = 0; b < nr; b += ratio)
          entries += i % 2 ? ratio + 1
            : MIN (ratio, nr - b) + (b + ratio < nr);
        img = open_image ();
        CHECK (vhdx_state (img)->nr_entries == entries);
        check_range (img, disk_len - 4096, 4096, 1);
        check_range (img, disk_len - MIN (disk_len, UINT64_C (2) << bits),
                     4096, 2);
        image_close (img);
      }
}

/* ---- damage that was not looked for */

/* A table that is too long to be looked through at open. */
static void
test_damaged (void)
{
  struct extent ext[8];
  struct image *img;

  make (&(struct test_vhdx_spec) { .disk_len = UINT64_C (3) << 40,
                                   .has_parent = true });
  test_vhdx_fill (&image, image.spec.bat_host, 16 * TEST_MIB, 0);
  test_vhdx_set_block (&image, 1, 5);
  test_vhdx_set_block (&image, 2, UINT64_C (1) << 62 | 6);
  test_vhdx_add_block (&image, 3, 7);   /* without a bitmap */
  test_vhdx_add_block (&image, 4, 6);
  img = open_image ();
  CHECK (test_messages.nr_errors == 0);
  CHECK (img->format->lookup (img, 0, 6 * TEST_MIB, ext, 8) == 4);
  CHECK (ext[0].type == EXTENT_BACKING && ext[0].len == TEST_MIB);
  CHECK (ext[1].type == EXTENT_DAMAGED && ext[1].len == 3 * TEST_MIB);
  CHECK (ext[2].type == EXTENT_DATA && ext[3].type == EXTENT_BACKING);
  CHECK (test_messages.nr_errors == 3 && img->is_damaged);
  image_close (img);

  test_messages_forget ();
  img = image_open_wishes (&vhdx_format, image.src, "image", CACHE_LIMIT,
                           &(struct image_wishes) { .check_all = true });
  CHECK (img == NULL && errno == EINVAL && test_messages.nr_errors == 1);
}

int
main (void)
{
  srand (1);
  test_states (false);
  test_states (true);
  test_bits (1 << 20, 512);
  test_bits (2 << 20, 512);
  test_bits (32 << 20, 512);            /* two pages of bits for a block */
  test_bits (1 << 20, 4096);
  test_bits (256 << 20, 4096);
  test_alternating ();
  test_chunks (1 << 20, 512);
  test_chunks (32 << 20, 4096);
  test_chunks (256 << 20, 512);
  test_large (1 << 20, 512);
  test_large (256 << 20, 512);
  test_large (32 << 20, 4096);
  test_geometry ();
  test_damaged ();
  test_vhdx_free (&image);
  return EXIT_SUCCESS;
}
