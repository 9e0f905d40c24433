/* The stray header of Xen 3.3 and 3.4: found where it does harm, repaired
 * where tapdisk's formula holds.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/stray.h"
#include "qcow/test-image.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define DISK_LEN (UINT64_C (20) << 20)

struct bed {
  struct test_qcow image;
  struct qcow_header h;
  struct qcow_verdict v;
};

static void
bed_judge (struct bed *bed)
{
  qcow_verdict_free (&bed->v);
  test_qcow_header (&bed->image, &bed->h);
  CHECK (qcow_judge (bed->image.src, "image", &bed->h, &bed->v) == 0);
}

static void
bed_make (struct bed *bed, const struct test_qcow_spec *spec)
{
  *bed = (struct bed) { .v = { .table = NULL } };
  test_qcow_make (&bed->image, spec);
  bed_judge (bed);
}

static void
bed_free (struct bed *bed)
{
  qcow_verdict_free (&bed->v);
  test_qcow_free (&bed->image);
}

static struct qcow_stray
find (struct bed *bed)
{
  struct qcow_stray stray;

  CHECK (qcow_stray_find (bed->image.src, "image", &bed->h, &bed->v, &stray)
         == 0);
  return stray;
}

/* ---- making the damage */

/* What tapdisk's table of span 0 was before. */
static void
put_header_at (struct bed *bed, uint64_t host)
{
  uint8_t sector[512] = { 0xfb, 0x49, 0x46, 0x51, 1 };

  for (unsigned i = 8; i < 200; ++i)
    sector[i] = i;
  CHECK (source_pwrite (bed->image.src, sector, sizeof sector, host) == 0);
}

static void
check_formula (struct bed *bed, uint64_t l2_host)
{
  for (uint64_t i = 0; i < 512; ++i)
    CHECK (test_qcow_peek (&bed->image, l2_host + i * 8, 8) ==
           l2_host + 4096 + i * 4096);
}

static uint8_t *
bytes_of (struct bed *bed, size_t len)
{
  uint8_t *bytes = malloc (len);

  CHECK (bytes != NULL);
  CHECK (source_pread (bed->image.src, bytes, len, 0) == 0);
  return bytes;
}

/* ---- tests */

static void
test_none (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16,
    .order = TEST_QCOW_LITTLE,
  };
  struct qcow_stray stray;
  struct bed bed;

  bed_make (&bed, &spec);
  stray = find (&bed);
  CHECK (!stray.is_found && !stray.can_repair);
  test_messages_forget ();
  CHECK_FAILS (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray),
               EINVAL);
  CHECK (test_messages.nr_errors == 1);

  /* Not Xen's at all. */
  put_header_at (&bed, 8192);
  test_qcow_poke (&bed.image, 48, 4, 0);
  bed.h.xen = QCOW_XEN_NONE;
  CHECK (!find (&bed).is_found);
  bed_free (&bed);
}

/* Both places, in either order of the table: all bytes are as before the
 * damage, and there is one write.
 */
static void
test_repair (enum test_qcow_order order, uint64_t behind)
{
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16, .order = order,
  };
  CLEANUP_FREE uint8_t *before = NULL, *after = NULL;
  struct record *record = record_new ();
  struct qcow_stray stray;
  struct source *plain;
  struct bed bed;

  CHECK (record != NULL);
  bed_make (&bed, &spec);
  before = bytes_of (&bed, 65536);
  put_header_at (&bed, 8192 + behind);
  stray = find (&bed);
  CHECK (stray.is_found && stray.can_repair);
  CHECK (stray.host == 8192 + behind);
  CHECK (stray.l2_host == 8192 && stray.l1_index == 0);

  plain = bed.image.src;
  bed.image.src = record_add (record, "image", plain, source_len (plain));
  CHECK (bed.image.src != NULL);
  source_put (plain);
  CHECK (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray) == 0);
  CHECK (record_count (record, RECORD_WRITE) == 1);
  CHECK (record_count (record, RECORD_SYNC) == 1);
  check_formula (&bed, 8192);
  after = bytes_of (&bed, 65536);
  CHECK (memcmp (before, after, 65536) == 0);
  CHECK (!find (&bed).is_found);

  /* A second time it is not there. */
  test_messages_forget ();
  CHECK_FAILS (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray),
               EIO);
  CHECK (test_messages.nr_errors == 1);
  CHECK (record_count (record, RECORD_WRITE) == 1);
  bed_free (&bed);
  record_free (record);
}

/* The table that it hit belongs to another span. */
static void
test_backwards (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16, .is_backwards = true,
  };
  struct qcow_stray stray;
  struct bed bed;

  bed_make (&bed, &spec);
  put_header_at (&bed, 8192);
  stray = find (&bed);
  CHECK (stray.is_found && stray.can_repair && stray.l1_index == 9);
  CHECK (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray) == 0);
  check_formula (&bed, 8192);
  bed_free (&bed);
}

/* Images of Xen 3.4 itself leave room: no harm done. */
static void
test_harmless (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16, .gap = 512,
    .has_stray = true,
  };
  struct bed bed;

  bed_make (&bed, &spec);
  CHECK (test_qcow_peek (&bed.image, 8192 + 512, 8) ==
         UINT64_C (0xfb49465101000000));
  CHECK (!find (&bed).is_found);
  bed_free (&bed);
}

/* The rest of the table is not tapdisk's, or it could not be known. */
static void
test_cannot (void)
{
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16,
  };
  const struct test_qcow_spec overlay = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16, .backing = "base",
  };
  const struct test_qcow_spec tiny = {
    .disk_len = 100 * 32768, .cluster_bits = 9, .l2_bits = 6,
    .xen = TEST_QCOW_XEN_16,
  };
  const struct test_qcow_spec *specs[] = { &spec, &overlay, &tiny };

  for (unsigned i = 0; i < 3; ++i) {
    struct qcow_stray stray;
    struct bed bed;

    bed_make (&bed, specs[i]);
    put_header_at (&bed, 8192);
    if (i == 0)
      test_qcow_poke (&bed.image, 8192 + 511 * 8, 8, 0);
    stray = find (&bed);
    CHECK (stray.is_found && !stray.can_repair);
    CHECK_FAILS (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray),
                 EINVAL);
    CHECK (test_qcow_peek (&bed.image, 8192, 4) == 0xfb494651);
    bed_free (&bed);
  }
}

/* Any call fails once; the power is cut anywhere: the header is there or it
 * is repaired, and repair goes on.
 */
static void
test_trouble (void)
{
  static const enum record_op ops[] = {
    RECORD_READ, RECORD_WRITE, RECORD_SYNC,
  };
  const struct test_qcow_spec spec = {
    .disk_len = DISK_LEN, .xen = TEST_QCOW_XEN_16,
    .order = TEST_QCOW_LITTLE,
  };

  for (unsigned i = 0; i < 3; ++i) {
    struct record *record = record_new ();
    struct qcow_stray stray;
    struct source *src;
    struct bed bed;

    CHECK (record != NULL);
    bed_make (&bed, &spec);
    put_header_at (&bed, 8192);
    stray = find (&bed);
    src = record_add (record, "image", bed.image.src,
                      source_len (bed.image.src));
    CHECK (src != NULL);
    record_fail_at (record, ops[i], 1, EIO, false);
    test_messages_forget ();
    CHECK_FAILS (qcow_stray_repair (src, "image", &bed.h, &stray), EIO);
    CHECK (test_messages.nr_errors == 1);
    for (size_t p = 0; p <= record_position (record); ++p) {
      source_put (bed.image.src);
      bed.image.src = record_crash_image (record, src, p, p, RECORD_RANDOM);
      CHECK (bed.image.src != NULL);
      stray = find (&bed);
      if (stray.is_found)
        CHECK (qcow_stray_repair (bed.image.src, "image", &bed.h, &stray)
               == 0);
      check_formula (&bed, 8192);
    }
    source_put (src);
    bed_free (&bed);
    record_free (record);
  }
}

int
main (void)
{
  test_none ();
  for (uint64_t behind = 0; behind <= 512; behind += 512) {
    test_repair (TEST_QCOW_BIG, behind);
    test_repair (TEST_QCOW_LITTLE, behind);
  }
  test_backwards ();
  test_harmless ();
  test_cannot ();
  test_trouble ();
  return EXIT_SUCCESS;
}
