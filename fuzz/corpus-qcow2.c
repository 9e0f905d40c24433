/* Small valid qcow2 images for the fuzzer to begin with: each shows other
 * parts of the format.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdint.h>

#include "corpus.h"
#include "include/byte-order.h"
#include "qcow2/entry.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"

/* One cluster of each kind, at the beginning of the disk. */
static void
add_clusters (struct test_image *t, uint32_t version)
{
  uint64_t c = t->cluster_len;
  uint64_t host = test_image_add_data (t, 0, 'a');

  test_image_add_data (t, c, 'b');
  if (version >= 3 && !t->is_extended) {
    test_image_set_l2 (t, 2 * c, L2_ZERO);
    host = test_image_add_data (t, 3 * c, 'c');
    test_image_set_l2 (t, 3 * c, host | L2_COPIED | L2_ZERO);
  }
  if (t->is_extended) {
    test_image_set_bitmap (t, 2 * c, UINT64_C (0xffffffff) << 32);
    test_image_add_data (t, 3 * c, 'd');
    test_image_set_bitmap (t, 3 * c, UINT64_C (0xff00) << 32 | 0xf00000ff);
  }
}

static void
make_extensions (struct test_image *t)
{
  static const uint8_t names[48] = { 0, 0, 'd', 'i', 'r', 't', 'y' };

  test_image_init (t, 3, 9, 70000, 0);
  test_image_add_extension (t, EXTENSION_BACKING_FORMAT, "raw", 3);
  test_image_add_extension (t, EXTENSION_FEATURE_NAMES, names, 48);
  test_image_add_extension (t, 0x12345678, "unknown", 7);
  test_image_set_backing (t, "base.img");
  add_clusters (t, 3);
}

static void
make_data_file (struct test_image *t)
{
  test_image_init (t, 3, 12, 300000, QCOW2_DATA_FILE);
  test_image_add_extension (t, EXTENSION_DATA_FILE, "data.raw", 8);
  test_image_set_l2 (t, 0, L2_COPIED);
  test_image_set_l2 (t, 4096, 4096 | L2_COPIED);
  test_image_set_l2 (t, 8192, L2_ZERO);
}

static void
make_bitmaps (struct test_image *t)
{
  uint8_t data[EXTENSION_BITMAPS_LEN] = { 0, 0, 0, 1 };
  uint64_t directory, table;

  test_image_init (t, 3, 9, 50000, 0);
  directory = test_image_add (t, 1);
  table = test_image_add (t, 1);        /* one entry: all clean */
  test_image_poke (t, directory, 8, table);
  test_image_poke (t, directory + 8, 4, 1);
  test_image_poke (t, directory + 16, 1, 1);    /* type */
  test_image_poke (t, directory + 17, 1, 16);   /* granularity */
  test_image_poke (t, directory + 18, 2, 1);
  test_image_poke (t, directory + 24, 1, 'b');
  store_be64 (data + 8, 32);
  store_be64 (data + 16, directory);
  test_image_add_extension (t, EXTENSION_BITMAPS, data, sizeof data);
  test_image_poke (t, 88, 8, QCOW2_BITMAPS_VALID);
  add_clusters (t, 3);
}

static const char *
make (unsigned i, struct test_image *t)
{
  switch (i) {
  case 0:
    test_image_init (t, 2, 9, 100000, 0);
    add_clusters (t, 2);
    return "version-2";
  case 1:
    test_image_init (t, 3, 9, 100003, 0);
    add_clusters (t, 3);
    return "version-3";
  case 2:
    test_image_init (t, 3, 12, UINT64_C (1) << 30, 0);
    add_clusters (t, 3);
    test_image_add_data (t, UINT64_C (1) << 29, 'f');
    return "sparse";
  case 3:
    test_image_init (t, 3, 14, 1 << 20, QCOW2_EXTENDED_L2);
    add_clusters (t, 3);
    return "extended-l2";
  case 4:
    test_image_init (t, 3, 9, 50000, 0);
    test_image_add_packed (t, 0, 'p');
    test_image_add_packed (t, 512, 'q');
    return "compressed";
  case 5:
    test_image_init (t, 3, 9, 50000, 0);
    add_clusters (t, 3);
    test_image_add_snapshots (t, 3, 24);
    return "snapshots";
  case 6:
    make_extensions (t);
    return "extensions";
  case 7:
    make_data_file (t);
    return "data-file";
  default:
    make_bitmaps (t);
    return "bitmaps";
  }
}

static const char *
make_input (unsigned i, uint8_t **bytes, size_t *len)
{
  struct test_image t;
  const char *what = make (i, &t);

  test_image_count (&t);
  *bytes = t.bytes;
  *len = t.len;
  return what;
}

const struct corpus corpus = {
  .format = &qcow2_format,
  .suffix = "qcow2",
  .nr = 9,
  .nr_mutants = 400,
  .make = make_input,
};
