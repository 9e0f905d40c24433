/* The region table: where BAT and metadata lie.
 *
 * Format: MS-VHDX 2.2.3.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_REGION_H
#define NDF_VHDX_REGION_H

#include <stdint.h>

#include "source/source.h"
#include "vhdx/guid.h"
#include "vhdx/header.h"

#define VHDX_MAX_REGIONS 2047

struct vhdx_region {
  struct guid guid;
  uint64_t host;                /* bytes, a multiple of 1 MiB */
  uint64_t len;                 /* bytes, likewise, > 0 */
};

/* All that the table names. */
struct vhdx_regions {
  unsigned copy;                /* which table was used: 0 or 1 */
  unsigned nr;
  struct vhdx_region *all;      /* owned; in the order of the file */
  struct vhdx_region bat;
  struct vhdx_region metadata;
};

/* Read the first table that is sound from 'src' (the file, or its view
 * after a replay).  Checked: alignment, bounds, that no two regions, the
 * log and the header section overlap, that nothing unknown is required.
 *
 * 0; -1, reported, errno EINVAL, ENOTSUP, EIO, ENOMEM.  To be freed in any
 * case.
 */
extern int vhdx_regions_read (struct source *src, const char *name,
                              const struct vhdx_header *h,
                              struct vhdx_regions *regions);

/* The first region that meets [host, host+len); NULL: none. */
extern const struct vhdx_region *
vhdx_regions_find (const struct vhdx_regions *regions, uint64_t host,
                   uint64_t len);

extern void vhdx_regions_free (struct vhdx_regions *regions);

#endif /* NDF_VHDX_REGION_H */
