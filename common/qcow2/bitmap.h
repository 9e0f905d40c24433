/* Persistent dirty bitmaps: the header extension that points to them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_BITMAP_H
#define NDF_QCOW2_BITMAP_H

#include "qcow2/state.h"

#define BITMAPS_MAX_NR UINT32_C (65535)
#define BITMAPS_MAX_DIRECTORY_LEN (UINT64_C (1024) * BITMAPS_MAX_NR)

/* Spec "Bitmaps extension". */
struct bitmaps_extension {
  uint32_t nr_bitmaps;
  uint32_t reserved;            /* 0 */
  uint64_t directory_len;
  uint64_t directory_host;
};

extern void bitmaps_extension_parse (const uint8_t *data,
                                     struct bitmaps_extension *b);
extern void bitmaps_extension_format (const struct bitmaps_extension *b,
                                      uint8_t *data);

/* Check the extension, if the image has one that is to be believed.
 * Returns 0; -1, reported, errno EINVAL.
 */
extern int bitmaps_extension_check (const struct image *img,
                                    const struct qcow2 *q);

#endif /* NDF_QCOW2_BITMAP_H */
