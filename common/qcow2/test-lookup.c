/* Test lookups over images made by hand.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "qcow2/entry.h"
#include "qcow2/header.h"
#include "qcow2/lookup.h"
#include "qcow2/state.h"
#include "qcow2/table.h"
#include "qcow2/test-image.h"
#include "report/test-messages.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define C16 UINT64_C (65536)

static struct extent ext[64];

static ssize_t
lookup (struct image *img, uint64_t guest, uint64_t len)
{
  memset (ext, 0xa5, sizeof ext);
  return qcow2_lookup (img, guest, len, ext, 64);
}

static bool
is_run (const struct extent *e, enum extent_type type, uint64_t len)
{
  return e->type == type && e->len == len;
}

static bool
is_data (const struct image *img, const struct extent *e, uint64_t len,
         uint64_t host, bool writable)
{
  return is_run (e, EXTENT_DATA, len) && e->host == host &&
    e->src == img->data_source && e->writable == writable && e->allocated;
}

static struct image *
open_image (const struct test_image *t)
{
  struct image *img;

  test_messages_forget ();
  img = test_image_open (t, NULL);
  CHECK (img != NULL);
  return img;
}

/* Open for writing: only then is anything writable in place. */
static struct image *
open_for_writing (struct test_image *t)
{
  struct image *img;

  test_image_count (t);
  img = open_image (t);
  CHECK (image_begin_writing (img) == 0);
  return img;
}

/* ---- merging */

static void
test_merging (void)
{
  struct test_image t;
  struct image *img;
  uint64_t l2, host;

  test_image_init (&t, 3, 16, 8 * MIB + 4096, 0);
  l2 = test_image_l2_place (&t, 0);
  host = test_image_add (&t, 8);
  test_image_poke (&t, l2, 8, host | L2_COPIED);
  test_image_poke (&t, l2 + 8, 8, (host + C16) | L2_COPIED);
  test_image_poke (&t, l2 + 16, 8, host + 2 * C16);     /* shared */
  test_image_poke (&t, l2 + 24, 8, (host + 4 * C16) | L2_COPIED); /* gap */
  test_image_poke (&t, l2 + 32, 8, L2_ZERO);
  test_image_poke (&t, l2 + 40, 8, L2_ZERO);
  test_image_poke (&t, l2 + 48, 8,
                   (host + 5 * C16) | L2_COPIED | L2_ZERO);
  test_image_poke (&t, l2 + 56, 8,
                   (host + 6 * C16) | L2_COPIED | L2_ZERO);
  test_image_poke (&t, l2 + 64, 8, (host + 7 * C16) | L2_COPIED);
  img = open_for_writing (&t);

  CHECK (lookup (img, 0, img->len) == 7);
  CHECK (is_data (img, &ext[0], 2 * C16, host, true));
  CHECK (is_data (img, &ext[1], C16, host + 2 * C16, false));
  CHECK (is_data (img, &ext[2], C16, host + 4 * C16, true));
  CHECK (is_run (&ext[3], EXTENT_ZERO, 2 * C16) && !ext[3].allocated);
  CHECK (is_run (&ext[4], EXTENT_ZERO, 2 * C16) && ext[4].allocated);
  CHECK (ext[4].host == host + 5 * C16 && ext[4].src == img->source);
  CHECK (is_data (img, &ext[5], C16, host + 7 * C16, true));
  CHECK (is_run (&ext[6], EXTENT_BACKING, 8 * MIB + 4096 - 9 * C16));
  CHECK (!ext[6].allocated);

  /* Parts of clusters, and too few extents. */
  CHECK (lookup (img, 100, 200) == 1);
  CHECK (is_data (img, &ext[0], 200, host + 100, true));
  CHECK (lookup (img, C16 - 1, 2) == 1);
  CHECK (is_data (img, &ext[0], 2, host + C16 - 1, true));
  CHECK (lookup (img, 2 * C16 - 1, 2) == 2);
  CHECK (lookup (img, 7 * C16 + 5, C16) == 2);
  CHECK (ext[0].host == host + 6 * C16 + 5 && ext[0].len == C16 - 5);
  CHECK (qcow2_lookup (img, 0, img->len, ext, 1) == 1);
  CHECK (is_data (img, &ext[0], 2 * C16, host, true));
  CHECK (qcow2_lookup (img, 0, img->len, ext, 3) == 3);
  CHECK (is_data (img, &ext[2], C16, host + 4 * C16, true));
  CHECK (lookup (img, img->len - 1, 1) == 1);
  CHECK (is_run (&ext[0], EXTENT_BACKING, 1));
  CHECK (test_messages.nr_errors == 0 && test_messages.nr_warnings == 0);
  image_close (img);

  img = open_image (&t);
  CHECK (lookup (img, 0, 3 * C16) == 1);
  CHECK (is_data (img, &ext[0], 3 * C16, host, false));
  image_close (img);
  test_image_free (&t);
}

/* Runs go on across pages and tables: one cluster is one sector here, a
 * table maps 32 KiB.
 */
static void
test_across_tables (void)
{
  struct test_image t;
  struct image *img;
  uint64_t i, host;

  test_image_init (&t, 3, 9, MIB / 2, 0);
  for (i = 0; i < MIB / 2; i += 32768)
    test_image_l2_place (&t, i);
  host = test_image_add (&t, 160);
  for (i = 0; i < 160; ++i)
    test_image_set_l2 (&t, 4096 + i * 512, (host + i * 512) | L2_COPIED);
  img = open_for_writing (&t);
  CHECK (lookup (img, 0, img->len) == 3);
  CHECK (is_run (&ext[0], EXTENT_BACKING, 4096));
  CHECK (is_data (img, &ext[1], 81920, host, true));
  CHECK (is_run (&ext[2], EXTENT_BACKING, MIB / 2 - 4096 - 81920));
  image_close (img);
  test_image_free (&t);
}

/* Two L1 entries name one table, as they do where a snapshot is taken. */
static void
test_shared_table (void)
{
  struct test_image t;
  struct image *img;
  uint64_t span = UINT64_C (1) << 21, l2, host;

  test_image_init (&t, 3, 12, 2 * span, 0);
  host = test_image_add_data (&t, 4096, 'x');
  l2 = test_image_l2_place (&t, 0);
  test_image_set_l1 (&t, 0, l2);
  test_image_set_l1 (&t, span, l2);
  img = open_image (&t);
  CHECK (lookup (img, 4096, 4096) == 1);
  CHECK (is_data (img, &ext[0], 4096, host, false));
  CHECK (lookup (img, span + 4096, 4096) == 1);
  CHECK (is_data (img, &ext[0], 4096, host, false));
  image_close (img);
  test_image_free (&t);
}

/* In place is only what the entry and that of its table both call ours. */
static void
test_writable (void)
{
  struct test_image t;
  struct image *img;
  uint64_t l2, host;

  test_image_init (&t, 3, 12, MIB, 0);
  host = test_image_add_data (&t, 4096, 'x');
  l2 = test_image_l2_place (&t, 0);
  img = open_for_writing (&t);
  CHECK (lookup (img, 4096, 4096) == 1);
  CHECK (is_data (img, &ext[0], 4096, host, true));
  image_close (img);

  test_image_set_l1 (&t, 0, l2);
  img = open_for_writing (&t);
  CHECK (lookup (img, 4096, 4096) == 1);
  CHECK (is_data (img, &ext[0], 4096, host, false));
  image_close (img);
  test_image_free (&t);
}

/* ---- subclusters */

static void
test_subclusters (void)
{
  struct test_image t;
  struct image *img;
  uint64_t host;

  test_image_init (&t, 3, 16, MIB, QCOW2_EXTENDED_L2);
  host = test_image_add_data (&t, 0, 'x');
  /* 0-1 data, 2-3 zeroes, the rest not allocated. */
  test_image_set_bitmap (&t, 0, UINT64_C (0xc) << 32 | 0x3);
  test_image_add_data (&t, C16, 'y');   /* at host + C16 */
  test_image_set_bitmap (&t, C16, 0x80000001);
  test_image_set_l2 (&t, 2 * C16, 0);
  test_image_set_bitmap (&t, 2 * C16, UINT64_C (1) << 32);
  test_image_add_data (&t, 3 * C16, 'z');
  test_image_set_bitmap (&t, 3 * C16, 0);
  test_image_set_l2 (&t, 4 * C16, 0);
  test_image_set_bitmap (&t, 4 * C16, UINT64_C (0xffffffff) << 32);
  img = open_for_writing (&t);

  CHECK (lookup (img, 0, 6 * C16) == 11);
  CHECK (is_data (img, &ext[0], 4096, host, true));
  CHECK (is_run (&ext[1], EXTENT_ZERO, 4096) && ext[1].allocated);
  CHECK (ext[1].host == host + 4096);
  CHECK (is_run (&ext[2], EXTENT_BACKING, 28 * 2048) && ext[2].allocated);
  CHECK (is_data (img, &ext[3], 2048, host + C16, true));
  CHECK (is_run (&ext[4], EXTENT_BACKING, 30 * 2048) && ext[4].allocated);
  CHECK (is_data (img, &ext[5], 2048, host + 2 * C16 - 2048, true));
  CHECK (is_run (&ext[6], EXTENT_ZERO, 2048) && !ext[6].allocated);
  CHECK (is_run (&ext[7], EXTENT_BACKING, 31 * 2048) && !ext[7].allocated);
  CHECK (is_run (&ext[8], EXTENT_BACKING, C16) && ext[8].allocated);
  CHECK (is_run (&ext[9], EXTENT_ZERO, C16) && !ext[9].allocated);
  CHECK (is_run (&ext[10], EXTENT_BACKING, C16));

  /* From inside one subcluster into the next. */
  CHECK (lookup (img, 4000, 200) == 2);
  CHECK (is_data (img, &ext[0], 96, host + 4000, true));
  CHECK (is_run (&ext[1], EXTENT_ZERO, 104) && ext[1].host == host + 4096);
  CHECK (qcow2_lookup (img, 0, MIB, ext, 2) == 2);
  CHECK (is_run (&ext[1], EXTENT_ZERO, 4096));
  image_close (img);
  test_image_free (&t);
}

/* ---- compressed clusters */

static void
test_packed (uint32_t bits)
{
  struct test_image t;
  struct image *img;
  uint64_t cluster_len = UINT64_C (1) << bits, host;
  uint8_t *buf = malloc (2 * cluster_len);
  uint64_t i;

  CHECK (buf != NULL);
  test_image_init (&t, 3, bits, 4 * cluster_len, 0);
  host = test_image_add_packed (&t, 0, 'p');
  test_image_add_packed (&t, cluster_len, 'q');
  img = open_image (&t);
  CHECK (lookup (img, 10, 2 * cluster_len - 10) == 2);
  CHECK (is_run (&ext[0], EXTENT_PACKED, cluster_len - 10));
  CHECK (ext[0].host == host && ext[0].within == 10);
  CHECK (ext[0].src == img->source && ext[0].codec == CODEC_DEFLATE);
  CHECK (ext[0].packed_len > cluster_len);
  CHECK (ext[0].packed_len < cluster_len + 5 * (cluster_len / 32768 + 1)
         + 512);
  CHECK (is_run (&ext[1], EXTENT_PACKED, cluster_len));
  CHECK (ext[1].within == 0);

  memset (buf, 0, 2 * cluster_len);
  CHECK (image_read (img, buf, 2 * cluster_len - 10, 10) == 0);
  for (i = 0; i < 2 * cluster_len - 10; ++i)
    CHECK (buf[i] == (i < cluster_len - 10 ? 'p' : 'q'));
  image_close (img);
  test_image_free (&t);
  free (buf);
}

/* A pointer into nowhere is a matter of whoever decodes it. */
static void
test_bogus_packed (void)
{
  struct test_image t;
  struct image *img;
  uint8_t byte;

  test_image_init (&t, 3, 16, MIB, 0);
  test_image_set_l2 (&t, 0, UINT64_C (0x7fffffffffffffff));
  test_image_set_l2 (&t, C16, UINT64_C (0xc000000000050000));
  img = open_image (&t);
  CHECK (lookup (img, 0, 1) == 1 && ext[0].type == EXTENT_PACKED);
  CHECK_FAILS (image_read (img, &byte, 1, 0), EIO);
  CHECK (!img->is_damaged);
  CHECK (lookup (img, C16, 1) == 1 && ext[0].type == EXTENT_DAMAGED);
  CHECK_FAILS (image_read (img, &byte, 1, C16), EIO);
  CHECK (!img->is_damaged);
  image_close (img);
  test_image_free (&t);
}

/* ---- damage */

static void
test_damaged_l1 (void)
{
  struct test_image t;
  struct image *img;
  uint64_t span = UINT64_C (1) << 21;

  test_image_init (&t, 3, 12, 6 * span, 0);
  test_image_add_data (&t, 0, 'x');
  test_image_set_l1 (&t, span, 0x1200 | L1_COPIED);     /* unaligned */
  test_image_set_l1 (&t, 2 * span, UINT64_C (1) << 40); /* past the end */
  test_image_set_l1 (&t, 3 * span, t.len);              /* just so */
  test_image_set_l1 (&t, 4 * span, L1_RESERVED);        /* nothing */
  img = open_image (&t);
  CHECK (!img->is_damaged);
  CHECK (lookup (img, 4096, 6 * span - 4096) == 3);
  CHECK (is_run (&ext[0], EXTENT_BACKING, span - 4096));
  CHECK (is_run (&ext[1], EXTENT_DAMAGED, 3 * span));
  CHECK (is_run (&ext[2], EXTENT_BACKING, 2 * span));
  CHECK (test_messages.nr_errors == 3 && img->is_damaged);
  /* Each place is told once. */
  CHECK (lookup (img, 4096, 6 * span - 4096) == 3);
  CHECK (test_messages.nr_errors == 3);
  image_close (img);
  test_image_free (&t);
}

static void
test_damaged_l2 (uint32_t version, uint64_t entry, uint64_t bitmap,
                 uint64_t incompatible)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, version, 16, MIB, incompatible);
  test_image_set_l2 (&t, C16, entry);
  if (t.is_extended)
    test_image_set_bitmap (&t, C16, bitmap);
  test_messages_forget ();
  img = test_image_open (&t, incompatible & QCOW2_DATA_FILE
                         ? source_memory ("data", MIB, MIB) : NULL);
  CHECK (img != NULL);
  CHECK (lookup (img, 0, MIB) == 3);
  CHECK (is_run (&ext[0], EXTENT_BACKING, C16));
  CHECK (is_run (&ext[1], EXTENT_DAMAGED, C16));
  CHECK (is_run (&ext[2], EXTENT_BACKING, MIB - 2 * C16));
  CHECK (test_messages.nr_errors == 1 && img->is_damaged);
  image_close (img);
  test_image_free (&t);
}

/* A dirty image, whose refcounts are not known yet, is found damaged: that
 * is marked, and nothing else written.
 */
static void
test_damaged_dirty (void)
{
  struct test_image t;
  struct image *img;
  uint8_t byte;

  test_image_init (&t, 3, 16, MIB, 0);
  test_image_set_l2 (&t, C16, 0x50200);
  test_image_poke (&t, 72, 8, QCOW2_DIRTY);
  img = open_image (&t);
  CHECK (image_begin_writing (img) == 0);
  CHECK_FAILS (image_read (img, &byte, 1, C16), EIO);
  CHECK (img->is_damaged);
  CHECK_FAILS (image_write (img, "x", 1, 0), EROFS);
  CHECK (image_finish (img) == 0);
  CHECK (source_pread (img->source, &byte, 1, 79) == 0);
  CHECK (byte == (QCOW2_DIRTY | QCOW2_CORRUPT));
  image_close (img);
  test_image_free (&t);
}

/* Damage everywhere: the log does not drown. */
static void
test_flood (void)
{
  struct test_image t;
  struct image *img;
  uint64_t i;

  test_image_init (&t, 3, 9, MIB, 0);
  for (i = 0; i < MIB / 2; i += 512)
    test_image_set_l2 (&t, i, L2_PACKED | L2_COPIED);
  img = open_image (&t);
  for (i = 0; i < 3; ++i) {
    CHECK (lookup (img, 0, MIB / 2) == 1);
    CHECK (is_run (&ext[0], EXTENT_DAMAGED, MIB / 2));
  }
  CHECK (test_messages.nr_errors == DAMAGE_MAX_PLACES + 1);
  image_close (img);
  test_image_free (&t);
}

/* ---- the end of the file */

static void
test_past_end (void)
{
  struct test_image t;
  struct image *img;
  uint8_t buf[8];
  uint64_t host;

  test_image_init (&t, 3, 16, MIB, 0);
  host = test_image_add_data (&t, 0, 'x');
  test_image_set_l2 (&t, C16, UINT64_C (0x00ffffffffff0000));
  t.len -= C16 - 4;             /* a short last cluster is normal */
  img = open_image (&t);
  CHECK (lookup (img, 0, C16) == 1);
  CHECK (is_data (img, &ext[0], C16, host, false));
  CHECK (image_read (img, buf, 8, 0) == 0);
  CHECK (memcmp (buf, "xxxx\0\0\0\0", 8) == 0);
  CHECK (test_messages.nr_warnings == 0);
  CHECK (image_read (img, buf, 8, C16) == 0);
  CHECK (memcmp (buf, "\0\0\0\0\0\0\0\0", 8) == 0);
  CHECK (image_read (img, buf, 8, C16) == 0);
  CHECK (test_messages.nr_warnings == 1 && test_messages.nr_errors == 0);
  CHECK (!img->is_damaged);
  image_close (img);
  test_image_free (&t);
}

/* The last table is cut short: what is missing is unallocated. */
static void
test_short_table (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 16, MIB, 0);
  t.len = test_image_l2_place (&t, 0) + 8;
  img = open_image (&t);
  CHECK (lookup (img, 0, MIB) == 1);
  CHECK (is_run (&ext[0], EXTENT_BACKING, MIB));
  image_close (img);
  test_image_free (&t);
}

/* ---- external data */

static void
test_data_file (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 16, MIB, QCOW2_DATA_FILE);
  test_image_set_l2 (&t, 0, L2_COPIED);
  test_image_set_l2 (&t, C16, C16 | L2_COPIED);
  test_image_set_l2 (&t, 3 * C16, 3 * C16);
  test_image_count (&t);
  img = test_image_open (&t, source_memory ("data", MIB, MIB));
  CHECK (img != NULL && image_begin_writing (img) == 0);
  CHECK (lookup (img, 0, MIB) == 4);
  CHECK (is_data (img, &ext[0], 2 * C16, 0, true));
  CHECK (is_run (&ext[1], EXTENT_BACKING, C16));
  CHECK (is_data (img, &ext[2], C16, 3 * C16, false));
  image_close (img);
  test_image_free (&t);
}

/* ---- large and sparse */

/* Go through the disk; how many lookups that took, how many runs. */
static unsigned
walk (struct image *img, unsigned *nr_runs)
{
  uint64_t guest = 0;
  unsigned nr = 0;

  *nr_runs = 0;
  while (guest < img->len) {
    ssize_t n = lookup (img, guest, img->len - guest);
    ssize_t i;

    CHECK (n >= 1);
    for (i = 0; i < n; ++i) {
      CHECK (ext[i].len > 0);
      guest += ext[i].len;
    }
    *nr_runs += n;
    nr++;
  }
  CHECK (guest == img->len);
  return nr;
}

static void
test_sparse (void)
{
  struct test_image t;
  struct image *img;
  unsigned nr_runs;
  uint64_t i;

  test_image_init (&t, 3, 16, TIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_add_data (&t, TIB / 2, 'b');
  test_image_add_data (&t, TIB - C16, 'c');
  img = open_image (&t);
  /* 2048 L1 entries are 4 pages, each table is 16. */
  CHECK (walk (img, &nr_runs) <= 2 && nr_runs <= 6);
  image_close (img);
  test_image_free (&t);

  /* 2 PiB: 4 Mi entries; 64 pages answer for 16 TiB. */
  test_image_init (&t, 3, 16, 2048 * TIB, 0);
  img = open_image (&t);
  CHECK (lookup (img, 0, img->len) == 1);
  CHECK (is_run (&ext[0], EXTENT_BACKING, 64 * 512 * 512 * MIB));
  CHECK (walk (img, &nr_runs) == 128);
  image_close (img);
  test_image_free (&t);

  /* Empty tables all over: the work is bounded. */
  test_image_init (&t, 3, 9, 16 * MIB, 0);
  for (i = 0; i < 16 * MIB; i += 32768)
    test_image_l2_place (&t, i);
  img = open_image (&t);
  CHECK (lookup (img, 0, img->len) == 1);
  CHECK (ext[0].len >= 62 * 32768 && ext[0].len <= 64 * 32768);
  CHECK (walk (img, &nr_runs) < 10);
  image_close (img);
  test_image_free (&t);
}

int
main (void)
{
  uint32_t bits;

  test_merging ();
  test_across_tables ();
  test_shared_table ();
  test_writable ();
  test_subclusters ();
  for (bits = QCOW2_MIN_CLUSTER_BITS; bits <= QCOW2_MAX_CLUSTER_BITS; ++bits)
    test_packed (bits);
  test_bogus_packed ();
  test_damaged_l1 ();
  test_damaged_l2 (3, 0x50200, 0, 0);
  test_damaged_l2 (2, 0x50001, 0, 0);
  test_damaged_l2 (3, 0x50000, UINT64_C (1) << 32 | 1, QCOW2_EXTENDED_L2);
  test_damaged_l2 (3, 0, 1, QCOW2_EXTENDED_L2);
  test_damaged_l2 (3, 0x20000, 0, QCOW2_DATA_FILE);
  test_damaged_l2 (3, L2_PACKED, 0, QCOW2_DATA_FILE);
  test_damaged_dirty ();
  test_flood ();
  test_past_end ();
  test_short_table ();
  test_data_file ();
  test_sparse ();
  return EXIT_SUCCESS;
}
