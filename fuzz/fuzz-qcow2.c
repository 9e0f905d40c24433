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
#include "look.h"
#include "mutate.h"
#include "qcow2/qcow2.h"
#include "source/memory.h"

#define CACHE_LIMIT (256 * 1024)
#define WRITE_LEN (40 * 1024)
#define MAX_GROWTH (4 * 1024 * 1024)
#define DATA_FILE_LEN (96 * 1024)

/* ---- the target */

static struct source *
data_file (void)
{
  struct source *src = source_memory ("data", DATA_FILE_LEN, DATA_FILE_LEN);

  PROMISE (src != NULL && source_pwrite (src, "data file", 9, 70000) == 0);
  return src;
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
  look_all_over (img);
}

/* Open 'src'; 'change': only to change it. */
static void
run (struct source *src, bool change)
{
  struct image *img = image_open (&qcow2_format, src, "image", CACHE_LIMIT);

  if (img == NULL)
    return;
  PROMISE (img->len <= INT64_MAX);
  if (image_connect (img, img->wants_backing ? look_base () : NULL,
                     img->wants_data_file ? data_file () : NULL) == 0 &&
      img->len > 0) {
    if (!change)
      look_all_over (img);
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

static void
change_header (uint8_t *data, size_t len, uint64_t *state)
{
  static const struct { uint8_t at, width; } fields[] = {
    { 4, 4 }, { 8, 8 }, { 16, 4 }, { 20, 4 }, { 24, 8 }, { 32, 4 },
    { 36, 4 }, { 40, 8 }, { 48, 8 }, { 56, 4 }, { 60, 4 }, { 64, 8 },
    { 72, 8 }, { 79, 1 }, { 80, 8 }, { 88, 8 }, { 95, 1 }, { 96, 4 },
    { 100, 4 }, { 104, 1 }, { 112, 4 }, { 116, 4 },
  };
  unsigned i = mutate_random (state) % (sizeof fields / sizeof fields[0]);

  if (fields[i].at + fields[i].width <= len)
    mutate_number (data + fields[i].at, fields[i].width, state, len);
}

/* A table's entry, or a host offset of a cluster for it to name. */
static void
change_entry (uint8_t *data, size_t len, uint64_t table, uint64_t *state)
{
  uint64_t at = table + mutate_random (state) % 128 * 8;
  uint64_t flags = (uint64_t) (mutate_random (state) & 3) << 62;

  if (table >= len || !range_is_inside (at, 8, len))
    return;
  switch (mutate_random (state) % 4) {
  case 0:
    mutate_number (data + at, 8, state, len);
    break;
  case 1:
    store_be64 (data + at, flags | (mutate_random (state) % 2));
    break;
  case 2:
    store_be64 (data + at, flags | (mutate_random (state) % len &
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
  unsigned which = mutate_random (state) % 8;

  if (which == 0 && snapshots != 0)
    table = snapshots;
  else if (which > 2 && table < len && range_is_inside (table, 64, len))
    table = load_be64 (data + table + mutate_random (state) % 8 * 8)
      & UINT64_C (0x00fffffffffffe00);
  change_entry (data, len, table, state);
}

size_t
LLVMFuzzerCustomMutator (uint8_t *data, size_t len, size_t max_len,
                         unsigned seed)
{
  uint64_t state = seed;
  unsigned nr = 1 + mutate_random (&state) % 3;

  if (len < 512 || mutate_random (&state) % 4 == 0)
    return LLVMFuzzerMutate (data, len, max_len);
  while (nr-- > 0) {
    if (mutate_random (&state) % 3 == 0)
      change_header (data, len, &state);
    else
      change_table (data, len, &state);
  }
  return len;
}
