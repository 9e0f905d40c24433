/* Test the header: its fields, what is refused and how, and how much of
 * Xen's header there is.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "qcow/header.h"
#include "report/test-messages.h"

#define NR(array) (sizeof (array) / sizeof (array)[0])
#define TIB (UINT64_C (1) << 40)
#define FILE_LEN 10000

struct poke {
  unsigned at;
  unsigned width;               /* 0: none */
  uint64_t value;
};

#define MAX_POKES 5

/* ---- a header, with some fields changed */

static void
poke (uint8_t *head, const struct poke *p)
{
  uint8_t bytes[8];

  store_be64 (bytes, p->value);
  memcpy (head + p->at, bytes + 8 - p->width, p->width);
}

/* As qemu-img makes one for 37 MiB, with 4 KiB clusters: 19 entries. */
static int
check_header (const struct poke *pokes, size_t nr, struct qcow_header *h)
{
  static const struct poke sound[] = {
    { 0, 4, QCOW_MAGIC }, { 4, 4, 1 }, { 24, 8, 37 << 20 }, { 32, 1, 12 },
    { 33, 1, 9 }, { 40, 8, 48 },
  };
  uint8_t head[QCOW_HEAD_LEN] = { 0 };
  size_t i;

  for (i = 0; i < NR (sound); ++i)
    poke (head, &sound[i]);
  for (i = 0; i < nr; ++i)
    poke (head, &pokes[i]);
  test_messages_forget ();
  return qcow_header_check ("image", head, FILE_LEN, h);
}

/* ---- fields */

static void
test_fields (void)
{
  static const struct poke pokes[] = {
    { 8, 8, 300 }, { 16, 4, 5 }, { 20, 4, 0xf1f2f3f4 },
    { 24, 8, UINT64_C (0x0102030405060709) }, { 32, 1, 16 }, { 33, 1, 13 },
    { 34, 2, 0xffff },          /* ignored */
    { 40, 8, UINT64_C (0x0807060504030200) },
  };
  struct qcow_header h;

  CHECK (check_header (pokes, 3, &h) == 0);
  CHECK (h.backing_host == 300 && h.backing_len == 5 && h.head_end == 305);
  CHECK (h.mtime == 0xf1f2f3f4 && h.len == 37 << 20);
  CHECK (h.cluster_bits == 12 && h.l2_bits == 9 && h.crypt_method == 0);
  CHECK (h.l1_host == 48 && h.nr_l1 == 19 && h.disk_len == h.len);
  CHECK (h.xen == QCOW_XEN_NONE && !h.has_flags);
  CHECK (qcow_cluster_len (&h) == 4096 && qcow_l2_entries (&h) == 512);
  CHECK (qcow_l2_len (&h) == 4096 && qcow_span_bits (&h) == 21);
  CHECK (qcow_l1_end (&h) == 48 + 19 * 8);
  CHECK (qcow_header_why_read_only (&h) == NULL);

  CHECK (check_header (pokes, NR (pokes), &h) == 0);
  CHECK (h.len == UINT64_C (0x0102030405060709));
  CHECK (h.cluster_bits == 16 && h.l2_bits == 13);
  CHECK (h.l1_host == UINT64_C (0x0807060504030200));
}

static void
test_probe (void)
{
  static const uint8_t v1[8] = "QFI\xfb\0\0\0\1", v2[8] = "QFI\xfb\0\0\0\2";

  CHECK (qcow_header_probe (v1, 8));
  CHECK (!qcow_header_probe (v1, 7));
  CHECK (!qcow_header_probe (v1, 0));
  CHECK (!qcow_header_probe (v1 + 1, 7));
  CHECK (!qcow_header_probe (v2, 8));
}

/* ---- what is refused */

struct refusal {
  const char *says;             /* must be in the one message */
  int err;
  struct poke pokes[MAX_POKES];
};

static const struct refusal refusals[] = {
  { "not a qcow image", EINVAL, { { 0, 4, 0x514649fa } } },
  { "not a qcow image", EINVAL, { { 0, 4, 0xfb494651 } } },
  { "use the qcow2 plugin", ENOTSUP, { { 4, 4, 2 } } },
  { "use the qcow2 plugin", ENOTSUP, { { 4, 4, 3 } } },
  { "header byte 4)", ENOTSUP, { { 4, 4, 0 } } },
  { "header byte 4)", ENOTSUP, { { 4, 4, 4 } } },
  { "header byte 4)", ENOTSUP, { { 4, 4, 0x01000000 } } },

  { "header byte 24) is too small", EINVAL, { { 24, 8, 0 } } },
  { "header byte 24) is too small", EINVAL, { { 24, 8, 1 } } },
  { "header byte 32", EINVAL, { { 32, 1, 8 } } },
  { "header byte 32", EINVAL, { { 32, 1, 0 } } },
  { "header byte 32", EINVAL, { { 32, 1, 17 } } },
  { "header byte 32", EINVAL, { { 32, 1, 255 } } },
  { "header byte 33", EINVAL, { { 33, 1, 5 } } },
  { "header byte 33", EINVAL, { { 33, 1, 0 } } },
  { "header byte 33", EINVAL, { { 33, 1, 14 } } },
  { "header byte 33", EINVAL, { { 33, 1, 255 } } },
  { "36) is not known", EINVAL, { { 36, 4, 2 } } },
  { "36) is not known", EINVAL, { { 36, 4, UINT32_MAX } } },
  { "AES", ENOTSUP, { { 36, 4, 1 } } },

  /* One entry more than can be; and sums that overflow. */
  { "is too large", EINVAL,
    { { 24, 8, (QCOW_MAX_L1_ENTRIES << 21) + 1 } } },
  { "is too large", EINVAL,
    { { 24, 8, (QCOW_MAX_L1_ENTRIES << 15) + 1 }, { 32, 1, 9 },
      { 33, 1, 6 } } },
  { "is too large", EINVAL, { { 24, 8, UINT64_MAX } } },
  { "is too large", EINVAL,
    { { 24, 8, UINT64_MAX }, { 32, 1, 16 }, { 33, 1, 13 } } },
  { "is too large", EINVAL,
    { { 24, 8, UINT64_MAX - (1 << 21) + 1 } } },

  { "40) lies where no file reaches", EINVAL, { { 40, 8, UINT64_MAX } } },
  { "40) lies where no file reaches", EINVAL,
    { { 40, 8, UINT64_MAX - 19 * 8 + 1 } } },
  { "40) lies where no file reaches", EINVAL, { { 40, 8, INT64_MAX } } },
  { "40) overlaps the header", EINVAL, { { 40, 8, 0 } } },
  { "40) overlaps the header", EINVAL, { { 40, 8, 47 } } },

  { "header byte 16", EINVAL,
    { { 8, 8, 4096 }, { 16, 4, 1024 } } },
  { "header byte 16", EINVAL,
    { { 8, 8, 4096 }, { 16, 4, UINT32_MAX } } },
  { "header byte 8)", EINVAL, { { 8, 8, 1 }, { 16, 4, 5 } } },
  { "header byte 8)", EINVAL, { { 8, 8, 47 }, { 16, 4, 5 } } },
  { "header byte 8)", EINVAL, { { 8, 8, FILE_LEN - 4 }, { 16, 4, 5 } } },
  { "header byte 8)", EINVAL, { { 8, 8, FILE_LEN + 1 }, { 16, 4, 0 } } },
  { "header byte 8)", EINVAL, { { 8, 8, UINT64_MAX }, { 16, 4, 5 } } },
  { "overlap", EINVAL, { { 8, 8, 48 }, { 16, 4, 5 } } },
  { "overlap", EINVAL, { { 8, 8, 48 + 151 }, { 16, 4, 5 } } },
  { "overlap", EINVAL, { { 8, 8, 48 }, { 16, 4, 5 }, { 40, 8, 52 } } },

  /* The first one of two decides, in QEMU's order. */
  { "header byte 4)", ENOTSUP, { { 4, 4, 9 }, { 24, 8, 0 } } },
  { "header byte 24) is too small", EINVAL, { { 24, 8, 0 }, { 32, 1, 0 } } },
  { "header byte 32", EINVAL, { { 32, 1, 0 }, { 33, 1, 0 } } },
  { "header byte 33", EINVAL, { { 33, 1, 0 }, { 36, 4, 9 } } },
  { "36) is not known", EINVAL, { { 36, 4, 9 }, { 24, 8, UINT64_MAX } } },
  { "is too large", EINVAL,
    { { 24, 8, UINT64_MAX }, { 8, 8, 100 }, { 16, 4, 1024 } } },
};

static void
test_refusals (void)
{
  struct qcow_header h;
  size_t i;

  for (i = 0; i < NR (refusals); ++i) {
    CHECK_FAILS (check_header (refusals[i].pokes, MAX_POKES, &h),
                 refusals[i].err);
    CHECK (test_messages.nr_errors == 1);
    CHECK (strncmp (test_messages.error, "image: ", 7) == 0);
    if (!strstr (test_messages.error, refusals[i].says))
      fprintf (stderr, "row %zu: %s\n", i, test_messages.error);
    CHECK (strstr (test_messages.error, refusals[i].says));
  }
}

/* ---- what is not */

struct row {
  struct poke pokes[MAX_POKES];
  uint64_t disk_len, nr_l1, head_end;
};

static const struct row rows[] = {
  { { { 24, 8, 2 } }, 0, 1, 48 },
  { { { 24, 8, 511 } }, 0, 1, 48 },
  { { { 24, 8, 512 } }, 512, 1, 48 },
  { { { 24, 8, 513 } }, 512, 1, 48 },
  { { { 24, 8, (2 << 20) + 1 } }, 2 << 20, 2, 48 },
  { { { 32, 1, 9 }, { 33, 1, 6 } }, 37 << 20, 37 << 5, 48 },
  { { { 32, 1, 16 }, { 33, 1, 13 } }, 37 << 20, 1, 48 },
  /* As large as can be: 512 TiB less a span, and the widest spans. */
  { { { 24, 8, QCOW_MAX_L1_ENTRIES << 21 } }, QCOW_MAX_L1_ENTRIES << 21,
    QCOW_MAX_L1_ENTRIES, 48 },
  { { { 24, 8, QCOW_MAX_L1_ENTRIES << 29 }, { 32, 1, 16 }, { 33, 1, 13 } },
    QCOW_MAX_L1_ENTRIES << 29, QCOW_MAX_L1_ENTRIES, 48 },
  /* A table beyond the end of the file; at an odd place. */
  { { { 40, 8, TIB } }, 37 << 20, 19, 48 },
  { { { 40, 8, 51 } }, 37 << 20, 19, 48 },
  /* Names: of no length, directly behind the header, behind the table, as
   * long as can be, up to the end of the file.
   */
  { { { 8, 8, 48 }, { 16, 4, 0 } }, 37 << 20, 19, 48 },
  { { { 8, 8, 48 }, { 16, 4, 5 }, { 40, 8, 53 } }, 37 << 20, 19, 53 },
  { { { 8, 8, 48 + 152 }, { 16, 4, 5 } }, 37 << 20, 19, 205 },
  { { { 8, 8, 4096 }, { 16, 4, 1023 } }, 37 << 20, 19, 5119 },
  { { { 8, 8, FILE_LEN - 5 }, { 16, 4, 5 } }, 37 << 20, 19, FILE_LEN },
  /* Without a place the length does not matter. */
  { { { 16, 4, UINT32_MAX } }, 37 << 20, 19, 48 },
};

static void
test_rows (void)
{
  struct qcow_header h;
  size_t i;

  for (i = 0; i < NR (rows); ++i) {
    CHECK (check_header (rows[i].pokes, MAX_POKES, &h) == 0);
    CHECK (h.disk_len == rows[i].disk_len && h.nr_l1 == rows[i].nr_l1);
    CHECK (h.head_end == rows[i].head_end);
    CHECK (test_messages.nr_errors == 0);
    CHECK ((qcow_header_why_read_only (&h) == NULL) == (h.l1_host % 8 == 0));
  }
}

/* ---- Xen's header */

struct xen_row {
  uint64_t backing_host;        /* 0: none */
  uint64_t l1_host;
  uint32_t magic;
  enum qcow_xen xen;
  bool has_flags;
  uint64_t head_end;
};

static const struct xen_row xen_rows[] = {
  { 0, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, true, 64 },
  { 0, 4096, QCOW_XEN_MAGIC_REVERSED, QCOW_XEN_REVERSED, true, 64 },
  { 0, 4096, 0x58454efa, QCOW_XEN_NONE, false, 48 },
  { 0, 4096, 0, QCOW_XEN_NONE, false, 48 },
  /* With 12, 16 and 20 bytes, told apart by the name. */
  { 60, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, false, 65 },
  { 64, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, true, 69 },
  { 68, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, true, 73 },
  { 60, 4096, QCOW_XEN_MAGIC_REVERSED, QCOW_XEN_REVERSED, false, 65 },
  { 63, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, false, 68 },
  { 4000, 4096, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, true, 4005 },
  /* The magic is part of a name, or of the table. */
  { 48, 4096, QCOW_XEN_MAGIC, QCOW_XEN_NONE, false, 53 },
  { 59, 4096, QCOW_XEN_MAGIC, QCOW_XEN_NONE, false, 64 },
  { 0, 48, QCOW_XEN_MAGIC, QCOW_XEN_NONE, false, 48 },
  { 0, 56, QCOW_XEN_MAGIC, QCOW_XEN_NONE, false, 48 },
  { 0, 60, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, false, 60 },
  { 0, 64, QCOW_XEN_MAGIC, QCOW_XEN_PRESENT, true, 64 },
};

static void
test_xen (void)
{
  struct qcow_header h;
  size_t i;

  for (i = 0; i < NR (xen_rows); ++i) {
    const struct xen_row *row = &xen_rows[i];
    const struct poke pokes[] = {
      { 8, 8, row->backing_host }, { 16, 4, row->backing_host ? 5 : 0 },
      { 40, 8, row->l1_host }, { 48, 4, row->magic },
      { 52, 4, 0xa1a2a3a4 }, { 56, 4, 0xb1b2b3b4 }, { 60, 4, 0xc1c2c3c4 },
    };

    CHECK (check_header (pokes, NR (pokes), &h) == 0);
    CHECK (h.xen == row->xen && h.has_flags == row->has_flags);
    CHECK (h.head_end == row->head_end);
    CHECK (h.flags == (row->has_flags ? 0xc1c2c3c4 : 0));
    if (row->xen != QCOW_XEN_NONE)
      CHECK (h.cksum == 0xa1a2a3a4 && h.min_cluster_alloc == 0xb1b2b3b4);
    else
      CHECK (h.cksum == 0 && h.min_cluster_alloc == 0);
  }
}

int
main (void)
{
  test_fields ();
  test_probe ();
  test_refusals ();
  test_rows ();
  test_xen ();
  return EXIT_SUCCESS;
}
