/* Test the raw driver: every byte is where it was, to the last one, and
 * zeroing goes to the file at once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdint.h>
#include <string.h>

#include "image/image.h"
#include "include/testing.h"
#include "raw/raw.h"
#include "source/memory.h"

#define LEN 100001              /* bytes: no whole sectors */

static uint8_t model[LEN], buf[LEN];

/* The disk and the file behind it both hold what the model says. */
static void
expect_model (struct image *img, struct source *src)
{
  CHECK (source_len (src) == LEN);
  CHECK (image_read (img, buf, LEN, 0) == 0);
  CHECK (memcmp (buf, model, LEN) == 0);
  CHECK (source_pread (src, buf, LEN, 0) == 0);
  CHECK (memcmp (buf, model, LEN) == 0);
}

static int
add_len (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  uint64_t *next = opaque;

  (void) flags;
  CHECK (guest == *next && len > 0);
  *next += len;
  return 0;
}

static void
test_changes (struct image *img, struct source *src)
{
  static const struct { uint64_t guest, len; } ranges[] = {
    { 0, 1 }, { 511, 2 }, { 1000, 5000 }, { 4096, 8192 },
    { LEN - 1, 1 }, { LEN - 700, 700 }, { 0, LEN },
  };

  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; ++i) {
    const uint64_t guest = ranges[i].guest, len = ranges[i].len;

    memset (model + guest, 'a' + i, len);
    CHECK (image_write (img, model + guest, len, guest) == 0);
    expect_model (img, src);
  }
  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; ++i) {
    const uint64_t guest = ranges[i].guest, len = ranges[i].len;

    memset (model, 'A' + i, LEN);
    CHECK (image_write (img, model, LEN, 0) == 0);
    memset (model + guest, 0, len);
    CHECK (image_zero (img, len, guest, i % 2, false) == 0);
    expect_model (img, src);
    CHECK (image_trim (img, len, guest) == 0);
    expect_model (img, src);
  }
  CHECK (image_flush (img) == 0);
}

int
main (void)
{
  CLEANUP_SOURCE struct source *src = NULL;
  CLEANUP_IMAGE struct image *img = NULL;
  uint64_t next = 0;

  for (size_t i = 0; i < LEN; ++i)
    model[i] = i * 7 % 253;
  src = source_memory_copy ("test", model, LEN, LEN);
  CHECK (src != NULL);
  img = image_open (&raw_format, src, "test", 0);
  CHECK (img != NULL && image_connect (img, NULL, NULL) == 0);
  CHECK (img->len == LEN && raw_format.probe == NULL);
  expect_model (img, src);

  /* Nothing is written before writing begins. */
  CHECK_FAILS (image_write (img, "x", 1, 0), EROFS);
  CHECK_FAILS (image_zero (img, 1, 0, true, false), EROFS);
  CHECK_FAILS (image_trim (img, LEN, 0), EROFS);
  expect_model (img, src);

  CHECK (image_why_read_only (img) == NULL);
  image_begin_writing (img);
  test_changes (img, src);
  while (next < LEN)
    CHECK (image_status (img, LEN - next, next, false, add_len, &next) == 0);
  CHECK (next == LEN);
  CHECK (image_finish (img) == 0);
  expect_model (img, src);
  return EXIT_SUCCESS;
}
