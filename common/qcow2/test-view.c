/* Test internal snapshots: listing them, choosing one, and seeing its disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "qcow2/table.h"
#include "qcow2/test-image.h"
#include "qcow2/view.h"
#include "report/test-messages.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)
#define NR(array) (sizeof (array) / sizeof (array)[0])
#define COPIED (UINT64_C (1) << 63)
#define CACHE_LIMIT MIB

/* An entry of the table. */
struct row {
  const char *id, *name;
  uint64_t l1_host;             /* 0: the active one */
  uint32_t l1_size;             /* 0: that of the active one */
  uint32_t extra_len;           /* bytes */
  uint64_t disk_len;            /* counts with 16 of them */
  uint32_t seconds;
};

static uint64_t
row_len (const struct row *row)
{
  return round_up (40 + row->extra_len + strlen (row->id) +
                   strlen (row->name), 8);
}

static void
put_row (struct test_image *t, uint64_t at, const struct row *row)
{
  const size_t id_len = strlen (row->id), name_len = strlen (row->name);
  uint8_t *names = t->bytes + at + 40 + row->extra_len;

  test_image_poke (t, at, 8, row->l1_host ?: t->l1_host);
  test_image_poke (t, at + 8, 4, row->l1_size ?: test_image_peek (t, 36, 4));
  test_image_poke (t, at + 12, 2, id_len);
  test_image_poke (t, at + 14, 2, name_len);
  test_image_poke (t, at + 16, 4, row->seconds);
  test_image_poke (t, at + 36, 4, row->extra_len);
  if (row->extra_len >= 16)
    test_image_poke (t, at + 48, 8, row->disk_len);
  memcpy (names, row->id, id_len);
  memcpy (names + id_len, row->name, name_len);
}

static void
put_rows (struct test_image *t, const struct row *rows, size_t nr)
{
  uint64_t len = 0, at;

  for (size_t i = 0; i < nr; ++i)
    len += row_len (&rows[i]);
  at = test_image_add (t, div_round_up (len, t->cluster_len));
  test_image_poke (t, 60, 4, nr);
  test_image_poke (t, 64, 8, at);
  for (size_t i = 0; i < nr; at += row_len (&rows[i++]))
    put_row (t, at, &rows[i]);
}

/* Add an L1 table with a cluster full of 'byte' at 0; where it begins. */
static uint64_t
add_tables (struct test_image *t, uint8_t byte)
{
  const uint64_t l1 = test_image_add (t, 1), l2 = test_image_add (t, 1),
    data = test_image_add (t, 1);

  test_image_poke (t, l1, 8, l2 | COPIED);
  test_image_poke (t, l2, 8, data | COPIED);
  memset (t->bytes + data, byte, t->cluster_len);
  return l1;
}

/* Open a snapshot; NULL: the active disk. */
static struct image *
open_snapshot (const struct test_image *t, const char *snapshot)
{
  const struct image_wishes wishes = { .snapshot = snapshot };
  CLEANUP_SOURCE struct source *src =
    source_memory_copy ("image", t->bytes, t->len, INT64_MAX);
  struct image *img;

  CHECK (src != NULL);
  test_messages_forget ();
  img = image_open_wishes (&qcow2_format, src, "image", CACHE_LIMIT,
                           &wishes);
  CHECK (img == NULL || image_connect (img, NULL, NULL) == 0);
  return img;
}

/* The first byte of that snapshot's disk, and its length. */
static int
first_byte (const struct test_image *t, const char *snapshot, uint64_t *len)
{
  CLEANUP_IMAGE struct image *img = open_snapshot (t, snapshot);
  uint8_t byte;

  CHECK (img != NULL);
  CHECK (image_read (img, &byte, 1, 0) == 0);
  if (len)
    *len = img->len;
  if (snapshot)
    CHECK (strcmp (image_why_read_only (img), "it is a snapshot") == 0);
  return byte;
}

static void
expect_refusal (const struct test_image *t, const char *snapshot, int err,
                const char *says)
{
  struct image *img;

  errno = 0;
  img = open_snapshot (t, snapshot);
  CHECK (img == NULL && errno == err);
  CHECK (test_messages.nr_errors == 1);
  CHECK (strstr (test_messages.error, says) != NULL);
}

/* ---- tests */

static void
test_choice (void)
{
  struct test_image t;
  struct row rows[] = {
    { "11", "one" }, { "2", "3" }, { "3", "three" }, { "4", "2" },
    { "5", "one" }, { "six", "" },
  };

  test_image_init (&t, 3, 12, MIB, 0);
  test_image_add_data (&t, 0, 0xaa);
  for (size_t i = 0; i < NR (rows); ++i)
    rows[i].l1_host = add_tables (&t, i);
  put_rows (&t, rows, NR (rows));

  CHECK (first_byte (&t, NULL, NULL) == 0xaa);
  CHECK (first_byte (&t, "11", NULL) == 0);
  CHECK (first_byte (&t, "one", NULL) == 0);
  CHECK (first_byte (&t, "2", NULL) == 1);
  CHECK (first_byte (&t, "3", NULL) == 2);
  CHECK (first_byte (&t, "three", NULL) == 2);
  CHECK (first_byte (&t, "4", NULL) == 3);
  CHECK (first_byte (&t, "5", NULL) == 4);
  CHECK (first_byte (&t, "six", NULL) == 5);
  expect_refusal (&t, "1", ENOENT, "\"1\"");
  expect_refusal (&t, "on", ENOENT, "\"on\"");
  expect_refusal (&t, "ones", ENOENT, "\"ones\"");
  expect_refusal (&t, "11one", ENOENT, "\"11one\"");
  test_image_free (&t);

  test_image_init (&t, 3, 12, MIB, 0);
  expect_refusal (&t, "1", ENOENT, "there is no snapshot");
  test_image_free (&t);
}

/* What is recorded of the size, if anything. */
static void
test_len (void)
{
  struct test_image t;
  uint64_t len;
  struct row rows[] = {
    { "1", "none", .disk_len = 512 },
    { "2", "little", .extra_len = 8, .disk_len = 512 },
    { "3", "small", .extra_len = 16, .disk_len = 512 },
    { "4", "large", .extra_len = 24, .disk_len = 2 * MIB },
    { "5", "empty", .extra_len = 1024, .disk_len = 0 },
  };

  test_image_init (&t, 3, 12, MIB, 0);
  test_image_add_data (&t, 0, 0x77);
  for (size_t i = 0; i < NR (rows); ++i)
    rows[i].l1_size = 1;
  put_rows (&t, rows, NR (rows));
  first_byte (&t, "1", &len);
  CHECK (len == MIB);
  first_byte (&t, "2", &len);
  CHECK (len == MIB);
  CHECK (first_byte (&t, "small", &len) == 0x77);
  CHECK (len == 512);
  CHECK (first_byte (&t, "large", &len) == 0x77);
  CHECK (len == 2 * MIB);
  {
    CLEANUP_IMAGE struct image *img = open_snapshot (&t, "5");

    CHECK (img != NULL && img->len == 0);
  }
  test_image_free (&t);
}

static void
test_refused (void)
{
  static const struct {
    struct row row;
    const char *says;
  } rows[] = {
    { { .l1_host = 12345 }, "cannot be at byte 12345 " },
    { { .l1_host = UINT64_C (1) << 63 }, "cannot be at byte 9223372036" },
    { { .l1_host = UINT64_C (1) << 50 }, "beyond the end of the file" },
    { { .l1_size = L1_MAX_ENTRIES + 1 }, "4194305 entries" },
    { { .l1_size = UINT32_MAX }, "4294967295 entries" },
    { { .l1_size = 1, .extra_len = 16, .disk_len = 3 * MIB }, "too small" },
    { { .extra_len = 16, .disk_len = UINT64_C (1) << 63 },
      "has 9223372036854775808 bytes" },
    { { .extra_len = 16, .disk_len = UINT64_MAX }, "bytes" },
  };
  struct test_image t;

  for (size_t i = 0; i < NR (rows); ++i) {
    struct row pair[2] = { rows[i].row, { "2", "good" } };

    pair[0].id = "1";
    pair[0].name = "bad";
    test_image_init (&t, 3, 12, MIB, 0);
    test_image_add_data (&t, 0, 0x66);
    put_rows (&t, pair, 2);
    expect_refusal (&t, "bad", EINVAL, rows[i].says);
    CHECK (first_byte (&t, "good", NULL) == 0x66);
    CHECK (first_byte (&t, NULL, NULL) == 0x66);
    test_image_free (&t);
  }
}

/* ---- listing */

struct seen {
  const struct row *rows;
  uint64_t len;                 /* of disks that do not record it */
  size_t nr, stop_at;
  int answer;                   /* then */
};

static int
see (void *opaque, const struct snapshot_info *info)
{
  struct seen *seen = opaque;
  const struct row *row = &seen->rows[seen->nr++];

  CHECK (strcmp (info->id, row->id) == 0);
  CHECK (strcmp (info->name, row->name) == 0);
  CHECK (info->seconds == row->seconds);
  CHECK (info->len == (row->extra_len >= 16 ? row->disk_len : seen->len));
  return seen->nr == seen->stop_at ? seen->answer : 0;
}

static void
test_list (void)
{
  char *longest = malloc (65536);
  struct row rows[] = {
    { "1", "a" }, { "2", "", .seconds = 7 },
    { "", "b", .seconds = UINT32_MAX }, { "", "" },
    { "5", "c", .extra_len = 16, .disk_len = 4096 }, { "6", longest },
    { longest, "d", .extra_len = 1024, .disk_len = 512 }, { "8", "e" },
  };
  struct seen seen = { .rows = rows, .len = MIB };
  struct test_image t;

  CHECK (longest != NULL);
  memset (longest, 'x', 65535);
  longest[65535] = '\0';
  test_image_init (&t, 3, 12, MIB, 0);
  put_rows (&t, rows, NR (rows));
  test_image_count (&t);
  {
    CLEANUP_IMAGE struct image *img = open_snapshot (&t, NULL);

    CHECK (img != NULL);
    CHECK (qcow2_snapshots (img, see, &seen) == 0);
    CHECK (seen.nr == NR (rows));
    seen = (struct seen) { .rows = rows, .len = MIB, .stop_at = 3,
                           .answer = 1 };
    CHECK (qcow2_snapshots (img, see, &seen) == 0 && seen.nr == 3);
    seen = (struct seen) { .rows = rows, .len = MIB, .stop_at = 5,
                           .answer = -1 };
    CHECK (qcow2_snapshots (img, see, &seen) == -1 && seen.nr == 5);
  }
  CHECK (first_byte (&t, longest, NULL) == 0);
  longest[65534] = '\0';
  expect_refusal (&t, longest, ENOENT, "there is no snapshot");
  test_image_free (&t);
  free (longest);

  test_image_init (&t, 2, 12, MIB, 0);
  {
    CLEANUP_IMAGE struct image *img = open_snapshot (&t, NULL);

    seen = (struct seen) { .nr = 0 };
    CHECK (img != NULL);
    CHECK (qcow2_snapshots (img, see, &seen) == 0 && seen.nr == 0);
  }
  test_image_free (&t);
}

int
main (void)
{
  test_choice ();
  test_len ();
  test_refused ();
  test_list ();
  return 0;
}
