/* Test making images: each kind is laid out as qemu-img does it, reads as
 * zeroes and can be written; the power may fail at any moment; nothing is
 * changed before it is known to be possible.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "image/image.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/create.h"
#include "qcow/header.h"
#include "qcow/qcow.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define NO_LIMIT (UINT64_C (1) << 62)

#define DEFAULTS                                                        \
  { .cluster_len = QCOW_CREATE_CLUSTER_LEN,                             \
    .l2_bits = QCOW_CREATE_L2_BITS }

/* ---- an image that was made */

static struct image *
open_image (struct source *src)
{
  struct image *img = image_open (&qcow_format, src, "image", MIB);

  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, NULL) == 0);
  return img;
}

static void
check_byte (struct image *img, uint64_t guest, uint64_t len, uint8_t byte)
{
  static uint8_t buf[64 * 1024];
  uint64_t i, n;

  for (; len > 0; len -= n, guest += n) {
    n = MIN (len, (uint64_t) sizeof buf);
    CHECK (image_read (img, buf, n, guest) == 0);
    for (i = 0; i < n; ++i)
      CHECK (buf[i] == byte);
  }
}

/* It reads as zeroes, and takes a write. */
static void
try_image (struct source *src)
{
  uint8_t buf[3000];
  struct image *img = open_image (src);

  memset (buf, 7, sizeof buf);
  check_byte (img, 0, MIN (img->len, MIB), 0);
  check_byte (img, img->len - 512, 512, 0);
  if (img->len >= 4 * sizeof buf) {
    CHECK (image_why_read_only (img) == NULL);
    CHECK (image_begin_writing (img) == 0);
    CHECK (image_write (img, buf, sizeof buf, img->len - sizeof buf) == 0);
    CHECK (image_write (img, buf, sizeof buf, 1) == 0);
    CHECK (image_finish (img) == 0);
    image_close (img);
    img = open_image (src);
    check_byte (img, 0, 1, 0);
    check_byte (img, 1, sizeof buf, 7);
    check_byte (img, 1 + sizeof buf, 512, 0);
    check_byte (img, img->len - sizeof buf, sizeof buf, 7);
  }
  image_close (img);
}

/* Is the file [host, end) zero? */
static void
check_file_zero (struct source *src, uint64_t host, uint64_t end)
{
  uint8_t byte;

  /* What is no hole was written. */
  while (host < end) {
    const struct source_extent e = source_extent (src, host, end - host);

    for (uint64_t i = 0; !e.hole && i < e.len; ++i) {
      CHECK (source_pread (src, &byte, 1, host + i) == 0);
      CHECK (byte == 0);
    }
    host += e.len;
  }
}

/* The layout that qemu-img gives it. */
static void
check_layout (struct source *src, const struct qcow_create_options *o)
{
  const uint64_t name_len = o->backing_name ? strlen (o->backing_name) : 0;
  const uint64_t l1_host = (48 + name_len + 7) / 8 * 8;
  const uint64_t disk_len = (o->len + 511) / 512 * 512;
  const uint64_t span = o->cluster_len * (UINT64_C (1) << o->l2_bits);
  const uint64_t nr_l1 = (disk_len + span - 1) / span;
  uint8_t head[QCOW_HEAD_LEN];
  struct qcow_header h;
  char name[1024] = "";

  CHECK (source_len (src) == l1_host + (8 * nr_l1 + 511) / 512 * 512);
  CHECK (source_pread (src, head, sizeof head, 0) == 0);
  CHECK (qcow_header_check ("image", head, source_len (src), &h) == 0);
  CHECK (qcow_header_probe (head, sizeof head));
  CHECK (h.len == disk_len && h.disk_len == disk_len);
  CHECK (qcow_cluster_len (&h) == o->cluster_len && h.l2_bits == o->l2_bits);
  CHECK (h.nr_l1 == nr_l1 && h.l1_host == l1_host);
  CHECK (h.crypt_method == 0 && h.mtime == 0 && h.xen == QCOW_XEN_NONE);
  CHECK (load_be16 (head + 34) == 0);
  CHECK (h.backing_host == (name_len ? 48 : 0) && h.backing_len == name_len);
  CHECK (qcow_header_why_read_only (&h) == NULL);
  CHECK (source_pread (src, name, name_len, 48) == 0);
  CHECK (strcmp (name, o->backing_name ?: "") == 0);
  check_file_zero (src, 48 + name_len, source_len (src));
}

static void
test_one (const struct qcow_create_options *o)
{
  struct source *src = source_memory ("image", 0, NO_LIMIT);
  struct image *img;

  CHECK (src != NULL);
  CHECK (qcow_create (src, o) == 0);
  check_layout (src, o);
  img = open_image (src);
  CHECK (img->len == round_up (o->len, 512));
  CHECK (img->wants_backing == (o->backing_name != NULL));
  CHECK (!img->wants_backing ||
         strcmp (img->backing_name, o->backing_name) == 0);
  image_close (img);
  try_image (src);
  source_put (src);
}

static void
test_kinds (void)
{
  static const uint64_t lens[] = {
    1, 512, 1000, 65536, 3 * MIB + 512, 5 * GIB,
  };
  char longest[1024], other[500];
  const char *const names[] = { NULL, "b", "base.img", other, longest };

  memset (longest, 'n', 1023);
  longest[1023] = '\0';
  memset (other, 'm', 499);
  other[499] = '\0';
  for (size_t l = 0; l < 6; ++l)
    for (unsigned c = 9; c <= 16; ++c)
      for (unsigned bits = 6; bits <= 13; ++bits) {
        struct qcow_create_options o = {
          .len = lens[l], .cluster_len = UINT64_C (1) << c, .l2_bits = bits,
          .backing_name = names[(l + c + bits) % 5],
        };

        test_one (&o);
      }
}

/* The name, from the first sector on to the third. */
static void
test_names (void)
{
  struct qcow_create_options o = DEFAULTS;
  char name[1024 + 1];

  o.len = MIB;
  o.backing_name = name;
  for (size_t len = 1; len <= 1023; len += len < 430 || len > 480 ? 37 : 1) {
    memset (name, 'n', len);
    name[len - 1] = 'e';
    name[len] = '\0';
    test_one (&o);
  }
  memset (name, 'n', 1023);
  name[1023] = '\0';
  test_one (&o);
}

/* ---- refusals */

#define REFUSED(...)                                                    \
  do {                                                                  \
    struct qcow_create_options o = DEFAULTS;                            \
    struct qcow_create_options with;                                    \
                                                                        \
    o.len = MIB;                                                        \
    with = (__VA_ARGS__);                                               \
    test_messages_forget ();                                            \
    CHECK_FAILS (qcow_create_check ("image", &with), EINVAL);           \
    CHECK (test_messages.nr_errors == 1);                               \
    CHECK (strncmp (test_messages.error, "image: ", 7) == 0);           \
  } while (0)

#define WITH(...) ({ __VA_ARGS__; o; })

static void
test_refusals (void)
{
  char name[1025];

  memset (name, 'n', sizeof name - 1);
  name[1024] = '\0';
  REFUSED (WITH (o.cluster_len = 256));
  REFUSED (WITH (o.cluster_len = 128 * KIB));
  REFUSED (WITH (o.cluster_len = 4095));
  REFUSED (WITH (o.cluster_len = 0));
  REFUSED (WITH (o.l2_bits = 5));
  REFUSED (WITH (o.l2_bits = 14));
  REFUSED (WITH (o.l2_bits = 0));
  REFUSED (WITH (o.l2_bits = UINT64_MAX));
  REFUSED (WITH (o.len = 0));
  REFUSED (WITH (o.backing_name = ""));
  REFUSED (WITH (o.backing_name = name));
}

/* The largest disks, and those one step larger. */
static void
test_limits (void)
{
  static const struct {
    unsigned cluster_bits, l2_bits;
  } limits[] = { { 9, 6 }, { 9, 12 }, { 12, 9 } };

  for (size_t i = 0; i < 3; ++i) {
    struct qcow_create_options o = {
      .cluster_len = UINT64_C (1) << limits[i].cluster_bits,
      .l2_bits = limits[i].l2_bits,
    };
    struct source *src = source_memory ("image", 0, NO_LIMIT);

    CHECK (src != NULL);
    o.len = (QCOW_MAX_L1_ENTRIES << (limits[i].cluster_bits +
                                     limits[i].l2_bits)) + 1;
    test_messages_forget ();
    CHECK_FAILS (qcow_create (src, &o), EFBIG);
    CHECK (test_messages.nr_errors == 1);
    CHECK (source_len (src) == 0);
    o.len--;
    CHECK (qcow_create (src, &o) == 0);
    check_layout (src, &o);
    source_put (src);
  }
}

static void
test_too_long (void)
{
  struct qcow_create_options o = { .cluster_len = 65536, .l2_bits = 13 };

  o.len = INT64_MAX - 511;
  test_messages_forget ();
  CHECK_FAILS (qcow_create_check ("image", &o), EFBIG);
  o.len = UINT64_MAX;
  CHECK_FAILS (qcow_create_check ("image", &o), EFBIG);
  CHECK (test_messages.nr_errors == 2);
}

/* ---- what is there already */

static void
test_something_there (void)
{
  struct qcow_create_options o = DEFAULTS;
  struct source *src = source_memory_copy ("image", "x", 1, NO_LIMIT);
  char byte;

  o.len = MIB;
  CHECK (src != NULL);
  CHECK_FAILS (qcow_create (src, &o), EEXIST);
  CHECK (source_len (src) == 1);
  CHECK (source_pread (src, &byte, 1, 0) == 0 && byte == 'x');
  o.overwrite = true;
  CHECK (qcow_create (src, &o) == 0);
  check_layout (src, &o);
  try_image (src);
  source_put (src);
}

static struct source *
device (uint64_t len, uint8_t byte, uint64_t from)
{
  struct source *src = source_memory ("device", len, len);
  CLEANUP_FREE uint8_t *bytes = malloc (len);

  CHECK (src != NULL && bytes != NULL);
  memset (bytes, byte, len);
  CHECK (source_pwrite (src, bytes + from, len - from, from) == 0);
  return src;
}

/* Nothing of a device is taken to be zero; what does not fit is told before
 * anything is changed.
 */
static void
test_device (void)
{
  struct qcow_create_options o = { .cluster_len = 512, .l2_bits = 6 };
  struct source *src = device (4 * MIB, 0xa5, 1024 * KIB - 1);
  uint8_t byte;

  o.len = 2 * GIB;              /* the table takes 512 KiB */
  CHECK_FAILS (qcow_create (src, &o), EEXIST);
  source_put (src);
  src = device (4 * MIB, 0xa5, 1024 * KIB);
  CHECK (qcow_create (src, &o) == 0);
  source_put (src);

  o.overwrite = true;
  o.backing_name = "b";
  src = device (4 * MIB, 0xa5, 0);
  CHECK (qcow_create (src, &o) == 0);
  check_file_zero (src, 49, 56 + 512 * KIB);
  CHECK (source_pread (src, &byte, 1, 56 + 512 * KIB) == 0 && byte == 0xa5);
  try_image (src);
  source_put (src);

  src = device (512 * KIB, 0xa5, 0);
  CHECK_FAILS (qcow_create (src, &o), ENOSPC);
  CHECK (source_pread (src, &byte, 1, 0) == 0 && byte == 0xa5);
  source_put (src);
}

/* ---- the power fails, and so do writes */

/* No image, or a whole one. */
static bool
is_image (struct source *src)
{
  static const uint8_t zeroes[512];
  uint8_t head[512];

  CHECK (source_pread_padded (src, head, sizeof head, 0) == 0);
  if (memcmp (head, zeroes, sizeof head) == 0)
    return false;
  CHECK (load_be32 (head) == QCOW_MAGIC);
  return true;
}

struct scene {
  struct qcow_create_options o;
  uint64_t len;                 /* of what is there, not zero */
  uint64_t limit;
};

/* Its end lies in the third sector. */
#define FIFTY "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghij"
#define QUARTER FIFTY FIFTY FIFTY FIFTY FIFTY
static const char long_name[] = QUARTER QUARTER QUARTER QUARTER;

static const struct scene scenes[] = {
  { .o = { .cluster_len = 4096, .l2_bits = 9, .len = 100 * MIB },
    .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 12, .len = MIB,
           .backing_name = "base" }, .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 100 * MIB,
           .backing_name = long_name, .overwrite = true },
    .len = 100 * KIB, .limit = NO_LIMIT },
  { .o = { .cluster_len = 512, .l2_bits = 6, .len = 100 * MIB,
           .backing_name = long_name, .overwrite = true },
    .len = MIB, .limit = MIB },
};

#define NR_SCENES (sizeof scenes / sizeof scenes[0])

static void
check_cuts (const struct scene *scene, struct record *record,
            struct source *src)
{
  const size_t end = record_position (record);
  size_t nr_images = 0, nr_none = 0;

  for (size_t p = 0; p <= end; ++p)
    for (unsigned seed = 0; seed < 20; ++seed) {
      const enum record_mode mode = seed < 2 ? seed : RECORD_RANDOM;
      struct source *cut = record_crash_image (record, src, p, seed, mode);

      CHECK (cut != NULL);
      if (is_image (cut)) {
        struct image *img = open_image (cut);

        /* The old one, or the whole of the new. */
        if (img->len == scene->o.len) {
          CHECK (strcmp (img->backing_name ?: "",
                         scene->o.backing_name ?: "") == 0);
          if (scene->limit == NO_LIMIT)
            check_layout (cut, &scene->o);
          image_close (img);
          try_image (cut);
          nr_images++;
        }
        else {
          CHECK (img->len == 4 * MIB && scene->len > 0);
          image_close (img);
        }
      }
      else
        nr_none++;
      source_put (cut);
    }
  CHECK (nr_images > 0 && nr_none > 0);
}

/* Begin with an image that is to be overwritten. */
static struct source *
initial (const struct scene *scene)
{
  struct qcow_create_options o = DEFAULTS;
  struct source *src = source_memory ("old", 0, NO_LIMIT);

  CHECK (src != NULL);
  if (scene->len == 0)
    return src;
  o.len = 4 * MIB;
  CHECK (qcow_create (src, &o) == 0);
  CHECK (source_len (src) <= scene->len);
  CHECK (source_truncate (src, scene->len) == 0);
  return src;
}

/* Make it with the nth operation of a kind failing, of 'total'; 0: none.
 * Returns how many there were.
 */
static size_t
play (const struct scene *scene, enum record_op op, size_t nth, size_t total)
{
  struct source *old = initial (scene);
  struct record *record = record_new ();
  struct source *src;
  size_t nr;
  int r;

  CHECK (record != NULL);
  src = record_add (record, "image", old, scene->limit);
  CHECK (src != NULL);
  if (nth > 0)
    record_fail_at (record, op, nth, EIO, false);
  test_messages_forget ();
  r = qcow_create (src, &scene->o);
  nr = record_count (record, op);
  if (nth == 0) {
    CHECK (r == 0);
    check_cuts (scene, record, src);
  }
  else
    CHECK (r == -1 && test_messages.nr_errors > 0);
  /* With the last sync (or write) it is uncertain what there is.  Before,
   * the file is as it was or gives back what it took.
   */
  if (nth > 0 && nth < total) {
    CHECK (!is_image (src) || source_len (src) == scene->len);
    if (scene->limit == NO_LIMIT)
      CHECK (source_len (src) == 0 || source_len (src) == scene->len);
  }
  source_put (src);
  record_free (record);
  source_put (old);
  return nr;
}

static void
test_scene (const struct scene *scene)
{
  static const enum record_op ops[] = { RECORD_WRITE, RECORD_SYNC,
                                        RECORD_TRUNCATE };

  for (size_t i = 0; i < 3; ++i) {
    const size_t total = play (scene, ops[i], 0, 0);

    CHECK (total > 0 || ops[i] == RECORD_TRUNCATE);
    for (size_t nth = 1; nth <= total; ++nth)
      play (scene, ops[i], nth, total);
  }
}

int
main (void)
{
  test_kinds ();
  test_names ();
  test_refusals ();
  test_limits ();
  test_too_long ();
  test_something_there ();
  test_device ();
  for (size_t i = 0; i < NR_SCENES; ++i)
    test_scene (&scenes[i]);
  return EXIT_SUCCESS;
}
