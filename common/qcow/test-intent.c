/* Records of conversions under way: their bytes, their place.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow/convert.h"
#include "qcow/intent.h"
#include "qcow/judge.h"
#include "qcow/test-image.h"
#include "source/record.h"

static struct qcow_intent
some_intent (uint32_t nr_items)
{
  struct qcow_intent intent = {
    .kind = QCOW_INTENT_FIXED, .nr_items = nr_items, .nr_l1 = 150,
    .home_host = 4096, .copy_host = 0x1122334455667788,
    .file_len = 0x99aabbccddeeff,
  };

  for (unsigned i = 0; i < DIGEST_MD5_LEN; ++i) {
    intent.md5_little[i] = i + 1;
    intent.md5_big[i] = 0xf0 - i;
  }
  for (uint32_t i = 0; i < nr_items; ++i)
    intent.items[i] = (struct qcow_intent_item) {
      .index = i * 3, .value = UINT64_C (0x0102030405000000) + i,
    };
  return intent;
}

static void
check_same (const struct qcow_intent *a, const struct qcow_intent *b)
{
  CHECK (a->kind == b->kind && a->nr_items == b->nr_items);
  CHECK (a->nr_l1 == b->nr_l1 && a->home_host == b->home_host);
  CHECK (a->copy_host == b->copy_host && a->file_len == b->file_len);
  CHECK (memcmp (a->md5_little, b->md5_little, DIGEST_MD5_LEN) == 0);
  CHECK (memcmp (a->md5_big, b->md5_big, DIGEST_MD5_LEN) == 0);
  for (uint32_t i = 0; i < a->nr_items; ++i)
    CHECK (a->items[i].index == b->items[i].index &&
           a->items[i].value == b->items[i].value);
}

/* ---- bytes */

static void
test_both_ways (void)
{
  for (uint32_t nr = 0; nr <= QCOW_INTENT_MAX_ITEMS; ++nr) {
    struct qcow_intent intent = some_intent (nr), back;
    uint8_t sector[QCOW_INTENT_LEN];

    intent.kind = nr % 2 ? QCOW_INTENT_FIXED : QCOW_INTENT_GROWING;
    qcow_intent_format (&intent, sector);
    CHECK (qcow_intent_parse (sector, &back));
    check_same (&intent, &back);
  }
}

/* The layout is a format: other versions of this program read it. */
static void
test_layout (void)
{
  const struct qcow_intent intent = some_intent (2);
  uint8_t sector[QCOW_INTENT_LEN];

  qcow_intent_format (&intent, sector);
  CHECK (memcmp (sector, "ndf-l1\r\n", 8) == 0);
  CHECK (load_be32 (sector + 8) == 1 && load_be32 (sector + 12) == 2);
  CHECK (load_be64 (sector + 16) == 150 && load_be64 (sector + 24) == 4096);
  CHECK (load_be64 (sector + 32) == 0x1122334455667788);
  CHECK (load_be64 (sector + 40) == 0x99aabbccddeeff);
  CHECK (sector[48] == 1 && sector[64] == 0xf0);
  CHECK (load_be32 (sector + 92) == 3);
  CHECK (load_be64 (sector + 96) == UINT64_C (0x0102030405000001));
  for (unsigned i = 104; i < 496; ++i)
    CHECK (sector[i] == 0);
}

/* No bit of it may be another. */
static void
test_damage (void)
{
  const struct qcow_intent intent = some_intent (5);
  struct qcow_intent back;
  uint8_t sector[QCOW_INTENT_LEN];

  qcow_intent_format (&intent, sector);
  for (unsigned bit = 0; bit < 8 * QCOW_INTENT_LEN; ++bit) {
    sector[bit / 8] ^= 1 << bit % 8;
    CHECK (!qcow_intent_parse (sector, &back));
    sector[bit / 8] ^= 1 << bit % 8;
  }
  CHECK (qcow_intent_parse (sector, &back));
}

/* With a right digest, but beyond what there is. */
static void
test_absurd (void)
{
  struct qcow_intent intent = some_intent (5), back;
  uint8_t sector[QCOW_INTENT_LEN];
  struct digest_md5 md5;

  intent.kind = 3;
  qcow_intent_format (&intent, sector);
  CHECK (!qcow_intent_parse (sector, &back));
  intent.kind = QCOW_INTENT_NONE;
  qcow_intent_format (&intent, sector);
  CHECK (!qcow_intent_parse (sector, &back));

  intent.kind = QCOW_INTENT_FIXED;
  qcow_intent_format (&intent, sector);
  store_be32 (sector + 12, QCOW_INTENT_MAX_ITEMS + 1);
  digest_md5_begin (&md5);
  digest_md5_add (&md5, sector, 496);
  digest_md5_end (&md5, sector + 496);
  CHECK (!qcow_intent_parse (sector, &back));
}

/* ---- place */

static void
make_image (struct test_qcow *t, struct qcow_header *h, const char *backing)
{
  const struct test_qcow_spec spec = {
    .disk_len = 150 * UINT64_C (32768), .cluster_bits = 9, .l2_bits = 6,
    .every_nth = 7, .nr_data = 1, .xen = TEST_QCOW_XEN_16,
    .order = TEST_QCOW_LITTLE, .backing = backing,
  };

  test_qcow_make (t, &spec);
  test_qcow_header (t, h);
}

static void
test_gap (void)
{
  struct qcow_intent intent = some_intent (3);
  struct qcow_header h;
  struct qcow_gap gap;
  struct test_qcow t;

  make_image (&t, &h, NULL);
  CHECK (qcow_gap_end (&h) == 4096);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (gap.host == 512 && gap.nr == 7);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_FREE) == 0);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_RECORD) == -1);

  test_qcow_poke (&t, 1023, 1, 1);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  qcow_gap_take (&gap, 1535, 1536);
  CHECK (gap.uses[0] == QCOW_GAP_TAKEN && gap.uses[1] == QCOW_GAP_TAKEN);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_FREE) == 2);

  CHECK (qcow_gap_put (t.src, &gap, 2, &intent) == 0);
  intent.kind = QCOW_INTENT_GROWING;
  CHECK (qcow_gap_put (t.src, &gap, 4, &intent) == 0);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_RECORD) == 2);
  CHECK (qcow_gap_find_kind (&gap, QCOW_INTENT_FIXED) == 2);
  CHECK (qcow_gap_find_kind (&gap, QCOW_INTENT_GROWING) == 4);
  check_same (&intent, &gap.records[4]);

  CHECK (qcow_gap_clear (t.src, &gap) == 0);
  CHECK (test_qcow_peek (&t, 1536, 8) == 0);
  CHECK (test_qcow_peek (&t, 1023, 1) == 1);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_RECORD) == -1);
  test_qcow_free (&t);
}

/* The name takes sectors; the file may end before the table. */
static void
test_gap_ends (void)
{
  char backing[1000];
  struct qcow_header h;
  struct qcow_gap gap;
  struct test_qcow t;

  memset (backing, 'b', sizeof backing - 1);
  backing[sizeof backing - 1] = '\0';
  make_image (&t, &h, backing);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (h.head_end == 64 + 999 && gap.host == 1536 && gap.nr == 5);
  CHECK (source_truncate (t.src, 2047) == 0);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0 && gap.nr == 0);
  CHECK (source_truncate (t.src, 1100) == 0);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0 && gap.nr == 0);
  h.l1_host = 1064;
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0 && gap.nr == 0);
  test_qcow_free (&t);
}

/* A sector of its own that speaks of another table says nothing, but is
 * cleared away.
 */
static void
test_stale (void)
{
  struct qcow_intent intent = some_intent (3);
  struct qcow_verdict v;
  struct qcow_plan plan;
  struct qcow_header h;
  struct qcow_gap gap;
  struct test_qcow t;

  make_image (&t, &h, NULL);
  intent.nr_l1 = 149;
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (qcow_gap_put (t.src, &gap, 0, &intent) == 0);
  intent.nr_l1 = 150;
  intent.home_host = 8192;
  CHECK (qcow_gap_put (t.src, &gap, 3, &intent) == 0);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (gap.records[0].kind == QCOW_INTENT_NONE);
  CHECK (gap.records[0].nr_items == 0 && gap.records[3].nr_items == 0);
  CHECK (qcow_gap_find_kind (&gap, QCOW_INTENT_FIXED) == -1);

  CHECK (qcow_judge (t.src, "image", &h, &v) == 0);
  CHECK (qcow_convert_plan (t.src, "image", &h, &v, &plan) == 0);
  CHECK (plan.is_needed);
  CHECK (plan.intent_host == 512 && plan.intent_sectors == 9);
  CHECK (qcow_convert_growing (t.src, "image", &h, &v, &plan, 0) == 0);
  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (qcow_gap_find (&gap, QCOW_GAP_RECORD) == -1);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* ---- its use */

/* Nothing but a record can tell what the entry means. */
static void
test_settles (uint64_t meaning)
{
  const uint64_t value = UINT64_C (0x102000000);
  const struct test_qcow_spec spec = {
    .disk_len = 10 << 21, .backing = "base", .xen = TEST_QCOW_XEN_16,
    .order = TEST_QCOW_LITTLE, .is_empty = true,
    .cksum = TEST_QCOW_CKSUM_STALE, .file_len = UINT64_C (16) << 30,
  };
  struct qcow_intent intent = {
    .kind = QCOW_INTENT_FIXED, .nr_items = 1, .nr_l1 = 10,
    .home_host = 4096, .items = { { .index = 4, .value = meaning } },
  };
  struct qcow_verdict v;
  struct qcow_header h;
  struct qcow_gap gap;
  struct test_qcow t;

  test_qcow_make (&t, &spec);
  test_qcow_set_l1 (&t, 4, value, false);
  test_qcow_header (&t, &h);
  CHECK (qcow_judge (t.src, "image", &h, &v) == 0);
  CHECK (v.nr_damaged == 1 && v.nr_ambiguous == 1);
  qcow_verdict_free (&v);

  CHECK (qcow_gap_read (t.src, &h, &gap) == 0);
  CHECK (qcow_gap_put (t.src, &gap, 6, &intent) == 0);
  CHECK (qcow_judge (t.src, "image", &h, &v) == 0);
  if (meaning == value || meaning == __builtin_bswap64 (value)) {
    CHECK (v.nr_damaged == 0);
    CHECK (v.nr_little == (meaning == value));
    CHECK (v.nr_big == (meaning != value));
  }
  else
    CHECK (v.nr_damaged == 1);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

/* Writing and clearing fail once. */
static void
test_faults (void)
{
  const struct qcow_intent intent = some_intent (3);
  struct record *record = record_new ();
  struct source *src;
  struct qcow_header h;
  struct qcow_gap gap;
  struct test_qcow t;

  CHECK (record != NULL);
  make_image (&t, &h, NULL);
  src = record_add (record, "image", t.src, source_len (t.src));
  CHECK (src != NULL);
  record_fail_at (record, RECORD_READ, 1, EIO, false);
  CHECK_FAILS (qcow_gap_read (src, &h, &gap), EIO);
  CHECK (qcow_gap_read (src, &h, &gap) == 0);
  CHECK (qcow_gap_clear (src, &gap) == 0);
  CHECK (record_count (record, RECORD_SYNC) == 0);
  record_fail_at (record, RECORD_WRITE, 1, EIO, false);
  CHECK_FAILS (qcow_gap_put (src, &gap, 0, &intent), EIO);
  CHECK (gap.uses[0] == QCOW_GAP_FREE);
  CHECK (qcow_gap_put (src, &gap, 0, &intent) == 0);
  record_fail_at (record, RECORD_WRITE, 1, EIO, false);
  CHECK_FAILS (qcow_gap_clear (src, &gap), EIO);
  CHECK (gap.uses[0] == QCOW_GAP_RECORD);
  record_fail_at (record, RECORD_SYNC, 1, EIO, false);
  CHECK_FAILS (qcow_gap_clear (src, &gap), EIO);
  CHECK (gap.uses[0] == QCOW_GAP_RECORD);
  source_put (src);
  record_free (record);
  test_qcow_free (&t);
}

int
main (void)
{
  test_both_ways ();
  test_layout ();
  test_damage ();
  test_absurd ();
  test_gap ();
  test_gap_ends ();
  test_stale ();
  test_settles (UINT64_C (0x102000000));
  test_settles (__builtin_bswap64 (UINT64_C (0x102000000)));
  test_settles (UINT64_C (0x103000000));
  test_faults ();
  return EXIT_SUCCESS;
}
