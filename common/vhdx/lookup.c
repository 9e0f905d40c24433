/* Where a guest range lives: the BAT, and for blocks that are partly
 * present the bits of their sectors.
 *
 * The walk pins one page at a time and looks at a bounded number of pages;
 * when that is used up the answer is shorter than asked.
 *
 * Format: MS-VHDX 2.5.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "vhdx/bat.h"
#include "vhdx/lookup.h"

/* Pages of tables and bitmaps that one lookup may look at. */
#define MAX_PAGES 64

struct walk {
  struct image *img;
  struct vhdx *v;
  uint64_t guest, end;          /* still to be answered */
  unsigned pages_left;

  struct extent_list out;
};

/* ---- extents */

/* Answer the next next->len bytes, and go on behind them. */
static void
add_extent (struct walk *w, const struct extent *next)
{
  if (extent_list_add (&w->out, next))
    w->guest += next->len;
}

static void
add_plain (struct walk *w, enum extent_type type, uint64_t len)
{
  struct extent ext = { .type = type, .len = len };

  add_extent (w, &ext);
}

static void
add_data (struct walk *w, uint64_t host, uint64_t len)
{
  struct extent ext = {
    .type = EXTENT_DATA,
    .len = len,
    .src = w->img->source,
    .host = host,
    .allocated = true,
  };

  add_extent (w, &ext);
}

static void
add_damaged (struct walk *w, uint64_t index, uint64_t entry,
             const char *fault, uint64_t len)
{
  const uint64_t place = vhdx_entry_place (w->v, index);

  damage_log_report (&w->v->damage, w->img->name, place,
                     "entry %" PRIu64 " of the BAT, at byte %" PRIu64
                     ", 0x%016" PRIx64 ", is wrong: %s; the block at disk "
                     "offset %" PRIu64 " cannot be read", index, place,
                     entry, fault,
                     round_down (w->guest, w->v->metadata.block_len));
  image_set_damaged (w->img);
  add_plain (w, EXTENT_DAMAGED, len);
}

/* ---- blocks that are partly present */

/* How many of the bits from 'bit' on, of 'nr', are like the first? */
static uint64_t
count_same_bits (const uint8_t *bytes, uint64_t bit, uint64_t nr)
{
  const uint64_t flip = bytes[bit / 8] >> bit % 8 & 1 ? UINT64_MAX : 0;
  uint64_t n = 0;

  while (n < nr) {
    const uint64_t at = bit + n;

    if (at % 64 == 0 && nr - n >= 64) {
      const uint64_t word = load_le64 (bytes + at / 8) ^ flip;

      if (word != 0)
        return n + __builtin_ctzll (word);
      n += 64;
    }
    else if ((bytes[at / 8] >> at % 8 & 1) != (flip & 1))
      return n;
    else
      n++;
  }
  return n;
}

/* Answer from the page of the bitmap what lies before 'end'; the first
 * sector's bit is number 'bit' of the page.
 */
static void
walk_bits (struct walk *w, const uint8_t *bytes, uint64_t bit,
           uint64_t block_host, uint64_t end)
{
  const unsigned bits = w->v->sector_bits;
  const uint64_t mask = w->v->metadata.block_len - 1;

  while (w->guest < end && !w->out.is_full) {
    const uint64_t sector = w->guest >> bits;
    const uint64_t last = div_round_up (end, UINT64_C (1) << bits);
    const uint64_t n = count_same_bits (bytes, bit, last - sector);
    const uint64_t len = MIN ((sector + n) << bits, end) - w->guest;

    if (bytes[bit / 8] >> bit % 8 & 1)
      add_data (w, block_host + (w->guest & mask), len);
    else
      add_plain (w, EXTENT_BACKING, len);
    bit += n;
  }
}

/* Answer what lies before 'end' in a partly present block at 'block_host',
 * whose bits are in the bitmap block at 'bitmap_host'.
 */
static int
walk_partial (struct walk *w, uint64_t block_host, uint64_t bitmap_host,
              uint64_t end)
{
  const uint32_t page_len = cache_page_len (w->img->cache);
  const unsigned bits = w->v->sector_bits;

  while (w->guest < end && w->pages_left > 0 && !w->out.is_full) {
    /* The chunk's sectors are a power of two, from its start. */
    const uint64_t bit = (w->guest >> bits) & (VHDX_BITMAP_SECTORS - 1);
    const uint64_t place = bitmap_host + bit / 8;
    struct page *page = cache_get (w->img->cache, place);
    const uint64_t first = bit % (page_len * UINT64_C (8));
    const uint64_t page_end =
      ((w->guest >> bits) - first + page_len * UINT64_C (8)) << bits;

    if (page == NULL)
      return -1;
    walk_bits (w, page->bytes, first, block_host, MIN (end, page_end));
    cache_put (w->img->cache, page);
    w->pages_left--;
  }
  return 0;
}

static int
add_partial (struct walk *w, uint64_t block, uint64_t entry, uint64_t end)
{
  const uint64_t index = vhdx_bitmap_index (w->v, block);
  const char *fault;
  uint64_t bitmap;

  if (vhdx_bat_get (w->img, index, &bitmap) == -1)
    return -1;
  fault = vhdx_entry_fault (w->img, index, bitmap);
  if (fault == NULL && vhdx_entry_state (bitmap) != VHDX_PRESENT)
    fault = "a block is partly present, but has no sector bitmap";
  if (fault) {
    add_damaged (w, index, bitmap, fault, end - w->guest);
    return 0;
  }
  return walk_partial (w, vhdx_entry_host (entry), vhdx_entry_host (bitmap),
                       end);
}

/* ---- blocks */

/* Answer what lies before 'end' in the block, by its entry. */
static int
add_block (struct walk *w, uint64_t block, uint64_t entry, uint64_t end)
{
  const uint64_t index = vhdx_block_index (w->v, block);
  const uint64_t len = end - w->guest;
  const char *fault = vhdx_entry_fault (w->img, index, entry);

  if (fault) {
    add_damaged (w, index, entry, fault, len);
    return 0;
  }
  switch (vhdx_entry_state (entry)) {
  case VHDX_NOT_PRESENT:
    add_plain (w, w->v->metadata.has_parent || w->img->backing
               ? EXTENT_BACKING : EXTENT_ZERO, len);
    return 0;
  case VHDX_PARTIAL:
    return add_partial (w, block, entry, end);
  case VHDX_PRESENT:
    add_data (w, vhdx_entry_host (entry) +
              (w->guest & (w->v->metadata.block_len - 1)), len);
    return 0;
  default:
    add_plain (w, EXTENT_ZERO, len);
    return 0;
  }
}

/* Answer from one page of the BAT. */
static int
walk_bat_page (struct walk *w)
{
  struct vhdx *v = w->v;
  struct cache *cache = w->img->cache;
  uint64_t block = w->guest >> v->block_bits;
  uint64_t place = vhdx_entry_place (v, vhdx_block_index (v, block));
  struct page *page = cache_get (cache, place);
  int r = 0;

  if (page == NULL)
    return -1;
  w->pages_left--;
  while (r == 0 && w->guest < w->end && !w->out.is_full &&
         place - page->host < cache_page_len (cache)) {
    const uint64_t end = MIN ((block + 1) << v->block_bits, w->end);

    r = add_block (w, block,
                   load_entry_le64 (page->bytes + (place - page->host)),
                   end);
    if (w->guest < end)
      break;
    block++;
    place = vhdx_entry_place (v, vhdx_block_index (v, block));
  }
  cache_put (cache, page);
  return r;
}

ssize_t
vhdx_lookup (struct image *img, uint64_t guest, uint64_t len,
             struct extent *ext, size_t max)
{
  struct walk w = {
    .img = img,
    .v = vhdx_state (img),
    .guest = guest,
    .end = guest + len,
    .pages_left = MAX_PAGES,
    .out = { .ext = ext, .max = max },
  };
  int r = 0;

  while (r == 0 && w.guest < w.end && w.pages_left > 0 && !w.out.is_full)
    r = walk_bat_page (&w);
  /* What was answered before a failure is answered. */
  return w.out.nr > 0 ? (ssize_t) w.out.nr : -1;
}
