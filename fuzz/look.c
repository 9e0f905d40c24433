/* Looking at everything that an open image tells, and what it may be over.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>


#include "include/checked.h"
#include "look.h"
#include "raw/raw.h"
#include "source/memory.h"

#define BASE_CACHE_LIMIT (256 * 1024)
#define BASE_LEN (96 * 1024)
#define READ_LEN (192 * 1024)
#define NR_EXTENTS 7
#define MAX_ASKED UINT32_MAX    /* as in NBD */
#define MAX_STEPS 8

static void
check_extent (const struct image *img, const struct extent *ext)
{
  if (ext->type == EXTENT_DATA)
    PROMISE (ext->src == img->data_source &&
             ext->host <= INT64_MAX - ext->len);
  if (ext->type == EXTENT_PACKED)
    PROMISE (ext->src == img->source &&
             ext->within + ext->len <= img->unit && ext->packed_len > 0 &&
             ext->packed_len <= 2 * (uint64_t) img->unit);
}

static void
try_lookup (struct image *img, uint64_t guest)
{
  unsigned i;

  for (i = 0; i < MAX_STEPS && guest < img->len; ++i) {
    struct extent ext[NR_EXTENTS];
    ssize_t n = img->format->lookup (img, guest, img->len - guest, ext,
                                     NR_EXTENTS);
    ssize_t j;

    PROMISE (n >= 1 && n <= NR_EXTENTS);
    for (j = 0; j < n; ++j) {
      PROMISE (ext[j].len > 0 && ext[j].len <= img->len - guest);
      check_extent (img, &ext[j]);
      guest += ext[j].len;
    }
  }
}

static int
add_status (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  uint64_t *next = opaque;

  PROMISE (guest == *next && len > 0 && flags <= 3);
  *next += len;
  return 0;
}

static void
try_status (struct image *img)
{
  uint64_t next = 0;
  unsigned i;

  for (i = 0; i < MAX_STEPS && next < img->len; ++i) {
    uint64_t before = next;

    if (image_status (img, MIN (img->len - next, (uint64_t) MAX_ASKED), next,
                      i & 1, add_status, &next) == -1)
      break;
    PROMISE (next > before && next <= img->len);
  }
}

static void
try_read (struct image *img, uint64_t guest)
{
  uint64_t len = MIN (img->len - guest, (uint64_t) READ_LEN);
  uint8_t *buf = malloc (len);

  PROMISE (buf != NULL);
  image_read (img, buf, len, guest);
  free (buf);
}

void
look_all_over (struct image *img)
{
  try_lookup (img, 0);
  try_lookup (img, img->len / 3);
  try_lookup (img, img->len - 1);
  try_status (img);
  try_read (img, 0);
  try_read (img, img->len / 2);
  try_read (img, img->len - MIN (img->len, UINT64_C (1000)));
  image_prefetch (img, MIN (img->len, UINT64_C (1) << 20), 0);
}

struct image *
look_base (void)
{
  CLEANUP_SOURCE struct source *src =
    source_memory ("base", BASE_LEN, BASE_LEN);
  struct image *base;

  PROMISE (src != NULL && source_pwrite (src, "base file", 9, 70000) == 0);
  base = image_open (&raw_format, src, "base", BASE_CACHE_LIMIT);
  PROMISE (base != NULL && image_connect (base, NULL, NULL) == 0);
  return base;
}
