/* Test the reading of compressed units: content, caching, neighbours read
 * together, forgetting, failures, and many threads at once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "image/image.h"
#include "image/packed.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/source.h"

#define UNIT 65536
#define NR_UNITS 256
#define SECTOR 512

/* ---- a source that counts, and fails when told to */

struct counting {
  struct source src;
  uint8_t *bytes;
  _Atomic unsigned nr_reads;
  _Atomic bool fail;
};

static int
counting_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct counting *c = (struct counting *) src;

  c->nr_reads++;
  if (c->fail) {
    errno = EIO;
    return -1;
  }
  memcpy (buf, c->bytes + host, len);
  return 0;
}

static void
counting_close (struct source *src)
{
  struct counting *c = (struct counting *) src;

  source_destroy (src);
  free (c->bytes);
  free (c);
}

static const struct source_ops counting_ops = {
  .kind = "counting",
  .pread = counting_pread,
  .close = counting_close,
};

/* ---- the image: streams one behind the other, on byte boundaries, their
 * lengths told in sectors
 */

static struct counting *file;
static struct extent streams[NR_UNITS];
static struct image img = { .name = (char *) "test" };

static uint8_t
byte_at (unsigned unit, size_t i, unsigned generation)
{
  uint32_t v = (unit * 2654435761u) ^ (generation * 40503u) ^
    (uint32_t) (i / 5 * 97);

  v ^= v >> 15;
  v *= 2246822519u;
  return v >> 24;
}

static void
fill_unit (uint8_t *to, unsigned unit, unsigned generation)
{
  for (size_t i = 0; i < UNIT; ++i)
    to[i] = byte_at (unit, i, generation);
}

static size_t
put_stream (unsigned unit, uint64_t host, unsigned generation)
{
  CLEANUP_FREE uint8_t *plain = malloc (UNIT);
  z_stream z = { .next_in = plain, .avail_in = UNIT,
                 .next_out = file->bytes + host, .avail_out = 2 * UNIT };

  CHECK (plain != NULL);
  fill_unit (plain, unit, generation);
  CHECK (deflateInit2 (&z, 1, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY)
         == Z_OK);
  CHECK (deflate (&z, Z_FINISH) == Z_STREAM_END);
  CHECK (deflateEnd (&z) == Z_OK);
  return 2 * UNIT - z.avail_out;
}

static void
make_file (void)
{
  uint64_t host = 12345;

  file = calloc (1, sizeof *file);
  CHECK (file != NULL);
  CHECK (source_init (&file->src, &counting_ops, "test") == 0);
  file->bytes = calloc (NR_UNITS + 4, UNIT);
  CHECK (file->bytes != NULL);
  for (unsigned i = 0; i < NR_UNITS; ++i) {
    size_t len = put_stream (i, host, 0);
    uint64_t end = (host + len + SECTOR - 1) / SECTOR * SECTOR;

    CHECK (len < UNIT / 2);
    streams[i] = (struct extent) {
      .type = EXTENT_PACKED, .len = UNIT, .src = &file->src, .host = host,
      .codec = CODEC_DEFLATE, .packed_len = end - host,
    };
    host += len;
  }
  /* The last stream's length passes the end of the file. */
  file->src.len = host;
}

static void
expect (struct packed *packed, unsigned unit, size_t at, size_t len,
        unsigned generation)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);
  struct extent ext = streams[unit];
  size_t within = at / 2;       /* some of it in the extent, some in skip */

  CHECK (buf != NULL);
  ext.within = within;
  ext.len -= within;
  CHECK (packed_read (packed, &img, (uint64_t) unit * UNIT + within, &ext,
                      at - within, buf, len) == 0);
  for (size_t i = 0; i < len; ++i)
    CHECK (buf[i] == byte_at (unit, at + i, generation));
}

static unsigned
reads_since (unsigned before)
{
  return file->nr_reads - before;
}

static void
test_content (void)
{
  struct packed *packed = packed_new (UNIT);
  unsigned before = file->nr_reads;

  CHECK (packed != NULL);
  expect (packed, 100, 10, 1000, 0);
  CHECK (reads_since (before) == 1);

  /* The rest comes from memory, the whole too. */
  expect (packed, 100, 0, UNIT / 2, 0);
  expect (packed, 100, UNIT - 1, 1, 0);
  expect (packed, 100, 0, UNIT, 0);
  CHECK (reads_since (before) == 1);

  /* Wanted whole, it is not kept. */
  expect (packed, 20, 0, UNIT, 0);
  expect (packed, 20, 0, UNIT, 0);
  CHECK (reads_since (before) == 3);

  /* What is kept is bounded, oldest out first. */
  for (unsigned i = 0; i < NR_UNITS; ++i)
    expect (packed, i * 101 % NR_UNITS, 0, 1, 0);
  before = file->nr_reads;
  expect (packed, 255 * 101 % NR_UNITS, 5, 6, 0);
  CHECK (reads_since (before) == 0);
  expect (packed, 0, 5, 6, 0);
  CHECK (reads_since (before) == 1);
  packed_free (packed);
}

static void
test_neighbours (void)
{
  struct packed *packed = packed_new (UNIT);
  const unsigned before = file->nr_reads;
  const uint64_t bytes = file->src.len;

  CHECK (packed != NULL);
  for (unsigned i = 0; i < NR_UNITS; ++i)
    expect (packed, i, 0, UNIT, 0);

  /* A read for each 256 KiB, somewhat more where streams straddle. */
  CHECK (reads_since (before) <= bytes / (192 * 1024) + 3);
  CHECK (reads_since (before) < NR_UNITS / 4);
  packed_free (packed);
}

static void
test_forget (void)
{
  struct packed *packed = packed_new (UNIT);
  uint64_t len;

  CHECK (packed != NULL);
  expect (packed, 4, 1, 1, 0);
  expect (packed, 6, 1, 1, 0);
  expect (packed, 7, 1, 1, 0);
  expect (packed, 8, 0, UNIT, 0);       /* in the window of 7 */

  /* New content in the place of 8 and a little more. */
  len = put_stream (8, streams[8].host, 1);
  streams[8].packed_len = len;
  packed_forget (packed, streams[8].host + len - 1, 1);
  expect (packed, 8, 0, UNIT, 1);
  packed_forget (packed, streams[8].host, 1);
  expect (packed, 8, 3, 3, 1);

  /* Of a unit kept. */
  put_stream (4, streams[4].host, 2);
  expect (packed, 4, 1, 100, 0);
  packed_forget (packed, streams[4].host, 1);
  expect (packed, 4, 1, 100, 2);
  packed_free (packed);

  put_stream (4, streams[4].host, 0);
  put_stream (5, streams[5].host, 0);
  streams[8].packed_len = put_stream (8, streams[8].host, 0);
  put_stream (9, streams[9].host, 0);
}

static void
expect_eio (struct packed *packed, const struct extent *ext, size_t len)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  errno = 0;
  CHECK (packed_read (packed, &img, 0, ext, 0, buf, len) == -1);
  CHECK (errno == EIO);
}

static void
test_failures (void)
{
  struct packed *packed = packed_new (UNIT);
  struct extent ext = streams[50];

  CHECK (packed != NULL);
  file->fail = true;
  expect_eio (packed, &ext, UNIT);
  expect_eio (packed, &ext, 10);
  ext = streams[51];
  expect_eio (packed, &ext, 10);        /* in sequence: through a window */
  file->fail = false;
  expect (packed, 50, 0, 10, 0);
  expect (packed, 51, 0, UNIT, 0);

  /* Damage, and lengths that only an image could say. */
  ext.host += 3;
  expect_eio (packed, &ext, 10);
  expect_eio (packed, &ext, UNIT);
  ext = streams[50];
  ext.packed_len = 100;
  expect_eio (packed, &ext, 10);
  ext.packed_len = 0;
  expect_eio (packed, &ext, UNIT);
  ext.packed_len = UINT64_MAX / 2;
  expect_eio (packed, &ext, 10);
  ext = streams[50];
  ext.host = UINT64_MAX - 10;
  expect_eio (packed, &ext, 10);
  ext.host = file->src.len + UNIT;
  expect_eio (packed, &ext, 10);
  packed_free (packed);
}

/* ---- many threads */

static struct packed *crowd_packed;

static void *
crowd (void *arg)
{
  unsigned seed = (uintptr_t) arg;

  for (unsigned i = 0; i < 300; ++i) {
    unsigned unit;
    size_t at;

    seed = seed * 1103515245 + 12345;
    /* Often the same unit in many threads, often in sequence. */
    unit = (i / 3 + (seed >> 16) % 4) % NR_UNITS;
    at = (seed >> 8) % UNIT;
    if (seed >> 28 < 6)
      expect (crowd_packed, unit, 0, UNIT, 0);
    else if (seed >> 28 < 15)
      expect (crowd_packed, unit, at, UNIT - at < 999 ? UNIT - at : 999, 0);
    else
      packed_forget (crowd_packed, streams[unit].host, UNIT);
  }
  return NULL;
}

static void
test_crowd (void)
{
  pthread_t threads[8];

  crowd_packed = packed_new (UNIT);
  CHECK (crowd_packed != NULL);
  for (uintptr_t i = 0; i < 8; ++i)
    CHECK (pthread_create (&threads[i], NULL, crowd, (void *) i) == 0);
  for (unsigned i = 0; i < 8; ++i)
    CHECK (pthread_join (threads[i], NULL) == 0);
  packed_free (crowd_packed);
}

int
main (void)
{
  make_file ();
  test_content ();
  test_neighbours ();
  test_forget ();
  test_failures ();
  test_crowd ();
  source_put (&file->src);
  return EXIT_SUCCESS;
}
