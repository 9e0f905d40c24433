/* Fuzz the qcow2 driver: any bytes are opened, looked up, asked for their
 * status and read, over a memory source; then, if the driver agrees,
 * changed, closed and read again.
 *
 * The mutator knows where the header's fields and the tables' entries are,
 * since blind changes seldom get past the header.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "image/image.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"
#include "source/memory.h"

#define CACHE_LIMIT (256 * 1024)
#define READ_LEN (192 * 1024)
#define WRITE_LEN (40 * 1024)
#define MAX_GROWTH (4 * 1024 * 1024)
#define SIDE_FILE_LEN (96 * 1024)
#define NR_EXTENTS 7
#define MAX_STEPS 8

/* ---- the target */

/* What is promised must hold for any image. */
#define PROMISE(condition)                                              \
  do {                                                                  \
    if (!(condition))                                                   \
      abort ();                                                         \
  } while (0)

static void
try_lookup (struct image *img, uint64_t guest)
{
  unsigned i;

  for (i = 0; i < MAX_STEPS && guest < img->len; ++i) {
    struct extent ext[NR_EXTENTS];
    ssize_t n = img->format->lookup (img, guest, img->len - guest, ext,
                                     NR_EXTENTS);
    ssize_t j;

    PROMISE (n >= 1 && n <= NR_EXTENTS);
    for (j = 0; j < n; ++j) {
      PROMISE (ext[j].len > 0 && ext[j].len <= img->len - guest);
      if (ext[j].type == EXTENT_DATA)
        PROMISE (ext[j].src == img->data_source &&
                 ext[j].host <= INT64_MAX - ext[j].len);
      if (ext[j].type == EXTENT_PACKED)
        PROMISE (ext[j].src == img->source &&
                 ext[j].within + ext[j].len <= img->unit &&
                 ext[j].packed_len > 0 &&
                 ext[j].packed_len <= 2 * (uint64_t) img->unit);
      guest += ext[j].len;
    }
  }
}

static int
add_status (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  uint64_t *next = opaque;

  PROMISE (guest == *next && len > 0 && flags <= 3);
  *next += len;
  return 0;
}

static void
try_status (struct image *img)
{
  uint64_t next = 0;
  unsigned i;

  for (i = 0; i < MAX_STEPS && next < img->len; ++i) {
    uint64_t before = next;

    if (image_status (img, img->len - next, next, i & 1, add_status,
                      &next) == -1)
      break;
    PROMISE (next > before && next <= img->len);
  }
}

static void
try_read (struct image *img, uint64_t guest)
{
  uint64_t len = MIN (img->len - guest, (uint64_t) READ_LEN);
  uint8_t *buf = malloc (len);

  PROMISE (buf != NULL);
  image_read (img, buf, len, guest);
  free (buf);
}

static struct source *
side_file (const char *name)
{
  struct source *src = source_memory (name, SIDE_FILE_LEN, SIDE_FILE_LEN);

  PROMISE (src != NULL);
  PROMISE (source_pwrite (src, "side file", 9, 70000) == 0);
  return src;
}

static bool
connect_image (struct image *img)
{
  struct image *backing = NULL;

  if (img->wants_backing) {
    CLEANUP_SOURCE struct source *src = side_file ("backing");

    backing = image_open (&raw_format, src, "backing", CACHE_LIMIT);
    PROMISE (backing != NULL);
    PROMISE (image_connect (backing, NULL, NULL) == 0);
  }
  return image_connect (img, backing, img->wants_data_file
                        ? side_file ("data") : NULL) == 0;
}

static void
read_all_over (struct image *img)
{
  try_lookup (img, 0);
  try_lookup (img, img->len / 3);
  try_lookup (img, img->len - 1);
  try_status (img);
  try_read (img, 0);
  try_read (img, img->len / 2);
  try_read (img, img->len - MIN (img->len, UINT64_C (1000)));
  image_prefetch (img, MIN (img->len, UINT64_C (1) << 20), 0);
}

/* An image may name one place twice, so what is read back proves nothing. */
static void
try_write (struct image *img, uint64_t guest, size_t max_len)
{
  static uint8_t buf[WRITE_LEN];
  size_t len = MIN (img->len - guest, (uint64_t) max_len);

  memset (buf, (guest >> 9) | 1, len);
  image_write (img, buf, len, guest);
}

static void
change_all_over (struct image *img)
{
  uint64_t middle = img->len / 2;

  try_write (img, 0, 700);
  try_write (img, middle, WRITE_LEN);
  image_zero (img, MIN (img->len, UINT64_C (5000)), 0, true, false);
  image_flush (img);
  image_trim (img, MIN (img->len - middle, UINT64_C (70000)), middle);
  image_zero (img, img->len - middle, middle, false, true);
  try_write (img, img->len - 1, 1);
  try_write (img, img->len / 3, 3000);
  image_flush (img);
  read_all_over (img);
}

/* Open 'src'; 'change': only to change it. */
static void
run (struct source *src, bool change)
{
  struct image *img = image_open (&qcow2_format, src, "image", CACHE_LIMIT);

  if (img == NULL)
    return;
  PROMISE (img->len <= INT64_MAX);
  if (connect_image (img) && img->len > 0) {
    if (!change)
      read_all_over (img);
    else if (image_why_read_only (img) == NULL &&
             image_begin_writing (img) == 0) {
      change_all_over (img);
      image_finish (img);
    }
  }
  image_close (img);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  CLEANUP_SOURCE struct source *src =
    source_memory_copy ("image", data, len, len + MAX_GROWTH);

  PROMISE (src != NULL);
  run (src, false);
  run (src, true);
  run (src, false);
  return 0;
}

/* ---- the mutator */

static uint32_t
next_random (uint64_t *state)
{
  *state = *state * UINT64_C (6364136223846793005) + 1442695040888963407;
  return *state >> 33;
}

/* Numbers that sit on some edge. */
static uint64_t
edge_number (uint64_t *state, uint64_t old, size_t len)
{
  static const uint64_t edges[] = {
    0, 1, 2, 3, 7, 8, 16, 31, 32, 63, 64, 72, 104, 112, 511, 512, 1023,
    1024, 4096, 65535, 65536, 65537, 1 << 20, 4194304, 4194305,
    INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,
    UINT64_C (1) << 63, UINT64_C (1) << 62, UINT64_C (1) << 56,
    UINT64_C (0x00fffffffffffe00),
  };
  uint64_t edge = edges[next_random (state)
                        % (sizeof edges / sizeof edges[0])];

  switch (next_random (state) % 8) {
  case 0: return old + 1;
  case 1: return old - 1;
  case 2: return old ^ UINT64_C (1) << next_random (state) % 64;
  case 3: return old + edge;
  case 4: return len;
  case 5: return next_random (state) % (len + 512) & ~UINT64_C (511);
  default: return edge;
  }
}

static void
change_number (uint8_t *p, unsigned width, uint64_t *state, size_t len)
{
  switch (width) {
  case 1: *p = edge_number (state, *p, len); break;
  case 4: store_be32 (p, edge_number (state, load_be32 (p), len)); break;
  default: store_be64 (p, edge_number (state, load_be64 (p), len)); break;
  }
}

static void
change_header (uint8_t *data, size_t len, uint64_t *state)
{
  static const struct { uint8_t at, width; } fields[] = {
    { 4, 4 }, { 8, 8 }, { 16, 4 }, { 20, 4 }, { 24, 8 }, { 32, 4 },
    { 36, 4 }, { 40, 8 }, { 48, 8 }, { 56, 4 }, { 60, 4 }, { 64, 8 },
    { 72, 8 }, { 79, 1 }, { 80, 8 }, { 88, 8 }, { 95, 1 }, { 96, 4 },
    { 100, 4 }, { 104, 1 }, { 112, 4 }, { 116, 4 },
  };
  unsigned i = next_random (state) % (sizeof fields / sizeof fields[0]);

  if (fields[i].at + fields[i].width <= len)
    change_number (data + fields[i].at, fields[i].width, state, len);
}

/* A table's entry, or a host offset of a cluster for it to name. */
static void
change_entry (uint8_t *data, size_t len, uint64_t table, uint64_t *state)
{
  uint64_t at = table + next_random (state) % 128 * 8;
  uint64_t flags = (uint64_t) (next_random (state) & 3) << 62;

  if (table >= len || !range_is_inside (at, 8, len))
    return;
  switch (next_random (state) % 4) {
  case 0:
    change_number (data + at, 8, state, len);
    break;
  case 1:
    store_be64 (data + at, flags | (next_random (state) % 2));
    break;
  case 2:
    store_be64 (data + at, flags | (next_random (state) % len &
                                    ~UINT64_C (511)));
    break;
  case 3:
    memmove (data + at, data + table, 8);
    break;
  }
}

static void
change_table (uint8_t *data, size_t len, uint64_t *state)
{
  uint64_t table = len >= 72 ? load_be64 (data + 40) : 0;
  uint64_t snapshots = len >= 72 ? load_be64 (data + 64) : 0;
  unsigned which = next_random (state) % 8;

  if (which == 0 && snapshots != 0)
    table = snapshots;
  else if (which > 2 && table < len && range_is_inside (table, 64, len))
    table = load_be64 (data + table + next_random (state) % 8 * 8)
      & UINT64_C (0x00fffffffffffe00);
  change_entry (data, len, table, state);
}

size_t
LLVMFuzzerCustomMutator (uint8_t *data, size_t len, size_t max_len,
                         unsigned seed)
{
  uint64_t state = seed;
  unsigned nr = 1 + next_random (&state) % 3;

  if (len < 512 || next_random (&state) % 4 == 0)
    return LLVMFuzzerMutate (data, len, max_len);
  while (nr-- > 0) {
    if (next_random (&state) % 3 == 0)
      change_header (data, len, &state);
    else
      change_table (data, len, &state);
  }
  return len;
}
