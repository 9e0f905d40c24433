/* Test making images: each kind is sound, reads as zeroes and can be
 * written; the power may fail at any moment; nothing is changed before it
 * is known to be possible.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow2/create.h"
#include "qcow2/qcow2.h"
#include "qcow2/state.h"
#include "qcow2/test-sound.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define NO_LIMIT (UINT64_C (1) << 62)

/* ---- an image that was made */

static struct image *
open_image (struct source *src, struct source *data)
{
  struct image *img = image_open (&qcow2_format, src, "image", MIB);

  CHECK (img != NULL);
  CHECK (image_connect (img, NULL, data ? source_get (data) : NULL) == 0);
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

/* It reads as zeroes, takes a write, and is sound before and after. */
static void
try_image (struct source *src, struct source *data)
{
  uint8_t buf[3000];
  struct image *img;

  CHECK (test_sound (src) == 0);
  img = open_image (src, data);
  memset (buf, 7, sizeof buf);
  check_byte (img, 0, MIN (img->len, 2 * MIB), 0);
  if (img->len > 0)
    check_byte (img, img->len - 512, 512, 0);
  if (img->len > sizeof buf && image_why_read_only (img) == NULL) {
    CHECK (image_begin_writing (img) == 0);
    CHECK (image_write (img, buf, sizeof buf,
                        img->len - sizeof buf) == 0);
    CHECK (image_write (img, buf, sizeof buf, 1) == 0);
    CHECK (image_finish (img) == 0);
    check_byte (img, 0, 1, 0);
    check_byte (img, 1, sizeof buf, 7);
    check_byte (img, 1 + sizeof buf, 512, 0);
    check_byte (img, img->len - sizeof buf, sizeof buf, 7);
  }
  image_close (img);
  CHECK (test_sound (src) == 0);
}

static void
test_one (const struct qcow2_create_options *o)
{
  struct source *src = source_memory ("image", 0, NO_LIMIT);
  struct source *data = NULL;
  struct image *img;

  CHECK (src != NULL);
  if (o->data_file_name) {
    data = source_memory ("data", 0, NO_LIMIT);
    CHECK (data != NULL);
  }
  CHECK (qcow2_create (src, data, o) == 0);
  CHECK (source_len (src) % o->cluster_len == 0);
  if (data)
    CHECK (source_len (data) == round_up (o->len, 512));
  img = open_image (src, data);
  CHECK (img->len == round_up (o->len, 512));
  CHECK (img->unit == o->cluster_len);
  image_close (img);
  try_image (src, data);
  source_put (data);
  source_put (src);
}

static void
test_kinds (void)
{
  static const uint64_t lens[] = { 0, 1, 65536, 3 * MIB + 512, 5 * GIB };
  static const uint64_t cluster_lens[] = { 512, 4096, 65536, 2 * MIB };

  for (size_t l = 0; l < 5; ++l)
    for (size_t c = 0; c < 4; ++c)
      for (unsigned bits = 1; bits <= 64; bits *= 4) {
        struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;

        o.len = lens[l];
        o.cluster_len = cluster_lens[c];
        o.refcount_bits = bits;
        test_one (&o);
        if (o.len > 4 * MIB)
          continue;
        o.preallocation = QCOW2_PREALLOCATE_METADATA;
        test_one (&o);
        o.data_file_name = "data";
        o.data_file_raw = true;
        test_one (&o);
        o.data_file_raw = false;
        o.preallocation = QCOW2_PREALLOCATE_OFF;
        test_one (&o);
        if (o.cluster_len < 16384)
          continue;
        o.is_extended = true;
        test_one (&o);
        o.data_file_name = NULL;
        o.preallocation = QCOW2_PREALLOCATE_FULL;
        test_one (&o);
      }
}

static void
test_version_2 (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;

  o.version = 2;
  o.len = 10 * MIB;
  test_one (&o);
  o.preallocation = QCOW2_PREALLOCATE_FALLOC;
  test_one (&o);
}

/* ---- what the header says */

static void
test_header (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = source_memory ("image", 0, NO_LIMIT);
  struct image *img;
  const struct qcow2 *q;

  o.len = MIB;
  o.wants_zstd = true;
  o.is_extended = true;
  o.preallocation = QCOW2_PREALLOCATE_METADATA;
  o.backing_name = "base.img";
  o.backing_format = "raw";
  CHECK (src != NULL);
  CHECK (qcow2_create (src, NULL, &o) == 0);
  img = image_open (&qcow2_format, src, "image", MIB);
  CHECK (img != NULL);
  q = qcow2_state (img);
  CHECK (strcmp (img->backing_name, "base.img") == 0);
  CHECK (strcmp (img->backing_format, "raw") == 0);
  CHECK (q->header.incompatible ==
         (QCOW2_COMPRESSION | QCOW2_EXTENDED_L2));
  CHECK (q->header.compression_type == QCOW2_COMPRESSION_ZSTD);
  CHECK (q->header.compatible == 0 && q->header.autoclear == 0);
  CHECK (extension_list_find (&q->extensions,
                              EXTENSION_FEATURE_NAMES)->len == 384);
  image_close (img);
  CHECK (test_sound (src) == 0);
  source_put (src);
}

/* The longest backing name is that which fits in the first cluster. */
static void
test_names (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = source_memory ("image", 0, NO_LIMIT);
  char name[1025];

  memset (name, 'n', sizeof name);
  name[376] = '\0';
  o.len = MIB;
  o.cluster_len = 512;
  o.backing_name = name;
  o.backing_format = "raw";
  CHECK (src != NULL);
  CHECK (qcow2_create (src, NULL, &o) == 0);
  CHECK (test_sound (src) == 0);
  source_put (src);

  src = source_memory ("image", 0, NO_LIMIT);
  CHECK (src != NULL);
  name[376] = 'n';
  name[377] = '\0';
  CHECK_FAILS (qcow2_create (src, NULL, &o), EINVAL);
  CHECK (source_len (src) == 0);
  name[377] = 'n';
  name[1024] = '\0';
  o.cluster_len = 65536;
  CHECK_FAILS (qcow2_create_check ("image", &o), EINVAL);
  source_put (src);
}

/* ---- refusals */

#define REFUSED(...)                                                    \
  do {                                                                  \
    struct qcow2_create_options o = { .version = 3,                     \
      .cluster_len = 65536, .refcount_bits = 16, .len = MIB };          \
    struct qcow2_create_options with = (__VA_ARGS__);                   \
                                                                        \
    test_messages_forget ();                                            \
    CHECK_FAILS (qcow2_create_check ("image", &with), EINVAL);          \
    CHECK (test_messages.nr_errors == 1);                               \
    CHECK (strncmp (test_messages.error, "image: ", 7) == 0);           \
    (void) o;                                                           \
  } while (0)

#define WITH(...) ({ __VA_ARGS__; o; })

static void
test_refusals (void)
{
  REFUSED (WITH (o.cluster_len = 256));
  REFUSED (WITH (o.cluster_len = 4 * MIB));
  REFUSED (WITH (o.cluster_len = 65535));
  REFUSED (WITH (o.cluster_len = 0));
  REFUSED (WITH (o.refcount_bits = 0));
  REFUSED (WITH (o.refcount_bits = 3));
  REFUSED (WITH (o.refcount_bits = 128));
  REFUSED (WITH (o.is_extended = true; o.cluster_len = 8192));
  REFUSED (WITH (o.version = 1));
  REFUSED (WITH (o.version = 2; o.refcount_bits = 8));
  REFUSED (WITH (o.version = 2; o.is_extended = true));
  REFUSED (WITH (o.version = 2; o.wants_zstd = true));
  REFUSED (WITH (o.version = 2; o.data_file_name = "d"));
  REFUSED (WITH (o.data_file_raw = true));
  REFUSED (WITH (o.data_file_name = "d"; o.data_file_raw = true;
                 o.backing_name = "b"; o.backing_format = "raw"));
  REFUSED (WITH (o.backing_format = "raw"));
  REFUSED (WITH (o.backing_name = "b"));
  REFUSED (WITH (o.backing_name = "b"; o.backing_format = "0123456789abcdef"));
  REFUSED (WITH (o.backing_name = "b"; o.backing_format = "raw";
                 o.preallocation = QCOW2_PREALLOCATE_METADATA));
}

/* The largest disks, and those one step larger. */
static void
test_limits (void)
{
  static const struct {
    uint64_t cluster_len;
    bool is_extended;
    unsigned bits;              /* log2 of the most */
  } limits[] = {
    { 512, false, 37 }, { 65536, false, 51 }, { 2 * MIB, false, 61 },
    { 16384, true, 46 },
  };

  for (size_t i = 0; i < 4; ++i) {
    struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
    struct source *src = source_memory ("image", 0, NO_LIMIT);

    CHECK (src != NULL);
    o.cluster_len = limits[i].cluster_len;
    o.is_extended = limits[i].is_extended;
    o.len = (UINT64_C (1) << limits[i].bits) + 1;
    CHECK_FAILS (qcow2_create (src, NULL, &o), EFBIG);
    CHECK (source_len (src) == 0);
    o.len--;
    CHECK (qcow2_create (src, NULL, &o) == 0);
    CHECK (test_sound (src) == 0);
    source_put (src);
  }
}

/* ---- what is there already */

static void
test_something_there (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = source_memory_copy ("image", "x", 1, NO_LIMIT);
  char byte;

  o.len = MIB;
  CHECK (src != NULL);
  CHECK_FAILS (qcow2_create (src, NULL, &o), EEXIST);
  CHECK (source_len (src) == 1);
  CHECK (source_pread (src, &byte, 1, 0) == 0 && byte == 'x');
  o.overwrite = true;
  CHECK (qcow2_create (src, NULL, &o) == 0);
  try_image (src, NULL);
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
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = device (4 * MIB, 0xa5, 1024 * KIB - 1);
  uint8_t byte;

  o.len = 2 * MIB;
  CHECK_FAILS (qcow2_create (src, NULL, &o), EEXIST);
  source_put (src);
  src = device (4 * MIB, 0xa5, 1024 * KIB);
  CHECK (qcow2_create (src, NULL, &o) == 0);
  try_image (src, NULL);
  source_put (src);

  for (unsigned p = 0; p < 4; ++p) {
    o.preallocation = p;
    o.overwrite = true;
    src = device (4 * MIB, 0xa5, 0);
    CHECK (qcow2_create (src, NULL, &o) == 0);
    try_image (src, NULL);
    source_put (src);
  }
  src = device (2 * MIB, 0xa5, 0);
  CHECK_FAILS (qcow2_create (src, NULL, &o), ENOSPC);
  CHECK (source_pread (src, &byte, 1, 0) == 0 && byte == 0xa5);
  source_put (src);
}

static void
test_data_device (void)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = source_memory ("image", 0, NO_LIMIT);
  struct source *data = device (2 * MIB, 0xa5, 0);

  o.len = 2 * MIB + 1;
  o.data_file_name = "data";
  o.data_file_raw = true;
  CHECK (src != NULL);
  CHECK_FAILS (qcow2_create (src, data, &o), ENOSPC);
  o.len--;
  CHECK_FAILS (qcow2_create (src, data, &o), EEXIST);
  CHECK (source_len (src) == 0);
  o.overwrite = true;
  CHECK (qcow2_create (src, data, &o) == 0);
  try_image (src, data);
  source_put (data);
  source_put (src);
}

/* ---- the power fails, and so do writes */

/* No image, or a sound one. */
static bool
is_image (struct source *src)
{
  static const uint8_t zeroes[512];
  uint8_t head[512];

  CHECK (source_pread_padded (src, head, sizeof head, 0) == 0);
  if (memcmp (head, zeroes, sizeof head) == 0)
    return false;
  CHECK (load_be32 (head) == QCOW2_MAGIC);
  return true;
}

static void
check_cuts (struct record *record, struct source *src,
            struct source *data)
{
  const size_t end = record_position (record);
  size_t nr_images = 0;

  for (size_t p = 0; p <= end; ++p)
    for (unsigned seed = 0; seed < 5; ++seed) {
      const enum record_mode mode = seed < 2 ? seed : RECORD_RANDOM;
      struct source *cut = record_crash_image (record, src, p, seed, mode);
      struct source *data_cut = data
        ? record_crash_image (record, data, p, seed, mode) : NULL;

      CHECK (cut != NULL && (data == NULL || data_cut != NULL));
      if (is_image (cut)) {
        try_image (cut, data_cut);
        nr_images++;
      }
      source_put (cut);
      source_put (data_cut);
    }
  CHECK (nr_images > 0);
}

struct scene {
  struct qcow2_create_options o;
  uint64_t len;                 /* of what is there, not zero */
  uint64_t limit;
};

static const struct scene scenes[] = {
  { .o = { .version = 3, .cluster_len = 65536, .refcount_bits = 16,
           .len = 100 * MIB }, .limit = NO_LIMIT },
  { .o = { .version = 3, .cluster_len = 512, .refcount_bits = 16,
           .len = MIB, .preallocation = QCOW2_PREALLOCATE_METADATA },
    .limit = NO_LIMIT },
  { .o = { .version = 2, .cluster_len = 4096, .refcount_bits = 16,
           .len = MIB, .overwrite = true },
    .len = 100 * KIB, .limit = NO_LIMIT },
  { .o = { .version = 3, .cluster_len = 4096, .refcount_bits = 16,
           .len = 256 * KIB, .overwrite = true,
           .preallocation = QCOW2_PREALLOCATE_METADATA },
    .len = MIB, .limit = MIB },
  { .o = { .version = 3, .cluster_len = 4096, .refcount_bits = 64,
           .len = 256 * KIB, .data_file_name = "d",
           .data_file_raw = true }, .limit = NO_LIMIT },
};

#define NR_SCENES (sizeof scenes / sizeof scenes[0])

/* Begin with an image that is to be overwritten. */
static struct source *
initial (const struct scene *scene)
{
  struct qcow2_create_options o = QCOW2_CREATE_DEFAULTS;
  struct source *src = source_memory ("old", 0, NO_LIMIT);

  CHECK (src != NULL);
  if (scene->len == 0)
    return src;
  o.len = 4 * MIB;
  o.cluster_len = 4096;
  CHECK (qcow2_create (src, NULL, &o) == 0);
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
  struct source *empty = source_memory ("empty", 0, NO_LIMIT);
  struct record *record = record_new ();
  struct source *src, *data = NULL;
  size_t nr;
  int r;

  CHECK (record != NULL && empty != NULL);
  src = record_add (record, "image", old, scene->limit);
  CHECK (src != NULL);
  if (scene->o.data_file_name) {
    data = record_add (record, "data", empty, scene->limit);
    CHECK (data != NULL);
  }
  if (nth > 0)
    record_fail_at (record, op, nth, EIO, false);
  test_messages_forget ();
  r = qcow2_create (src, data, &scene->o);
  nr = record_count (record, op);
  if (nth == 0) {
    CHECK (r == 0);
    check_cuts (record, src, data);
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
  source_put (data);
  record_free (record);
  source_put (old);
  source_put (empty);
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
  test_version_2 ();
  test_header ();
  test_names ();
  test_refusals ();
  test_limits ();
  test_something_there ();
  test_device ();
  test_data_device ();
  for (size_t i = 0; i < NR_SCENES; ++i)
    test_scene (&scenes[i]);
  return EXIT_SUCCESS;
}
