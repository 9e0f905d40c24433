/* Persistent dirty bitmaps: the header extension that points to them.
 *
 * Bitmaps say nothing about the disk's contents.  Those that the image
 * itself calls stale (autoclear bit 0 is clear) are not looked at.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Bitmaps extension".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/byte-order.h"
#include "qcow2/bitmap.h"
#include "qcow2/refuse.h"

void
bitmaps_extension_parse (const uint8_t *data, struct bitmaps_extension *b)
{
  b->nr_bitmaps = load_be32 (data);
  b->reserved = load_be32 (data + 4);
  b->directory_len = load_be64 (data + 8);
  b->directory_host = load_be64 (data + 16);
}

void
bitmaps_extension_format (const struct bitmaps_extension *b, uint8_t *data)
{
  store_be32 (data, b->nr_bitmaps);
  store_be32 (data + 4, b->reserved);
  store_be64 (data + 8, b->directory_len);
  store_be64 (data + 16, b->directory_host);
}

static int
check (const struct image *img, const struct qcow2 *q,
       const struct bitmaps_extension *b)
{
  if (b->nr_bitmaps == 0 || b->nr_bitmaps > BITMAPS_MAX_NR)
    return REFUSE (EINVAL, "%s: the bitmaps extension (header extension "
                   "0x%08" PRIx32 ") counts %" PRIu32 " bitmaps, expected "
                   "1 to %" PRIu32 "; " CHECK_A_COPY, img->name,
                   EXTENSION_BITMAPS, b->nr_bitmaps, BITMAPS_MAX_NR);
  if (b->reserved != 0)
    return REFUSE (EINVAL, "%s: the reserved field of the bitmaps extension "
                   "(header extension 0x%08" PRIx32 ") is 0x%" PRIx32
                   ", expected 0; " CHECK_A_COPY,
                   img->name, EXTENSION_BITMAPS, b->reserved);
  if (b->directory_len > BITMAPS_MAX_DIRECTORY_LEN)
    return REFUSE (EINVAL, "%s: the bitmap directory is too large: %" PRIu64
                   " bytes (header extension 0x%08" PRIx32 "), the most is "
                   "%" PRIu64 "; " CHECK_A_COPY, img->name,
                   b->directory_len, EXTENSION_BITMAPS,
                   BITMAPS_MAX_DIRECTORY_LEN);
  if (b->directory_host % q->cluster_len != 0)
    return REFUSE (EINVAL, "%s: bitmap directory offset %" PRIu64 " (header "
                   "extension 0x%08" PRIx32 ") is not a multiple of the "
                   "cluster size %" PRIu32 "; " CHECK_A_COPY, img->name,
                   b->directory_host, EXTENSION_BITMAPS, q->cluster_len);
  if (b->directory_host > INT64_MAX - b->directory_len)
    return REFUSE (EINVAL, "%s: bitmap directory offset %" PRIu64 " (header "
                   "extension 0x%08" PRIx32 ") is too large; " CHECK_A_COPY,
                   img->name, b->directory_host, EXTENSION_BITMAPS);
  return 0;
}

int
bitmaps_extension_check (const struct image *img, const struct qcow2 *q)
{
  const struct extension *ext =
    extension_list_find (&q->extensions, EXTENSION_BITMAPS);
  struct bitmaps_extension b;

  if (ext == NULL || !(q->header.autoclear & QCOW2_BITMAPS_VALID))
    return 0;
  bitmaps_extension_parse (ext->data, &b);
  return check (img, q, &b);
}
