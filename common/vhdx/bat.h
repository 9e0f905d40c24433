/* Entries of the block allocation table.
 *
 * After the entries of chunk_ratio payload blocks there is that of the
 * sector bitmap block for them; also where no bitmaps exist.
 *
 * Format: MS-VHDX 2.5.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_BAT_H
#define NDF_VHDX_BAT_H

#include <stdint.h>

#include "vhdx/state.h"

/* Sectors that one bitmap block knows. */
#define VHDX_BITMAP_SECTORS (UINT64_C (1) << 23)
#define VHDX_BITMAP_LEN VHDX_MIB

/* Bits 0 to 2 are the state, 20 to 63 the offset in units of 1 MiB. */
#define VHDX_ENTRY_STATE UINT64_C (7)
#define VHDX_ENTRY_HOST (~UINT64_C (0xfffff))
#define VHDX_ENTRY_RESERVED UINT64_C (0xffff8)

enum vhdx_block_state {
  VHDX_NOT_PRESENT = 0,         /* the parent's; zeroes without one */
  VHDX_UNDEFINED = 1,           /* this and the next two: zeroes */
  VHDX_ZERO = 2,
  VHDX_UNMAPPED = 3,
  VHDX_PRESENT = 6,
  VHDX_PARTIAL = 7,             /* by the bits of its sectors */
};

static inline enum vhdx_block_state
vhdx_entry_state (uint64_t entry)
{
  return entry & VHDX_ENTRY_STATE;
}

static inline uint64_t
vhdx_entry_host (uint64_t entry)
{
  return entry & VHDX_ENTRY_HOST;
}

static inline uint64_t
vhdx_block_index (const struct vhdx *v, uint64_t block)
{
  return block + block / v->chunk_ratio;
}

/* Of the bitmap block for payload block 'block'. */
static inline uint64_t
vhdx_bitmap_index (const struct vhdx *v, uint64_t block)
{
  return block / v->chunk_ratio * (v->chunk_ratio + 1) + v->chunk_ratio;
}

static inline bool
vhdx_index_is_bitmap (const struct vhdx *v, uint64_t index)
{
  return index % (v->chunk_ratio + 1) == v->chunk_ratio;
}

/* The payload block of an entry that is one's. */
static inline uint64_t
vhdx_index_block (const struct vhdx *v, uint64_t index)
{
  return index - index / (v->chunk_ratio + 1);
}

/* Where the entry lies in the file. */
static inline uint64_t
vhdx_entry_place (const struct vhdx *v, uint64_t index)
{
  return v->regions.bat.host + index * 8;
}

/* Bytes of the disk in a block: less in the last one. */
extern uint64_t vhdx_block_disk_len (const struct image *img,
                                     uint64_t block);

/* Set the numbers that follow from the metadata, and check that the BAT
 * has all entries.  -1, reported.
 */
extern int vhdx_bat_open (struct image *img, struct vhdx *v);

/* What is wrong with an entry by itself, in words; NULL: nothing. */
extern const char *vhdx_entry_fault (const struct image *img,
                                     uint64_t index, uint64_t entry);

/* Read entry 'index'.  -1, reported, errno EIO or ENOMEM. */
extern int vhdx_bat_get (struct image *img, uint64_t index,
                         uint64_t *entry);

/* Look through the table: every entry by itself, that those of partly
 * present blocks have their bitmaps, that no two things lie on each other.
 * Unless 'all', a table with much content is not looked through: entries
 * are then checked when they are met.
 *
 * 0; -1, reported, errno EINVAL, EIO, ENOMEM.
 */
extern int vhdx_bat_check (struct image *img, bool all);

#endif /* NDF_VHDX_BAT_H */
