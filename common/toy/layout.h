/* What a toy image looks like on disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_LAYOUT_H
#define NDF_TOY_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "include/byte-order.h"
#include "source/source.h"
#include "toy/toy.h"

/* Pages of the metadata cache: an eighth of a unit. */
#define TOY_PAGE 512

/* Header: byte offsets. */
#define HEADER_MAGIC 0          /* 8 bytes */
#define HEADER_LEN 8            /* of the disk, bytes */
#define HEADER_HOST_LEN 16      /* bytes, whole groups */
#define HEADER_FEATURES 24      /* 8 bytes, enum toy_features */
#define HEADER_WRITTEN 32       /* 1 byte: changed and not closed since */

/* Table entries. */
#define ENTRY_ZERO UINT64_C (1) /* reads as zeroes */
#define ENTRY_ONCE (UINT64_C (1) << 62) /* nobody else uses the place */
#define ENTRY_HOST UINT64_C (0x00fffffffffff000)

struct toy_layout {
  uint64_t len;                 /* of the disk, bytes */
  uint64_t nr_guest_units;
  uint64_t nr_groups;
  uint64_t nr_host_units;
  unsigned features;
  uint64_t directory, table, data; /* where each begins, bytes */
};

/* Where a group's count block lies, if it has one: its last unit. */
static inline uint64_t
toy_block_host (uint64_t group)
{
  return ((group + 1) * TOY_GROUP - 1) * TOY_UNIT;
}

static inline bool
toy_is_block_unit (uint64_t unit)
{
  return unit % TOY_GROUP == TOY_GROUP - 1;
}

/* Read and check the header: 0, or -1, reported, errno EINVAL, EIO. */
extern int toy_layout_read (struct source *src, struct toy_layout *layout);

/* May the table hold this entry? */
extern bool toy_entry_is_sound (const struct toy_layout *layout,
                                uint64_t entry);

#endif /* NDF_TOY_LAYOUT_H */
