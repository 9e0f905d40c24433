/* What an open VHDX image is made of: img->state.
 *
 * img->source is the file, or the view of it after its log has been
 * replayed (log.h); all below go through that.
 *
 * Private to this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_STATE_H
#define NDF_VHDX_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/damage.h"
#include "image/image.h"
#include "vhdx/header.h"
#include "vhdx/locator.h"
#include "vhdx/metadata.h"
#include "vhdx/region.h"

/* All constant since open, but for what says otherwise. */
struct vhdx {
  struct vhdx_header header;
  struct vhdx_regions regions;
  struct vhdx_metadata metadata;
  struct vhdx_locator locator;  /* of differencing disks */
  bool was_replayed;            /* img->source is such a view */

  unsigned block_bits;          /* log2 of the bytes of a block */
  unsigned sector_bits;
  uint64_t nr_blocks;           /* payload */
  uint64_t chunk_ratio;         /* blocks for each sector bitmap */
  uint64_t nr_entries;          /* of the BAT, that the disk needs */

  struct damage_log damage;     /* has its own lock */
};

static inline struct vhdx *
vhdx_state (const struct image *img)
{
  return img->state;
}

#endif /* NDF_VHDX_STATE_H */
