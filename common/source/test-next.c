/* Test the next layer as a source: block sizes, long requests, holes,
 * errors.  The layer and the server's calls are played by this program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/checked.h"
#include "include/testing.h"
#include "source/next.h"

#define LAYER_LEN 100000
#define MAX_EXTENTS 8

/* ---- the layer */

static struct {
  uint8_t bytes[LAYER_LEN];
  uint32_t minimum, maximum;
  int can_write, can_flush, can_extents;
  uint64_t hole, hole_end;      /* else it is data */
  int err;                      /* fail so; 0: do not */
  unsigned nr_reads, nr_writes, nr_flushes, nr_extents;
} layer;

struct nbdkit_extents {
  uint64_t start, end;
  size_t nr;
  struct nbdkit_extent v[MAX_EXTENTS];
};

struct nbdkit_extents *
nbdkit_extents_new (uint64_t start, uint64_t end)
{
  struct nbdkit_extents *list = calloc (1, sizeof *list);

  CHECK (list != NULL);
  list->start = start;
  list->end = end;
  return list;
}

void
nbdkit_extents_free (struct nbdkit_extents *list)
{
  free (list);
}

size_t
nbdkit_extents_count (const struct nbdkit_extents *list)
{
  return list->nr;
}

struct nbdkit_extent
nbdkit_get_extent (const struct nbdkit_extents *list, size_t i)
{
  CHECK (i < list->nr);
  return list->v[i];
}

static int
fail (int *err)
{
  if (layer.err == 0)
    return 0;
  *err = layer.err;
  return -1;
}

/* A layer that insists on its blocks; the last one may be cut off. */
static void
check_request (uint32_t count, uint64_t offset)
{
  CHECK (count > 0 && range_is_inside (offset, count, LAYER_LEN));
  CHECK (offset % layer.minimum == 0);
  CHECK (count % layer.minimum == 0 || offset + count == LAYER_LEN);
  CHECK (count <= layer.maximum);
}

static int
layer_pread (nbdkit_next *next, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags, int *err)
{
  (void) next;
  CHECK (flags == 0);
  check_request (count, offset);
  layer.nr_reads++;
  memcpy (buf, layer.bytes + offset, count);
  return fail (err);
}

static int
layer_pwrite (nbdkit_next *next, const void *buf, uint32_t count,
              uint64_t offset, uint32_t flags, int *err)
{
  (void) next;
  CHECK (flags == 0 && layer.can_write);
  check_request (count, offset);
  layer.nr_writes++;
  memcpy (layer.bytes + offset, buf, count);
  return fail (err);
}

static int
layer_flush (nbdkit_next *next, uint32_t flags, int *err)
{
  (void) next;
  CHECK (flags == 0 && layer.can_flush);
  layer.nr_flushes++;
  return fail (err);
}

static int
layer_extents (nbdkit_next *next, uint32_t count, uint64_t offset,
               uint32_t flags, struct nbdkit_extents *list, int *err)
{
  const uint64_t end = offset < layer.hole ? layer.hole :
    offset < layer.hole_end ? layer.hole_end : LAYER_LEN;

  (void) next;
  CHECK (flags == NBDKIT_FLAG_REQ_ONE && layer.can_extents);
  CHECK (list->start == offset && list->end == LAYER_LEN);
  CHECK (count > 0 && range_is_inside (offset, count, LAYER_LEN));
  CHECK (offset % layer.minimum == 0);
  layer.nr_extents++;
  list->v[list->nr++] = (struct nbdkit_extent) {
    .offset = offset,
    .length = end - offset,
    .type = end == layer.hole_end ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
      : 0,
  };
  return fail (err);
}

static int64_t
layer_get_size (nbdkit_next *next)
{
  (void) next;
  return LAYER_LEN;
}

static int
layer_block_size (nbdkit_next *next, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
  (void) next;
  *minimum = layer.minimum == 1 ? 0 : layer.minimum; /* 0: not known */
  *preferred = *minimum;
  *maximum = layer.minimum == 1 ? 0 : layer.maximum;
  return 0;
}

static int
layer_can_write (nbdkit_next *next)
{
  (void) next;
  return layer.can_write;
}

static int
layer_can_flush (nbdkit_next *next)
{
  (void) next;
  return layer.can_flush;
}

static int
layer_can_extents (nbdkit_next *next)
{
  (void) next;
  return layer.can_extents;
}

static struct nbdkit_next_ops next_layer = {
  .get_size = layer_get_size,
  .block_size = layer_block_size,
  .can_write = layer_can_write,
  .can_flush = layer_can_flush,
  .can_extents = layer_can_extents,
  .pread = layer_pread,
  .pwrite = layer_pwrite,
  .flush = layer_flush,
  .extents = layer_extents,
};

static struct source *
set_up (uint32_t minimum, uint32_t maximum, bool readonly)
{
  struct source *src;

  memset (&layer, 0, sizeof layer);
  for (size_t i = 0; i < LAYER_LEN; i++)
    layer.bytes[i] = (uint8_t) (i * 7 + i / 256);
  layer.minimum = minimum;
  layer.maximum = maximum;
  layer.can_write = layer.can_flush = layer.can_extents = 1;
  src = source_next (&next_layer, "layer", readonly);
  CHECK (src != NULL && source_len (src) == LAYER_LEN && !src->can_grow);
  return src;
}

/* ---- tests */

/* Ranges of all kinds, against a model. */
static void
test_ranges (uint32_t minimum, uint32_t maximum)
{
  static uint8_t model[LAYER_LEN], buf[LAYER_LEN];
  struct source *src = set_up (minimum, maximum, false);
  uint32_t seed = minimum;

  memcpy (model, layer.bytes, sizeof model);
  for (unsigned i = 0; i < 2000; i++) {
    uint64_t host;
    size_t len;

    seed = seed * 1103515245 + 12345;
    host = (seed >> 4) % LAYER_LEN;
    seed = seed * 1103515245 + 12345;
    len = 1 + (seed >> 4) % (i % 10 == 0 ? 40000 : 700);
    len = MIN (len, (size_t) (LAYER_LEN - host));
    if (i % 3 == 0) {
      memset (model + host, (int) i, len);
      CHECK (source_pwrite (src, model + host, len, host) == 0);
    }
    else {
      CHECK (source_pread (src, buf, len, host) == 0);
      CHECK (memcmp (buf, model + host, len) == 0);
    }
  }
  CHECK (memcmp (layer.bytes, model, sizeof model) == 0);
  CHECK (source_sync (src) == 0 && layer.nr_flushes == 1);
  source_put (src);
}

/* What is whole needs no merging. */
static void
test_whole (void)
{
  static uint8_t buf[8192];
  struct source *src = set_up (4096, 65536, false);

  CHECK (source_pwrite (src, buf, 8192, 4096) == 0);
  CHECK (layer.nr_writes == 1 && layer.nr_reads == 0);
  CHECK (source_pwrite (src, buf, LAYER_LEN % 4096,
                        LAYER_LEN / 4096 * 4096) == 0);
  CHECK (layer.nr_writes == 2 && layer.nr_reads == 0);
  CHECK (source_pwrite (src, buf, 512, 512) == 0);
  CHECK (layer.nr_writes == 3 && layer.nr_reads == 1);
  source_put (src);
}

static void
test_extents (void)
{
  struct source *src = set_up (512, 65536, true);
  struct source_extent ext;

  layer.hole = 4096;
  layer.hole_end = 20480;
  ext = source_extent (src, 100, 50000);
  CHECK (!ext.hole && ext.len == 4096 - 100);
  ext = source_extent (src, 5000, 8);
  CHECK (ext.hole && ext.len == 8);
  ext = source_extent (src, 5000, 50000);
  CHECK (ext.hole && ext.len == 20480 - 5000);
  ext = source_extent (src, 20480, LAYER_LEN);
  CHECK (!ext.hole && ext.len == LAYER_LEN - 20480);
  source_put (src);

  /* One who cannot say, or fails, says data. */
  src = set_up (1, UINT32_MAX, true);
  layer.hole_end = LAYER_LEN;
  layer.err = EIO;
  ext = source_extent (src, 0, 1000);
  CHECK (!ext.hole && ext.len == 1000 && layer.nr_extents == 1);
  source_put (src);
}

static void
test_refusals (void)
{
  struct source *src = set_up (1, UINT32_MAX, true);
  uint8_t buf[16] = { 0 };

  CHECK_FAILS (source_pwrite (src, buf, 16, 0), EROFS);
  layer.err = EPERM;
  CHECK_FAILS (source_pread (src, buf, 16, 0), EPERM);
  source_put (src);

  src = set_up (512, 65536, false);
  CHECK (source_next_can_flush (src));
  CHECK_FAILS (source_pwrite (src, buf, 16, LAYER_LEN - 8), ENOSPC);
  CHECK_FAILS (source_truncate (src, LAYER_LEN + 1), ENOSPC);
  layer.err = ENOSPC;
  CHECK_FAILS (source_pwrite (src, buf, 16, 0), ENOSPC);
  CHECK_FAILS (source_sync (src), ENOSPC);
  layer.err = 0;
  CHECK_FAILS (source_sync (src), EIO);
  source_put (src);
}

static void
test_without_flush (void)
{
  struct source *src;

  memset (&layer, 0, sizeof layer);
  layer.minimum = 1;
  layer.maximum = UINT32_MAX;
  layer.can_write = 1;
  src = source_next (&next_layer, "layer", false);
  CHECK (src != NULL && src->writable && !source_next_can_flush (src));
  CHECK_FAILS (source_sync (src), ENOTSUP);
  source_put (src);
}

int
main (void)
{
  test_ranges (1, UINT32_MAX);
  test_ranges (512, UINT32_MAX);
  test_ranges (4096, 8192);
  test_ranges (512, 1536);
  test_whole ();
  test_extents ();
  test_refusals ();
  test_without_flush ();
  return EXIT_SUCCESS;
}
