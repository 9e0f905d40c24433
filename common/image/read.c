/* Reading: one lookup, then one pread for each host-contiguous run.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "image/image.h"
#include "image/read.h"
#include "include/checked.h"

/* Lookups that image_is_zero_locked makes before it gives up. */
#define MAX_ZERO_LOOKUPS 64

ssize_t
image_lookup (struct image *img, uint64_t guest, uint64_t len,
              struct extent *ext, size_t max)
{
  ssize_t n = img->format->lookup (img, guest, len, ext, max);

  assert (n == -1 || (n >= 1 && (size_t) n <= max));
  return n;
}

/* The backing image may end sooner; then zeroes follow. */
static int
read_backing (struct image *backing, uint8_t *buf, uint64_t len,
              uint64_t guest)
{
  uint64_t there = 0;

  if (backing && guest < backing->len) {
    there = MIN (len, backing->len - guest);
    if (image_read_locked (backing, buf, there, guest) == -1)
      return -1;
  }
  memset (buf + there, 0, len - there);
  return 0;
}

static int
read_extent (struct image *img, const struct extent *ext, uint8_t *buf,
             uint64_t guest)
{
  switch (ext->type) {
  case EXTENT_DATA:
    return source_pread_padded (ext->src, buf, ext->len, ext->host);
  case EXTENT_ZERO:
    memset (buf, 0, ext->len);
    return 0;
  case EXTENT_BACKING:
    return read_backing (img->backing, buf, ext->len, guest);
  case EXTENT_PACKED:
    return packed_read (img->packed, img, guest, ext, 0, buf, ext->len);
  case EXTENT_DAMAGED:
    break;
  }
  errno = EIO;                  /* reported by the lookup */
  return -1;
}

int
image_read_locked (struct image *img, void *vbuf, uint64_t len,
                   uint64_t guest)
{
  struct extent ext[NR_EXTENTS];
  uint8_t *buf = vbuf;
  ssize_t n, i;

  while (len > 0) {
    n = image_lookup (img, guest, len, ext, NR_EXTENTS);
    if (n == -1)
      return -1;
    for (i = 0; i < n; ++i) {
      if (read_extent (img, &ext[i], buf, guest) == -1)
        return -1;
      buf += ext[i].len;
      guest += ext[i].len;
      len -= ext[i].len;
    }
  }
  return 0;
}

int
image_read (struct image *img, void *buf, uint64_t len, uint64_t guest)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };

  if (len == 0)
    return 0;
  if (img->is_writable)
    range_lock_take (&img->ranges, &hold, guest, guest + len, false);
  return image_read_locked (img, buf, len, guest);
}

int
image_is_zero_locked (struct image *img, uint64_t len, uint64_t guest)
{
  struct extent ext[NR_EXTENTS];
  unsigned nr_lookups = 0;
  ssize_t n, i;

  while (len > 0) {
    if (++nr_lookups > MAX_ZERO_LOOKUPS)
      return 0;
    n = image_lookup (img, guest, len, ext, NR_EXTENTS);
    if (n == -1)
      return -1;
    for (i = 0; i < n; ++i) {
      const struct image *backing = img->backing;
      int r = ext[i].type == EXTENT_ZERO;

      if (ext[i].type == EXTENT_BACKING)
        r = backing == NULL || guest >= backing->len ? 1 :
          image_is_zero_locked (img->backing,
                                MIN (ext[i].len, backing->len - guest),
                                guest);
      if (r != 1)
        return r;
      guest += ext[i].len;
      len -= ext[i].len;
    }
  }
  return 1;
}

/* ---- prefetch */

/* One request brings at most this much of the host's data. */
#define PREFETCH_LEN (64 * 1024 * 1024)

static void
prefetch_layer (struct image *img, uint64_t len, uint64_t guest)
{
  struct extent ext[NR_EXTENTS];
  ssize_t n, i;

  while (len > 0) {
    n = image_lookup (img, guest, len, ext, NR_EXTENTS);
    if (n == -1)
      return;
    for (i = 0; i < n; ++i) {
      const struct extent *e = &ext[i];

      if (e->type == EXTENT_DATA)
        source_prefetch (e->src, e->host, e->len);
      else if (e->type == EXTENT_PACKED)
        source_prefetch (e->src, e->host, e->packed_len);
      else if (e->type == EXTENT_BACKING && img->backing &&
               guest < img->backing->len)
        prefetch_layer (img->backing, MIN (e->len, img->backing->len - guest),
                        guest);
      guest += e->len;
      len -= e->len;
    }
  }
}

void
image_prefetch (struct image *img, uint64_t len, uint64_t guest)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };

  if (len == 0)
    return;
  len = MIN (len, (uint64_t) PREFETCH_LEN);
  if (img->is_writable)
    range_lock_take (&img->ranges, &hold, guest, guest + len, false);
  prefetch_layer (img, len, guest);
}
