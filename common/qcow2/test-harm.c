/* Test writing to images whose tables lie: nothing that was not written is
 * lost, no table is touched, the program goes on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "qcow2/entry.h"
#include "qcow2/header.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)
#define CLUSTER_BITS 16
#define CLUSTER_LEN 65536
#define BLOCK_HOST (2 * CLUSTER_LEN)    /* of the refcounts */

static uint8_t buf[CLUSTER_LEN], now[CLUSTER_LEN];

static struct source *
make_source (const struct test_image *t)
{
  struct source *src = source_memory_copy ("image", t->bytes, t->len,
                                           INT64_MAX);

  CHECK (src != NULL);
  return src;
}

static struct image *
open_image (struct source *src)
{
  struct image *img = image_open (&qcow2_format, src, "image", MIB);

  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  CHECK (image_why_read_only (img) == NULL);
  CHECK (image_begin_writing (img) == 0);
  return img;
}

static void
set_count (struct test_image *t, uint64_t host, uint16_t count)
{
  test_image_poke (t, BLOCK_HOST + (host >> CLUSTER_BITS) * 2, 2, count);
}

/* Does the guest's cluster hold this byte, all over? */
static void
check_cluster (struct image *img, uint64_t guest, uint8_t byte)
{
  size_t i;

  CHECK (image_read (img, now, CLUSTER_LEN, guest) == 0);
  for (i = 0; i < CLUSTER_LEN; ++i)
    CHECK (now[i] == byte);
}

static void
write_cluster (struct image *img, uint64_t guest, uint8_t byte)
{
  memset (buf, byte, CLUSTER_LEN);
  CHECK (image_write (img, buf, CLUSTER_LEN, guest) == 0);
}

static void
close_image (struct image *img)
{
  CHECK (image_finish (img) == 0);
  image_close (img);
}

/* ---- what a clean close cuts off */

/* A file that was cut short: what is written beyond its end stays. */
static void
test_written_beyond_end (void)
{
  struct test_image t;
  struct source *src;
  struct image *img;
  uint64_t host;

  test_image_init (&t, 3, CLUSTER_BITS, MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_count (&t);
  host = t.len + 4 * CLUSTER_LEN;
  test_image_set_l2 (&t, CLUSTER_LEN, host | L2_COPIED);
  set_count (&t, host, 1);
  src = make_source (&t);
  test_image_free (&t);

  img = open_image (src);
  write_cluster (img, CLUSTER_LEN, 'x');
  CHECK (image_flush (img) == 0);
  close_image (img);

  img = open_image (src);
  check_cluster (img, 0, 'a');
  check_cluster (img, CLUSTER_LEN, 'x');
  close_image (img);
  source_put (src);
}

/* Data that are counted as free, at the end of the file, stay when nothing
 * was allocated.
 */
static void
test_uncounted_at_end (void)
{
  struct test_image t;
  struct source *src;
  struct image *img;
  uint64_t host;

  test_image_init (&t, 3, CLUSTER_BITS, MIB, 0);
  test_image_add_data (&t, 0, 'a');
  host = test_image_add_data (&t, CLUSTER_LEN, 'b');
  test_image_count (&t);
  set_count (&t, host, 0);
  src = make_source (&t);
  test_image_free (&t);

  img = open_image (src);
  write_cluster (img, 0, 'x');
  close_image (img);

  img = open_image (src);
  check_cluster (img, 0, 'x');
  check_cluster (img, CLUSTER_LEN, 'b');
  close_image (img);
  source_put (src);
}

/* A file of any length is closed in a bounded number of steps. */
static void
test_endless_hole (void)
{
  struct test_image t;
  struct source *src;
  struct image *img;

  test_image_init (&t, 3, 9, MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_count (&t);
  src = make_source (&t);
  test_image_free (&t);
  CHECK (source_grow (src, UINT64_C (1) << 60) == 0);
  img = open_image (src);
  CHECK (image_write (img, "x", 1, 0) == 0);
  close_image (img);
  source_put (src);
}

/* ---- entries that name tables as their data */

enum way { TRIM, ZERO, WRITE };

/* Make the guest's second cluster lie in the table at 'victim', and take it
 * away.
 */
static void
test_table_as_data (uint64_t victim, uint64_t flags, enum way way)
{
  static uint8_t before[CLUSTER_LEN];
  size_t len = CLUSTER_LEN;
  struct test_image t;
  struct source *src;
  struct image *img;

  test_image_init (&t, 3, CLUSTER_BITS, MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_count (&t);
  test_image_set_l2 (&t, CLUSTER_LEN, victim | flags);
  src = make_source (&t);
  test_image_free (&t);
  victim -= victim % CLUSTER_LEN;
  CHECK (source_pread (src, before, CLUSTER_LEN, victim) == 0);

  /* Whether it is refused or done is not told, nor what flushes say. */
  img = open_image (src);
  if (way == TRIM)
    image_trim (img, CLUSTER_LEN, CLUSTER_LEN);
  else if (way == ZERO)
    image_zero (img, CLUSTER_LEN, CLUSTER_LEN, true, false);
  else {
    memset (buf, 'x', CLUSTER_LEN);
    image_write (img, buf, CLUSTER_LEN, CLUSTER_LEN);
  }
  image_flush (img);
  image_finish (img);
  image_close (img);

  /* Counts of new clusters change, and in the header a mark of damage. */
  if (victim == BLOCK_HOST)
    len = 4 * 2;
  else if (victim == 0)
    len = 72;
  CHECK (source_pread_padded (src, now, CLUSTER_LEN, victim) == 0);
  CHECK (memcmp (before, now, len) == 0);
  img = image_open (&qcow2_format, src, "image", MIB);
  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  check_cluster (img, 0, 'a');
  image_close (img);
  source_put (src);
}

static void
test_tables_as_data (void)
{
  static const uint64_t victims[] = { BLOCK_HOST, 3 * CLUSTER_LEN };
  enum way way;
  size_t i;

  for (i = 0; i < 2; ++i)
    for (way = TRIM; way <= WRITE; ++way) {
      test_table_as_data (victims[i], L2_COPIED, way);
      test_table_as_data (victims[i], 0, way);
      test_table_as_data (victims[i], L2_PACKED, way);
    }
  test_table_as_data (512, L2_PACKED, TRIM);    /* the header */
}

/* ---- a shared table whose entries say that they are not shared */

static void
test_shared_table (uint64_t incompatible)
{
  struct test_image t;
  struct source *src;
  struct image *img;
  uint64_t data, l1;

  test_image_init (&t, 3, CLUSTER_BITS, MIB, incompatible);
  data = test_image_add_data (&t, 0, 'a');
  if (incompatible)
    test_image_set_bitmap (&t, 0, 0xff);
  test_image_count (&t);
  l1 = test_image_peek (&t, t.l1_host, 8);
  test_image_poke (&t, t.l1_host, 8, l1 & ~L1_COPIED);
  set_count (&t, l1 & L1_HOST, 2);
  set_count (&t, data, 2);
  src = make_source (&t);
  test_image_free (&t);

  img = open_image (src);
  memset (buf, 'x', 2048);
  CHECK (image_write (img, buf, 2048, 0) == 0);
  CHECK (image_read (img, now, 2048, 0) == 0);
  CHECK (memcmp (buf, now, 2048) == 0);
  close_image (img);
  CHECK (source_pread (src, now, 2048, data) == 0);
  CHECK (now[0] == 'a' && now[2047] == 'a');
  source_put (src);
}

int
main (void)
{
  test_written_beyond_end ();
  test_uncounted_at_end ();
  test_endless_hole ();
  test_tables_as_data ();
  test_shared_table (0);
  test_shared_table (QCOW2_EXTENDED_L2);
  return EXIT_SUCCESS;
}
