/* Fuzz the VHDX driver: any bytes are opened, with the log replayed in
 * memory, looked up, asked for their status and read, over a memory source
 * that is read-only.
 *
 * What is more than not to crash:
 * - an image that a stricter opening takes is the same to a lenient one;
 * - when the whole BAT was looked through, nothing in it is damaged later;
 * - the driver answers what the image reads as: data of a lookup are what
 *   lies there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "image/image.h"
#include "include/checked.h"
#include "input-vhdx.h"
#include "look.h"
#include "shadow.h"
#include "vhdx/vhdx.h"

#define CACHE_LIMIT (256 * 1024)
#define NR_EXTENTS 16
#define MAX_STEPS 200
#define COMPARED_LEN 4096

/* NULL: it is no image. */
static struct image *
open_image (struct source *src, bool strict_log, bool check_all)
{
  static const struct image_path_map maps[] = { { "c:", "/mnt" } };
  const struct image_wishes wishes = {
    .strict_log = strict_log, .check_all = check_all, .maps = maps,
    .nr_maps = 1,
  };
  struct image *img = image_open_wishes (&vhdx_format, src, "image",
                                         CACHE_LIMIT, &wishes);

  if (img == NULL)
    return NULL;
  PROMISE (img->len > 0 && img->len <= UINT64_C (1) << 46);
  PROMISE (img->len % SHADOW_SECTOR == 0);
  PROMISE (image_connect (img, img->wants_backing ? look_base () : NULL,
                          NULL) == 0);
  return img;
}

/* ---- what lookups say */

static void
check_data (struct image *img, uint64_t guest, const struct extent *ext)
{
  uint8_t want[COMPARED_LEN], is[COMPARED_LEN];
  const size_t n = MIN (ext->len, (uint64_t) COMPARED_LEN);

  memset (want, 0, n);
  if (ext->type == EXTENT_DATA)
    PROMISE (source_pread_padded (ext->src, want, n, ext->host) == 0);
  else if (ext->type != EXTENT_ZERO)
    return;
  PROMISE (image_read (img, is, n, guest) == 0);
  PROMISE (memcmp (want, is, n) == 0);
}

/* From the start, and as far as that goes. */
static void
walk (struct image *img, bool is_checked)
{
  uint64_t guest = 0;

  for (unsigned i = 0; i < MAX_STEPS && guest < img->len; ++i) {
    struct extent ext[NR_EXTENTS];
    const ssize_t n = img->format->lookup (img, guest, img->len - guest, ext,
                                           1 + i % NR_EXTENTS);

    PROMISE (n >= 1 && n <= 1 + i % NR_EXTENTS);
    for (ssize_t j = 0; j < n; ++j) {
      PROMISE (ext[j].len > 0 && ext[j].len <= img->len - guest);
      PROMISE (ext[j].type != EXTENT_PACKED);
      if (is_checked)
        PROMISE (ext[j].type != EXTENT_DAMAGED);
      check_data (img, guest, &ext[j]);
      guest += ext[j].len;
    }
  }
}

/* ---- the target */

/* With all wishes; what it reads as.  False: it is refused. */
static bool
look (struct source *src, bool strict_log, bool check_all, struct shadow *s)
{
  struct image *img = open_image (src, strict_log, check_all);

  if (img == NULL)
    return false;
  look_all_over (img);
  walk (img, check_all);
  shadow_take (s, img);
  image_close (img);
  return true;
}

/* It must open with fewer wishes, too, and be the same. */
static void
compare (struct source *src, bool strict_log, bool check_all,
         const struct shadow *s)
{
  struct image *img = open_image (src, strict_log, check_all);

  PROMISE (img != NULL);
  shadow_check (s, img);
  image_close (img);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  static struct shadow shadow;
  struct source *src = input_vhdx_source (data, len);

  PROMISE (src != NULL);
  if (look (src, true, true, &shadow)) {
    compare (src, false, true, &shadow);
    compare (src, true, false, &shadow);
  }
  else if (look (src, false, true, &shadow))
    compare (src, false, false, &shadow);
  else
    look (src, false, false, &shadow);
  source_put (src);
  return 0;
}
