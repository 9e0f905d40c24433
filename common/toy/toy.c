/* The toy format: see toy.h for what it looks like.
 *
 * Reserving finds free units (first fit, from where the last search ended)
 * within one group and one table page, counts them, and pins the pages
 * that link and abandon need; so these cannot fail.  A unit that a change
 * no longer uses stays counted until the pass that made the drop durable
 * is over, and is free only then.
 *
 * The format lock guards all of the state, and every page that changes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"
#include "toy/layout.h"
#include "toy/toy.h"

/* The file grows by this much at least. */
#define GROWTH (UINT64_C (1) << 20)

/* Table pages that one lookup looks at. */
#define LOOKUP_PAGES 4

struct toy_state {
  struct toy_layout layout;

  /* One for each host unit, all guarded by the format lock. */
  uint8_t *counts;              /* as in the count blocks in the cache */
  uint8_t *dropped;             /* of these, no longer in use... */
  uint64_t *dropped_cut;        /* ...since before this cut */

  /* One for each group: its block exists. */
  _Atomic bool *has_block;

  uint64_t next_unit;           /* where to search; format lock */
  uint64_t zero_from;           /* data units read as zeroes from here;
                                   format lock */
};

static inline uint64_t
guest_unit (uint64_t guest)
{
  return guest / TOY_UNIT;
}

/* Host units that may be used at all. */
static uint64_t
usable_units (const struct image *img)
{
  const struct toy_state *toy = img->state;
  uint64_t nr = toy->layout.nr_host_units;

  if (!img->data_source->can_grow)
    nr = MIN (nr, source_len (img->data_source) / TOY_UNIT);
  if (!img->source->can_grow)
    nr = MIN (nr, source_len (img->source) / TOY_UNIT);
  return round_down (nr, TOY_GROUP);
}

/* ---- opening */

static int
no_memory (const struct image *img)
{
  report_error ("%s: no memory", img->name);
  errno = ENOMEM;
  return -1;
}

/* Read the counts of all groups. */
static int
read_counts (struct image *img)
{
  struct toy_state *toy = img->state;
  const struct toy_layout *l = &toy->layout;
  uint8_t entry[8];

  for (uint64_t g = 0; g < l->nr_groups; ++g) {
    uint64_t host;

    if (source_pread_padded (img->source, entry, sizeof entry,
                             l->directory + 8 * g) == -1)
      return -1;
    host = load_be64 (entry);
    if (host == 0)
      continue;
    if (host != toy_block_host (g)) {
      report_error ("%s: count block %" PRIu64 " is said to lie at %" PRIu64,
                    img->name, g, host);
      errno = EINVAL;
      return -1;
    }
    if (source_pread_padded (img->source, toy->counts + g * TOY_GROUP,
                             TOY_GROUP, host) == -1)
      return -1;
    toy->has_block[g] = true;
  }
  return 0;
}

static int
toy_open (struct image *img)
{
  struct toy_state *toy = calloc (1, sizeof *toy);
  const struct toy_layout *l;

  if (toy == NULL)
    return no_memory (img);
  img->state = toy;
  if (toy_layout_read (img->source, &toy->layout) == -1)
    return -1;
  l = &toy->layout;
  toy->counts = calloc (l->nr_groups, TOY_GROUP);
  toy->dropped = calloc (l->nr_groups, TOY_GROUP);
  toy->dropped_cut = calloc (l->nr_groups * TOY_GROUP, 8);
  toy->has_block = calloc (l->nr_groups, sizeof *toy->has_block);
  if (!toy->counts || !toy->dropped || !toy->dropped_cut || !toy->has_block)
    return no_memory (img);
  if (read_counts (img) == -1)
    return -1;

  img->len = l->len;
  img->unit = img->zero_unit = TOY_UNIT;
  img->wants_backing = l->features & TOY_BACKING;
  img->wants_data_file = l->features & TOY_DATA_FILE;
  return image_make_cache (img, TOY_PAGE);
}

static int
toy_connected (struct image *img)
{
  struct toy_state *toy = img->state;

  /* What other content the rest of a last unit has is not known. */
  toy->zero_from = img->data_source->can_grow
    ? round_up (source_len (img->data_source), TOY_UNIT) : UINT64_MAX;
  return 0;
}

/* ---- lookup */

static void
entry_to_extent (const struct image *img, uint64_t guest, uint64_t entry,
                 struct extent *ext)
{
  const struct toy_state *toy = img->state;
  const uint64_t host = entry & ENTRY_HOST;

  *ext = (struct extent) { .len = TOY_UNIT };
  if (!toy_entry_is_sound (&toy->layout, entry)) {
    report_error ("%s: entry %" PRIx64 " of guest offset %" PRIu64
                  " is damaged", img->name, entry, guest);
    ext->type = EXTENT_DAMAGED;
  }
  else if (entry & ENTRY_ZERO) {
    ext->type = EXTENT_ZERO;
    ext->allocated = host != 0;
  }
  else if (host == 0)
    ext->type = img->wants_backing ? EXTENT_BACKING : EXTENT_ZERO;
  else {
    ext->type = EXTENT_DATA;
    ext->writable = entry & ENTRY_ONCE;
    ext->allocated = true;
  }
  if (host != 0) {
    ext->src = img->data_source;
    ext->host = host;
  }
}

/* Add 'next' to what is there if it goes on in the same way. */
static bool
merge (struct extent *ext, const struct extent *next)
{
  if (ext->type != next->type || ext->src != next->src ||
      ext->writable != next->writable || ext->allocated != next->allocated ||
      ext->type == EXTENT_DAMAGED)
    return false;
  if (next->src && ext->host + ext->len != next->host)
    return false;
  ext->len += next->len;
  return true;
}

static ssize_t
toy_lookup (struct image *img, uint64_t guest, uint64_t len,
            struct extent *ext, size_t max)
{
  const struct toy_state *toy = img->state;
  const uint64_t end = guest + len;
  struct page *page = NULL;
  unsigned nr_pages = 0;
  ssize_t n = 0;

  while (guest < end) {
    const uint64_t place = toy->layout.table + 8 * guest_unit (guest);
    const uint64_t within = guest % TOY_UNIT;
    struct extent next;

    if (page == NULL || place >= page->host + TOY_PAGE) {
      cache_put (img->cache, page);
      page = NULL;
      if (n > 0 && nr_pages++ == LOOKUP_PAGES)
        break;
      page = cache_get (img->cache, place);
      if (page == NULL)
        return n > 0 ? n : -1;
    }
    entry_to_extent (img, guest,
                     load_entry_be64 (page->bytes + place % TOY_PAGE), &next);
    if (next.src)
      next.host += within;
    next.len = MIN (TOY_UNIT - within, end - guest);
    guest += next.len;
    if (n > 0 && merge (&ext[n - 1], &next))
      continue;
    if ((size_t) n == max)
      break;
    ext[n++] = next;
  }
  cache_put (img->cache, page);
  return n;
}

/* ---- before the first change, and after the last */

static struct page *
get_header (struct image *img)
{
  return cache_get (img->cache, 0);
}

static void
set_written (struct image *img, struct page *header, bool written)
{
  pass_begin_change (img);
  header->bytes[HEADER_WRITTEN] = written;
  cache_dirty (img->cache, header, PASS_HEADER);
  pass_end_change (img);
  cache_put (img->cache, header);
}

static int
toy_prepare (struct image *img)
{
  struct page *header = get_header (img);

  if (header == NULL)
    return -1;
  set_written (img, header, true);
  return pass_run (img);
}

static int
toy_finish (struct image *img)
{
  struct toy_state *toy = img->state;
  struct source *src = img->data_source;
  uint64_t last = 0, end;
  struct page *header;

  LOCK_SCOPE (&img->format_lock);

  for (uint64_t u = 0; u < toy->layout.nr_host_units; ++u) {
    if (toy->counts[u] > 0)
      last = u;
    if (toy->dropped[u] > 0)
      return 0;                 /* could not be freed: stays marked */
  }
  end = (last + 1) * TOY_UNIT;
  if (src->can_grow && source_len (src) > end &&
      source_truncate (src, end) == -1)
    return -1;

  header = get_header (img);
  if (header == NULL)
    return -1;
  set_written (img, header, false);
  return 0;
}

static void
toy_close (struct image *img)
{
  struct toy_state *toy = img->state;

  if (toy == NULL)
    return;
  free (toy->counts);
  free (toy->dropped);
  free (toy->dropped_cut);
  free (toy->has_block);
  free (toy);
  img->state = NULL;
}

/* ---- making room */

/* A free run of up to *nr units within one group; its first unit, or 0. */
static uint64_t
find_free_locked (struct image *img, uint64_t *nr)
{
  struct toy_state *toy = img->state;
  const uint64_t end = usable_units (img);
  uint64_t u = toy->next_unit, n;

  assert_held (&img->format_lock);
  for (uint64_t i = 0; i < end; ++i, ++u) {
    if (u >= end)
      u = 0;
    if (toy->counts[u] > 0 || toy_is_block_unit (u))
      continue;
    for (n = 1; n < *nr; ++n)
      if (toy->counts[u + n] > 0 || toy_is_block_unit (u + n))
        break;
    *nr = n;
    toy->next_unit = u + n;
    return u;
  }
  return 0;
}

/* Have the file reach to 'end' at least. */
static int
grow (struct source *src, uint64_t end)
{
  if (!src->can_grow || source_len (src) >= end)
    return 0;
  return source_truncate (src, round_up (end, GROWTH));
}

/* Count units [u, u+nr) as used once more (or less), in 'page', the block
 * of their group.  In a change section.
 */
static void
count_locked (struct image *img, struct page *page, uint64_t u, uint64_t nr,
              int change)
{
  struct toy_state *toy = img->state;

  assert_held (&img->format_lock);
  for (uint64_t i = u; i < u + nr; ++i) {
    toy->counts[i] += change;
    page->bytes[i % TOY_GROUP] = toy->counts[i];
  }
  cache_dirty (img->cache, page, PASS_FILL);
}

/* Make the count block of group 'g'; NULL, reported. */
static struct page *
make_block_locked (struct image *img, uint64_t g)
{
  struct toy_state *toy = img->state;
  const uint64_t place = toy->layout.directory + 8 * g;
  const uint64_t host = toy_block_host (g);
  struct page *directory, *block;

  assert_held (&img->format_lock);
  if (grow (img->source, host + TOY_UNIT) == -1)
    return NULL;
  directory = cache_get (img->cache, place);
  if (directory == NULL)
    return NULL;

  pass_begin_change (img);
  block = cache_create (img->cache, host);
  if (block) {
    toy->has_block[g] = true;
    count_locked (img, block, host / TOY_UNIT, 1, 1);
    store_entry_be64 (directory->bytes + place % TOY_PAGE, host);
    cache_dirty (img->cache, directory, PASS_COUNT);
  }
  pass_end_change (img);
  cache_put (img->cache, directory);
  return block;
}

static struct page *
get_block_locked (struct image *img, uint64_t u)
{
  struct toy_state *toy = img->state;
  const uint64_t g = u / TOY_GROUP;

  if (!toy->has_block[g])
    return make_block_locked (img, g);
  return cache_get (img->cache, toy_block_host (g));
}

/* How many units from 'place' in the table page on hold space in reserve,
 * in a row?  Zero with a place of its own is written again there.
 */
static uint64_t
held_units (const struct page *page, uint64_t place, uint64_t nr,
            uint64_t *host)
{
  const uint64_t wanted = ENTRY_ZERO | ENTRY_ONCE;
  uint64_t n;

  for (n = 0; n < nr; ++n) {
    uint64_t entry = load_entry_be64 (page->bytes + place % TOY_PAGE + 8 * n);

    if ((entry & ~ENTRY_HOST) != wanted || (entry & ENTRY_HOST) == 0)
      break;
    if (n == 0)
      *host = entry & ENTRY_HOST;
    else if ((entry & ENTRY_HOST) != *host + n * TOY_UNIT)
      break;
  }
  return n;
}

/* What reserve, link and abandon share. */
struct room {
  uint64_t host;                /* of the first unit */
  uint64_t nr;                  /* units */
  bool reads_zero;
  struct page *table;           /* pinned */
  struct page *block;           /* pinned; NULL: nothing was counted */
};

/* Find and count room->nr new units, or fewer. */
static int
take_units_locked (struct image *img, struct room *room)
{
  struct toy_state *toy = img->state;
  uint64_t u, end;

  assert_held (&img->format_lock);
  u = find_free_locked (img, &room->nr);
  if (u == 0) {
    errno = ENOSPC;
    return -1;
  }
  room->host = u * TOY_UNIT;
  end = room->host + room->nr * TOY_UNIT;
  if (grow (img->data_source, end) == -1)
    return -1;
  room->block = get_block_locked (img, u);
  if (room->block == NULL)
    return -1;

  room->reads_zero = room->host >= toy->zero_from;
  if (toy->zero_from != UINT64_MAX)
    toy->zero_from = MAX (toy->zero_from, end);

  pass_begin_change (img);
  count_locked (img, room->block, u, room->nr, 1);
  pass_end_change (img);
  return 0;
}

static int
toy_reserve (struct image *img, uint64_t guest, uint64_t len,
             struct claim *claim)
{
  const struct toy_state *toy = img->state;
  const uint64_t first = guest_unit (guest);
  const uint64_t place = toy->layout.table + 8 * first;
  const uint64_t start = first * TOY_UNIT;
  struct room room = { .nr = div_round_up (guest + len - start, TOY_UNIT) };
  uint64_t held;

  LOCK_SCOPE (&img->format_lock);

  room.table = cache_get (img->cache, place);
  if (room.table == NULL)
    return -1;
  room.nr = MIN (room.nr, (TOY_PAGE - place % TOY_PAGE) / 8);
  held = held_units (room.table, place, room.nr, &room.host);
  if (held > 0)
    room.nr = held;
  else if (take_units_locked (img, &room) == -1) {
    const int err = errno;

    cache_put (img->cache, room.table);
    errno = err;
    return -1;
  }

  *claim = (struct claim) {
    .guest = guest,
    .len = MIN (guest + len, start + room.nr * TOY_UNIT) - guest,
    .src = img->data_source,
    .host = room.host + (guest - start),
    .fill_start = start, .fill_end = start + room.nr * TOY_UNIT,
    .reads_zero = room.reads_zero,
    .cookie = { (uintptr_t) room.table, (uintptr_t) room.block },
  };
  return 0;
}

static struct room
room_of (const struct claim *claim)
{
  return (struct room) {
    .host = claim->host - (claim->guest - claim->fill_start),
    .nr = (claim->fill_end - claim->fill_start) / TOY_UNIT,
    .table = (struct page *) (uintptr_t) claim->cookie[0],
    .block = (struct page *) (uintptr_t) claim->cookie[1],
  };
}

static void
put_room (struct image *img, struct room *room)
{
  cache_put (img->cache, room->table);
  cache_put (img->cache, room->block);
}

/* ---- changing the table */

/* The table no longer uses the place of 'entry'.  In a change section. */
static void
drop_locked (struct image *img, uint64_t entry)
{
  struct toy_state *toy = img->state;
  const uint64_t u = (entry & ENTRY_HOST) / TOY_UNIT;

  assert_held (&img->format_lock);
  if (u == 0 || !toy_entry_is_sound (&toy->layout, entry))
    return;
  assert (toy->dropped[u] < toy->counts[u]);
  toy->dropped[u]++;
  toy->dropped_cut[u] = pass_next_cut (img);
}

static void
set_entry_locked (struct image *img, struct page *table, uint64_t place,
                  uint64_t entry)
{
  uint8_t *p = table->bytes + place % TOY_PAGE;
  const uint64_t old = load_entry_be64 (p);

  if (entry == old)
    return;
  if ((old & ENTRY_HOST) != (entry & ENTRY_HOST))
    drop_locked (img, old);
  store_entry_be64 (p, entry);
  cache_dirty (img->cache, table, PASS_LINK);
}

static void
toy_link (struct image *img, const struct claim *claim)
{
  const struct toy_state *toy = img->state;
  struct room room = room_of (claim);
  const uint64_t place = toy->layout.table +
    8 * guest_unit (claim->fill_start);

  LOCK_SCOPE (&img->format_lock);

  pass_begin_change (img);
  for (uint64_t i = 0; i < room.nr; ++i)
    set_entry_locked (img, room.table, place + 8 * i,
                      (room.host + i * TOY_UNIT) | ENTRY_ONCE);
  pass_end_change (img);
  put_room (img, &room);
}

static void
toy_abandon (struct image *img, const struct claim *claim)
{
  struct room room = room_of (claim);

  LOCK_SCOPE (&img->format_lock);

  if (room.block) {
    pass_begin_change (img);
    count_locked (img, room.block, room.host / TOY_UNIT, room.nr, -1);
    pass_end_change (img);
  }
  put_room (img, &room);
}

/* What 'entry' becomes. */
static uint64_t
unmapped_entry (const struct image *img, uint64_t entry,
                enum unmap_wish wish)
{
  const struct toy_state *toy = img->state;
  const bool has_flag = !(toy->layout.features & TOY_NO_ZERO_FLAG);

  if (wish == UNMAP_TRIM && (entry & ENTRY_HOST) == 0)
    return entry;
  if (wish == UNMAP_ZERO_KEEP && has_flag && (entry & ENTRY_ONCE))
    return entry | ENTRY_ZERO;
  return img->wants_backing ? ENTRY_ZERO : 0;
}

static ssize_t
toy_unmap (struct image *img, uint64_t guest, uint64_t len,
           enum unmap_wish wish, bool fast __attribute__ ((unused)))
{
  const struct toy_state *toy = img->state;
  const uint64_t first = guest_unit (guest);
  const uint64_t place = toy->layout.table + 8 * first;
  const uint64_t nr = MIN (div_round_up (len, TOY_UNIT),
                           (TOY_PAGE - place % TOY_PAGE) / 8);
  struct page *table;

  assert (guest % TOY_UNIT == 0);
  assert (len % TOY_UNIT == 0 || guest + len == img->len);
  if (img->wants_backing && (toy->layout.features & TOY_NO_ZERO_FLAG)) {
    errno = ENOTSUP;
    return -1;
  }

  LOCK_SCOPE (&img->format_lock);

  table = cache_get (img->cache, place);
  if (table == NULL)
    return -1;
  pass_begin_change (img);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t p = place + 8 * i;
    const uint64_t old = load_entry_be64 (table->bytes + p % TOY_PAGE);

    set_entry_locked (img, table, p, unmapped_entry (img, old, wish));
  }
  pass_end_change (img);
  cache_put (img->cache, table);
  return MIN (nr * TOY_UNIT, len);
}

/* ---- passes */

/* Count unit 'u' down for good; it stays as it is when its block cannot be
 * read now.
 */
static void
free_dropped_locked (struct image *img, uint64_t u)
{
  struct toy_state *toy = img->state;
  struct page *block = get_block_locked (img, u);

  if (block == NULL)
    return;
  /* While the format lock is held nobody reserves it. */
  if (toy->counts[u] == toy->dropped[u])
    source_zero_fast (img->data_source, TOY_UNIT, u * TOY_UNIT,
                      SOURCE_ZERO_PUNCH);
  pass_begin_change (img);
  count_locked (img, block, u, 1, -toy->dropped[u]);
  toy->dropped[u] = 0;
  pass_end_change (img);
  cache_put (img->cache, block);
}

static void
toy_durable (struct image *img, uint64_t cut)
{
  struct toy_state *toy = img->state;

  LOCK_SCOPE (&img->format_lock);

  for (uint64_t u = 0; u < toy->layout.nr_host_units; ++u)
    if (toy->dropped[u] > 0 && toy->dropped_cut[u] <= cut)
      free_dropped_locked (img, u);
}

static bool
is_block (const struct toy_state *toy, uint64_t host, uint64_t len)
{
  const uint64_t g = host / TOY_UNIT / TOY_GROUP;

  return g < toy->layout.nr_groups && host == toy_block_host (g) &&
    len == TOY_PAGE && toy->has_block[g];
}

static bool
toy_is_metadata (struct image *img, uint64_t host, uint32_t len,
                 enum pass_phase phase)
{
  const struct toy_state *toy = img->state;
  const struct toy_layout *l = &toy->layout;
  bool sound = false;

  switch (phase) {
  case PASS_FILL:
    sound = is_block (toy, host, len);
    break;
  case PASS_COUNT:
    sound = host >= l->directory && host + len <= l->table;
    break;
  case PASS_LINK:
    sound = host >= l->table && host + len <= l->data;
    break;
  case PASS_HEADER:
    sound = host == 0 && len == TOY_PAGE;
    break;
  case PASS_CLEAN:
    break;
  }
  if (!sound)
    report_error ("%s: a page of phase %d was to be written at %" PRIu64,
                  img->name, (int) phase, host);
  return sound;
}

const struct format toy_format = {
  .name = "toy",
  .open = toy_open,
  .connected = toy_connected,
  .lookup = toy_lookup,
  .prepare = toy_prepare,
  .reserve = toy_reserve,
  .link = toy_link,
  .abandon = toy_abandon,
  .unmap = toy_unmap,
  .durable = toy_durable,
  .is_metadata = toy_is_metadata,
  .finish = toy_finish,
  .close = toy_close,
};
