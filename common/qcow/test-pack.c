/* Test writing of compressed clusters: what is packed, where it goes, and
 * what a failure in the middle leaves.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "image/image.h"
#include "include/testing.h"
#include "qcow/entry.h"
#include "qcow/qcow.h"
#include "qcow/test-image.h"
#include "report/test-messages.h"
#include "source/record.h"

#define MIB UINT64_C (1048576)
#define C 4096
#define SPAN (2 * MIB)

struct bed {
  struct test_qcow t;
  struct record *record;
  struct source *src;
  struct image *img;
};

static struct image *
open_image (struct source *src)
{
  const struct image_wishes wishes = { .compress_level = 6 };
  struct image *img = image_open_wishes (&qcow_format, src, "image", MIB,
                                         &wishes);

  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  return img;
}

/* Four spans, none allocated, with clusters and tables of 4 KiB; or fewer
 * bytes.
 */
static void
begin_len (struct bed *bed, uint64_t disk_len)
{
  const struct test_qcow_spec spec = {
    .disk_len = disk_len, .is_empty = true,
  };

  test_qcow_make (&bed->t, &spec);
  bed->record = record_new ();
  CHECK (bed->record != NULL);
  bed->src = record_add (bed->record, "image", bed->t.src, 64 * MIB);
  CHECK (bed->src != NULL);
  bed->img = open_image (bed->src);
  CHECK (image_begin_writing (bed->img) == 0);
}

static void
begin (struct bed *bed)
{
  begin_len (bed, 4 * SPAN);
}

static void
finish (struct bed *bed)
{
  CHECK (image_finish (bed->img) == 0);
  image_close (bed->img);
  bed->img = open_image (bed->src);
}

static void
end (struct bed *bed)
{
  image_close (bed->img);
  source_put (bed->src);
  record_free (bed->record);
  test_qcow_free (&bed->t);
}

/* Bytes that are compressed to about an eighth; 'seed' tells them apart. */
static void
fill (uint8_t *buf, uint8_t seed)
{
  uint32_t v = seed * 2654435761u + 1;

  for (size_t i = 0; i < C; ++i) {
    if (i % 8 == 0)
      v = v * 1664525 + 1013904223;
    buf[i] = v >> 24;
  }
}

static int
write_cluster (struct bed *bed, uint64_t guest, uint8_t seed)
{
  uint8_t buf[C];

  fill (buf, seed);
  return image_write (bed->img, buf, C, guest);
}

static void
check_cluster (struct bed *bed, uint64_t guest, uint8_t seed)
{
  uint8_t want[C], got[C];

  fill (want, seed);
  CHECK (image_read (bed->img, got, C, guest) == 0);
  CHECK (memcmp (got, want, C) == 0);
}

/* What the image says of the cluster at 'guest'. */
static struct extent
extent_of (struct bed *bed, uint64_t guest)
{
  struct extent ext;

  CHECK (qcow_format.lookup (bed->img, guest, C, &ext, 1) == 1);
  CHECK (ext.len == C);
  return ext;
}

/* Streams lie behind each other, on sectors. */
static void
test_places (void)
{
  uint64_t next = 0;
  struct bed bed;

  begin (&bed);
  for (unsigned i = 0; i < 40; ++i)
    CHECK (write_cluster (&bed, i * C, i) == 0);
  for (unsigned i = 0; i < 40; ++i) {
    const struct extent ext = extent_of (&bed, i * C);

    CHECK (ext.type == EXTENT_PACKED && ext.packed_len < C / 2);
    CHECK (ext.host % 512 == 0 && (next == 0 || ext.host == next));
    next = ext.host + (ext.packed_len + 511) / 512 * 512;
    check_cluster (&bed, i * C, i);
  }
  finish (&bed);
  for (unsigned i = 0; i < 40; ++i)
    check_cluster (&bed, i * C, i);
  CHECK (source_len (bed.src) < 40 * C / 2);
  end (&bed);
}

/* A request of many clusters, in parts that have to be stored plain. */
static void
test_parts (void)
{
  static uint8_t buf[10 * C], got[sizeof buf];
  struct bed bed;

  begin (&bed);
  for (unsigned i = 0; i < 10; ++i)
    fill (buf + i * C, i);
  CHECK (image_write (bed.img, buf, 9 * C, 100) == 0);
  for (unsigned i = 0; i < 10; ++i) {
    const bool whole = i > 0 && i < 9;

    CHECK (extent_of (&bed, i * C).type ==
           (whole ? EXTENT_PACKED : EXTENT_DATA));
  }
  finish (&bed);
  CHECK (image_read (bed.img, got, 9 * C, 100) == 0);
  CHECK (memcmp (got, buf, 9 * C) == 0);
  CHECK (image_read (bed.img, got, 100, 0) == 0);
  for (unsigned i = 0; i < 100; ++i)
    CHECK (got[i] == 0);
  end (&bed);
}

/* What replaces a stream is plain from then on; the others stay. */
static void
test_again (void)
{
  struct extent ext;
  struct bed bed;

  begin (&bed);
  for (unsigned i = 0; i < 4; ++i)
    CHECK (write_cluster (&bed, i * C, i) == 0);
  CHECK (write_cluster (&bed, C, 77) == 0);
  ext = extent_of (&bed, C);
  CHECK (ext.type == EXTENT_DATA && ext.writable);
  CHECK (write_cluster (&bed, C, 78) == 0);
  CHECK (extent_of (&bed, C).host == ext.host);
  finish (&bed);
  for (unsigned i = 0; i < 4; ++i)
    check_cluster (&bed, i * C, i == 1 ? 78 : i);
  end (&bed);
}

/* What the disk's end cuts off is zero in the stream: the disk may grow. */
static void
test_end_of_disk (void)
{
  uint8_t buf[C], stream[C], got[C];
  struct extent ext;
  struct bed bed;

  begin_len (&bed, 3 * C + 512);
  fill (buf, 9);
  memset (got, 0xee, C);
  CHECK (image_write (bed.img, buf, 512, 3 * C) == 0);
  CHECK (qcow_format.lookup (bed.img, 3 * C, 512, &ext, 1) == 1);
  CHECK (ext.type == EXTENT_PACKED);
  CHECK (source_pread (bed.src, stream, ext.packed_len, ext.host) == 0);
  CHECK (codec_decode (ext.codec, stream, ext.packed_len, got, C) == 0);
  CHECK (memcmp (got, buf, 512) == 0);
  for (unsigned i = 512; i < C; ++i)
    CHECK (got[i] == 0);
  end (&bed);
}

/* A stream that could not be written takes none of its neighbours along. */
static void
test_failure (void)
{
  struct bed bed;

  begin (&bed);
  CHECK (write_cluster (&bed, 0, 1) == 0);
  record_fail_at (bed.record, RECORD_WRITE, 1, EIO, false);
  CHECK_FAILS (write_cluster (&bed, C, 2), EIO);
  CHECK (extent_of (&bed, C).type == EXTENT_ZERO);
  check_cluster (&bed, 0, 1);
  finish (&bed);
  check_cluster (&bed, 0, 1);
  CHECK (extent_of (&bed, C).type == EXTENT_ZERO);
  image_close (bed.img);

  bed.img = open_image (bed.src);
  CHECK (image_begin_writing (bed.img) == 0);
  CHECK (write_cluster (&bed, C, 3) == 0);
  check_cluster (&bed, 0, 1);
  check_cluster (&bed, C, 3);
  end (&bed);
}

int
main (void)
{
  test_places ();
  test_parts ();
  test_again ();
  test_end_of_disk ();
  test_failure ();
  return 0;
}
