/* Test the judging of L1 tables: orders, damage, checksums, and images
 * without Xen's header.  What is ambiguous: test-resolve.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow/judge.h"
#include "qcow/test-image.h"
#include "report/test-messages.h"
#include "source/record.h"

#define MIB UINT64_C (1048576)
#define NR(array) (sizeof (array) / sizeof (array)[0])

static int
judge (const struct test_qcow *t, struct qcow_verdict *v)
{
  struct qcow_header h;

  test_qcow_header (t, &h);
  test_messages_forget ();
  return qcow_judge (t->src, "image", &h, v);
}

/* Does the verdict's table, or the one on disk, mean what it should? */
static void
check_table (const struct test_qcow *t, const struct qcow_verdict *v)
{
  uint64_t i;

  for (i = 0; i < t->nr_l1; ++i) {
    uint64_t value = v->table ? v->table[i]
      : test_qcow_peek (t, t->spec.l1_host + i * 8, 8);

    CHECK (value == t->l1[i]);
  }
}

/* ---- every variant of an image */

static uint64_t
nr_used (const struct test_qcow *t)
{
  uint64_t nr = 0, i;

  for (i = 0; i < t->nr_l1; ++i)
    nr += t->l1[i] != 0;
  return nr;
}

static void
check_variant (const struct test_qcow_spec *spec, enum qcow_order order,
               enum qcow_cksum cksum)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, spec);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == order && v.cksum == cksum);
  CHECK (v.nr_damaged == 0 && v.nr_ambiguous == 0);
  CHECK (v.nr_big + v.nr_little == nr_used (&t));
  CHECK ((v.nr_big > 0) == (order == QCOW_ORDER_BIG ||
                            order == QCOW_ORDER_MIXED));
  CHECK ((v.table != NULL) == (v.nr_little > 0));
  if (cksum != QCOW_CKSUM_NONE)
    CHECK (v.cksum_is_reversed == !spec->cksum_is_straight);
  CHECK (test_messages.nr_errors == 0 && test_messages.nr_warnings == 0);
  check_table (&t, &v);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* The orders that a table can be in, whatever the headers say. */
static void
check_orders (struct test_qcow_spec spec)
{
  spec.order = TEST_QCOW_LITTLE;
  check_variant (&spec, QCOW_ORDER_LITTLE, QCOW_CKSUM_LITTLE);
  spec.order = TEST_QCOW_BIG;
  check_variant (&spec, QCOW_ORDER_BIG, QCOW_CKSUM_BIG);
  spec.order = TEST_QCOW_ALTERNATE;
  check_variant (&spec, QCOW_ORDER_MIXED, QCOW_CKSUM_LITTLE);
  spec.order = TEST_QCOW_MIXED;
  spec.nr_big = 3;
  check_variant (&spec, QCOW_ORDER_MIXED, QCOW_CKSUM_LITTLE);
  spec.nr_big = UINT64_MAX;     /* converted, but the flag was not set */
  check_variant (&spec, QCOW_ORDER_BIG, QCOW_CKSUM_LITTLE);
}

static void
test_variants (void)
{
  static const enum test_qcow_xen xens[] = {
    TEST_QCOW_XEN_12, TEST_QCOW_XEN_16, TEST_QCOW_XEN_20,
    TEST_QCOW_XEN_REVERSED,
  };
  unsigned i, flags;

  for (i = 0; i < NR (xens); ++i)
    for (flags = 0; flags < 4; ++flags) {
      struct test_qcow_spec spec = {
        .disk_len = 37 * MIB, .xen = xens[i], .has_flags = true,
        .flags = flags,
      };

      check_orders (spec);
      spec.is_reserved = true;
      check_orders (spec);
      spec.cksum_is_straight = true;
      check_orders (spec);
      spec.gap = 512;
      spec.has_stray = true;
      spec.is_backwards = true;
      check_orders (spec);
      spec.backing = "/images/base.raw";
      check_orders (spec);
    }
}

static void
test_geometries (void)
{
  unsigned cluster_bits, l2_bits;

  for (cluster_bits = 9; cluster_bits <= 16; ++cluster_bits)
    for (l2_bits = 6; l2_bits <= 13; ++l2_bits)
      check_orders ((struct test_qcow_spec) {
          .disk_len = (UINT64_C (5) << (cluster_bits + l2_bits)) - 512,
          .cluster_bits = cluster_bits, .l2_bits = l2_bits,
          .xen = TEST_QCOW_XEN_16, .nr_data = 1,
        });
}

/* A checksum that says nothing does not matter. */
static void
test_stale_cksums (void)
{
  struct test_qcow_spec spec = {
    .disk_len = 37 * MIB, .xen = TEST_QCOW_XEN_16, .every_nth = 4,
  };
  unsigned i;

  for (i = 0; i < 2; ++i) {
    spec.cksum = i ? TEST_QCOW_CKSUM_STALE : TEST_QCOW_CKSUM_CREATED;
    spec.order = TEST_QCOW_BIG;
    check_variant (&spec, QCOW_ORDER_BIG, QCOW_CKSUM_NONE);
    spec.order = TEST_QCOW_LITTLE;
    check_variant (&spec, QCOW_ORDER_LITTLE, QCOW_CKSUM_NONE);
  }
  /* Of the other form than the table that lies there. */
  spec.cksum = TEST_QCOW_CKSUM_BIG;
  check_variant (&spec, QCOW_ORDER_LITTLE, QCOW_CKSUM_BIG);
  /* Empty, though its checksum is right. */
  spec.is_empty = true;
  spec.cksum = TEST_QCOW_CKSUM_GOOD;
  check_variant (&spec, QCOW_ORDER_EMPTY, QCOW_CKSUM_NONE);
}

/* ---- checksums */

static void
test_cksum_of (void)
{
  /* As tapdisk stored it for an empty image of 37 MiB. */
  static const uint64_t empty[19];
  uint64_t table[1000];
  uint32_t straight, reversed, i;

  CHECK (qcow_cksum_of (empty, 19, true, true) == 0x927689d4);
  CHECK (qcow_cksum_of (empty, 19, false, true) == 0x927689d4);
  CHECK (qcow_cksum_of (empty, 19, true, false) == 0xd4897692);

  for (i = 0; i < NR (table); ++i)
    table[i] = i * UINT64_C (0x201000) + 8192;
  straight = qcow_cksum_of (table, NR (table), false, false);
  reversed = qcow_cksum_of (table, NR (table), false, true);
  CHECK (straight == __builtin_bswap32 (reversed));
  CHECK (straight != qcow_cksum_of (table, NR (table), true, false));
  for (i = 0; i < NR (table); ++i)
    table[i] = __builtin_bswap64 (table[i]);
  CHECK (straight == qcow_cksum_of (table, NR (table), true, false));
}

/* ---- single entries */

static void
test_plausible (void)
{
  struct test_qcow t;
  struct qcow_header h;
  const uint64_t len = 4000 * UINT64_C (4096) + 1;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = UINT64_C (1) << 40, .xen = TEST_QCOW_XEN_16,
      .backing = "/base", .cluster_bits = 12, .l2_bits = 9,
      .is_empty = true });
  test_qcow_header (&t, &h);
  CHECK (h.l1_host == 4096 && qcow_l1_end (&h) == 4096 * 1025);
  CHECK (!qcow_entry_is_plausible (&h, len, 0));
  CHECK (!qcow_entry_is_plausible (&h, len, 4096));
  CHECK (!qcow_entry_is_plausible (&h, len, 4096 * 1024));
  CHECK (qcow_entry_is_plausible (&h, len, 4096 * 1025));
  CHECK (!qcow_entry_is_plausible (&h, len, 4096 * 1025 + 512));
  CHECK (qcow_entry_is_plausible (&h, len, 4096 * 4000));
  CHECK (qcow_entry_is_plausible (&h, len, 4096 * 4001));
  CHECK (!qcow_entry_is_plausible (&h, len, 4096 * 4002));
  CHECK (!qcow_entry_is_plausible (&h, len, UINT64_C (1) << 63));
  CHECK (!qcow_entry_is_plausible (&h, len, UINT64_MAX << 12));
  CHECK (!qcow_entry_is_plausible (&h, INT64_MAX, INT64_MAX - 4095));
  CHECK (qcow_entry_is_plausible (&h, INT64_MAX, INT64_MAX - 8191));

  /* A table that meets the L1 table with its end. */
  h.l1_host = 8192 + 512;
  CHECK (qcow_entry_is_plausible (&h, len, 4096));
  CHECK (!qcow_entry_is_plausible (&h, len, 8192));
  /* A name far behind: what lies before it is as good as ever. */
  h.backing_host = 2000 * 4096 + 5;
  h.backing_len = 4096;
  h.head_end = h.backing_host + h.backing_len;
  CHECK (qcow_entry_is_plausible (&h, len, 1999 * 4096));
  CHECK (!qcow_entry_is_plausible (&h, len, 2000 * 4096));
  CHECK (!qcow_entry_is_plausible (&h, len, 2001 * 4096));
  CHECK (qcow_entry_is_plausible (&h, len, 2002 * 4096));
  test_qcow_free (&t);
}

static void
test_classes (void)
{
  const uint64_t len = UINT64_C (16) << 30;
  struct test_qcow t;
  struct qcow_header h;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 37 * MIB, .xen = TEST_QCOW_XEN_16, .is_empty = true });
  test_qcow_header (&t, &h);
  CHECK (qcow_entry_classify (&h, len, 0) == QCOW_CLASS_EMPTY);
  CHECK (qcow_entry_classify (&h, len, 8192) == QCOW_CLASS_BIG);
  CHECK (qcow_entry_classify (&h, len, UINT64_C (0x20) << 48) ==
         QCOW_CLASS_LITTLE);
  CHECK (qcow_entry_classify (&h, len, UINT64_C (0x102000000)) ==
         QCOW_CLASS_AMBIGUOUS);
  CHECK (qcow_entry_classify (&h, len, UINT64_C (0x201000000)) ==
         QCOW_CLASS_AMBIGUOUS);
  CHECK (qcow_entry_classify (&h, len, UINT64_C (0x202000000)) ==
         QCOW_CLASS_EITHER);
  CHECK (qcow_entry_classify (&h, UINT64_C (4) << 30,
                              UINT64_C (0x201000000)) ==
         QCOW_CLASS_DAMAGED);
  CHECK (qcow_entry_classify (&h, len, 1) == QCOW_CLASS_DAMAGED);
  CHECK (qcow_entry_classify (&h, len, UINT64_MAX) == QCOW_CLASS_DAMAGED);
  test_qcow_free (&t);
}

/* Entries that read the same either way are sound and say nothing. */
static void
test_either (void)
{
  const uint64_t either = UINT64_C (0x202000000);
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 37 * MIB, .xen = TEST_QCOW_XEN_16, .is_empty = true,
      .file_len = UINT64_C (16) << 30 });
  test_qcow_set_l1 (&t, 7, either, true);
  test_qcow_set_cksum (&t, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_EMPTY && v.cksum == QCOW_CKSUM_NONE);
  CHECK (v.nr_damaged == 0 && v.table == NULL);
  test_qcow_set_l1 (&t, 8, 8192, false);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_LITTLE && v.nr_little == 1);
  check_table (&t, &v);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* ---- damage */

static void
test_damaged (void)
{
  struct test_qcow t;
  struct qcow_verdict v;
  unsigned i;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .xen = TEST_QCOW_XEN_16,
      .order = TEST_QCOW_LITTLE, .every_nth = 2 });
  test_qcow_set_l1 (&t, 5, 0x1234, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.first_damaged == 5);
  CHECK (v.order == QCOW_ORDER_LITTLE && v.nr_little == 16);
  CHECK (v.cksum == QCOW_CKSUM_NONE);
  CHECK (test_messages.nr_warnings == 1 && test_messages.nr_errors == 0);
  CHECK (strstr (test_messages.warning, "L1 entry 5 (at byte 4136) is "
                 "0x0000000000001234"));
  CHECK (strstr (test_messages.warning, "2097152 bytes of the disk from "
                 "byte 10485760 on"));
  t.l1[5] = QCOW_L1_DAMAGED;
  check_table (&t, &v);
  qcow_verdict_free (&v);

  /* Eight are named, then there is a sum. */
  for (i = 5; i < 5 + 16; i += 2)
    test_qcow_set_l1 (&t, i, 0x1200 | i, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 8 && test_messages.nr_warnings == 8);
  CHECK (strstr (test_messages.warning, "L1 entry 19 "));
  qcow_verdict_free (&v);
  test_qcow_set_l1 (&t, 3, UINT64_MAX, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 9 && v.first_damaged == 3);
  CHECK (test_messages.nr_warnings == 9);
  CHECK (strstr (test_messages.warning, "9 entries of the L1 table"));
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* With nothing little endian the table is needed all the same. */
static void
test_damaged_big (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .xen = TEST_QCOW_XEN_16 });
  test_qcow_set_l1 (&t, 31, 4096, true);        /* the L1 table itself */
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_BIG && v.nr_damaged == 1);
  CHECK (v.nr_big == 31 && v.table && v.table[31] == QCOW_L1_DAMAGED);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* An entry may name the end of the file, where a table was to be. */
static void
test_behind_end (void)
{
  struct test_qcow t;
  struct qcow_verdict v;
  uint64_t end;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .xen = TEST_QCOW_XEN_16, .every_nth = 2,
      .order = TEST_QCOW_LITTLE });
  end = source_len (t.src);
  CHECK (end % 4096 == 0 && source_grow (t.src, end + 1) == 0);
  test_qcow_set_l1 (&t, 1, end + 4096, false);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 0 && v.nr_little == 17);
  check_table (&t, &v);
  qcow_verdict_free (&v);
  test_qcow_set_l1 (&t, 1, end + 8192, false);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.first_damaged == 1);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* ---- images without Xen's header */

static void
test_plain (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  check_variant (&(struct test_qcow_spec) { .disk_len = 37 * MIB },
                 QCOW_ORDER_BIG, QCOW_CKSUM_NONE);
  check_variant (&(struct test_qcow_spec) {
      .disk_len = 37 * MIB, .backing = "base" },
                 QCOW_ORDER_BIG, QCOW_CKSUM_NONE);
  check_variant (&(struct test_qcow_spec) {
      .disk_len = 37 * MIB, .is_empty = true },
                 QCOW_ORDER_EMPTY, QCOW_CKSUM_NONE);
  /* A table at an odd place. */
  check_variant (&(struct test_qcow_spec) {
      .disk_len = 37 * MIB, .l1_host = 4093 },
                 QCOW_ORDER_BIG, QCOW_CKSUM_NONE);

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .every_nth = 2 });
  /* On a sector, but not on a cluster. */
  test_qcow_set_l1 (&t, 1, 8192 + 512, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 0 && v.nr_big == 17);
  CHECK (strstr (test_messages.debug, "unaligned-tables=1"));

  test_qcow_set_l1 (&t, 3, 8192 + 8, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.first_damaged == 3 && v.table == NULL);
  CHECK (strstr (test_messages.warning, "multiple of 512"));
  test_qcow_set_l1 (&t, 3, source_len (t.src) + 512, true);
  CHECK (judge (&t, &v) == 0 && v.nr_damaged == 1);
  CHECK (strstr (test_messages.warning, "beyond the end"));
  test_qcow_set_l1 (&t, 3, (uint64_t) INT64_MAX - 511, true);
  CHECK (judge (&t, &v) == 0 && v.nr_damaged == 1);
  CHECK (strstr (test_messages.warning, "beyond the end"));
  test_qcow_set_l1 (&t, 3, 512, true);
  CHECK (judge (&t, &v) == 0 && v.nr_damaged == 0);
  test_qcow_poke (&t, 40, 8, 4096 + 3584);
  CHECK (source_pwrite (t.src, "\0\0\0\0\0\0\020", 8, 4096 + 3584) == 0);
  CHECK (judge (&t, &v) == 0 && v.nr_damaged >= 1 && v.first_damaged == 0);
  test_qcow_free (&t);
}

/* All little endian: refused, for it would read as damaged or empty. */
static void
test_plain_little (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .every_nth = 2, .l1_host = 4096,
      .order = TEST_QCOW_LITTLE });
  CHECK_FAILS (judge (&t, &v), EINVAL);
  CHECK (test_messages.nr_errors == 1 && test_messages.nr_warnings == 0);
  CHECK (strstr (test_messages.error, "all 16 used entries"));
  CHECK (strstr (test_messages.error, "put these four bytes"));

  /* One that makes sense as it should: then it is damage. */
  test_qcow_set_l1 (&t, 1, 8192, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_BIG && v.nr_big == 1 && v.nr_damaged == 16);
  CHECK (test_messages.nr_warnings == 9);

  /* One that makes no sense at all, likewise. */
  test_qcow_set_l1 (&t, 1, 1, true);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_EMPTY && v.nr_damaged == 17);
  test_qcow_free (&t);

  /* No room for Xen's header: no advice to put it back. */
  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 2 * MIB, .order = TEST_QCOW_LITTLE });
  CHECK_FAILS (judge (&t, &v), EINVAL);
  CHECK (!strstr (test_messages.error, "put these four bytes"));
  test_qcow_free (&t);
}

/* ---- limits and failures */

/* The largest table that can be, in a file with a single entry. */
static void
test_large (void)
{
  const uint64_t nr = QCOW_MAX_L1_ENTRIES;
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 2 * MIB, .l1_host = 52, .is_empty = true });
  test_qcow_poke (&t, 24, 8, nr * 2 * MIB);
  CHECK (source_grow (t.src, UINT64_C (4) << 30) == 0);
  test_qcow_poke (&t, 52 + (nr - 1) * 8, 8, UINT64_C (3) << 30);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_BIG && v.nr_big == 1 && v.nr_damaged == 0);
  test_qcow_poke (&t, 52 + (nr - 1) * 8, 8, UINT64_C (1) << 30);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.first_damaged == nr - 1);
  test_qcow_free (&t);

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 2 * MIB, .xen = TEST_QCOW_XEN_16,
      .order = TEST_QCOW_LITTLE, .first_l2 = UINT64_C (1) << 30 });
  test_qcow_poke (&t, 24, 8, QCOW_MAX_JUDGED * 2 * MIB);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_LITTLE && v.nr_little == 1);
  CHECK (v.table[0] == UINT64_C (1) << 30);
  qcow_verdict_free (&v);
  test_qcow_poke (&t, 24, 8, QCOW_MAX_JUDGED * 2 * MIB + 1);
  CHECK_FAILS (judge (&t, &v), ENOTSUP);
  CHECK (strstr (test_messages.error, "header byte 24"));
  CHECK (v.table == NULL);
  test_qcow_free (&t);
}

/* A table of which a part, or everything, lies beyond the end. */
static void
test_short_file (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 64 * MIB, .is_empty = true, .xen = TEST_QCOW_XEN_16 });
  CHECK (source_truncate (t.src, 4096 + 19) == 0);
  test_qcow_poke (&t, 4096 + 8, 8, UINT64_C (0x20) << 48);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_little == 1 && v.nr_damaged == 0 && v.table[1] == 8192);
  qcow_verdict_free (&v);
  CHECK (source_truncate (t.src, 100) == 0);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.order == QCOW_ORDER_EMPTY);
  test_qcow_free (&t);
}

/* An entry that begins in a hole of the file and ends behind it. */
static void
test_half_in_hole (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &(struct test_qcow_spec) {
      .disk_len = 4096 * MIB, .l1_host = 4093, .is_empty = true,
      .file_len = 8192 * MIB });
  test_qcow_poke (&t, 12288, 5, 0x100000);      /* of entry 1024 */
  CHECK (source_extent (t.src, 12285, 8).hole);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_big == 1 && v.nr_damaged == 0);
  test_qcow_poke (&t, 12288, 5, 0x100001);
  CHECK (judge (&t, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.first_damaged == 1024);
  test_qcow_free (&t);
}

static void
test_faults (void)
{
  struct test_qcow t;
  struct test_qcow_spec spec = {
    .disk_len = 64 * MIB, .xen = TEST_QCOW_XEN_16,
    .order = TEST_QCOW_LITTLE, .first_l2 = UINT64_C (0x102000000),
    .file_len = UINT64_C (16) << 30, .every_nth = UINT64_MAX,
  };
  struct record *r = record_new ();
  struct source *src;
  struct qcow_verdict v;
  struct qcow_header h;
  unsigned n;

  test_qcow_make (&t, &spec);
  test_qcow_set_l1 (&t, 9, 1, true);
  test_qcow_header (&t, &h);
  src = record_add (r, "image", t.src, INT64_MAX);
  CHECK (src != NULL);
  for (n = 1;; ++n) {
    record_fail_at (r, RECORD_READ, n, EIO, false);
    if (qcow_judge (src, "image", &h, &v) == 0)
      break;
    CHECK (errno == EIO && v.table == NULL);
  }
  /* The table twice (to tell of damage), the gap, two candidates. */
  CHECK (n > 4);
  CHECK (v.nr_little == 1 && v.nr_damaged == 1 && v.nr_ambiguous == 1);
  qcow_verdict_free (&v);
  source_put (src);
  record_free (r);
  test_qcow_free (&t);
}

int
main (void)
{
  test_variants ();
  test_geometries ();
  test_stale_cksums ();
  test_cksum_of ();
  test_plausible ();
  test_classes ();
  test_either ();
  test_damaged ();
  test_damaged_big ();
  test_behind_end ();
  test_plain ();
  test_plain_little ();
  test_large ();
  test_short_file ();
  test_half_in_hole ();
  test_faults ();
  return EXIT_SUCCESS;
}
