/* Small qcow images for the fuzzer to begin with: as QEMU makes them, and
 * as every tapdisk did.
 *
 * Most have clusters of 512 bytes and tables of 64 entries, so that there
 * are several tables in little space.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>

#include "corpus.h"
#include "image/image.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "input-qcow.h"
#include "qcow/intent.h"
#include "qcow/qcow.h"
#include "qcow/test-image.h"
#include "source/record.h"

/* Before the zeroes at the end are left away. */
#define MAX_LEN (4 * 1024 * 1024)

/* Where the first table lies that can be read both ways: its bytes are
 * 00 00 00 01 02 00 00 00.
 */
#define FAR_L2 UINT64_C (0x102000000)

struct form {
  const char *name;
  struct test_qcow_spec spec;
  bool adds_data;               /* more clusters, of all kinds */
  bool is_cut;                  /* power failed while it was converted */
  bool is_fixed;                /* ... in a file that cannot grow */
};

#define SMALL .disk_len = 70000, .cluster_bits = 9, .l2_bits = 6

static const struct form forms[] = {
  { "plain", { SMALL, .is_empty = true }, .adds_data = true },
  { "plain-4k", { .disk_len = UINT64_C (5) << 20, .is_empty = true },
    .adds_data = true },
  { "plain-overlay", { SMALL, .backing = "base.img", .is_empty = true },
    .adds_data = true },
  { "xen-little", { SMALL, .xen = TEST_QCOW_XEN_16,
                    .order = TEST_QCOW_LITTLE } },
  { "xen-little-4k", { .disk_len = UINT64_C (2) << 20,
                       .xen = TEST_QCOW_XEN_16,
                       .order = TEST_QCOW_LITTLE } },
  { "xen-big", { SMALL, .xen = TEST_QCOW_XEN_16 } },
  { "xen-3.3", { SMALL, .xen = TEST_QCOW_XEN_16, .has_flags = true,
                 .flags = 1, .has_stray = true } },
  { "xen-3.4", { SMALL, .xen = TEST_QCOW_XEN_16, .has_flags = true,
                 .flags = 1, .gap = 512, .has_stray = true } },
  { "xen-mixed", { SMALL, .xen = TEST_QCOW_XEN_16, .nr_big = 1,
                   .order = TEST_QCOW_MIXED,
                   .cksum = TEST_QCOW_CKSUM_STALE } },
  { "xen-alternate", { SMALL, .xen = TEST_QCOW_XEN_20,
                       .order = TEST_QCOW_ALTERNATE, .every_nth = 2,
                       .cksum = TEST_QCOW_CKSUM_CREATED } },
  { "xen-reversed", { SMALL, .xen = TEST_QCOW_XEN_REVERSED,
                      .is_backwards = true } },
  { "xen-overlay", { SMALL, .xen = TEST_QCOW_XEN_12,
                     .order = TEST_QCOW_LITTLE, .backing = "/base.img" },
    .adds_data = true },
  { "xen-far", { SMALL, .xen = TEST_QCOW_XEN_16, .first_l2 = FAR_L2,
                 .order = TEST_QCOW_LITTLE,
                 .file_len = INPUT_FAR_FILE_LEN } },
  { "cut-growing", { SMALL, .xen = TEST_QCOW_XEN_16,
                     .order = TEST_QCOW_LITTLE }, .is_cut = true },
  { "cut-fixed", { SMALL, .xen = TEST_QCOW_XEN_16,
                   .order = TEST_QCOW_LITTLE }, .is_cut = true,
    .is_fixed = true },
  { "cut-far", { SMALL, .xen = TEST_QCOW_XEN_16, .first_l2 = FAR_L2,
                 .order = TEST_QCOW_LITTLE,
                 .file_len = INPUT_FAR_FILE_LEN }, .is_cut = true,
    .is_fixed = true },
};

static void
add_data (struct test_qcow *t)
{
  const uint64_t c = UINT64_C (1) << t->spec.cluster_bits;

  test_qcow_add_data (t, 0, 'a');
  test_qcow_add_data (t, c, 'b');
  test_qcow_add_packed (t, 3 * c, 'p');
  test_qcow_add_packed (t, 4 * c, 'q');
  test_qcow_add_data (t, t->spec.disk_len - 1, 'z');
}

/* ---- a power cut in a conversion */

static void
convert (struct source *src)
{
  struct image *img = image_open_fixup (&qcow_format, src, "image", 65536,
                                        IMAGE_FIXUP_WRITE);

  CHECK (img != NULL && image_connect (img, NULL, NULL) == 0);
  CHECK (image_begin_writing (img) == 0);
  CHECK (image_finish (img) == 0);
  image_close (img);
}

static uint64_t
peek (struct source *src, uint64_t host)
{
  uint8_t bytes[8];

  CHECK (source_pread_padded (src, bytes, sizeof bytes, host) == 0);
  return load_be64 (bytes);
}

/* In the middle: the L1 table lies elsewhere, or, in a file that cannot
 * grow, the first of its entries is converted.
 */
static bool
is_in_the_middle (const struct test_qcow *t, struct source *src)
{
  return peek (src, QCOW_AT_L1_HOST) != t->spec.l1_host ||
    peek (src, t->spec.l1_host) == t->l1[0];
}

static void
cut_power (struct test_qcow *t, bool is_fixed)
{
  const uint64_t len = source_len (t->src);
  struct record *record = record_new ();
  struct source *src, *left = NULL;
  size_t i;

  CHECK (record != NULL);
  src = record_add (record, "image", t->src, is_fixed ? len : INT64_MAX);
  CHECK (src != NULL);
  convert (src);
  for (i = 0; i <= record_position (record); ++i) {
    left = record_crash_image (record, src, i, 0, RECORD_ALL);
    CHECK (left != NULL);
    if (is_in_the_middle (t, left))
      break;
    source_put (left);
    left = NULL;
  }
  CHECK (left != NULL);
  source_put (src);
  record_free (record);
  source_put (t->src);
  t->src = left;
}

/* ---- the input */

static void
append (struct source *src, uint64_t host, uint64_t end, uint8_t *bytes,
        size_t *len)
{
  CHECK (end - host <= MAX_LEN - *len);
  CHECK (source_pread_padded (src, bytes + *len, end - host, host) == 0);
  *len += end - host;
}

/* Zeroes at the end are left away. */
static void
take_input (struct test_qcow *t, uint8_t *bytes, size_t *len)
{
  const uint64_t first_l2 = t->spec.first_l2;
  const uint64_t head = t->spec.l1_host + 4096;

  *len = 0;
  if (first_l2 == 0)
    append (t->src, 0, source_len (t->src), bytes, len);
  else {
    test_qcow_poke (t, INPUT_AT_FAR, 1, first_l2 >> INPUT_FAR_BITS);
    test_qcow_poke (t, INPUT_AT_CUT, 1, head >> INPUT_CUT_BITS);
    append (t->src, 0, head, bytes, len);
    append (t->src, first_l2, t->end, bytes, len);
  }
  while (*len > 512 && bytes[*len - 1] == 0)
    --*len;
}

static const char *
make_input (unsigned i, uint8_t **bytes, size_t *len)
{
  const struct form *form = &forms[i];
  struct test_qcow t;

  *bytes = malloc (MAX_LEN);
  CHECK (*bytes != NULL);
  test_qcow_make (&t, &form->spec);
  if (form->adds_data)
    add_data (&t);
  if (form->is_cut)
    cut_power (&t, form->is_fixed);
  take_input (&t, *bytes, len);
  test_qcow_free (&t);
  return form->name;
}

const struct corpus corpus = {
  .format = &qcow_format,
  .suffix = "qcow",
  .nr = sizeof forms / sizeof forms[0],
  .nr_mutants = 150,
  .make = make_input,
};
