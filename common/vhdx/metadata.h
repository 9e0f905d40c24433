/* The metadata region: what the disk is like.
 *
 * Format: MS-VHDX 2.6.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_METADATA_H
#define NDF_VHDX_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "source/source.h"
#include "vhdx/guid.h"
#include "vhdx/region.h"

#define VHDX_MIN_BLOCK_LEN UINT32_C (1048576)
#define VHDX_MAX_BLOCK_LEN UINT32_C (268435456)
#define VHDX_MAX_DISK_LEN (UINT64_C (1) << 46)
#define VHDX_MAX_ITEM_LEN UINT32_C (1048576)

struct vhdx_metadata {
  uint32_t block_len;           /* bytes, a power of two */
  bool leaves_allocated;        /* a fixed disk */
  bool has_parent;
  uint64_t disk_len;            /* bytes, a multiple of sector_len */
  uint32_t sector_len;          /* logical, 512 or 4096 */
  uint32_t physical_sector_len;
  struct guid disk_id;
  uint8_t *locator;             /* the parent locator item; NULL: none;
                                   owned */
  uint32_t locator_len;         /* bytes */
};

/* 0; -1, reported, errno EINVAL, ENOTSUP, EIO, ENOMEM.  To be freed in any
 * case.
 */
extern int vhdx_metadata_read (struct source *src, const char *name,
                               const struct vhdx_region *region,
                               struct vhdx_metadata *m);
extern void vhdx_metadata_free (struct vhdx_metadata *m);

#endif /* NDF_VHDX_METADATA_H */
