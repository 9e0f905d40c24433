/* Test writing to a file that can grow up to a limit only: all of it is
 * used, and used again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>

#include "include/testing.h"
#include "qcow2/entry.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)

static uint8_t buf[8 * 65536], now[sizeof buf];

/* An empty image whose file can have 'max_clusters', and a bit. */
static struct image *
open_limited (unsigned cluster_bits, uint64_t max_clusters,
              struct source **src)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, cluster_bits, 8 * MIB, 0);
  test_image_count (&t);
  *src = source_memory_copy ("image", t.bytes, t.len,
                             (max_clusters << cluster_bits) + 100);
  CHECK (*src != NULL);
  test_image_free (&t);
  img = image_open (&qcow2_format, *src, "image", MIB);
  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  CHECK (image_begin_writing (img) == 0);
  return img;
}

static void
end (struct image *img, struct source *src)
{
  CHECK (image_finish (img) == 0);
  image_close (img);
  source_put (src);
}

/* Write 'len' bytes again and again, each behind the other, until there is
 * no space; how often that was possible.
 */
static uint64_t
fill (struct image *img, uint64_t len)
{
  uint64_t n = 0;

  memset (buf, 'x', sizeof buf);
  while (image_write (img, buf, len, n * len) == 0)
    n++;
  CHECK (errno == ENOSPC);
  for (uint64_t i = 0; i < n; ++i) {
    CHECK (image_read (img, now, len, i * len) == 0);
    CHECK (memcmp (now, buf, len) == 0);
  }
  return n;
}

static void
test_all_is_used (void)
{
  struct source *src;
  struct image *img = open_limited (16, 60, &src);
  const uint64_t used = source_len (src) / 65536;
  uint64_t n = fill (img, 65536);

  CHECK (n == 60 - used - 1);   /* but for the L2 table */
  CHECK (source_len (src) == 60 * 65536);
  CHECK (image_trim (img, 2 * 65536, 3 * 65536) == 0);
  CHECK (image_write (img, buf, 2 * 65536, 4 * MIB) == 0);
  CHECK_FAILS (image_write (img, buf, 65536, 5 * MIB), ENOSPC);
  CHECK (image_flush (img) == 0);
  end (img, src);
}

/* A request that is longer than what is left takes that. */
static void
test_long_requests (void)
{
  struct source *src;
  struct image *img = open_limited (16, 60, &src);

  fill (img, sizeof buf);
  CHECK (source_len (src) == 60 * 65536);
  end (img, src);
}

/* No room for the next refcount block. */
static void
test_no_block (void)
{
  const uint64_t per_block = 256;
  struct source *src;
  struct image *img = open_limited (9, per_block, &src);
  uint64_t n = fill (img, 512);

  CHECK (source_len (src) == per_block * 512);
  CHECK (n > 100);
  CHECK (image_trim (img, 10 * 512, 0) == 0);
  CHECK (image_write (img, buf, 10 * 512, 0) == 0);
  end (img, src);
}

int
main (void)
{
  test_all_is_used ();
  test_long_requests ();
  test_no_block ();
  return EXIT_SUCCESS;
}
