/* Status over a chain: runs joined across extents and layers, holes of the
 * host found, bounds kept.
 *
 * The layers are of a format made up here: a list of extents for each.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "image/image.h"
#include "include/checked.h"
#include "include/testing.h"
#include "source/memory.h"

#define K 1024

struct script {
  const struct extent *ext;
  size_t nr;
};

static const struct script *next_script;

static int
script_open (struct image *img)
{
  const struct script *s = next_script;
  size_t i;

  img->state = (void *) s;
  for (i = 0; i < s->nr; ++i)
    img->len += s->ext[i].len;
  img->unit = img->zero_unit = 512;
  return 0;
}

/* One extent for each call: the shortest answers that are allowed. */
static ssize_t
script_lookup (struct image *img, uint64_t guest, uint64_t len,
               struct extent *ext, size_t max)
{
  const struct script *s = img->state;
  uint64_t start = 0;
  size_t i;

  (void) max;
  for (i = 0; start + s->ext[i].len <= guest; ++i)
    start += s->ext[i].len;
  ext[0] = s->ext[i];
  ext[0].src = img->source;
  ext[0].host += guest - start;
  ext[0].len = MIN (ext[0].len - (guest - start), len);
  return 1;
}

static const struct format script_format = {
  .name = "script",
  .open = script_open,
  .lookup = script_lookup,
};

static struct image *
script_image (const struct extent *ext, size_t nr, struct source *src,
              struct image *backing)
{
  const struct script script = { ext, nr };
  static struct script scripts[16];
  static size_t nr_scripts;
  struct image *img;

  CHECK (nr_scripts < 16);
  scripts[nr_scripts] = script;
  next_script = &scripts[nr_scripts++];
  img = image_open (&script_format, src, "script", 1 << 20);
  CHECK (img != NULL);
  CHECK (image_connect (img, backing, NULL) == 0);
  return img;
}

/* What status said, as text: "D4096 Z512 H100" (data, zero, hole). */
struct answer {
  char text[4096];
  uint64_t next;
};

static int
add (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  struct answer *a = opaque;
  size_t n = strlen (a->text);
  const char *kind = flags == 0 ? "D" : flags == STATUS_ZERO ? "Z"
    : flags == (STATUS_HOLE | STATUS_ZERO) ? "H" : "?";

  CHECK (guest == a->next && len > 0);
  a->next += len;
  snprintf (a->text + n, sizeof a->text - n, "%s%s%llu", n ? " " : "", kind,
            (unsigned long long) len);
  return 0;
}

static void
expect (struct image *img, uint64_t guest, uint64_t len, bool one,
        const char *text)
{
  struct answer a = { .next = guest };

  CHECK (image_status (img, len, guest, one, add, &a) == 0);
  if (strcmp (a.text, text) != 0) {
    fprintf (stderr, "got: %s\nexpected: %s\n", a.text, text);
    CHECK (!"the same");
  }
}

static void
test_runs (void)
{
  CLEANUP_SOURCE struct source *src = source_memory ("m", 64 * K, 64 * K);
  CLEANUP_IMAGE struct image *img = NULL;
  uint8_t byte = 1;
  static const struct extent ext[] = {
    { .type = EXTENT_ZERO, .len = 4 * K },
    { .type = EXTENT_BACKING, .len = 4 * K },   /* no base: the same */
    { .type = EXTENT_ZERO, .len = 4 * K, .allocated = true },
    { .type = EXTENT_BACKING, .len = 4 * K, .allocated = true },
    { .type = EXTENT_PACKED, .len = 4 * K },
    { .type = EXTENT_DAMAGED, .len = 4 * K },
    { .type = EXTENT_DATA, .len = 4 * K, .host = 0 },
    { .type = EXTENT_DATA, .len = 32 * K, .host = 32 * K },
    { .type = EXTENT_DATA, .len = 4 * K, .host = 1 << 20 }, /* past end */
  };

  CHECK (source_pwrite (src, &byte, 1, 0) == 0);
  CHECK (source_extent (src, 32 * K, 32 * K).hole);
  img = script_image (ext, 9, src, NULL);
  expect (img, 0, img->len, false, "H8192 Z8192 D12288 H36864");
  expect (img, 0, img->len, true, "H8192");
  expect (img, 1, 100, false, "H100");
  expect (img, 8 * K - 1, 2, false, "H1 Z1");
  expect (img, 8 * K - 1, 2, true, "H1");
}

static void
test_chain (void)
{
  CLEANUP_SOURCE struct source *src = source_memory ("m", 64 * K, 64 * K);
  CLEANUP_IMAGE struct image *img = NULL;
  struct image *base;
  uint8_t data[4 * K];
  static const struct extent below[] = {
    { .type = EXTENT_DATA, .len = 4 * K, .host = 0 },
    { .type = EXTENT_ZERO, .len = 4 * K },
  };
  static const struct extent above[] = {
    { .type = EXTENT_DATA, .len = 2 * K, .host = 0 },
    { .type = EXTENT_BACKING, .len = 20 * K },
    { .type = EXTENT_ZERO, .len = 2 * K },
  };

  memset (data, 1, sizeof data);
  CHECK (source_pwrite (src, data, sizeof data, 0) == 0);
  base = script_image (below, 2, src, NULL);
  img = script_image (above, 3, src, base);
  /* Data of both layers join; so do the base's zeroes, what lies past its
   * end, and the zeroes above.
   */
  expect (img, 0, img->len, false, "D4096 H20480");
  expect (img, 3 * K, 2 * K, false, "D1024 H1024");
}

/* However long the answer would be, one call does a bounded part. */
static void
test_bound (void)
{
  CLEANUP_SOURCE struct source *src = source_memory ("m", 512, 512);
  CLEANUP_IMAGE struct image *img = NULL;
  static struct extent ext[8192];
  struct answer a = { .next = 0 };
  size_t i;

  for (i = 0; i < 8192; ++i) {
    ext[i].type = EXTENT_ZERO;
    ext[i].len = 1;
  }
  img = script_image (ext, 8192, src, NULL);
  CHECK (image_status (img, img->len, 0, false, add, &a) == 0);
  CHECK (a.next > 0 && a.next < img->len);
  while (a.next < img->len) {
    uint64_t before = a.next;

    CHECK (image_status (img, img->len - before, before, false, add,
                         &a) == 0);
    CHECK (a.next > before);
  }
}

int
main (void)
{
  test_runs ();
  test_chain ();
  test_bound ();
  return 0;
}
