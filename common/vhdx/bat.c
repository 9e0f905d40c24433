/* The block allocation table: geometry, and checks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/refuse.h"
#include "vhdx/bat.h"

/* A table with no more content than this is looked through at open. */
#define ALWAYS_CHECKED (UINT64_C (8) << 20)

/* The table is read in pieces of so many bytes. */
#define PIECE_LEN (16 * 1024)

/* Files in which places can be told apart when all are looked at: 256 TiB,
 * four times the largest disk; a bit for each MiB.
 */
#define MAX_MAPPED_LEN (UINT64_C (1) << 48)

/* ---- geometry */

uint64_t
vhdx_block_disk_len (const struct image *img, uint64_t block)
{
  const struct vhdx *v = vhdx_state (img);
  const uint64_t start = block << v->block_bits;

  return MIN ((uint64_t) v->metadata.block_len,
              v->metadata.disk_len - start);
}

int
vhdx_bat_open (struct image *img, struct vhdx *v)
{
  const struct vhdx_metadata *m = &v->metadata;
  uint64_t nr_chunks;

  v->block_bits = __builtin_ctz (m->block_len);
  v->sector_bits = __builtin_ctz (m->sector_len);
  v->nr_blocks = div_round_up (m->disk_len, m->block_len);
  v->chunk_ratio = VHDX_BITMAP_SECTORS * m->sector_len / m->block_len;
  nr_chunks = div_round_up (v->nr_blocks, v->chunk_ratio);
  v->nr_entries = m->has_parent ? nr_chunks * (v->chunk_ratio + 1)
    : v->nr_blocks + (v->nr_blocks - 1) / v->chunk_ratio;
  if (v->nr_entries * 8 <= v->regions.bat.len)
    return 0;
  return REFUSE (EINVAL, "%s: the BAT has %" PRIu64 " bytes; a disk of %"
                 PRIu64 " bytes in blocks of %" PRIu32 " needs %" PRIu64
                 " bytes", img->name, v->regions.bat.len, m->disk_len,
                 m->block_len, v->nr_entries * 8);
}

/* ---- one entry */

/* Is [host, host+len) where blocks may lie? */
static const char *
place_fault (const struct image *img, uint64_t host, uint64_t len)
{
  const struct vhdx *v = vhdx_state (img);
  const struct vhdx_header *h = &v->header;

  if (host < VHDX_SECTION_LEN)
    return "it points into the header section";
  if (!range_is_inside (host, len, source_len (img->source)))
    return "it points beyond the end of the file";
  if (h->log_len > 0 && host < h->log_host + h->log_len &&
      h->log_host < host + len)
    return "it points into the log";
  if (vhdx_regions_find (&v->regions, host, len))
    return "it points into a region of metadata";
  return NULL;
}

static const char *
bitmap_fault (const struct image *img, uint64_t entry)
{
  const struct vhdx *v = vhdx_state (img);

  switch ((unsigned) vhdx_entry_state (entry)) {
  case VHDX_NOT_PRESENT:
    return NULL;
  case VHDX_PRESENT:
    if (!v->metadata.has_parent)
      return "there is a sector bitmap, but the disk has no parent";
    return place_fault (img, vhdx_entry_host (entry), VHDX_BITMAP_LEN);
  default:
    return "it has a state that sector bitmaps do not have";
  }
}

static const char *
block_fault (const struct image *img, uint64_t block, uint64_t entry)
{
  const struct vhdx *v = vhdx_state (img);
  const uint64_t host = vhdx_entry_host (entry);

  switch ((unsigned) vhdx_entry_state (entry)) {
  case VHDX_NOT_PRESENT:
  case VHDX_ZERO:
    return NULL;                /* an offset means nothing */
  case VHDX_UNDEFINED:
  case VHDX_UNMAPPED:
    if (host == 0)
      return NULL;
    break;
  case VHDX_PARTIAL:
    if (!v->metadata.has_parent)
      return "the block is partly present, but the disk has no parent";
    break;
  case VHDX_PRESENT:
    break;
  default:
    return "it has a state that is not known";
  }
  return place_fault (img, host, vhdx_block_disk_len (img, block));
}

const char *
vhdx_entry_fault (const struct image *img, uint64_t index, uint64_t entry)
{
  const struct vhdx *v = vhdx_state (img);

  if (entry & VHDX_ENTRY_RESERVED)
    return "bits that must be zero are set";
  if (vhdx_index_is_bitmap (v, index))
    return bitmap_fault (img, entry);
  return block_fault (img, vhdx_index_block (v, index), entry);
}

int
vhdx_bat_get (struct image *img, uint64_t index, uint64_t *entry)
{
  const uint64_t place = vhdx_entry_place (vhdx_state (img), index);
  struct page *page = cache_get (img->cache, place);

  if (page == NULL)
    return -1;
  *entry = load_entry_le64 (page->bytes + (place - page->host));
  cache_put (img->cache, page);
  return 0;
}

/* ---- the whole table */

struct check {
  struct image *img;
  struct vhdx *v;
  uint8_t *taken;               /* a bit for each MiB of the file; owned */
  uint64_t nr_bits;
};

/* Take the MiBs that [host, host+len) touches, all inside the file.  False:
 * something else is there.
 */
static bool
take (struct check *c, uint64_t host, uint64_t len)
{
  const uint64_t end = MIN (div_round_up (host + len, VHDX_MIB), c->nr_bits);

  for (uint64_t i = host / VHDX_MIB; i < end; ++i) {
    if (c->taken[i / 8] & 1 << i % 8)
      return false;
    c->taken[i / 8] |= 1 << i % 8;
  }
  return true;
}

static int
refuse_entry (const struct check *c, uint64_t index, uint64_t entry,
              const char *fault)
{
  return REFUSE (EINVAL, "%s: entry %" PRIu64 " of the BAT, at byte %" PRIu64
                 ", 0x%016" PRIx64 ", is wrong: %s", c->img->name, index,
                 vhdx_entry_place (c->v, index), entry, fault);
}

/* The place that an entry holds, anchors included; blocks are there in full
 * length, but for what the end of the file cuts off.
 */
static bool
take_entry (struct check *c, uint64_t index, uint64_t entry)
{
  const uint64_t host = vhdx_entry_host (entry);

  if (vhdx_index_is_bitmap (c->v, index))
    return vhdx_entry_state (entry) != VHDX_PRESENT ||
      take (c, host, VHDX_BITMAP_LEN);
  switch ((unsigned) vhdx_entry_state (entry)) {
  case VHDX_NOT_PRESENT:
  case VHDX_ZERO:
    return true;
  default:
    return host == 0 || take (c, host, c->v->metadata.block_len);
  }
}

/* Of the last chunk, which in a differencing disk has all its entries, as
 * its bitmap is the last.
 */
static bool
is_padding (const struct vhdx *v, uint64_t index)
{
  return !vhdx_index_is_bitmap (v, index) &&
    vhdx_index_block (v, index) >= v->nr_blocks;
}

static int
check_entry (struct check *c, uint64_t index, uint64_t entry)
{
  const char *fault;
  uint64_t bitmap;

  if (is_padding (c->v, index))
    return 0;
  fault = vhdx_entry_fault (c->img, index, entry);
  if (fault)
    return refuse_entry (c, index, entry, fault);
  if (!take_entry (c, index, entry))
    return refuse_entry (c, index, entry, "its place overlaps that of "
                         "another block");
  if (vhdx_index_is_bitmap (c->v, index) ||
      vhdx_entry_state (entry) != VHDX_PARTIAL)
    return 0;
  if (vhdx_bat_get (c->img,
                    vhdx_bitmap_index (c->v, vhdx_index_block (c->v, index)),
                    &bitmap) == -1)
    return -1;
  if (vhdx_entry_state (bitmap) != VHDX_PRESENT)
    return refuse_entry (c, index, entry, "the block is partly present, but "
                         "has no sector bitmap");
  return 0;
}

/* How many of the 'nr' entries at 'piece', all of blocks, are of blocks that
 * are nowhere: nothing can be wrong with these, and there may be very many.
 */
static uint64_t
count_nowhere (const uint8_t *piece, uint64_t nr)
{
  uint64_t i = 0;

  while (i < nr && load_le64 (piece + i * 8) <= VHDX_UNMAPPED)
    ++i;
  return i;
}

/* The 'nr' entries at 'piece', of which the first has the number 'first'. */
static int
check_piece (struct check *c, const uint8_t *piece, uint64_t first,
             uint64_t nr)
{
  const uint64_t step = c->v->chunk_ratio + 1;
  uint64_t i = 0;

  while (i < nr) {
    const uint64_t index = first + i;
    const uint64_t to_bitmap = c->v->chunk_ratio - index % step;
    uint64_t entry;

    i += count_nowhere (piece + i * 8, MIN (to_bitmap, nr - i));
    if (i == nr)
      break;
    entry = load_le64 (piece + i * 8);
    if (entry != 0 && check_entry (c, first + i, entry) == -1)
      return -1;
    ++i;
  }
  return 0;
}

/* Bytes [at, end) of the table. */
static int
check_range (struct check *c, uint8_t *piece, uint64_t at, uint64_t end)
{
  uint64_t len;

  for (; at < end; at += len) {
    len = MIN (end - at, (uint64_t) PIECE_LEN);
    if (source_pread_padded (c->img->source, piece, len,
                             c->v->regions.bat.host + at) == -1 ||
        check_piece (c, piece, at / 8, len / 8) == -1)
      return -1;
  }
  return 0;
}

/* All entries; holes cost nothing. */
static int
check_entries (struct check *c)
{
  CLEANUP_FREE uint8_t *piece = malloc (PIECE_LEN);
  const uint64_t end = c->v->nr_entries * 8;
  uint64_t at = 0, len;

  if (piece == NULL)
    return REFUSE (ENOMEM, "%s: no memory to check the BAT", c->img->name);
  for (; at < end; at += len) {
    const struct source_extent ext =
      source_extent (c->img->source, c->v->regions.bat.host + at, end - at);

    len = round_down (ext.len, 8);
    if (ext.hole && len > 0)
      continue;
    len = MAX (len, UINT64_C (8));
    if (check_range (c, piece, at, at + len) == -1)
      return -1;
  }
  return 0;
}

/* Bytes of the table that are no holes, up to 'max' or a little more. */
static uint64_t
content_len (const struct image *img, uint64_t max)
{
  const struct vhdx *v = vhdx_state (img);
  const uint64_t end = v->nr_entries * 8;
  uint64_t at = 0, sum = 0;

  while (at < end && sum <= max) {
    const struct source_extent ext =
      source_extent (img->source, v->regions.bat.host + at, end - at);

    if (!ext.hole)
      sum += ext.len;
    at += ext.len;
  }
  return sum;
}

int
vhdx_bat_check (struct image *img, bool all)
{
  const uint64_t file_len = source_len (img->source);
  CLEANUP_FREE uint8_t *taken = NULL;
  struct check c = {
    .img = img,
    .v = vhdx_state (img),
    .nr_bits = div_round_up (file_len, VHDX_MIB),
  };

  if (!all && (content_len (img, ALWAYS_CHECKED) > ALWAYS_CHECKED ||
               file_len > MAX_MAPPED_LEN))
    return 0;
  if (file_len > MAX_MAPPED_LEN)
    return REFUSE (EINVAL, "%s: the file is %" PRIu64 " bytes long; images "
                   "up to %" PRIu64 " bytes can be checked", img->name,
                   file_len, MAX_MAPPED_LEN);
  c.taken = taken = calloc (1, c.nr_bits / 8 + 1);
  if (taken == NULL)
    return REFUSE (ENOMEM, "%s: no memory to check the BAT", img->name);
  return check_entries (&c);
}
