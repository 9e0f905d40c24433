/* Test writing to images whose tables lie, or hold traps: nothing that was
 * not written is lost, no table is touched.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "image/image.h"
#include "image/read.h"
#include "include/checked.h"
#include "include/testing.h"
#include "qcow/entry.h"
#include "qcow/qcow.h"
#include "qcow/test-image.h"
#include "report/test-messages.h"

#define MIB UINT64_C (1048576)
#define C 4096
#define SPAN (2 * MIB)

static uint8_t buf[C], now[C];

/* Four spans, none allocated, with clusters and tables of 4 KiB. */
static void
make (struct test_qcow *t)
{
  const struct test_qcow_spec spec = {
    .disk_len = 4 * SPAN, .is_empty = true,
  };

  test_qcow_make (t, &spec);
}

static struct image *
open_image (const struct test_qcow *t)
{
  struct image *img = image_open (&qcow_format, t->src, "image", MIB);

  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  CHECK (image_why_read_only (img) == NULL);
  return img;
}

static struct image *
open_writable (const struct test_qcow *t)
{
  struct image *img = open_image (t);

  CHECK (image_begin_writing (img) == 0);
  return img;
}

static void
check_refused (const struct test_qcow *t, const char *text)
{
  struct image *img = open_image (t);

  test_messages_forget ();
  CHECK_FAILS (image_begin_writing (img), EINVAL);
  CHECK (strstr (test_messages.error, text) != NULL);
  CHECK (image_read (img, now, C, 0) == 0);     /* still readable */
  image_close (img);
}

static void
write_cluster (struct image *img, uint64_t guest, uint8_t byte)
{
  memset (buf, byte, C);
  CHECK (image_write (img, buf, C, guest) == 0);
}

/* Does the guest's cluster hold this byte, all over? */
static void
check_cluster (struct image *img, uint64_t guest, uint8_t byte)
{
  CHECK (image_read (img, now, C, guest) == 0);
  for (size_t i = 0; i < C; ++i)
    CHECK (now[i] == byte);
}

static void
finish (struct image *img)
{
  CHECK (image_finish (img) == 0);
  image_close (img);
}

/* Two L1 entries name one table. */
static void
test_shared_table (void)
{
  struct test_qcow t;

  make (&t);
  test_qcow_add_data (&t, 0, 1);
  test_qcow_set_l1 (&t, 1, t.l1[0], true);
  check_refused (&t, "lies on another table");
  test_qcow_free (&t);
}

/* An entry points into an L2 table, its own or another one. */
static void
test_data_on_table (void)
{
  struct test_qcow t;

  make (&t);
  test_qcow_add_data (&t, SPAN, 1);
  test_qcow_set_l2 (&t, C, t.l1[1]);
  check_refused (&t, "where a table or the header lies");
  test_qcow_free (&t);
}

/* An entry that makes no sense is no space to be had. */
static void
test_damaged_entry (void)
{
  struct test_qcow t;

  make (&t);
  test_qcow_add_data (&t, 0, 1);
  test_qcow_set_l2 (&t, C, 12345);
  check_refused (&t, "is wrong: its offset is not a multiple of 512");
  test_qcow_free (&t);
}

/* Two entries with one plain cluster: whichever is written or trimmed, the
 * other keeps what it was.
 */
static void
test_shared_cluster (void)
{
  struct test_qcow t;
  struct image *img;
  uint64_t host;

  make (&t);
  host = test_qcow_add_data (&t, 0, 1);
  test_qcow_set_l2 (&t, C, host);
  test_qcow_set_l2 (&t, 2 * C, host);
  img = open_writable (&t);
  write_cluster (img, 0, 2);
  CHECK (image_trim (img, C, C) == 0);
  CHECK (image_flush (img) == 0);
  check_cluster (img, 0, 2);
  check_cluster (img, C, 0);
  check_cluster (img, 2 * C, 1);
  finish (img);
  img = open_image (&t);
  check_cluster (img, 0, 2);
  check_cluster (img, 2 * C, 1);
  image_close (img);
  test_qcow_free (&t);
}

/* A plain cluster lies over the end of one and the start of another. */
static void
test_unaligned_cluster (void)
{
  struct test_qcow t;
  struct image *img;
  uint64_t host;

  make (&t);
  host = test_qcow_add_data (&t, 0, 1);
  CHECK (test_qcow_add_data (&t, C, 2) == host + C);
  test_qcow_set_l2 (&t, 2 * C, host + C / 2);
  img = open_writable (&t);
  write_cluster (img, 2 * C, 3);
  check_cluster (img, 0, 1);
  check_cluster (img, C, 2);
  check_cluster (img, 2 * C, 3);
  write_cluster (img, 0, 4);
  CHECK (image_trim (img, C, 2 * C) == 0);
  CHECK (image_flush (img) == 0);
  check_cluster (img, 0, 4);
  check_cluster (img, C, 2);
  finish (img);
  test_qcow_free (&t);
}

/* A stream and a plain cluster share space. */
static void
test_stream_in_cluster (void)
{
  struct test_qcow t;
  struct image *img;
  uint64_t host;

  make (&t);
  host = test_qcow_add_packed (&t, 0, 1);
  test_qcow_set_l2 (&t, C, round_down (host, C));
  img = open_writable (&t);
  write_cluster (img, C, 2);
  CHECK (image_flush (img) == 0);
  check_cluster (img, C, 2);
  finish (img);
  img = open_image (&t);        /* nothing decoded is kept */
  check_cluster (img, 0, 1);
  image_close (img);
  test_qcow_free (&t);
}

/* QEMU wrote an L1 entry, and the power failed before the table was: the
 * entry names the end of the file, where others allocate next.
 */
static void
test_table_at_end (void)
{
  struct test_qcow t;
  struct image *img;
  uint64_t end;

  make (&t);
  test_qcow_add_data (&t, 0, 1);
  end = round_up (source_len (t.src), C);
  test_qcow_set_l1 (&t, 2, end, true);
  img = open_writable (&t);
  write_cluster (img, SPAN, 2); /* needs a table */
  write_cluster (img, C, 3);
  check_cluster (img, 2 * SPAN, 0);
  write_cluster (img, 2 * SPAN, 4);
  finish (img);
  CHECK (test_qcow_peek (&t, t.spec.l1_host + 8, 8) != end);
  img = open_writable (&t);
  check_cluster (img, 0, 1);
  check_cluster (img, C, 3);
  check_cluster (img, SPAN, 2);
  check_cluster (img, SPAN + C, 0);
  check_cluster (img, 2 * SPAN, 4);
  check_cluster (img, 2 * SPAN + C, 0);
  image_close (img);
  test_qcow_free (&t);
}

/* Entries that name space behind the end of the file, which was cut short:
 * nobody else is given that space.
 */
static void
test_data_behind_end (void)
{
  struct test_qcow t;
  struct image *img;
  uint64_t end;

  make (&t);
  test_qcow_add_data (&t, 0, 1);
  end = round_up (source_len (t.src), C);
  for (unsigned i = 1; i < 8; ++i)
    test_qcow_set_l2 (&t, i * C, end + i * C);
  img = open_writable (&t);
  for (unsigned i = 8; i < 32; ++i)
    write_cluster (img, i * C, i);
  CHECK (image_flush (img) == 0);
  for (unsigned i = 1; i < 8; ++i)
    check_cluster (img, i * C, 0);
  write_cluster (img, 3 * C, 0x33);
  finish (img);
  img = open_writable (&t);
  check_cluster (img, 0, 1);
  for (unsigned i = 1; i < 32; ++i)
    check_cluster (img, i * C, i == 3 ? 0x33 : i < 8 ? 0 : i);
  image_close (img);
  test_qcow_free (&t);
}

/* The far end of what a file can hold is not waited for. */
static void
test_too_far (void)
{
  struct test_qcow t;
  struct image *img;

  make (&t);
  test_qcow_add_data (&t, 0, 1);
  test_qcow_set_l2 (&t, C, UINT64_C (1) << 61);
  img = open_image (&t);
  test_messages_forget ();
  CHECK_FAILS (image_begin_writing (img), EFBIG);
  CHECK (test_messages.nr_errors == 1);
  check_cluster (img, 0, 1);
  image_close (img);
  test_qcow_free (&t);
}

/* Old tapdisks write the L1 table back in whole pages: nothing is put into
 * the rest of the last one, however much is free in the file.
 */
static void
test_rest_of_l1_page (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = 64 * SPAN, .is_empty = true, .backing = "/base",
    .xen = TEST_QCOW_XEN_16, .file_len = 32 * MIB,
  };
  struct test_qcow t;
  struct qcow_header h;
  struct image *img;

  test_qcow_make (&t, &spec);
  test_qcow_header (&t, &h);
  CHECK (qcow_l1_end (&h) % 4096 == 512);
  img = open_writable (&t);
  for (unsigned i = 0; i < 64; ++i)
    write_cluster (img, i * C, 1);
  finish (img);
  CHECK (test_qcow_peek (&t, h.l1_host, 8) < 32 * MIB); /* it was reused */
  for (uint64_t at = qcow_l1_end (&h); at % 4096 != 0; at += 8)
    CHECK (test_qcow_peek (&t, at, 8) == 0);
  test_qcow_free (&t);
}

/* An L1 entry that makes sense in both orders is known by its table: what
 * the guest gives up or clears must not empty that.
 */
static void
test_ambiguous (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = 4 * SPAN, .xen = TEST_QCOW_XEN_16,
    .first_l2 = UINT64_C (0x102000000), .file_len = UINT64_C (1) << 34,
    .cksum = TEST_QCOW_CKSUM_STALE,
  };
  struct test_qcow t;
  struct image *img;

  test_qcow_make (&t, &spec);
  img = open_writable (&t);
  CHECK (image_trim (img, 2 * SPAN, 0) == 0);
  CHECK (image_zero (img, 2 * SPAN, 0, true, false) == 0);
  write_cluster (img, 3 * SPAN, 5);
  finish (img);
  img = open_writable (&t);
  check_cluster (img, 0, 0);
  check_cluster (img, 3 * SPAN, 5);
  check_cluster (img, SPAN, 0);
  finish (img);
  test_qcow_free (&t);
}

/* New tables of such an image never lie where their entry would be
 * ambiguous in a longer file.
 */
static void
test_new_tables (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = 64 * SPAN, .xen = TEST_QCOW_XEN_16, .is_empty = true,
  };
  struct test_qcow t;
  struct image *img;

  test_qcow_make (&t, &spec);
  img = open_writable (&t);
  for (unsigned i = 0; i < 64; ++i)
    write_cluster (img, i * SPAN, 1 + i);
  finish (img);
  img = open_image (&t);
  for (unsigned i = 0; i < 64; ++i) {
    const uint64_t entry = test_qcow_peek (&t, t.spec.l1_host + 8 * i, 8);

    CHECK (entry != 0 && entry % 65536 != 0);
    check_cluster (img, i * SPAN, 1 + i);
  }
  image_close (img);
  test_qcow_free (&t);
}

/* The table is as it should be; that the header's checksum is still that of
 * the other order is no reason not to write.
 */
static void
test_old_checksum (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = 70000, .l2_bits = 6, .backing = "/base.img",
    .xen = TEST_QCOW_XEN_12,
  };
  struct test_qcow t;
  struct image *img;

  test_qcow_make (&t, &spec);
  test_qcow_set_cksum (&t, false);
  img = open_writable (&t);
  write_cluster (img, 0, 6);
  check_cluster (img, 0, 6);
  finish (img);
  test_qcow_free (&t);
}

/* What was cleared over a base is told as zeroes, by who wrote it and by
 * who opens it for writing next; other streams are not.
 */
static void
test_zero_stream (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = 4 * SPAN, .cluster_bits = 12, .l2_bits = 9,
    .backing = "/base.img", .is_empty = true,
  };
  struct extent ext[4];
  struct test_qcow t;
  struct image *img;

  test_qcow_make (&t, &spec);
  test_qcow_add_packed (&t, 5 * C, 9);
  for (unsigned round = 0; round < 2; ++round) {
    img = open_writable (&t);
    CHECK (image_zero (img, 4 * C, C, true, false) == 0);
    CHECK (image_lookup (img, 0, 7 * C, ext, 4) == 4);
    CHECK (ext[0].type == EXTENT_BACKING && ext[0].len == C);
    CHECK (ext[1].type == EXTENT_ZERO && ext[1].len == 4 * C);
    CHECK (!ext[1].allocated);
    CHECK (ext[2].type == EXTENT_PACKED && ext[2].len == C);
    CHECK (ext[3].type == EXTENT_BACKING && ext[3].len == C);
    check_cluster (img, 2 * C, 0);

    /* It is written like anything else. */
    write_cluster (img, 3 * C, 7);
    CHECK (image_lookup (img, 3 * C, C, ext, 4) == 1);
    CHECK (ext[0].type == EXTENT_DATA && ext[0].writable);
    CHECK (image_zero (img, C, 3 * C, true, false) == 0);
    CHECK (image_lookup (img, C, 4 * C, ext, 4) == 1);
    CHECK (ext[0].type == EXTENT_ZERO);
    finish (img);
  }
  img = open_image (&t);
  CHECK (image_lookup (img, C, C, ext, 4) == 1);
  CHECK (ext[0].type == EXTENT_PACKED);
  check_cluster (img, C, 0);
  image_close (img);
  test_qcow_free (&t);
}

int
main (void)
{
  test_zero_stream ();
  test_ambiguous ();
  test_new_tables ();
  test_old_checksum ();
  test_shared_table ();
  test_data_on_table ();
  test_damaged_entry ();
  test_shared_cluster ();
  test_unaligned_cluster ();
  test_stream_in_cluster ();
  test_table_at_end ();
  test_data_behind_end ();
  test_too_far ();
  test_rest_of_l1_page ();
  return 0;
}
