/* Test how L1 entries are settled that make sense in both byte orders.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow/intent.h"
#include "qcow/judge.h"
#include "qcow/resolve.h"
#include "qcow/test-image.h"
#include "report/test-messages.h"

#define GIB (UINT64_C (1) << 30)
#define NR(array) (sizeof (array) / sizeof (array)[0])

/* Each is the other one reversed; both lie in the file. */
#define BIG_HOST UINT64_C (0x102000000)
#define LITTLE_HOST UINT64_C (0x201000000)
#define FILE_LEN (16 * GIB)

/* 512 entries, in 8 sectors of 64. */
static const struct test_qcow_spec base_spec = {
  .disk_len = GIB, .xen = TEST_QCOW_XEN_16, .is_empty = true,
  .order = TEST_QCOW_LITTLE, .cksum = TEST_QCOW_CKSUM_STALE,
  .file_len = FILE_LEN,
};

/* An entry that is BIG_HOST in big endian. */
static void
put_ambiguous (struct test_qcow *t, uint64_t index, bool means_big)
{
  test_qcow_set_l1 (t, index, means_big ? BIG_HOST : LITTLE_HOST, means_big);
}

static void
judge (const struct test_qcow *t, struct qcow_verdict *v)
{
  struct qcow_header h;

  test_qcow_header (t, &h);
  test_messages_forget ();
  CHECK (qcow_judge (t->src, "image", &h, v) == 0);
}

/* Judge; everything must be settled as t->l1 says. */
static void
check_settled (const struct test_qcow *t, uint64_t nr_ambiguous)
{
  struct qcow_verdict v;
  uint64_t i;

  judge (t, &v);
  CHECK (v.nr_damaged == 0 && v.nr_ambiguous == nr_ambiguous);
  CHECK (test_messages.nr_warnings == 0);
  for (i = 0; i < t->nr_l1; ++i)
    CHECK ((v.table ? v.table[i]
            : test_qcow_peek (t, t->spec.l1_host + i * 8, 8)) == t->l1[i]);
  qcow_verdict_free (&v);
}

/* Judge; exactly this entry must be damaged. */
static void
check_open (const struct test_qcow *t, uint64_t index)
{
  struct qcow_verdict v;
  uint64_t i;

  judge (t, &v);
  CHECK (v.nr_damaged == 1 && v.first_damaged == index);
  CHECK (test_messages.nr_warnings == 1);
  CHECK (strstr (test_messages.warning, "in either byte order"));
  CHECK (v.table != NULL && v.cksum == QCOW_CKSUM_NONE);
  for (i = 0; i < t->nr_l1; ++i)
    CHECK (v.table[i] == (i == index ? QCOW_L1_DAMAGED : t->l1[i]));
  qcow_verdict_free (&v);
}

/* ---- content */

enum content {
  HOLE,
  ZEROES,                       /* the same, written */
  BEYOND,                       /* ... of the file: it is cut off */
  FITS,
  FITS_PACKED,
  NEARLY_FORMULA,               /* fits, for its first entry is zero */
  CUT_FORMULA,                  /* fits, for its last entry is zero */
  FORMULA,
  TEXT,                         /* guest data */
  LAST_IS_ODD,                  /* only the last entry makes no sense */
  ON_ITSELF,
  ON_L1,
  ON_HEADER,
  FAR,                          /* a cluster behind the end of the file */
  PACKED_FAR,
  PACKED_EMPTY,
  UNALIGNED,                    /* on a sector, which nobody writes */
};

static uint64_t
one_entry (const struct test_qcow *t, enum content content, uint64_t host)
{
  const uint64_t packed = UINT64_C (1) << 63;
  const unsigned shift = 63 - t->spec.cluster_bits;

  switch (content) {
  case FITS: return GIB;
  case FITS_PACKED: return packed | UINT64_C (77) << shift | (GIB + 12345);
  case LAST_IS_ODD: return 1;
  case ON_ITSELF: return host;
  case ON_L1: return 4096;
  case ON_HEADER: return packed | UINT64_C (77) << shift | 50;
  case FAR: return FILE_LEN + 65536;
  case PACKED_FAR: return packed | UINT64_C (77) << shift | (FILE_LEN - 76);
  case PACKED_EMPTY: return packed | GIB;
  case UNALIGNED: return GIB + 512 + 4096 * 5;
  default: return 0;
  }
}

static void
put_content (struct test_qcow *t, enum content content, uint64_t host)
{
  const uint64_t nr = UINT64_C (1) << t->spec.l2_bits;
  const uint64_t c_len = UINT64_C (1) << t->spec.cluster_bits;
  uint64_t i, first;

  switch (content) {
  case HOLE: case BEYOND:
    return;
  case NEARLY_FORMULA: case CUT_FORMULA: case FORMULA:
    first = host + (nr * 8 + c_len - 1) / c_len * c_len;
    for (i = content == NEARLY_FORMULA;
         i < nr - (content == CUT_FORMULA); ++i)
      test_qcow_poke (t, host + i * 8, 8, first + i * c_len);
    return;
  case TEXT:
    for (i = 0; i < nr; ++i)
      test_qcow_poke (t, host + i * 8, 8, UINT64_C (0x2062656e74656e20));
    return;
  default:
    test_qcow_poke (t, host + (nr - 1) * 8, 8, one_entry (t, content, host));
  }
}

/* Nothing but what lies at the two places tells. */
static void
check_content (struct test_qcow_spec spec, enum content right,
               enum content wrong, bool is_settled)
{
  unsigned means_big;

  for (means_big = 0; means_big < 2; ++means_big) {
    const uint64_t right_host = means_big ? BIG_HOST : LITTLE_HOST;
    struct test_qcow t;

    if (right == BEYOND || wrong == BEYOND)
      spec.file_len = BIG_HOST;
    /* Only the higher place can be cut off, and is the end itself. */
    if ((right == BEYOND && !means_big) || (wrong == BEYOND && means_big))
      continue;
    test_qcow_make (&t, &spec);
    put_ambiguous (&t, 130, means_big);
    put_content (&t, right, right_host);
    put_content (&t, wrong, BIG_HOST + LITTLE_HOST - right_host);
    if (is_settled)
      check_settled (&t, 1);
    else
      check_open (&t, 130);
    test_qcow_free (&t);
  }
}

static void
test_content (void)
{
  static const enum content absurd[] = {
    TEXT, LAST_IS_ODD, ON_ITSELF, ON_L1, ON_HEADER, FAR, PACKED_FAR,
    PACKED_EMPTY, UNALIGNED,
  };
  static const enum content empty[] = { HOLE, ZEROES };
  static const enum content fits[] = {
    FITS, FITS_PACKED, NEARLY_FORMULA, CUT_FORMULA,
  };
  unsigned i, k;

  for (i = 0; i < NR (absurd); ++i) {
    check_content (base_spec, FORMULA, absurd[i], true);
    for (k = 0; k < NR (fits); ++k)
      check_content (base_spec, fits[k], absurd[i], true);
    /* That the one is absurd does not make the other one right. */
    for (k = 0; k < NR (empty); ++k)
      check_content (base_spec, empty[k], absurd[i], false);
    check_content (base_spec, absurd[i], absurd[i], false);
  }
  for (i = 0; i < NR (fits); ++i) {
    check_content (base_spec, FORMULA, fits[i], true);
    for (k = 0; k < NR (empty); ++k)
      check_content (base_spec, fits[i], empty[k], true);
    check_content (base_spec, fits[i], FITS, false);
  }
  check_content (base_spec, FORMULA, HOLE, true);
  check_content (base_spec, FORMULA, ZEROES, true);
  check_content (base_spec, FORMULA, FORMULA, false);
  check_content (base_spec, ZEROES, HOLE, false);
}

/* Tables of more than one piece, of less than a cluster, and of overlays,
 * where the formula proves nothing.
 */
static void
test_geometries (void)
{
  static const uint8_t bits[][2] = {
    { 9, 6 }, { 9, 12 }, { 9, 13 }, { 12, 6 }, { 16, 6 }, { 16, 13 },
  };
  struct test_qcow_spec spec;
  unsigned i;

  for (i = 0; i < NR (bits); ++i) {
    spec = base_spec;
    spec.cluster_bits = bits[i][0];
    spec.l2_bits = bits[i][1];
    spec.disk_len = UINT64_C (200) << (spec.cluster_bits + spec.l2_bits);
    check_content (spec, FORMULA, FITS, true);
    check_content (spec, FITS, LAST_IS_ODD, true);
    check_content (spec, FITS, HOLE, true);
    spec.backing = "/images/base";
    check_content (spec, FORMULA, FITS, false);
    check_content (spec, FORMULA, HOLE, true);
    check_content (spec, FITS, TEXT, true);
  }
}

/* ---- votes */

static void
test_votes (void)
{
  unsigned means_big;

  for (means_big = 0; means_big < 2; ++means_big) {
    struct test_qcow t;

    test_qcow_make (&t, &base_spec);
    put_ambiguous (&t, 130, means_big);
    /* The neighbouring sectors have no say: entries 127 and 192. */
    test_qcow_set_l1 (&t, 127, 0x400000, means_big);
    test_qcow_set_l1 (&t, 192, 0x800000, means_big);
    check_open (&t, 130);
    /* The first and the last one of the sector have. */
    test_qcow_set_l1 (&t, 128, 0xc00000, means_big);
    check_settled (&t, 1);
    test_qcow_set_l1 (&t, 128, 0, true);
    test_qcow_set_l1 (&t, 191, 0xc00000, means_big);
    check_settled (&t, 1);
    /* Numbers that read the same either way have none. */
    test_qcow_set_l1 (&t, 131, UINT64_C (0x202000000), true);
    check_settled (&t, 1);
    /* If they disagree nothing follows. */
    test_qcow_set_l1 (&t, 150, 0x500000, !means_big);
    check_open (&t, 130);
    test_qcow_free (&t);
  }
}

/* Neighbours do not make a table of guest data, nor of a damaged one. */
static void
test_votes_against_content (void)
{
  struct test_qcow t;

  test_qcow_make (&t, &base_spec);
  put_ambiguous (&t, 130, false);
  put_content (&t, TEXT, LITTLE_HOST);
  test_qcow_set_l1 (&t, 131, 0x400000, false);
  check_open (&t, 130);
  /* But an empty table instead of guest data. */
  put_ambiguous (&t, 130, true);
  test_qcow_set_l1 (&t, 131, 0x400000, true);
  check_settled (&t, 1);
  test_qcow_free (&t);
}

/* A table that does not lie on a multiple of 8: entries that straddle
 * sectors have no say.
 */
static void
test_votes_unaligned (void)
{
  struct test_qcow_spec spec = base_spec;
  struct test_qcow t;

  spec.l1_host = 4096 + 4;
  spec.has_flags = true;
  test_qcow_make (&t, &spec);
  put_ambiguous (&t, 3, false);
  test_qcow_set_l1 (&t, 63, 0x400000, false);
  check_open (&t, 3);
  test_qcow_set_l1 (&t, 62, 0x800000, false);
  check_settled (&t, 1);

  /* Nor does this one belong to the next sector. */
  test_qcow_set_l1 (&t, 3, 0, false);
  put_ambiguous (&t, 70, false);
  check_open (&t, 70);
  test_qcow_set_l1 (&t, 64, 0xc00000, false);
  check_settled (&t, 1);
  test_qcow_free (&t);
}

/* ---- uniqueness */

/* Two entries with the same two candidates; one is settled by its sector,
 * so that the other one must have the other place.
 */
static void
test_uniqueness (void)
{
  unsigned means_big, same_bytes;

  for (means_big = 0; means_big < 2; ++means_big)
    for (same_bytes = 0; same_bytes < 2; ++same_bytes) {
      struct test_qcow t;
      struct qcow_verdict v;

      test_qcow_make (&t, &base_spec);
      put_ambiguous (&t, 1, means_big);
      test_qcow_set_l1 (&t, 2, 0x400000, means_big);
      test_qcow_set_l1 (&t, 300, means_big ? LITTLE_HOST : BIG_HOST,
                        same_bytes ? !means_big : means_big);
      check_settled (&t, 2);

      /* Unless that cannot be a table. */
      put_content (&t, TEXT, means_big ? LITTLE_HOST : BIG_HOST);
      check_open (&t, 300);

      /* When the neighbours give both the one that is left: neither. */
      test_qcow_set_l1 (&t, 301, 0x800000,
                        same_bytes ? means_big : !means_big);
      judge (&t, &v);
      CHECK (v.nr_damaged == 2 && v.first_damaged == 1);
      qcow_verdict_free (&v);
      test_qcow_free (&t);
    }
}

/* Three for two places: nothing tells which of two has the second one,
 * until one of them is voted there.
 */
static void
test_too_many_for_places (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &base_spec);
  put_ambiguous (&t, 1, false);
  test_qcow_set_l1 (&t, 2, 0x400000, false);
  put_ambiguous (&t, 200, false);
  put_ambiguous (&t, 300, false);
  judge (&t, &v);
  CHECK (v.nr_ambiguous == 3 && v.nr_damaged == 2);
  CHECK (v.first_damaged == 200 && v.table[1] == LITTLE_HOST);
  qcow_verdict_free (&v);
  test_qcow_set_l1 (&t, 301, 0x800000, true);
  test_qcow_set_l1 (&t, 300, BIG_HOST, true);
  check_open (&t, 200);
  test_qcow_free (&t);
}

/* Votes for the same place cancel each other. */
static void
test_votes_for_one_place (void)
{
  struct test_qcow t;
  struct qcow_verdict v;

  test_qcow_make (&t, &base_spec);
  put_ambiguous (&t, 1, false);
  test_qcow_set_l1 (&t, 2, 0x400000, false);
  put_ambiguous (&t, 300, false);
  test_qcow_set_l1 (&t, 301, 0x800000, false);
  judge (&t, &v);
  CHECK (v.nr_ambiguous == 2 && v.nr_damaged == 2 && v.first_damaged == 1);
  qcow_verdict_free (&v);
  /* But content counts more, even if it is shared. */
  put_content (&t, FITS, LITTLE_HOST);
  check_settled (&t, 2);
  test_qcow_free (&t);
}

/* ---- checksum */

static void
test_cksum (void)
{
  unsigned way;

  for (way = 0; way < 16; ++way) {
    struct test_qcow_spec spec = base_spec;
    struct test_qcow t;
    struct qcow_verdict v;

    spec.cksum_is_straight = way & 8;
    test_qcow_make (&t, &spec);
    test_qcow_set_l1 (&t, 4, 0x800000, way & 1);
    test_qcow_set_l1 (&t, 64, 0x900000, true);
    test_qcow_set_l1 (&t, 65, 0xa00000, false);
    put_ambiguous (&t, 66, way & 2);
    test_qcow_set_l1 (&t, 130, UINT64_C (0x103000000), way & 4);
    test_qcow_set_l1 (&t, 200, UINT64_C (0x203000000), !(way & 2));
    test_qcow_set_cksum (&t, way & 1);
    check_settled (&t, 3);

    /* It proves more than contents that are only not absurd. */
    put_content (&t, TEXT, t.l1[66]);
    check_settled (&t, 3);

    /* Nothing follows from one of a table with a damaged entry. */
    test_qcow_set_l1 (&t, 70, QCOW_L1_DAMAGED, true);
    test_qcow_set_cksum (&t, way & 1);
    judge (&t, &v);
    CHECK (v.nr_damaged == 4 && v.first_damaged == 66);
    CHECK (v.cksum == QCOW_CKSUM_NONE);
    qcow_verdict_free (&v);
    test_qcow_free (&t);
  }
}

/* ---- the record of a conversion */

static void
put_record (struct test_qcow *t, uint64_t value, uint64_t nr_l1)
{
  struct qcow_intent intent = {
    .kind = QCOW_INTENT_FIXED,
    .nr_items = 2,
    .nr_l1 = nr_l1,
    .home_host = t->spec.l1_host,
    .items = { { 3, 77 }, { 130, value } },
  };
  struct qcow_header h;
  struct qcow_gap gap;

  test_qcow_header (t, &h);
  CHECK (qcow_gap_read (t->src, &h, &gap) == 0 && gap.nr > 0);
  CHECK (qcow_gap_put (t->src, &gap, 0, &intent) == 0);
}

static void
test_record (void)
{
  unsigned means_big;

  for (means_big = 0; means_big < 2; ++means_big) {
    struct test_qcow t;

    test_qcow_make (&t, &base_spec);
    put_ambiguous (&t, 130, means_big);
    check_open (&t, 130);
    put_record (&t, t.l1[130], t.nr_l1 + 1);    /* of another table */
    check_open (&t, 130);
    put_record (&t, 0x400000, t.nr_l1);         /* of another entry */
    check_open (&t, 130);
    put_record (&t, t.l1[130], t.nr_l1);
    check_settled (&t, 1);
    /* It counts more than everything else. */
    put_content (&t, FORMULA, BIG_HOST + LITTLE_HOST - t.l1[130]);
    test_qcow_set_l1 (&t, 131, 0x400000, !means_big);
    check_settled (&t, 1);
    test_qcow_free (&t);
  }
}

/* ---- limits */

/* More than are looked into: damaged, whatever could be found out. */
static void
test_too_many (void)
{
  const uint64_t nr = QCOW_MAX_AMBIGUOUS + 100;
  struct test_qcow_spec spec = base_spec;
  struct test_qcow t;
  struct qcow_verdict v;
  uint64_t i;

  spec.disk_len = nr << 21;
  test_qcow_make (&t, &spec);
  for (i = 0; i < nr; ++i)
    put_ambiguous (&t, i, true);
  put_content (&t, FORMULA, BIG_HOST);
  judge (&t, &v);
  CHECK (v.nr_ambiguous == nr && v.nr_damaged == 100);
  CHECK (v.first_damaged == QCOW_MAX_AMBIGUOUS);
  CHECK (v.table[0] == BIG_HOST && v.order == QCOW_ORDER_BIG);
  CHECK (test_messages.nr_warnings == 9);
  qcow_verdict_free (&v);
  test_qcow_free (&t);
}

int
main (void)
{
  test_content ();
  test_geometries ();
  test_votes ();
  test_votes_against_content ();
  test_votes_unaligned ();
  test_uniqueness ();
  test_too_many_for_places ();
  test_votes_for_one_place ();
  test_cksum ();
  test_record ();
  test_too_many ();
  return EXIT_SUCCESS;
}
