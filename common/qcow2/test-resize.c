/* Test changing the length of the disk: contents, the tables, moments at
 * which the power fails, faults.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/resize.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow2/create.h"
#include "qcow2/qcow2.h"
#include "qcow2/state.h"
#include "qcow2/test-image.h"
#include "qcow2/test-sound.h"
#include "raw/raw.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define NO_LIMIT (UINT64_C (1) << 62)

/* ---- a disk, with what it stands on */

struct disk {
  struct source *src, *data, *base; /* references; data, base may be NULL */
  struct image *img;
};

static struct source *
memory (const char *name, uint64_t len)
{
  struct source *src = source_memory (name, len, NO_LIMIT);

  CHECK (src != NULL);
  return src;
}

static void
disk_open (struct disk *d)
{
  struct image *base = NULL;

  d->img = image_open (&qcow2_format, d->src, "image", MIB);
  CHECK (d->img != NULL);
  if (d->base) {
    base = image_open (&raw_format, d->base, "base", MIB);
    CHECK (base != NULL && image_connect (base, NULL, NULL) == 0);
  }
  CHECK (image_connect (d->img, base,
                        d->data ? source_get (d->data) : NULL) == 0);
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
  source_put (d->data);
  source_put (d->base);
}

/* A new one, not open. */
static void
disk_make (struct disk *d, const struct qcow2_create_options *o,
           uint64_t base_len)
{
  *d = (struct disk) { .src = memory ("image", 0) };
  if (o->data_file_name)
    d->data = memory ("data", 0);
  CHECK (qcow2_create (d->src, d->data, o) == 0);
  if (o->backing_name) {
    CLEANUP_FREE uint8_t *bytes = malloc (base_len);

    CHECK (bytes != NULL);
    memset (bytes, 'b', base_len);
    d->base = source_memory_copy ("base", bytes, base_len, NO_LIMIT);
    CHECK (d->base != NULL);
  }
}

static int
disk_resize (struct disk *d, uint64_t len)
{
  int r;

  disk_open (d);
  CHECK (image_begin_writing (d->img) == 0);
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
  disk_open (d);
  CHECK (image_begin_writing (d->img) == 0);
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

static uint64_t
disk_l1_size (struct disk *d)
{
  uint64_t size;

  disk_open (d);
  size = qcow2_state (d->img)->header.l1_size;
  disk_close (d);
  return size;
}

/* ---- longer and shorter, all kinds */

/* Grow far, write at the end, shrink into a cluster, grow again. */
static void
test_one (const struct qcow2_create_options *o)
{
  const uint64_t far = 40 * MIB + 512;
  struct disk d;

  disk_make (&d, o, 0);
  disk_write (&d, 0, o->len, 1);
  CHECK (disk_resize (&d, far - 1) == 0);
  CHECK (test_sound (d.src) == 0);
  disk_check (&d, 0, o->len, 1);
  disk_check (&d, o->len, MIB, 0);
  disk_check (&d, far - MIB, MIB, 0);
  disk_write (&d, far - MIB, MIB, 2);
  disk_check (&d, far - MIB, MIB, 2);
  CHECK (test_sound (d.src) == 0);

  CHECK (disk_resize (&d, o->len - 1536) == 0);
  CHECK (test_sound (d.src) == 0);
  disk_check (&d, 0, o->len - 1536, 1);
  CHECK (disk_resize (&d, far) == 0);
  CHECK (test_sound (d.src) == 0);
  disk_check (&d, 0, o->len - 1536, 1);
  disk_check (&d, o->len - 1536, MIB, 0);
  disk_check (&d, far - MIB, MIB, 0);
  if (d.data)
    CHECK (source_len (d.data) == far);
  CHECK (disk_resize (&d, 0) == 0);
  CHECK (test_sound (d.src) == 0);
  CHECK (disk_resize (&d, 1) == 0);
  disk_check (&d, 0, 512, 0);
  CHECK (test_sound (d.src) == 0);
  disk_free (&d);
}

static void
test_kinds (void)
{
  static const uint64_t cluster_lens[] = { 512, 4096, 65536 };

  for (size_t c = 0; c < 3; ++c)
    for (unsigned bits = 1; bits <= 64; bits *= 8) {
      struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;

      o.len = 300 * KIB;
      o.cluster_len = cluster_lens[c];
      o.refcount_bits = bits;
      test_one (&o);
      o.data_file_name = "data";
      test_one (&o);
      o.data_file_raw = true;
      test_one (&o);
      o.data_file_raw = false;
      o.data_file_name = NULL;
      if (o.cluster_len < 16384)
        continue;
      o.is_extended = true;
      test_one (&o);
    }
  test_one (&(struct qcow2_create_options) {
      .version = 2, .cluster_len = 4096, .refcount_bits = 16,
      .len = 300 * KIB });
}

/* A raw data file holds, all by itself, what the disk holds. */
static void
test_raw_data_file (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct disk d;
  struct extent ext;
  uint8_t byte = 9;

  o.len = 100 * KIB;
  o.cluster_len = 4096;
  o.data_file_name = "data";
  o.data_file_raw = true;
  disk_make (&d, &o, 0);
  /* Somebody has lengthened it. */
  CHECK (source_pwrite (d.data, &byte, 1, 150 * KIB) == 0);
  CHECK (disk_resize (&d, MIB) == 0);
  CHECK (source_len (d.data) == MIB);
  CHECK (source_pread (d.data, &byte, 1, 150 * KIB) == 0 && byte == 0);
  disk_open (&d);
  CHECK (qcow2_format.lookup (d.img, 0, MIB, &ext, 1) == 1);
  CHECK (ext.type == EXTENT_DATA && ext.len == MIB);
  disk_free (&d);
}

/* A base that is longer must not show through. */
static void
test_backing (uint32_t version, bool is_extended)
{
  struct qcow2_create_options o = {
    .version = version, .cluster_len = 16384, .refcount_bits = 16,
    .len = 100 * KIB, .is_extended = is_extended,
    .backing_name = "base", .backing_format = "raw",
  };
  struct disk d;

  disk_make (&d, &o, 300 * KIB);
  CHECK (disk_resize (&d, 10 * MIB) == 0);
  CHECK (test_sound (d.src) == 0);
  disk_check (&d, 0, 100 * KIB, 'b');
  disk_check (&d, 100 * KIB, 10 * MIB - 100 * KIB, 0);
  CHECK (disk_resize (&d, 50 * KIB) == 0);
  CHECK (test_sound (d.src) == 0);
  disk_check (&d, 0, 50 * KIB, 'b');
  CHECK (disk_resize (&d, 10 * MIB) == 0);
  disk_check (&d, 0, 50 * KIB, 'b');
  disk_check (&d, 50 * KIB, MIB, 0);
  CHECK (test_sound (d.src) == 0);

  /* Without it nobody knows how long it is. */
  source_put (d.base);
  d.base = NULL;
  test_messages_forget ();
  CHECK_FAILS (disk_resize (&d, 20 * MIB), EINVAL);
  CHECK (strstr (test_messages.error, "backing=none") != NULL);
  disk_free (&d);
}

/* An L1 table of which one refcount block cannot count the clusters, in an
 * image whose refcount table is as short as can be.
 */
static void
test_long_l1 (unsigned refcount_bits, uint64_t len)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct disk d;

  o.len = MIB;
  o.cluster_len = 512;
  o.refcount_bits = refcount_bits;
  disk_make (&d, &o, 0);
  disk_write (&d, 0, MIB, 1);
  CHECK (disk_resize (&d, len) == 0);
  CHECK (test_sound (d.src) == 0);
  CHECK (disk_l1_size (&d) == len / (32 * KIB));
  disk_write (&d, len - MIB, MIB, 2);
  disk_check (&d, 0, MIB, 1);
  disk_check (&d, MIB, MIB, 0);
  disk_check (&d, len - MIB, MIB, 2);
  CHECK (test_sound (d.src) == 0);
  CHECK_FAILS (disk_resize (&d, 129 * GIB), EFBIG);
  CHECK (disk_resize (&d, MIB) == 0);
  CHECK (disk_l1_size (&d) == len / (32 * KIB));
  CHECK (test_sound (d.src) == 0);
  disk_free (&d);
}

/* ---- snapshots, and what is behind the disk */

static struct image *
open_made (const struct test_image *t)
{
  struct image *img = test_image_open (t, NULL);

  CHECK (img != NULL);
  CHECK (image_begin_writing (img) == 0);
  return img;
}

/* Give each of the snapshots, which have been counted, a copy of the L1
 * table.
 */
static void
copy_l1 (struct test_image *t, uint32_t extra_len)
{
  const uint64_t counts = 2 * (uint64_t) t->cluster_len;
  const uint64_t nr = test_image_peek (t, 60, 4);
  uint64_t entry = test_image_peek (t, 64, 8);

  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t host = test_image_add (t, 1);

    memcpy (t->bytes + host, t->bytes + t->l1_host, t->cluster_len);
    test_image_poke (t, entry, 8, host);
    test_image_poke (t, counts + (host >> t->cluster_bits) * 2, 2, 1);
    entry += round_up (40 + extra_len + 3, 8);
  }
  test_image_poke (t, counts + (t->l1_host >> t->cluster_bits) * 2, 2, 1);
}

static void
test_snapshots (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 12, 4 * MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_add_data (&t, MIB, 'b');
  test_image_add_data (&t, 3 * MIB, 'c');
  test_image_add_packed (&t, 3 * MIB + 4096, 'd');
  test_image_add_snapshots (&t, 2, 16);
  test_image_count (&t);
  copy_l1 (&t, 16);
  img = open_made (&t);
  CHECK (test_sound (img->source) == 0);
  CHECK (image_resize (img, MIB + 4096, true) == 0);
  CHECK (image_finish (img) == 0);
  CHECK (test_sound (img->source) == 0);
  CHECK (reads (img, 0, 4096, 'a') && reads (img, MIB, 4096, 'b'));
  CHECK (image_resize (img, 100 * MIB, false) == 0);
  CHECK (image_finish (img) == 0);
  CHECK (test_sound (img->source) == 0);
  CHECK (reads (img, 0, 4096, 'a') && reads (img, MIB, 4096, 'b'));
  CHECK (reads (img, MIB + 4096, 99 * MIB - 4096, 0));
  image_close (img);
  test_image_free (&t);
}

static void
test_snapshots_refused (uint32_t version, uint32_t extra_len)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, version, 12, 4 * MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_add_snapshots (&t, 1, extra_len);
  test_image_count (&t);
  copy_l1 (&t, extra_len);
  img = open_made (&t);
  test_messages_forget ();
  CHECK_FAILS (image_resize (img, 8 * MIB, true), ENOTSUP);
  CHECK_FAILS (image_resize (img, 2 * MIB, true), ENOTSUP);
  CHECK (strstr (test_messages.error, "snapshot") != NULL);
  CHECK (img->len == 4 * MIB);
  image_close (img);
  test_image_free (&t);
}

/* Tables behind the end (the state of a machine) are no data of the longer
 * disk.
 */
static void
test_behind_the_end (void)
{
  struct test_image t;
  struct image *img;

  test_image_init (&t, 3, 12, 8 * MIB, 0);
  test_image_add_data (&t, 0, 'a');
  test_image_add_data (&t, 3 * MIB, 'b');
  test_image_add_data (&t, 7 * MIB, 'c');
  test_image_poke (&t, 24, 8, 2 * MIB);
  test_image_count (&t);
  img = open_made (&t);
  CHECK (img->len == 2 * MIB);
  CHECK (image_resize (img, 5 * MIB, false) == 0);
  CHECK (reads (img, 0, 4096, 'a'));
  CHECK (reads (img, 4096, 5 * MIB - 4096, 0));
  CHECK (image_resize (img, 8 * MIB, false) == 0);
  CHECK (reads (img, 4096, 8 * MIB - 4096, 0));
  CHECK (image_finish (img) == 0);
  CHECK (test_sound (img->source) == 0);
  image_close (img);
  test_image_free (&t);
}

static void
test_refusals (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct disk d;

  o.len = MIB;
  disk_make (&d, &o, 0);
  disk_open (&d);
  CHECK (image_begin_writing (d.img) == 0);
  test_messages_forget ();
  CHECK_FAILS (image_resize (d.img, MIB - 512, false), EINVAL);
  CHECK (strstr (test_messages.error, "shrink=true") != NULL);
  CHECK_FAILS (image_resize (d.img, UINT64_MAX, false), EFBIG);
  CHECK_FAILS (image_resize (d.img, INT64_MAX, false), EFBIG);
  CHECK_FAILS (image_resize (d.img, UINT64_C (1) << 52, false), EFBIG);
  CHECK (image_resize (d.img, MIB - 1, false) == 0);
  CHECK (d.img->len == MIB);
  disk_free (&d);
}

/* ---- the power fails, and so do writes */

struct scene {
  struct qcow2_create_options o;
  uint64_t base_len;
  uint64_t len;                 /* the new one */
  uint64_t limit;               /* of the file */
};

static const struct scene scenes[] = {
  /* A longer table for a longer disk. */
  { .o = { .version = 3, .cluster_len = 512, .refcount_bits = 16,
           .len = 80 * KIB }, .len = 4 * MIB, .limit = NO_LIMIT },
  /* So long that it needs several refcount blocks. */
  { .o = { .version = 3, .cluster_len = 512, .refcount_bits = 64,
           .len = 80 * KIB }, .len = 200 * MIB, .limit = NO_LIMIT },
  /* On a device. */
  { .o = { .version = 3, .cluster_len = 512, .refcount_bits = 16,
           .len = 80 * KIB }, .len = 4 * MIB, .limit = 256 * KIB },
  /* Over a longer base, in a cluster that is mapped in part. */
  { .o = { .version = 3, .cluster_len = 4096, .refcount_bits = 16,
           .len = 70 * KIB, .backing_name = "b",
           .backing_format = "raw" },
    .base_len = 100 * KIB, .len = 3 * MIB, .limit = NO_LIMIT },
  { .o = { .version = 2, .cluster_len = 4096, .refcount_bits = 16,
           .len = 70 * KIB, .backing_name = "b",
           .backing_format = "raw" },
    .base_len = 100 * KIB, .len = 3 * MIB, .limit = NO_LIMIT },
  /* Shorter. */
  { .o = { .version = 3, .cluster_len = 512, .refcount_bits = 16,
           .len = 130 * KIB }, .len = 39 * KIB + 512, .limit = NO_LIMIT },
  { .o = { .version = 3, .cluster_len = 16384, .refcount_bits = 16,
           .len = 330 * KIB, .is_extended = true },
    .len = 39 * KIB + 512, .limit = NO_LIMIT },
  { .o = { .version = 3, .cluster_len = 4096, .refcount_bits = 16,
           .len = 130 * KIB, .data_file_name = "d",
           .data_file_raw = true },
    .len = 39 * KIB + 512, .limit = NO_LIMIT },
  { .o = { .version = 3, .cluster_len = 4096, .refcount_bits = 16,
           .len = 130 * KIB, .data_file_name = "d",
           .data_file_raw = true },
    .len = 4 * MIB, .limit = NO_LIMIT },
};

#define NR_SCENES (sizeof scenes / sizeof scenes[0])

/* The disk is sound and has one length or the other; what both have is
 * there, and what only the longer one has is zero.  True: the new length.
 */
static bool
check_disk (const struct scene *scene, struct disk *d)
{
  const uint64_t old = scene->o.len;
  const uint64_t both = MIN (old, scene->len);
  bool is_new;

  CHECK (test_sound (d->src) >= 0);
  disk_open (d);
  is_new = d->img->len == scene->len;
  CHECK (is_new || d->img->len == old);
  CHECK (reads (d->img, 0, both, 1));
  if (is_new && scene->len > old)
    CHECK (reads (d->img, old, MIN (scene->len - old, MIB), 0));
  /* It can be written. */
  CHECK (image_begin_writing (d->img) == 0);
  CHECK (image_zero (d->img, 3 * KIB, 20 * KIB, true, false) == 0);
  CHECK (image_finish (d->img) == 0);
  CHECK (reads (d->img, 20 * KIB, 3 * KIB, 0));
  disk_close (d);
  CHECK (test_sound (d->src) >= 0);
  return is_new;
}

/* QEMU, too, finds nothing but leaks.  (Without qemu-img there is nothing to
 * ask.)
 */
static void
ask_qemu (struct source *src)
{
  char name[] = "/tmp/test-resize-XXXXXX";
  const uint64_t len = source_len (src);
  CLEANUP_CLOSE int fd = mkstemp (name);
  CLEANUP_FREE uint8_t *bytes = malloc (len);
  char command[200];
  int status;

  CHECK (fd >= 0 && bytes != NULL);
  CHECK (source_pread (src, bytes, len, 0) == 0);
  CHECK (write (fd, bytes, len) == (ssize_t) len);
  snprintf (command, sizeof command,
            "qemu-img check -q -f qcow2 %s >/dev/null 2>&1", name);
  status = system (command);
  CHECK (unlink (name) == 0);
  CHECK (WIFEXITED (status));
  status = WEXITSTATUS (status);
  CHECK (status == 0 || status == 3 || status == 127);
}

static void
check_cut (const struct scene *scene, struct record *record,
           const struct disk *d, size_t position, unsigned seed,
           unsigned nr_seen[2])
{
  const enum record_mode mode = seed < 2 ? seed : RECORD_RANDOM;
  struct disk cut = {
    .src = record_crash_image (record, d->src, position, seed, mode),
    .data = d->data
      ? record_crash_image (record, d->data, position, seed, mode) : NULL,
    .base = d->base ? source_get (d->base) : NULL,
  };

  CHECK (cut.src != NULL && (d->data == NULL || cut.data != NULL));
  if (d->data == NULL && d->base == NULL && position % 32 == seed)
    ask_qemu (cut.src);
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

/* Put recorded sources in the place of those that the disk has. */
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
  if (d->data == NULL)
    return;
  src = record_add (record, "data", d->data, NO_LIMIT);
  CHECK (src != NULL);
  source_put (d->data);
  d->data = src;
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
  disk_open (&d);
  CHECK (image_begin_writing (d.img) == 0);
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
  test_raw_data_file ();
  test_backing (3, false);
  test_backing (3, true);
  test_backing (2, false);
  test_long_l1 (16, 4 * GIB);
  test_long_l1 (64, GIB);
  test_long_l1 (1, 100 * GIB);
  test_snapshots ();
  test_snapshots_refused (2, 0);
  test_snapshots_refused (3, 8);
  test_behind_the_end ();
  test_refusals ();
  for (size_t i = 0; i < NR_SCENES; ++i)
    test_scene (&scenes[i]);
  return EXIT_SUCCESS;
}
