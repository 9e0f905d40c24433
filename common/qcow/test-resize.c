/* Test changing the length of the disk: contents, the tables, moments at
 * which the power fails, faults.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "image/resize.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/create.h"
#include "qcow/entry.h"
#include "qcow/qcow.h"
#include "qcow/state.h"
#include "qcow/test-image.h"
#include "raw/raw.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define NO_LIMIT (UINT64_C (1) << 62)

/* ---- a disk, with what it stands on */

struct disk {
  struct source *src, *base;    /* references; base may be NULL */
  enum image_fixup fixup;
  struct image *img;
};

static void
disk_open (struct disk *d)
{
  struct image *base = NULL;

  d->img = image_open_fixup (&qcow_format, d->src, "image", MIB, d->fixup);
  CHECK (d->img != NULL);
  if (d->base) {
    base = image_open (&raw_format, d->base, "base", MIB);
    CHECK (base != NULL && image_connect (base, NULL, NULL) == 0);
  }
  CHECK (image_connect (d->img, base, NULL) == 0);
}

static void
disk_close (struct disk *d)
{
  image_close (d->img);
  d->img = NULL;
}

static void
disk_free (struct disk *d)
{
  disk_close (d);
  source_put (d->src);
  source_put (d->base);
}

static void
disk_add_base (struct disk *d, uint64_t len)
{
  CLEANUP_FREE uint8_t *bytes = malloc (len);

  CHECK (bytes != NULL);
  memset (bytes, 'b', len);
  d->base = source_memory_copy ("base", bytes, len, NO_LIMIT);
  CHECK (d->base != NULL);
}

/* A new one, not open. */
static void
disk_make (struct disk *d, const struct qcow_create_options *o,
           uint64_t base_len)
{
  *d = (struct disk) { .src = source_memory ("image", 0, NO_LIMIT) };
  CHECK (d->src != NULL);
  CHECK (qcow_create (d->src, o) == 0);
  if (o->backing_name)
    disk_add_base (d, base_len);
}

static void
disk_open_for_writing (struct disk *d)
{
  disk_open (d);
  CHECK (image_why_read_only (d->img) == NULL);
  CHECK (image_begin_writing (d->img) == 0);
}

static int
disk_resize (struct disk *d, uint64_t len)
{
  int r;

  disk_open_for_writing (d);
  r = image_resize (d->img, len, true);
  if (r == 0) {
    CHECK (d->img->len == round_up (len, 512));
    CHECK (image_finish (d->img) == 0);
  }
  disk_close (d);
  return r;
}

static void
disk_write (struct disk *d, uint64_t guest, uint64_t len, uint8_t byte)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  memset (buf, byte, len);
  disk_open_for_writing (d);
  CHECK (image_write (d->img, buf, len, guest) == 0);
  CHECK (image_finish (d->img) == 0);
  disk_close (d);
}

static bool
reads (struct image *img, uint64_t guest, uint64_t len, uint8_t byte)
{
  static uint8_t buf[64 * 1024];
  uint64_t i, n;

  for (; len > 0; len -= n, guest += n) {
    n = MIN (len, (uint64_t) sizeof buf);
    CHECK (image_read (img, buf, n, guest) == 0);
    for (i = 0; i < n; ++i)
      if (buf[i] != byte)
        return false;
  }
  return true;
}

static void
disk_check (struct disk *d, uint64_t guest, uint64_t len, uint8_t byte)
{
  disk_open (d);
  CHECK (reads (d->img, guest, len, byte));
  disk_close (d);
}

static void
get_header (const struct disk *d, struct qcow_header *h)
{
  uint8_t head[QCOW_HEAD_LEN];

  CHECK (source_pread_padded (d->src, head, sizeof head, 0) == 0);
  CHECK (qcow_header_check ("image", head, source_len (d->src), h) == 0);
}

static uint64_t
l1_host_of (const struct disk *d)
{
  struct qcow_header h;

  get_header (d, &h);
  return h.l1_host;
}

static void
poke (const struct disk *d, uint64_t host, uint64_t value)
{
  uint8_t bytes[8];

  store_be64 (bytes, value);
  CHECK (source_pwrite (d->src, bytes, 8, host) == 0);
}

/* ---- is it sound? */

struct range {
  uint64_t host, end;
  bool is_stream;
};

struct ranges {
  struct range *list;
  size_t nr, max;
};

static void
add_range (struct ranges *r, uint64_t host, uint64_t len, bool is_stream)
{
  if (r->nr == r->max) {
    r->max = r->max * 2 + 64;
    r->list = realloc (r->list, r->max * sizeof r->list[0]);
    CHECK (r->list != NULL);
  }
  r->list[r->nr++] = (struct range) { host, host + len, is_stream };
}

static int
compare_ranges (const void *a, const void *b)
{
  const struct range *x = a, *y = b;

  return x->host < y->host ? -1 : x->host > y->host;
}

static uint64_t
entry_at (const struct disk *d, uint64_t host)
{
  uint8_t bytes[8];

  CHECK (source_pread_padded (d->src, bytes, sizeof bytes, host) == 0);
  return load_be64 (bytes);
}

static void
add_table (const struct disk *d, const struct qcow_header *h,
           uint64_t l2_host, struct ranges *r)
{
  struct qcow_cluster c;

  CHECK (l2_host % 512 == 0);
  add_range (r, l2_host, qcow_l2_len (h), false);
  for (uint64_t i = 0; i < qcow_l2_entries (h); ++i) {
    qcow_decode (h, entry_at (d, l2_host + i * 8), &c);
    CHECK (c.kind != QCOW_DAMAGED);
    if (c.kind != QCOW_NOTHING)
      add_range (r, c.host, c.len, c.kind == QCOW_COMPRESSED);
  }
}

/* Nothing lies on anything else, but streams on themselves. */
static void
check_sound (const struct disk *d)
{
  struct ranges r = { .list = NULL };
  struct qcow_header h;

  get_header (d, &h);
  add_range (&r, 0, h.head_end, false);
  add_range (&r, h.l1_host, h.nr_l1 * 8, false);
  for (uint64_t i = 0; i < h.nr_l1; ++i) {
    const uint64_t l2_host = entry_at (d, h.l1_host + i * 8);

    if (l2_host != 0)
      add_table (d, &h, l2_host, &r);
  }
  qsort (r.list, r.nr, sizeof r.list[0], compare_ranges);
  for (size_t i = 1; i < r.nr; ++i)
    CHECK (r.list[i].host >= r.list[i - 1].end ||
           (r.list[i].is_stream && r.list[i - 1].is_stream));
  free (r.list);
}

/* ---- longer and shorter, all kinds */

/* Grow far, write at the end, shrink into a cluster, grow again. */
static void
test_one (const struct qcow_create_options *o)
{
  const uint64_t far = 40 * MIB + 512;
  const uint64_t shorter = o->len - 1536;
  struct disk d;

  disk_make (&d, o, 0);
  disk_write (&d, 0, o->len, 1);
  CHECK (disk_resize (&d, far - 1) == 0);
  check_sound (&d);
  disk_check (&d, 0, o->len, 1);
  disk_check (&d, o->len, MIB, 0);
  disk_check (&d, far - MIB, MIB, 0);
  disk_write (&d, far - MIB, MIB, 2);
  disk_check (&d, far - MIB, MIB, 2);
  check_sound (&d);

  CHECK (disk_resize (&d, shorter) == 0);
  check_sound (&d);
  disk_check (&d, 0, shorter, 1);
  CHECK (disk_resize (&d, far) == 0);
  check_sound (&d);
  disk_check (&d, 0, shorter, 1);
  disk_check (&d, shorter, MIB, 0);
  disk_check (&d, far - MIB, MIB, 0);
  CHECK_FAILS (disk_resize (&d, 0), EINVAL);
  CHECK (disk_resize (&d, 1) == 0);
  check_sound (&d);
  disk_check (&d, 0, 512, 1);
  CHECK (disk_resize (&d, far) == 0);
  disk_check (&d, 0, 512, 1);
  disk_check (&d, 512, MIB, 0);
  check_sound (&d);
  disk_free (&d);
}

static void
test_kinds (void)
{
  for (unsigned c = 9; c <= 16; c += c == 12 ? 4 : 3)
    for (unsigned bits = 6; bits <= 13; bits += bits == 12 ? 1 : 3)
      test_one (&(struct qcow_create_options) {
          .len = 300 * KIB, .cluster_len = UINT64_C (1) << c,
          .l2_bits = bits });
}

/* A base that is longer must not show through. */
static void
test_backing (uint64_t cluster_len, unsigned l2_bits)
{
  const struct qcow_create_options o = {
    .len = 100 * KIB, .cluster_len = cluster_len, .l2_bits = l2_bits,
    .backing_name = "base",
  };
  struct disk d;

  disk_make (&d, &o, 300 * KIB);
  CHECK (disk_resize (&d, 10 * MIB) == 0);
  check_sound (&d);
  disk_check (&d, 0, 100 * KIB, 'b');
  disk_check (&d, 100 * KIB, 10 * MIB - 100 * KIB, 0);
  CHECK (disk_resize (&d, 50 * KIB) == 0);
  check_sound (&d);
  disk_check (&d, 0, 50 * KIB, 'b');
  CHECK (disk_resize (&d, 10 * MIB) == 0);
  disk_check (&d, 0, 50 * KIB, 'b');
  disk_check (&d, 50 * KIB, MIB, 0);
  check_sound (&d);

  /* Without it nobody knows how long it is. */
  source_put (d.base);
  d.base = NULL;
  test_messages_forget ();
  CHECK_FAILS (disk_resize (&d, 20 * MIB), EINVAL);
  CHECK (strstr (test_messages.error, "backing=none") != NULL);
  disk_free (&d);
}

/* QEMU and we cut the rest off that is no whole sector; it is no data when
 * the disk is longer.
 */
static void
test_odd_length (void)
{
  const struct qcow_create_options o = {
    .len = 32 * KIB, .cluster_len = 512, .l2_bits = 6,
  };
  struct disk d;

  disk_make (&d, &o, 0);
  disk_write (&d, 0, 32 * KIB, 1);
  poke (&d, QCOW_AT_LEN, 32 * KIB - 1);
  CHECK (disk_resize (&d, 32 * KIB) == 0);
  disk_check (&d, 0, 32 * KIB - 512, 1);
  disk_check (&d, 32 * KIB - 512, 512, 0);
  poke (&d, QCOW_AT_LEN, 32 * KIB + 7);
  CHECK (disk_resize (&d, MIB) == 0);
  disk_check (&d, 32 * KIB - 512, MIB - 32 * KIB + 512, 0);
  check_sound (&d);
  disk_free (&d);
}

/* What was cut off is gone even for those who make the disk longer by a
 * change of the header alone.
 */
static void
test_nothing_left (void)
{
  const struct qcow_create_options o = {
    .len = 600 * KIB, .cluster_len = 4096, .l2_bits = 6,
  };
  static const uint64_t lens[] = {
    512, 4096, 10 * KIB, 256 * KIB - 512, 256 * KIB, 300 * KIB, 599 * KIB,
  };

  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
    struct disk d;

    disk_make (&d, &o, 0);
    disk_write (&d, 0, 600 * KIB, 1);
    CHECK (disk_resize (&d, lens[i]) == 0);
    poke (&d, QCOW_AT_LEN, 600 * KIB);
    disk_check (&d, 0, lens[i], 1);
    disk_check (&d, lens[i], 600 * KIB - lens[i], 0);
    check_sound (&d);
    disk_free (&d);
  }
}

/* ---- where the L1 table goes */

/* Each of these has one entry, and the 8 bytes behind it are zero. */
static void
make_small (struct disk *d)
{
  const struct qcow_create_options o = {
    .len = 256 * KIB, .cluster_len = 4096, .l2_bits = 6,
  };

  disk_make (d, &o, 0);
  disk_write (d, 0, 256 * KIB, 1);
  CHECK (l1_host_of (d) == 48);
}

static void
check_grown (struct disk *d, bool has_moved)
{
  CHECK (disk_resize (d, 512 * KIB) == 0);
  CHECK ((l1_host_of (d) != 48) == has_moved);
  check_sound (d);
  disk_check (d, 256 * KIB, 256 * KIB, 0);
}

static void
test_places (void)
{
  struct disk d;
  uint64_t l2_host;

  /* The rest of its cluster is empty, and long enough, or not. */
  make_small (&d);
  check_grown (&d, false);
  disk_check (&d, 0, 256 * KIB, 1);
  CHECK (disk_resize (&d, 506 * 256 * KIB) == 0);
  CHECK (l1_host_of (&d) == 48);
  CHECK (disk_resize (&d, 507 * 256 * KIB) == 0);
  CHECK (l1_host_of (&d) > 48);
  disk_check (&d, 0, 256 * KIB, 1);
  disk_check (&d, 256 * KIB, 10 * MIB, 0);
  check_sound (&d);
  disk_free (&d);

  /* A length without a name says nothing. */
  make_small (&d);
  poke (&d, QCOW_AT_BACKING_LEN, UINT64_C (3000) << 32);
  check_grown (&d, false);
  disk_free (&d);

  /* Something lies there, ... */
  make_small (&d);
  poke (&d, 56, UINT64_C (0x7000));
  check_grown (&d, true);
  disk_check (&d, 0, 256 * KIB, 1);
  disk_free (&d);

  /* ... zeroes that belong to a stream, ... */
  make_small (&d);
  l2_host = entry_at (&d, 48);
  poke (&d, l2_host, QCOW_PACKED | UINT64_C (16) << 51 | 60);
  check_grown (&d, true);
  disk_free (&d);

  /* ... or to the name of a backing file. */
  make_small (&d);
  poke (&d, QCOW_AT_BACKING_HOST, 60);
  poke (&d, QCOW_AT_BACKING_LEN, UINT64_C (3) << 32);
  check_grown (&d, true);
  disk_check (&d, 0, 256 * KIB, 1);
  disk_free (&d);
}

static void
test_long_l1 (void)
{
  const struct qcow_create_options o = {
    .len = MIB, .cluster_len = 512, .l2_bits = 6,
  };
  struct disk d;

  disk_make (&d, &o, 0);
  disk_write (&d, 0, MIB, 1);
  CHECK (disk_resize (&d, 100 * GIB) == 0);
  disk_write (&d, 100 * GIB - MIB, MIB, 2);
  disk_check (&d, 0, MIB, 1);
  disk_check (&d, MIB, MIB, 0);
  disk_check (&d, 100 * GIB - MIB, MIB, 2);
  check_sound (&d);
  test_messages_forget ();
  CHECK_FAILS (disk_resize (&d, 9 * TIB), EFBIG);
  CHECK (strstr (test_messages.error, "the most is") != NULL);
  CHECK (disk_resize (&d, MIB) == 0);
  check_sound (&d);
  /* What it had is given back. */
  CHECK (source_len (d.src) <= 32 * MIB);
  disk_check (&d, 0, MIB, 1);
  disk_free (&d);
}

/* ---- images of tapdisk */

static void
disk_of (struct disk *d, struct test_qcow *t, enum image_fixup fixup)
{
  *d = (struct disk) { .src = source_get (t->src), .fixup = fixup };
}

static void
check_contents (struct disk *d, const struct test_qcow *t, uint64_t len)
{
  CLEANUP_FREE uint8_t *expected = malloc (MIB), *got = malloc (MIB);

  CHECK (expected != NULL && got != NULL);
  disk_open (d);
  for (uint64_t guest = 0; guest < len; guest += MIB) {
    test_qcow_expect (t, expected, MIB, guest);
    CHECK (image_read (d->img, got, MIB, guest) == 0);
    CHECK (memcmp (got, expected, MIB) == 0);
  }
  disk_close (d);
}

/* In the page of the L1 table there is room for 512 entries. */
static void
test_tapdisk (enum test_qcow_order order, enum image_fixup fixup)
{
  const struct test_qcow_spec spec = {
    .disk_len = 20 * MIB, .xen = TEST_QCOW_XEN_16, .order = order,
    .every_nth = 3,
  };
  struct test_qcow t;
  struct disk d;
  struct qcow_header h;

  test_qcow_make (&t, &spec);
  disk_of (&d, &t, fixup);
  CHECK (disk_resize (&d, GIB) == 0);
  get_header (&d, &h);
  CHECK (h.xen == QCOW_XEN_PRESENT && h.l1_host == 4096 && h.nr_l1 == 512);
  CHECK (h.flags & QCOW_XEN_BIG_ENDIAN && h.min_cluster_alloc == 1);
  d.fixup = IMAGE_FIXUP_MEMORY;
  check_contents (&d, &t, 20 * MIB);
  disk_check (&d, 20 * MIB, 10 * MIB, 0);

  /* Moved, it is an image like any other. */
  CHECK (disk_resize (&d, GIB + 1) == 0);
  get_header (&d, &h);
  CHECK (h.xen == QCOW_XEN_NONE && h.l1_host > 4096 && h.nr_l1 == 513);
  CHECK (entry_at (&d, 48) == 0 && entry_at (&d, 56) == 0);
  check_contents (&d, &t, 20 * MIB);
  disk_check (&d, 20 * MIB, 10 * MIB, 0);
  disk_write (&d, GIB - MIB, MIB + 512, 3);
  check_contents (&d, &t, 20 * MIB);
  disk_check (&d, GIB - MIB, MIB + 512, 3);
  check_sound (&d);
  CHECK (disk_resize (&d, 7 * MIB) == 0);
  check_contents (&d, &t, 7 * MIB);
  check_sound (&d);
  disk_free (&d);
  test_qcow_free (&t);
}

/* The name begins where flags would be; it is no flags. */
static void
test_tapdisk_overlay (enum test_qcow_xen xen)
{
  const struct test_qcow_spec spec = {
    .disk_len = 4 * MIB, .xen = xen, .backing = "/the/base",
    .is_empty = true,
  };
  static const uint64_t lens[] = { 6 * MIB, 2 * GIB };
  struct test_qcow t;
  struct disk d;
  struct qcow_header h;
  char name[9];

  test_qcow_make (&t, &spec);
  disk_of (&d, &t, IMAGE_FIXUP_WRITE);
  disk_add_base (&d, 5 * MIB);
  for (size_t i = 0; i < 2; ++i) {
    CHECK (disk_resize (&d, lens[i]) == 0);
    check_sound (&d);
    disk_check (&d, 0, 4 * MIB, 'b');
    disk_check (&d, 4 * MIB, 2 * MIB, 0);
    get_header (&d, &h);
    CHECK ((h.xen == QCOW_XEN_PRESENT) == (h.l1_host == 4096));
    CHECK (h.backing_len == 9);
    CHECK (source_pread (d.src, name, 9, h.backing_host) == 0);
    CHECK (memcmp (name, "/the/base", 9) == 0);
  }
  CHECK (h.l1_host > 4096);
  disk_free (&d);
  test_qcow_free (&t);
}

static void
test_refusals (void)
{
  const struct qcow_create_options o = {
    .len = MIB, .cluster_len = 512, .l2_bits = 6,
  };
  struct disk d;

  disk_make (&d, &o, 0);
  disk_open_for_writing (&d);
  test_messages_forget ();
  CHECK_FAILS (image_resize (d.img, MIB - 512, false), EINVAL);
  CHECK (strstr (test_messages.error, "shrink=true") != NULL);
  CHECK_FAILS (image_resize (d.img, UINT64_MAX, false), EFBIG);
  CHECK_FAILS (image_resize (d.img, INT64_MAX, false), EFBIG);
  CHECK_FAILS (image_resize (d.img, 8 * TIB, false), EFBIG);
  CHECK (image_resize (d.img, MIB - 1, false) == 0);
  CHECK (d.img->len == MIB);
  disk_free (&d);
}

/* ---- the power fails, and so do writes */

struct scene {
  struct qcow_create_options o;
  uint64_t base_len;
  uint64_t len;                 /* the new one */
  uint64_t limit;               /* of the file */
};

static const struct scene scenes[] = {
  /* A longer table for a longer disk. */
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 80 * KIB },
    .len = 4 * MIB, .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 80 * KIB },
    .len = 200 * MIB, .limit = NO_LIMIT },
  /* In the same place. */
  { .o = { .cluster_len = 4096, .l2_bits = 6, .len = 80 * KIB },
    .len = 100 * MIB, .limit = NO_LIMIT },
  /* On a device. */
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 80 * KIB },
    .len = 4 * MIB, .limit = 256 * KIB },
  /* Over a longer base, in a cluster that is mapped in part; the table stays
   * and moves.
   */
  { .o = { .cluster_len = 4096, .l2_bits = 6, .len = 70 * KIB,
           .backing_name = "b" },
    .base_len = 600 * KIB, .len = 3 * MIB, .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 70 * KIB,
           .backing_name = "b" },
    .base_len = 200 * KIB, .len = 3 * MIB, .limit = NO_LIMIT },
  /* Shorter. */
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 130 * KIB },
    .len = 39 * KIB + 512, .limit = NO_LIMIT },
  { .o = { .cluster_len = 16384, .l2_bits = 6, .len = 330 * KIB },
    .len = 39 * KIB + 512, .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 130 * KIB,
           .backing_name = "b" },
    .base_len = 200 * KIB, .len = 39 * KIB, .limit = NO_LIMIT },
};

#define NR_SCENES (sizeof scenes / sizeof scenes[0])

/* The disk is sound and has one length or the other; what both have is
 * there, and what only the longer one has is zero, also when it is made so
 * long once more.  True: the new length.
 */
static bool
check_disk (const struct scene *scene, struct disk *d)
{
  const uint64_t old = scene->o.len;
  const uint64_t both = MIN (old, scene->len);
  bool is_new;

  check_sound (d);
  disk_open (d);
  is_new = d->img->len == scene->len;
  CHECK (is_new || d->img->len == old);
  CHECK (reads (d->img, 0, both, 1));
  disk_close (d);
  if (!is_new) {
    CHECK (disk_resize (d, scene->len) == 0);
    check_sound (d);
    disk_check (d, 0, both, 1);
  }
  if (scene->len > old)
    disk_check (d, old, MIN (scene->len - old, MIB), 0);
  /* It can be written. */
  disk_open_for_writing (d);
  CHECK (image_zero (d->img, 3 * KIB, 20 * KIB, true, false) == 0);
  CHECK (image_finish (d->img) == 0);
  CHECK (reads (d->img, 20 * KIB, 3 * KIB, 0));
  disk_close (d);
  check_sound (d);
  return is_new;
}

static void
check_cut (const struct scene *scene, struct record *record,
           const struct disk *d, size_t position, unsigned seed,
           unsigned nr_seen[2])
{
  const enum record_mode mode = seed < 2 ? seed : RECORD_RANDOM;
  struct disk cut = {
    .src = record_crash_image (record, d->src, position, seed, mode),
    .base = d->base ? source_get (d->base) : NULL,
  };

  CHECK (cut.src != NULL);
  nr_seen[check_disk (scene, &cut)]++;
  disk_free (&cut);
}

static void
check_cuts (const struct scene *scene, struct record *record,
            const struct disk *d)
{
  const size_t end = record_position (record);
  const size_t step = end / 150 + 1;
  unsigned nr_seen[2] = { 0, 0 };

  for (size_t p = 0; p <= end; p += step)
    for (unsigned seed = 0; seed < 4; ++seed)
      check_cut (scene, record, d, p, seed, nr_seen);
  check_cut (scene, record, d, end, 0, nr_seen);
  CHECK (nr_seen[0] > 0 && nr_seen[1] > 0);
}

/* Put a recorded source in the place of that which the disk has. */
static void
record_disk (const struct scene *scene, struct record *record,
             struct disk *d)
{
  struct source *src;

  if (scene->limit != NO_LIMIT)
    CHECK (source_grow (d->src, scene->limit) == 0);
  src = record_add (record, "image", d->src, scene->limit);
  CHECK (src != NULL);
  source_put (d->src);
  d->src = src;
}

/* Change the size with the nth operation of a kind failing; 0: none.
 * Returns how many there were.
 */
static size_t
play (const struct scene *scene, enum record_op op, size_t nth)
{
  struct record *record = record_new ();
  struct disk d;
  size_t nr;
  int r;

  CHECK (record != NULL);
  disk_make (&d, &scene->o, scene->base_len);
  disk_write (&d, 0, scene->o.len, 1);
  record_disk (scene, record, &d);
  disk_open_for_writing (&d);
  nr = record_count (record, op);
  if (nth > 0)
    record_fail_at (record, op, nth, EIO, false);
  test_messages_forget ();
  r = image_resize (d.img, scene->len, true);
  nr = record_count (record, op) - nr;
  record_fail_at (record, op, 0, 0, false);
  if (r == 0)
    CHECK (image_finish (d.img) == 0);
  else
    CHECK (test_messages.nr_errors > 0);
  disk_close (&d);
  if (nth == 0) {
    CHECK (r == 0);
    check_cuts (scene, record, &d);
  }
  /* Only hints may fail without harm. */
  else if (op == RECORD_WRITE || op == RECORD_SYNC)
    CHECK (r == -1);
  if (nth > 0 && op != RECORD_SYNC)
    CHECK (check_disk (scene, &d) || r == -1);
  disk_free (&d);
  record_free (record);
  return nr;
}

static void
test_scene (const struct scene *scene)
{
  static const enum record_op ops[] = { RECORD_WRITE, RECORD_SYNC,
                                        RECORD_TRUNCATE, RECORD_READ };

  for (size_t i = 0; i < 4; ++i) {
    const size_t total = play (scene, ops[i], 0);
    const size_t step = total / 60 + 1;

    for (size_t nth = 1; nth <= total; nth += step)
      play (scene, ops[i], nth);
  }
}

int
main (void)
{
  test_kinds ();
  test_backing (512, 12);
  test_backing (512, 6);
  test_backing (4096, 9);
  test_backing (65536, 6);
  test_odd_length ();
  test_nothing_left ();
  test_places ();
  test_long_l1 ();
  test_tapdisk (TEST_QCOW_BIG, IMAGE_FIXUP_MEMORY);
  test_tapdisk (TEST_QCOW_LITTLE, IMAGE_FIXUP_WRITE);
  test_tapdisk_overlay (TEST_QCOW_XEN_12);
  test_tapdisk_overlay (TEST_QCOW_XEN_16);
  test_tapdisk_overlay (TEST_QCOW_XEN_20);
  test_refusals ();
  for (size_t i = 0; i < NR_SCENES; ++i)
    test_scene (&scenes[i]);
  return EXIT_SUCCESS;
}
