/* Test the header and its extensions: parsed and formatted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow2/bitmap.h"
#include "qcow2/extension.h"
#include "qcow2/feature.h"
#include "qcow2/header.h"
#include "report/test-messages.h"

#define CLUSTER_LEN 4096

/* Cluster 0 with a header whose every byte differs, so that a swapped or
 * misplaced field shows, but for those that must make sense.
 */
static void
make_cluster (uint8_t *cluster, uint32_t version, uint32_t header_len)
{
  uint32_t i;

  memset (cluster, 0, CLUSTER_LEN);
  for (i = 0; i < header_len; ++i)
    cluster[i] = i + 1;
  store_be32 (cluster, QCOW2_MAGIC);
  store_be32 (cluster + 4, version);
  store_be64 (cluster + 8, 2048);
  store_be32 (cluster + 16, 7);
  store_be32 (cluster + 20, 12);
  if (version >= 3)
    store_be32 (cluster + 100, header_len);
}

static void
test_fields (void)
{
  uint8_t cluster[CLUSTER_LEN];
  struct qcow2_header h;

  make_cluster (cluster, 3, 112);
  qcow2_header_parse (cluster, &h);
  CHECK (h.version == 3 && h.cluster_bits == 12);
  CHECK (h.backing_host == 2048 && h.backing_len == 7);
  CHECK (h.disk_len == UINT64_C (0x191a1b1c1d1e1f20));
  CHECK (h.crypt_method == 0x21222324 && h.l1_size == 0x25262728);
  CHECK (h.l1_host == UINT64_C (0x292a2b2c2d2e2f30));
  CHECK (h.refcount_table_host == UINT64_C (0x3132333435363738));
  CHECK (h.refcount_table_clusters == 0x393a3b3c);
  CHECK (h.nr_snapshots == 0x3d3e3f40);
  CHECK (h.snapshots_host == UINT64_C (0x4142434445464748));
  CHECK (h.incompatible == UINT64_C (0x494a4b4c4d4e4f50));
  CHECK (h.compatible == UINT64_C (0x5152535455565758));
  CHECK (h.autoclear == UINT64_C (0x595a5b5c5d5e5f60));
  CHECK (h.refcount_order == 0x61626364 && h.header_len == 112);
  CHECK (h.compression_type == 0x69);

  make_cluster (cluster, 2, 112);
  qcow2_header_parse (cluster, &h);
  CHECK (h.incompatible == 0 && h.compatible == 0 && h.autoclear == 0);
  CHECK (h.refcount_order == 4 && h.header_len == 72);
  CHECK (h.compression_type == 0);
}

/* Whatever the length, the bytes come back, unknown ones too. */
static void
test_round_trip (uint32_t version, uint32_t header_len)
{
  uint8_t cluster[CLUSTER_LEN], again[CLUSTER_LEN];
  struct qcow2_header h;

  make_cluster (cluster, version, header_len);
  qcow2_header_parse (cluster, &h);
  CHECK (qcow2_header_check_shape ("image", cluster, &h) == 0);
  CHECK (qcow2_header_keep_rest ("image", cluster, &h) == 0);
  CHECK (h.header_len == header_len);
  memset (again, 0, sizeof again);
  qcow2_header_format (&h, again);
  CHECK (memcmp (cluster, again, CLUSTER_LEN) == 0);
  qcow2_header_free (&h);
}

/* ---- extensions */

static size_t
put (uint8_t *p, uint32_t type, const void *data, uint32_t len)
{
  store_be32 (p, type);
  store_be32 (p + 4, len);
  if (len > 0)
    memcpy (p + 8, data, len);
  return 8 + (len + 7) / 8 * 8;
}

static void
set_header (struct qcow2_header *h, uint64_t backing_host)
{
  memset (h, 0, sizeof *h);
  h->version = 3;
  h->cluster_bits = 12;
  h->header_len = 112;
  h->backing_host = backing_host;
}

static void
test_list (void)
{
  uint8_t cluster[CLUSTER_LEN] = { 0 }, again[CLUSTER_LEN];
  struct qcow2_header h;
  struct extension_list list;
  char *s;
  size_t at = 112;

  set_header (&h, 0);
  at += put (cluster + at, 0x12345678, "hello", 5);
  at += put (cluster + at, EXTENSION_BACKING_FORMAT, "raw", 3);
  at += put (cluster + at, 0x12345678, "again", 5);
  at += put (cluster + at, 0x9abcdef0, NULL, 0);
  at += put (cluster + at, EXTENSION_BACKING_FORMAT, "qcow2\0x", 7);
  at += 8;                      /* END */

  CHECK (extension_list_parse ("image", cluster, &h, &list) == 0);
  CHECK (list.nr_extensions == 5);
  CHECK (list.extensions[0].type == 0x12345678);
  CHECK (memcmp (list.extensions[0].data, "hello", 5) == 0);
  CHECK (memcmp (list.extensions[2].data, "again", 5) == 0);
  CHECK (list.extensions[3].len == 0);
  CHECK (extension_list_find (&list, 0x12345678) == &list.extensions[2]);
  CHECK (extension_list_find (&list, EXTENSION_BITMAPS) == NULL);
  CHECK (extension_list_string ("image", &list, EXTENSION_BACKING_FORMAT,
                                &s) == 0);
  CHECK (strcmp (s, "qcow2") == 0);
  free (s);
  CHECK (extension_list_string ("image", &list, 0x9abcdef0, &s) == 0);
  CHECK (s == NULL);

  CHECK (extension_list_len (&list) == at - 112);
  memset (again, 0, sizeof again);
  extension_list_format (&list, again + 112);
  CHECK (memcmp (cluster, again, CLUSTER_LEN) == 0);
  extension_list_free (&list);
}

static bool
is_within (const uint8_t *cluster, const struct qcow2_header *h, size_t len)
{
  uint8_t *bytes = malloc (len + 1);    /* so that any others are not there */
  bool r;

  CHECK (bytes != NULL);
  memcpy (bytes, cluster, len);
  r = extension_list_is_within (bytes, h, len);
  free (bytes);
  return r;
}

static void
test_within (void)
{
  uint8_t cluster[CLUSTER_LEN] = { 0 };
  struct qcow2_header h;
  size_t at = 112, len;

  set_header (&h, 0);
  at += put (cluster + at, 0x12345678, "hello", 5);
  at += put (cluster + at, 0x9abcdef0, NULL, 0);
  at += put (cluster + at, EXTENSION_BACKING_FORMAT, "raw", 3);
  for (len = 0; len <= CLUSTER_LEN; ++len)
    CHECK (is_within (cluster, &h, len) == (len >= at + 8));      /* END */
  set_header (&h, at);          /* without END */
  for (len = 0; len <= CLUSTER_LEN; ++len)
    CHECK (is_within (cluster, &h, len) == (len >= at));
  set_header (&h, 8);           /* no list, only the header */
  for (len = 0; len <= CLUSTER_LEN; ++len)
    CHECK (is_within (cluster, &h, len) == (len >= 112));
  set_header (&h, 0);           /* one that does not fit is seen at once */
  store_be32 (cluster + at - 12, UINT32_MAX);
  for (len = 0; len <= CLUSTER_LEN; ++len)
    CHECK (is_within (cluster, &h, len) == (len >= at - 8));
}

/* An extension of 'len' bytes at 'at', with the list ending at 'limit'. */
static int
parse_one (uint64_t limit, size_t at, uint32_t type, uint32_t len,
           size_t *nr_extensions)
{
  uint8_t cluster[CLUSTER_LEN] = { 0 };
  struct qcow2_header h;
  struct extension_list list;
  int r;

  set_header (&h, limit == CLUSTER_LEN ? 0 : limit);
  h.header_len = at;
  if (at + 8 <= CLUSTER_LEN) {
    store_be32 (cluster + at, type);
    store_be32 (cluster + at + 4, len);
  }
  r = extension_list_parse ("image", cluster, &h, &list);
  *nr_extensions = list.nr_extensions;
  extension_list_free (&list);
  return r;
}

static void
test_limits (void)
{
  size_t nr;

  /* Too long by one; absurdly long; END counts as well. */
  CHECK_FAILS (parse_one (4096, 112, 99, 4096 - 112 - 8 + 1, &nr), EINVAL);
  CHECK_FAILS (parse_one (4096, 112, 99, UINT32_MAX, &nr), EINVAL);
  CHECK_FAILS (parse_one (4096, 112, EXTENSION_END, UINT32_MAX, &nr),
               EINVAL);
  CHECK_FAILS (parse_one (200, 112, 99, 81, &nr), EINVAL);
  /* An entry that itself crosses the limit. */
  CHECK_FAILS (parse_one (116, 112, 99, 0, &nr), EINVAL);
  /* Ends exactly at the limit, without END; padding may pass it. */
  CHECK (parse_one (4096, 112, 99, 4096 - 112 - 8, &nr) == 0 && nr == 1);
  CHECK (parse_one (200, 112, 99, 80, &nr) == 0 && nr == 1);
  CHECK (parse_one (197, 112, 99, 77, &nr) == 0 && nr == 1);
  /* No room for any: an empty list. */
  CHECK (parse_one (4096, 4096, 99, 1, &nr) == 0 && nr == 0);
  CHECK (parse_one (8, 112, 99, 1, &nr) == 0 && nr == 0);
  /* A list that is not aligned. */
  CHECK (parse_one (4096, 105, 99, 1, &nr) == 0 && nr == 1);
}

static void
test_known_lengths (void)
{
  size_t nr;

  CHECK (parse_one (4096, 112, EXTENSION_BACKING_FORMAT, 15, &nr) == 0);
  CHECK_FAILS (parse_one (4096, 112, EXTENSION_BACKING_FORMAT, 16, &nr),
               EINVAL);
  CHECK (parse_one (4096, 112, EXTENSION_BITMAPS, 24, &nr) == 0);
  CHECK_FAILS (parse_one (4096, 112, EXTENSION_BITMAPS, 23, &nr), EINVAL);
  CHECK_FAILS (parse_one (4096, 112, EXTENSION_BITMAPS, 25, &nr), EINVAL);
  /* Without encryption method 2. */
  CHECK_FAILS (parse_one (4096, 112, EXTENSION_CRYPTO, 16, &nr), EINVAL);
}

static void
test_bitmaps (void)
{
  uint8_t data[EXTENSION_BITMAPS_LEN], again[EXTENSION_BITMAPS_LEN];
  struct bitmaps_extension b;
  size_t i;

  for (i = 0; i < sizeof data; ++i)
    data[i] = i + 1;
  bitmaps_extension_parse (data, &b);
  CHECK (b.nr_bitmaps == 0x01020304 && b.reserved == 0x05060708);
  CHECK (b.directory_len == UINT64_C (0x090a0b0c0d0e0f10));
  bitmaps_extension_format (&b, again);
  CHECK (memcmp (data, again, sizeof data) == 0);
}

/* ---- features */

static void
test_feature_names (void)
{
  uint8_t cluster[CLUSTER_LEN] = { 0 };
  uint8_t table[3 * 48] = { 0 };
  struct qcow2_header h;

  set_header (&h, 0);
  h.incompatible = QCOW2_DIRTY | QCOW2_EXTENDED_L2;
  CHECK (qcow2_features_check ("image", cluster, &h) == 0);

  h.incompatible |= UINT64_C (1) << 5 | UINT64_C (1) << 63;
  table[0] = 1;                 /* compatible: not this one */
  table[1] = 5;
  memcpy (table + 2, "wrong", 5);
  table[48 + 1] = 5;
  memset (table + 48 + 2, 'n', 46);     /* not terminated */
  memcpy (table + 48 + 2, "new\033[2J", 7);
  table[96 + 1] = 6;
  memcpy (table + 96 + 2, "other", 5);
  put (cluster + 112, EXTENSION_FEATURE_NAMES, table, sizeof table);
  test_messages_forget ();
  CHECK_FAILS (qcow2_features_check ("image", cluster, &h), ENOTSUP);
  CHECK (strstr (test_messages.error, "bit 5 (new?[2Jnnn"));
  CHECK (strstr (test_messages.error, "bit 63 ("));
  CHECK (!strstr (test_messages.error, "wrong"));
  CHECK (!strstr (test_messages.error, "other"));

  /* A broken list: no names, but the same answer; and all bits at once. */
  store_be32 (cluster + 112 + 4, UINT32_MAX);
  h.incompatible = UINT64_MAX;
  test_messages_forget ();
  CHECK_FAILS (qcow2_features_check ("image", cluster, &h), ENOTSUP);
  CHECK (strstr (test_messages.error, "bit 5, bit 6"));
}

int
main (void)
{
  uint32_t len;

  test_fields ();
  test_round_trip (2, 72);
  for (len = 104; len < 200; ++len)
    test_round_trip (3, len);
  test_round_trip (3, 2000);
  test_list ();
  test_within ();
  test_limits ();
  test_known_lengths ();
  test_bitmaps ();
  test_feature_names ();
  return EXIT_SUCCESS;
}
