/* Test opening: what is refused and how, and what is not.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"
#include "qcow2/qcow2.h"
#include "qcow2/state.h"
#include "qcow2/test-image.h"
#include "report/test-messages.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)
#define NR(array) (sizeof (array) / sizeof (array)[0])

/* ---- single fields */

struct poke {
  uint64_t host;
  unsigned width;               /* 0: none */
  uint64_t value;
};

struct row {
  const char *says;             /* must be in the one message */
  int err;
  struct poke pokes[3];
};

/* Of an image of version 3 with clusters of 4 KiB, 10 of them, and a disk
 * of 1 MiB.
 */
static const struct row v3_rows[] = {
  { "not a qcow2 image", EINVAL, { { 0, 4, 0x514649fc } } },
  { "qcow image", ENOTSUP, { { 4, 4, 1 } } },
  { "header byte 4", ENOTSUP, { { 4, 4, 0 } } },
  { "header byte 4", ENOTSUP, { { 4, 4, 4 } } },
  { "header byte 4", ENOTSUP, { { 4, 4, UINT32_MAX } } },

  { "header byte 20", EINVAL, { { 20, 4, 8 } } },
  { "header byte 20", EINVAL, { { 20, 4, 0 } } },
  { "header byte 20", ENOTSUP, { { 20, 4, 22 } } },
  { "header byte 20", ENOTSUP, { { 20, 4, 64 } } },
  { "header byte 20", ENOTSUP, { { 20, 4, UINT32_MAX } } },

  { "header byte 100", EINVAL, { { 100, 4, 103 } } },
  { "header byte 100", EINVAL, { { 100, 4, 0 } } },
  { "header byte 100", EINVAL, { { 100, 4, 4097 } } },
  { "header byte 100", EINVAL, { { 100, 4, 0x7fffffff } } },
  { "header byte 100", EINVAL, { { 100, 4, UINT32_MAX } } },

  { "header byte 8)", EINVAL, { { 8, 8, 4097 } } },
  { "header byte 8)", EINVAL, { { 8, 8, UINT64_MAX } } },
  { "header byte 16", EINVAL, { { 8, 8, 256 }, { 16, 4, 1024 } } },
  { "header byte 16", EINVAL, { { 8, 8, 4000 }, { 16, 4, 97 } } },
  { "header byte 16", EINVAL, { { 8, 8, 4096 }, { 16, 4, 1 } } },
  { "header byte 16", EINVAL, { { 8, 8, 256 }, { 16, 4, UINT32_MAX } } },

  { "header byte 104", EINVAL, { { 104, 1, 1 } } },
  { "header byte 104", EINVAL, { { 72, 8, 8 } } },
  { "header byte 104", ENOTSUP, { { 72, 8, 8 }, { 104, 1, 2 } } },
  { "header byte 104", EINVAL, { { 72, 8, 8 }, { 100, 4, 104 } } },

  { "bit 5", ENOTSUP, { { 72, 8, 32 } } },
  { "bit 63", ENOTSUP, { { 72, 1, 0x80 } } },
  { "header byte 20", EINVAL, { { 72, 8, 16 } } },  /* extended L2 */
  { "autoclear feature bit 1", EINVAL, { { 88, 8, 2 } } },
  { "exclude each other", EINVAL,
    { { 72, 16, 4 }, { 88, 8, 2 }, { 8, 8, 4000 } } },

  { "header byte 96", EINVAL, { { 96, 4, 7 } } },
  { "header byte 96", EINVAL, { { 96, 4, UINT32_MAX } } },
  { "header byte 32", ENOTSUP, { { 32, 4, 3 } } },
  { "AES", ENOTSUP, { { 32, 4, 1 } } },
  { "no encryption header extension", EINVAL, { { 32, 4, 2 } } },

  { "header byte 56", EINVAL, { { 56, 4, 0 } } },
  { "header byte 56", EINVAL, { { 56, 4, 2049 } } },
  { "header byte 56", EINVAL, { { 56, 4, UINT32_MAX } } },
  { "header byte 48", EINVAL, { { 48, 8, 4096 + 512 } } },
  { "header byte 48", EINVAL, { { 48, 8, 0x7ffffffffffff000 } } },
  { "header byte 48", EINVAL, { { 48, 8, 0xfffffffffffff000 } } },

  { "header byte 36", EINVAL, { { 36, 4, 4194305 } } },
  { "header byte 36", EINVAL, { { 36, 4, UINT32_MAX } } },
  { "header byte 36", EINVAL, { { 36, 4, 0 } } },
  { "header byte 40", EINVAL, { { 40, 8, 0x3200 } } },
  { "header byte 40", EINVAL, { { 40, 8, 0xfffffffffffff000 } } },
  { "header byte 40", EINVAL, { { 40, 8, 0 } } },
  { "beyond the end", EINVAL, { { 40, 8, 10 * 4096 } } },
  { "beyond the end", EINVAL, { { 40, 8, 0x7fffffffffffe000 } } },
  { "beyond the end", EINVAL,
    { { 24, 8, 65536 * MIB }, { 36, 4, 4194304 } } },
  { "header byte 24", EINVAL, { { 24, 8, UINT64_MAX } } },
  { "header byte 24", EINVAL, { { 24, 8, 0x8000000000000000 } } },
  { "header byte 24", EINVAL, { { 24, 8, INT64_MAX } } },
  { "header byte 24", EINVAL, { { 24, 8, 2 * MIB + 1 } } },

  { "header byte 60", EINVAL, { { 60, 4, 65537 } } },
  { "header byte 60", EINVAL, { { 60, 4, UINT32_MAX } } },
  { "header byte 64", EINVAL, { { 64, 8, 4096 + 512 } } },
  { "header byte 64", EINVAL, { { 64, 8, 0x7ffffffffffff000 } } },
  { "header byte 64", EINVAL, { { 64, 8, 0xfffffffffffff000 } } },
  { "passes the end", EINVAL, { { 60, 4, 1 }, { 64, 8, 10 * 4096 } } },
  { "passes the end", EINVAL,
    { { 60, 4, 1 }, { 64, 8, 0x7000000000000000 } } },
  { "header extensions must end", EINVAL,
    { { 112, 4, 1 }, { 116, 4, 4096 - 120 + 1 } } },
};

static void
base_image (struct test_image *t, uint32_t version)
{
  test_image_init (t, version, 12, MIB, 0);
  test_image_add_data (t, 0, 'a');
  test_image_add (t, 10 - t->len / t->cluster_len);
}

static void
expect_refusal (const struct test_image *t, int err, const char *says)
{
  struct image *img;

  test_messages_forget ();
  errno = 0;
  img = test_image_open (t, NULL);
  if (img != NULL || errno != err || test_messages.nr_errors != 1 ||
      strstr (test_messages.error, says) == NULL ||
      strncmp (test_messages.error, "image: ", 7) != 0)
    fprintf (stderr, "expected \"%s\", got %u messages, \"%s\"\n",
             says, test_messages.nr_errors, test_messages.error);
  CHECK (img == NULL && errno == err);
  CHECK (test_messages.nr_errors == 1);
  CHECK (strstr (test_messages.error, says));
  CHECK (strncmp (test_messages.error, "image: ", 7) == 0);
}

static void
apply (struct test_image *t, const struct poke *pokes)
{
  size_t i;

  for (i = 0; i < 3 && pokes[i].width > 0; ++i) {
    /* Width 16: the features' field and a length of a backing name. */
    if (pokes[i].width == 16) {
      test_image_poke (t, pokes[i].host, 8, pokes[i].value);
      test_image_poke (t, 16, 4, 5);
    }
    else
      test_image_poke (t, pokes[i].host, pokes[i].width, pokes[i].value);
  }
}

static void
test_v3_rows (void)
{
  size_t i;

  for (i = 0; i < NR (v3_rows); ++i) {
    struct test_image t;

    base_image (&t, 3);
    apply (&t, v3_rows[i].pokes);
    expect_refusal (&t, v3_rows[i].err, v3_rows[i].says);
    test_image_free (&t);
  }
}

/* ---- what opens in spite of its looks */

struct good_row {
  uint32_t version;
  const char *why_read_only;    /* NULL: nothing against changes */
  struct poke pokes[3];
};

static const struct good_row good_rows[] = {
  { 3, NULL, { { 0 } } },
  { 2, NULL, { { 0 } } },
  { 3, "corrupt", { { 72, 8, 2 } } },
  { 3, NULL, { { 72, 8, 1 } } },                /* dirty */
  { 3, NULL, { { 80, 8, UINT64_MAX } } },       /* compatible */
  { 3, NULL, { { 88, 8, ~UINT64_C (2) } } },    /* autoclear */
  { 3, "multiple of 8", { { 100, 4, 105 } } },
  { 3, NULL, { { 100, 4, 104 } } },
  { 3, NULL, { { 100, 4, 4096 } } },
  { 3, "inside the header", { { 8, 8, 8 }, { 16, 4, 0 } } },
  { 3, NULL, { { 96, 4, 6 } } },
  { 3, NULL, { { 56, 4, 2048 } } },             /* 8 MiB of refcounts */
  { 3, "where the header", { { 48, 8, 0 } } },
  { 3, "beyond the end", { { 48, 8, 0x7000000000000000 } } },
  { 3, NULL, { { 36, 4, 4194304 } } },          /* more L1 than needed */
  { 3, NULL, { { 24, 8, 0 }, { 36, 4, 0 } } },
  { 3, NULL, { { 24, 8, 2 * MIB } } },          /* just what L1 covers */
  { 3, NULL, { { 24, 8, 1000003 } } },
  { 3, NULL, { { 8, 8, 4096 }, { 16, 4, 0 } } },
  /* In version 2 none of these is a field. */
  { 2, NULL, { { 72, 8, 0 }, { 104, 1, 1 }, { 96, 4, 9 } } },
};

static void
test_good_rows (void)
{
  size_t i;

  for (i = 0; i < NR (good_rows); ++i) {
    const struct good_row *row = &good_rows[i];
    struct test_image t;
    struct image *img;

    base_image (&t, row->version);
    apply (&t, row->pokes);
    test_messages_forget ();
    img = test_image_open (&t, NULL);
    if (img == NULL)
      fprintf (stderr, "row %zu: %s\n", i, test_messages.error);
    CHECK (img != NULL && test_messages.nr_errors == 0);
    CHECK (img->len == test_image_peek (&t, 24, 8));
    CHECK ((img->why_read_only == NULL) == (row->why_read_only == NULL));
    if (row->why_read_only)
      CHECK (strstr (img->why_read_only, row->why_read_only));
    CHECK (img->unit == 4096 && img->zero_unit == 4096);
    CHECK (!img->wants_backing && !img->wants_data_file);
    CHECK (cache_page_len (img->cache) == 4096);
    image_close (img);
    test_image_free (&t);
  }
}

/* A file of 72 bytes: the rest is taken as zeroes. */
static void
test_short_file (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 2, 16, 0, 0);
  t.len = 72;
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && img->len == 0);
  image_close (img);
  t.len = 0;
  expect_refusal (&t, EINVAL, "not a qcow2 image");
  test_image_free (&t);

  /* The L1 table may be cut inside its last page, not before. */
  test_image_init (&t, 3, 16, 1024 * 512 * MIB, 0);
  t.len = t.l1_host + 4096 + 8;
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  image_close (img);
  t.len = t.l1_host + 4096;
  expect_refusal (&t, EINVAL, "beyond the end");
  test_image_free (&t);
}

static void
test_debug_line (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 16, 10 * MIB, 0);
  test_messages_forget ();
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  CHECK (test_messages.nr_debug == 1);
  CHECK (strstr (test_messages.debug,
                 "qcow2: open version=3 cluster=65536 size=10485760 "));
  image_close (img);
  test_image_free (&t);
}

/* ---- names */

static void
test_names (void)
{
  struct test_image t;
  struct image *img;

  base_image (&t, 3);
  test_image_add_extension (&t, EXTENSION_BACKING_FORMAT, "raw", 3);
  test_image_set_backing (&t, "base.img");
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && img->wants_backing);
  CHECK (strcmp (img->backing_name, "base.img") == 0);
  CHECK (strcmp (img->backing_format, "raw") == 0);
  image_close (img);

  /* A NUL cuts the name; at its beginning it leaves none. */
  test_image_poke (&t, 4096 - 4, 1, 0);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && strcmp (img->backing_name, "base") == 0);
  image_close (img);
  test_image_poke (&t, 4096 - 8, 1, 0);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && !img->wants_backing && img->backing_name == NULL);
  image_close (img);
  test_image_free (&t);
}

/* At the end of a cluster of 64 KiB, behind a long extension or not. */
static void
test_far_names (uint32_t extension_len)
{
  static const uint8_t bytes[60000];
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 16, 10 * MIB, 0);
  if (extension_len > 0)
    test_image_add_extension (&t, 0x12345678, bytes, extension_len);
  test_image_add_extension (&t, EXTENSION_BACKING_FORMAT, "raw", 3);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && !img->wants_backing);
  image_close (img);
  test_image_set_backing (&t, "far/base.img");
  img = test_image_open (&t, NULL);
  CHECK (img != NULL && strcmp (img->backing_name, "far/base.img") == 0);
  CHECK (strcmp (img->backing_format, "raw") == 0);
  image_close (img);
  test_image_free (&t);
}

static void
test_data_file (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 12, MIB, QCOW2_DATA_FILE);
  test_image_add_extension (&t, EXTENSION_DATA_FILE, "data.raw", 8);
  expect_refusal (&t, EINVAL, "which was not given");
  img = test_image_open (&t, source_memory ("data.raw", MIB, INT64_MAX));
  CHECK (img != NULL && img->wants_data_file && img->packed == NULL);
  CHECK (strcmp (img->data_file_name, "data.raw") == 0);
  image_close (img);

  /* A raw one that is too short. */
  test_image_poke (&t, 88, 8, QCOW2_DATA_FILE_RAW);
  test_messages_forget ();
  img = test_image_open (&t, source_memory ("data.raw", 512, INT64_MAX));
  CHECK (img != NULL && test_messages.nr_warnings == 1);
  image_close (img);
  test_image_free (&t);

  /* One that nobody asked for. */
  base_image (&t, 3);
  test_messages_forget ();
  CHECK (test_image_open (&t, source_memory ("d", 512, 512)) == NULL);
  CHECK (errno == EINVAL && test_messages.nr_errors == 1);
  test_image_free (&t);
}

static void
test_encryption (void)
{
  uint8_t pointer[16] = { 0 };
  struct test_image t;

  base_image (&t, 3);
  test_image_add_extension (&t, EXTENSION_CRYPTO, pointer, 16);
  expect_refusal (&t, EINVAL, "encryption method");
  test_image_poke (&t, 32, 4, 2);
  expect_refusal (&t, ENOTSUP, "LUKS encryption is not built");
  test_image_free (&t);
}

/* ---- snapshots, bitmaps, other features */

static void
test_snapshots (void)
{
  struct test_image t;
  struct image *img;
  uint64_t host;

  base_image (&t, 3);
  test_image_add_snapshots (&t, 300, 24);
  host = test_image_peek (&t, 64, 8);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  image_close (img);

  /* The file may end right behind the last name. */
  t.len = host + 299 * 72 + 67;
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  image_close (img);
  t.len--;
  expect_refusal (&t, EINVAL, "entry 299");

  /* A bad L1 table is a matter of that snapshot. */
  t.len++;
  test_image_poke (&t, host, 8, 513);
  test_image_poke (&t, host + 8, 4, UINT32_MAX);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  image_close (img);

  test_image_poke (&t, host + 72 + 36, 4, 1025);
  expect_refusal (&t, EINVAL, "entry 1 ");
  test_image_poke (&t, host + 72 + 36, 4, UINT32_MAX);
  expect_refusal (&t, EINVAL, "entry 1 ");
  test_image_free (&t);

  /* Version 2 entries need no extra data. */
  base_image (&t, 2);
  test_image_add_snapshots (&t, 1, 0);
  img = test_image_open (&t, NULL);
  CHECK (img != NULL);
  image_close (img);
  test_image_free (&t);
}

/* The most snapshots with the longest names: more than the table may have. */
static void
test_snapshot_table_len (void)
{
  struct test_image t;
  uint64_t at, host;

  base_image (&t, 3);
  host = test_image_add (&t, 65 * MIB / 4096);
  for (at = host; at + 131200 <= t.len; at += 131136) {
    test_image_poke (&t, at + 12, 2, 65535);
    test_image_poke (&t, at + 14, 2, 65535);
    test_image_poke (&t, at + 36, 4, 24);
  }
  test_image_poke (&t, 60, 4, (at - host) / 131136);
  test_image_poke (&t, 64, 8, host);
  expect_refusal (&t, EINVAL, "snapshot table (header bytes 60 and 64)");
  test_image_free (&t);
}

static void
test_bitmaps (void)
{
  static const struct { unsigned at, width; uint64_t value; } bad[] = {
    { 0, 4, 0 }, { 0, 4, 65536 }, { 4, 4, 1 }, { 8, 8, 1024 * 65535 + 1 },
    { 8, 8, UINT64_MAX }, { 16, 8, 8192 + 512 }, { 16, 8, ~UINT64_C (4095) },
  };
  uint8_t data[24] = { 0 };
  struct test_image t;
  struct image *img;
  size_t i;

  store_be32 (data, 1);
  store_be64 (data + 8, 32);
  store_be64 (data + 16, 8192);
  for (i = 0; i < NR (bad); ++i) {
    base_image (&t, 3);
    test_image_poke (&t, 88, 8, QCOW2_BITMAPS_VALID);
    test_image_add_extension (&t, EXTENSION_BITMAPS, data, 24);
    img = test_image_open (&t, NULL);
    CHECK (img != NULL);
    image_close (img);
    test_image_poke (&t, 112 + 8 + bad[i].at, bad[i].width, bad[i].value);
    expect_refusal (&t, EINVAL, "bitmap");
    /* Stale ones are not looked at. */
    test_image_poke (&t, 88, 8, 0);
    img = test_image_open (&t, NULL);
    CHECK (img != NULL);
    image_close (img);
    test_image_free (&t);
  }
}

static void
test_geometry (void)
{
  uint32_t bits;

  for (bits = QCOW2_MIN_CLUSTER_BITS; bits <= QCOW2_MAX_CLUSTER_BITS;
       ++bits) {
    bool extended;

    for (extended = false; ; extended = true) {
      struct test_image t;
      struct image *img;

      test_image_init (&t, 3, bits, MIB, extended ? QCOW2_EXTENDED_L2 : 0);
      img = test_image_open (&t, NULL);
      CHECK (img != NULL && img->unit == UINT32_C (1) << bits);
      CHECK (img->zero_unit == img->unit / (extended ? 32 : 1));
      CHECK (cache_page_len (img->cache) == (bits < 12 ? 1 << bits : 4096));
      image_close (img);
      test_image_free (&t);
      if (extended || bits < QCOW2_MIN_EXTENDED_CLUSTER_BITS)
        break;
    }
  }
}

static void
test_compression (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 16, MIB, QCOW2_COMPRESSION);
  test_messages_forget ();
  img = test_image_open (&t, NULL);
  if (codec_is_supported (CODEC_ZSTD))
    CHECK (img != NULL && qcow2_state (img)->codec == CODEC_ZSTD);
  else
    CHECK (img == NULL && strstr (test_messages.error, "zstd"));
  image_close (img);
  test_image_free (&t);
}

static void
test_probe (void)
{
  struct test_image t;

  test_image_init (&t, 3, 12, MIB, 0);
  CHECK (qcow2_format.probe (t.bytes, 1024, t.len));
  CHECK (qcow2_format.probe (t.bytes, 8, 8));
  CHECK (!qcow2_format.probe (t.bytes, 7, 7));
  test_image_poke (&t, 4, 4, 4);        /* to be refused by open */
  CHECK (qcow2_format.probe (t.bytes, 1024, t.len));
  test_image_poke (&t, 4, 4, 1);
  CHECK (!qcow2_format.probe (t.bytes, 1024, t.len));
  test_image_poke (&t, 0, 4, 0);
  CHECK (!qcow2_format.probe (t.bytes, 1024, t.len));
  test_image_free (&t);
}

int
main (void)
{
  test_v3_rows ();
  test_good_rows ();
  test_short_file ();
  test_debug_line ();
  test_names ();
  test_far_names (0);
  for (uint32_t len = 3900; len < 4100; ++len)
    test_far_names (len);
  test_far_names (60000);
  test_data_file ();
  test_encryption ();
  test_snapshots ();
  test_snapshot_table_len ();
  test_bitmaps ();
  test_geometry ();
  test_compression ();
  test_probe ();
  return EXIT_SUCCESS;
}
