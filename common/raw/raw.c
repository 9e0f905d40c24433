/* Raw disks: every byte of the file is the same byte of the disk.
 *
 * Every place exists and may be written in place, so nothing is ever
 * reserved in the course of writing; zeroing happens at once, in the file.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>

#include "image/image.h"
#include "include/checked.h"
#include "raw/raw.h"

/* One step of zeroing, so that a request for a whole disk holds no range
 * for ever.
 */
#define UNMAP_STEP (UINT64_C (1) << 30)

static int
raw_open (struct image *img)
{
  uint32_t unit = 512;

  /* Devices zero whole blocks of theirs only. */
  if (is_power_of_2 (img->source->alignment))
    unit = MAX (unit, img->source->alignment);

  img->len = source_len (img->source);
  img->unit = unit;
  img->zero_unit = unit;
  return 0;
}

static ssize_t
raw_lookup (struct image *img, uint64_t guest, uint64_t len,
            struct extent *ext, size_t max)
{
  assert (max > 0);
  ext[0] = (struct extent) {
    .type = EXTENT_DATA, .len = len,
    .src = img->source, .host = guest,
    .writable = true, .allocated = true,
  };
  return 1;
}

/* The place of a byte is where it always was. */
static int
raw_reserve (struct image *img, uint64_t guest, uint64_t len,
             struct claim *claim)
{
  *claim = (struct claim) {
    .guest = guest, .len = len,
    .src = img->source, .host = guest,
    .fill_start = guest, .fill_end = guest + len,
  };
  return 0;
}

static void
raw_link (struct image *img __attribute__ ((unused)),
          const struct claim *claim __attribute__ ((unused)))
{
}

static void
raw_abandon (struct image *img __attribute__ ((unused)),
             const struct claim *claim __attribute__ ((unused)))
{
}

static ssize_t
raw_unmap (struct image *img, uint64_t guest, uint64_t len,
           enum unmap_wish wish, bool fast)
{
  if (!fast)                    /* else it is all or nothing */
    len = MIN (len, UNMAP_STEP);
  if (source_zero_fast (img->source, len, guest,
                        wish == UNMAP_ZERO_KEEP ? SOURCE_ZERO_KEEP
                                                : SOURCE_ZERO_PUNCH) == -1) {
    if (errno == ENOTSUP && wish == UNMAP_TRIM)
      return len;               /* the old bytes may stay */
    return -1;
  }
  pass_data_written (img);
  return len;
}

static void
raw_durable (struct image *img __attribute__ ((unused)),
             uint64_t cut __attribute__ ((unused)))
{
}

/* There is no metadata. */
static bool
raw_is_metadata (struct image *img __attribute__ ((unused)),
                 uint64_t host __attribute__ ((unused)),
                 uint32_t len __attribute__ ((unused)),
                 enum pass_phase phase __attribute__ ((unused)))
{
  return false;
}

static void
raw_close (struct image *img __attribute__ ((unused)))
{
}

const struct format raw_format = {
  .name = "raw",
  .open = raw_open,
  .lookup = raw_lookup,
  .reserve = raw_reserve,
  .link = raw_link,
  .abandon = raw_abandon,
  .unmap = raw_unmap,
  .durable = raw_durable,
  .is_metadata = raw_is_metadata,
  .close = raw_close,
};
