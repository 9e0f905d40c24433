/* Fuzz the qcow driver: any bytes are opened, judged, looked up, asked for
 * their status and read, over a memory source; then converted, changed,
 * closed and read again.
 *
 * What is more than not to crash:
 * - what could be read before a conversion reads the same afterwards, and
 *   after a power cut at any point of it, and it ends as was planned;
 * - converting a second time writes nothing;
 * - what was written is read back, by this opening and the next, and what
 *   was flushed survives a power cut at any later point;
 * - what was not written stays.
 * All that holds for any image that the driver agrees to change, since it
 * first makes sure that nothing is used twice.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "image/image.h"
#include "include/checked.h"
#include "input-qcow.h"
#include "look.h"
#include "qcow/convert.h"
#include "qcow/header.h"
#include "qcow/judge.h"
#include "qcow/qcow.h"
#include "qcow/stray.h"
#include "shadow.h"
#include "source/memory.h"
#include "source/record.h"

#define CACHE_LIMIT (256 * 1024)
#define WRITE_LEN (40 * 1024)
#define MAX_COMPARED (1024 * 1024)

/* One input on its way through. */
struct run {
  const uint8_t *data;
  size_t len;
  bool can_grow;                /* the file can */
  uint64_t seed;                /* for where the power fails */
  bool is_readable;             /* 'disk' says what it reads as */
  struct shadow disk;
};

/* ---- opening */

static uint64_t
limit_of (const struct run *run, uint64_t len)
{
  return run->can_grow ? INT64_MAX : len;
}

static struct source *
make_far_source (const struct run *run, uint64_t far_host, size_t cut)
{
  struct source *src =
    source_memory ("image", INPUT_FAR_FILE_LEN,
                   limit_of (run, INPUT_FAR_FILE_LEN));

  PROMISE (src != NULL &&
           source_pwrite (src, run->data, cut, 0) == 0 &&
           source_pwrite (src, run->data + cut, run->len - cut,
                          far_host) == 0);
  return src;
}

static struct source *
make_source (const struct run *run)
{
  struct source *src;

  if (run->len > QCOW_HEADER_LEN) {
    const uint64_t far_host =
      (uint64_t) run->data[INPUT_AT_FAR] << INPUT_FAR_BITS;
    const size_t cut = (size_t) run->data[INPUT_AT_CUT] << INPUT_CUT_BITS;

    if (far_host > 0 && cut > 0 && cut < run->len)
      return make_far_source (run, far_host, cut);
  }
  src = source_memory_copy ("image", run->data, run->len,
                            limit_of (run, run->len));
  PROMISE (src != NULL);
  return src;
}

/* The same, which remembers what happens to it. */
static struct source *
make_recorded (const struct run *run, struct record **record)
{
  CLEANUP_SOURCE struct source *initial = make_source (run);
  struct source *src;

  *record = record_new ();
  PROMISE (*record != NULL);
  src = record_add (*record, "image", initial,
                    limit_of (run, source_len (initial)));
  PROMISE (src != NULL);
  return src;
}

/* NULL: it is no image, or one of an empty disk. */
static struct image *
open_wishes (struct source *src, const struct image_wishes *wishes)
{
  struct image *img = image_open_wishes (&qcow_format, src, "image",
                                         CACHE_LIMIT, wishes);

  if (img == NULL)
    return NULL;
  PROMISE (img->len <= INT64_MAX && img->len % SHADOW_SECTOR == 0);
  PROMISE (image_connect (img, img->wants_backing ? look_base () : NULL,
                          NULL) == 0);
  if (img->len > 0)
    return img;
  image_close (img);
  return NULL;
}

static struct image *
open_image (struct source *src, enum image_fixup fixup)
{
  const struct image_wishes wishes = { .fixup = fixup };

  return open_wishes (src, &wishes);
}

/* For changes, which are stored compressed or not.  There are images that
 * cannot have that.
 */
static struct image *
open_for_change (const struct run *run, struct source *src)
{
  const struct image_wishes wishes = {
    .fixup = IMAGE_FIXUP_WRITE,
    .compress_level = 1,
  };
  struct image *img = run->seed & 1 ? open_wishes (src, &wishes) : NULL;

  return img ?: open_image (src, IMAGE_FIXUP_WRITE);
}

static bool
begin (struct image *img)
{
  return image_why_read_only (img) == NULL && image_begin_writing (img) == 0;
}

/* It reads as it did; 'is_sound': and can be written as it is. */
static void
check_disk (const struct shadow *disk, struct source *src, bool is_sound)
{
  struct image *img = open_image (src, IMAGE_FIXUP_MEMORY);

  PROMISE (img != NULL);
  if (is_sound)
    PROMISE (image_why_read_only (img) == NULL);
  shadow_check (disk, img);
  image_close (img);
}

/* ---- reading */

static void
look (struct run *run, enum image_fixup fixup)
{
  CLEANUP_SOURCE struct source *src = make_source (run);
  struct image *img = open_image (src, fixup);

  if (img == NULL)
    return;
  look_all_over (img);
  if (fixup == IMAGE_FIXUP_MEMORY) {
    shadow_take (&run->disk, img);
    run->is_readable = true;
  }
  image_close (img);
}

/* ---- converting */

/* Power fails somewhere behind 'from'. */
static struct source *
cut_power (struct run *run, struct record *record, struct source *src,
           size_t from)
{
  const size_t nr = record_position (record) - from + 1;
  struct source *left;

  run->seed = run->seed * UINT64_C (6364136223846793005) + 1;
  left = record_crash_image (record, src, from + (run->seed >> 33) % nr,
                             run->seed, RECORD_RANDOM);
  PROMISE (left != NULL);
  return left;
}

/* Open for writing, which converts, and close.  Could it? */
static bool
convert (struct source *src)
{
  struct image *img = open_image (src, IMAGE_FIXUP_WRITE);
  bool could;

  if (img == NULL)
    return false;
  could = begin (img);
  if (could)
    PROMISE (image_finish (img) == 0);
  image_close (img);
  return could;
}

static void
convert_and_cut (struct run *run)
{
  struct record *record;
  struct source *src = make_recorded (run, &record), *left;
  const bool could = convert (src);
  size_t nr_writes;

  check_disk (&run->disk, src, could);
  left = cut_power (run, record, src, 0);
  check_disk (&run->disk, left, false);
  if (could)
    PROMISE (convert (left));
  check_disk (&run->disk, left, could);
  source_put (left);
  if (could) {
    nr_writes = record_count (record, RECORD_WRITE);
    PROMISE (convert (src));
    PROMISE (nr_writes == record_count (record, RECORD_WRITE));
  }
  source_put (src);
  record_free (record);
}

/* ---- the plan */

/* 'src', as the plan says, must be what 'converted' is. */
static void
compare_view (struct source *src, struct source *converted,
              const struct qcow_header *h, const struct qcow_verdict *v,
              const struct qcow_plan *plan)
{
  const uint64_t len = MIN (source_len (src), (uint64_t) MAX_COMPARED);
  uint8_t want[4096], is[4096];
  uint64_t host;
  size_t n;

  for (host = 0; host < len; host += n) {
    n = MIN (len - host, (uint64_t) sizeof want);
    PROMISE (source_pread (src, want, n, host) == 0);
    qcow_convert_view (h, v, plan, want, n, host);
    PROMISE (source_pread_padded (converted, is, n, host) == 0);
    PROMISE (memcmp (want, is, n) == 0);
  }
}

static void
try_plan (struct run *run, struct source *src, const struct qcow_header *h,
          struct qcow_verdict *v)
{
  CLEANUP_SOURCE struct source *converted = make_source (run);
  struct qcow_plan plan;
  int r;

  PROMISE (qcow_convert_plan (src, "image", h, v, &plan) == 0);
  if (!plan.is_needed || plan.why_not != NULL)
    return;
  r = run->can_grow
    ? qcow_convert_growing (converted, "image", h, v, &plan,
                            source_len (converted))
    : qcow_convert_fixed (converted, "image", h, v, &plan);
  if (r == 0)
    compare_view (src, converted, h, v, &plan);
}

static void
try_stray (struct source *src, const struct qcow_header *h,
           const struct qcow_verdict *v)
{
  struct qcow_stray stray, after;

  PROMISE (qcow_stray_find (src, "image", h, v, &stray) == 0);
  if (!stray.is_found || !stray.can_repair)
    return;
  PROMISE (qcow_stray_repair (src, "image", h, &stray) == 0);
  PROMISE (qcow_stray_find (src, "image", h, v, &after) == 0);
  PROMISE (!after.is_found || after.host != stray.host);
}

static void
judge (struct run *run)
{
  CLEANUP_SOURCE struct source *src = make_source (run);
  uint8_t head[QCOW_HEAD_LEN];
  struct qcow_verdict v;
  struct qcow_header h;

  PROMISE (source_pread_padded (src, head, sizeof head, 0) == 0);
  if (qcow_header_check ("image", head, source_len (src), &h) == -1 ||
      qcow_judge (src, "image", &h, &v) == -1)
    return;
  PROMISE (v.nr_damaged == 0 || v.first_damaged < h.nr_l1);
  try_plan (run, src, &h, &v);
  try_stray (src, &h, &v);
  qcow_verdict_free (&v);
}

/* ---- changing */

/* What the disk is, and what of it must be there after a power cut. */
struct change {
  struct image *img;
  struct shadow now, flushed;
};

static void
note (struct change *c, uint64_t guest, uint64_t len, int byte)
{
  shadow_change (&c->now, guest, len, byte);
  shadow_change (&c->flushed, guest, len, SHADOW_UNKNOWN);
}

static void
try_write (struct change *c, uint64_t guest, uint64_t max_len, uint8_t byte)
{
  static uint8_t buf[WRITE_LEN];
  const uint64_t len = MIN (c->img->len - guest, max_len);
  int r;

  memset (buf, byte, len);
  r = image_write (c->img, buf, len, guest);
  note (c, guest, len, r == 0 ? byte : SHADOW_UNKNOWN);
}

/* A fast one that cannot be changes nothing. */
static void
try_zero (struct change *c, uint64_t guest, uint64_t max_len, bool may_trim,
          bool fast)
{
  const uint64_t len = MIN (c->img->len - guest, max_len);

  if (image_zero (c->img, len, guest, may_trim, fast) == 0)
    note (c, guest, len, 0);
  else if (!fast || errno != ENOTSUP)
    note (c, guest, len, SHADOW_UNKNOWN);
}

static void
try_trim (struct change *c, uint64_t guest, uint64_t max_len)
{
  const uint64_t len = MIN (c->img->len - guest, max_len);

  image_trim (c->img, len, guest);
  note (c, guest, len, SHADOW_UNKNOWN);
}

static void
flush (struct change *c)
{
  PROMISE (image_flush (c->img) == 0);
  c->flushed = c->now;
}

static void
change_first (struct change *c)
{
  const uint64_t middle = c->img->len / 2;

  try_write (c, 0, 700, 'a');
  try_write (c, middle, WRITE_LEN, 'b');
  try_zero (c, 0, 5000, true, false);
  flush (c);
  try_trim (c, middle, 20000);
  try_write (c, c->img->len / 3, 3000, 'c');
  try_write (c, c->img->len - 1, 1, 'd');
  flush (c);
}

/* Into space that was freed, too. */
static void
change_more (struct change *c)
{
  const uint64_t middle = c->img->len / 2;

  try_write (c, middle + 1000, 9000, 'e');
  try_zero (c, middle, UINT64_MAX, false, true);
  try_zero (c, c->img->len / 3, 1024, false, false);
  try_write (c, 2048, 6000, 'f');
  try_trim (c, c->img->len / 3, 9000);
  try_write (c, c->img->len / 3 + 512, 512, 'g');
}

static void
change_and_cut (struct run *run, struct change *c)
{
  struct record *record;
  struct source *src = make_recorded (run, &record), *left;
  bool is_finished;
  size_t position;

  c->img = open_for_change (run, src);
  PROMISE (c->img != NULL);
  if (begin (c->img)) {
    c->now = c->flushed = run->disk;
    change_first (c);
    position = record_position (record);
    change_more (c);
    look_all_over (c->img);
    shadow_check (&c->now, c->img);
    is_finished = image_finish (c->img) == 0;
    image_close (c->img);
    if (is_finished)
      check_disk (&c->now, src, true);
    left = cut_power (run, record, src, position);
    check_disk (&c->flushed, left, true);
    source_put (left);
  }
  else
    image_close (c->img);
  source_put (src);
  record_free (record);
}

/* ---- the target */

static uint64_t
hash (const uint8_t *data, size_t len)
{
  uint64_t h = UINT64_C (0xcbf29ce484222325);

  while (len-- > 0)
    h = (h ^ *data++) * UINT64_C (0x100000001b3);
  return h;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  static struct change change;
  static struct run run;
  unsigned i;

  run = (struct run) { .data = data, .len = len, .seed = hash (data, len) };
  look (&run, IMAGE_FIXUP_OFF);
  look (&run, IMAGE_FIXUP_MEMORY);
  for (i = 0; i < 2; ++i) {
    run.can_grow = i == 1;
    judge (&run);
    if (run.is_readable) {
      convert_and_cut (&run);
      change_and_cut (&run, &change);
    }
  }
  return 0;
}
