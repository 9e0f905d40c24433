/* Refcounts: reading, searching, changing, growing.
 *
 * A block that is missing means that all its clusters are free.  It is made
 * at the first cluster of the very range that it counts, and counts itself:
 * so nothing else has to be counted for it.  A table that is full is
 * replaced by a longer one that lies, together with as many new blocks as
 * it takes to count both, in the first ranges that the old one cannot name.
 *
 * Order on disk: block contents in PASS_FILL; the entry that makes a block
 * count, and the header's switch to a longer table, in PASS_COUNT; both
 * before any PASS_LINK entry that needs those counts.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/count.h"
#include "qcow2/counts.h"
#include "qcow2/refuse.h"

/* Pages whose counts change together. */
#define MAX_PAGES 32

/* The header's refcount table fields, bytes 48 to 59. */
#define HEADER_TABLE_OFFSET 48
#define HEADER_TABLE_CLUSTERS 56

/* Zeroes written at once to take space. */
#define TAKE_LEN (UINT64_C (1) << 20)

static uint64_t
cluster_len (const struct qcow2_counts *c)
{
  return UINT64_C (1) << c->cluster_bits;
}

/* ---- finding the page of a count */

static uint64_t
counts_per_page (const struct qcow2_counts *c)
{
  return (uint64_t) cache_page_len (c->img->cache) * 8 >> c->order;
}

static bool
has_block (const struct qcow2_counts *c, uint64_t cluster)
{
  const uint64_t i = cluster / c->per_block;

  return i < c->nr_table && c->table[i] != 0;
}

/* Host offset of the page that holds the count; its block is there. */
static uint64_t
page_of (const struct qcow2_counts *c, uint64_t cluster)
{
  const uint64_t in_block = cluster % c->per_block;

  return c->table[cluster / c->per_block] +
    round_down ((in_block << c->order) / 8, cache_page_len (c->img->cache));
}

static struct page *
get_page (struct qcow2_counts *c, uint64_t cluster)
{
  return cache_get (c->img->cache, page_of (c, cluster));
}

int
qcow2_count_get (struct qcow2_counts *c, uint64_t cluster, uint64_t *count)
{
  struct page *page;

  *count = 0;
  if (!has_block (c, cluster))
    return 0;
  page = get_page (c, cluster);
  if (page == NULL)
    return -1;
  *count = qcow2_count_load (page->bytes, cluster % counts_per_page (c),
                             c->order);
  cache_put (c->img->cache, page);
  return 0;
}

/* ---- changing counts */

/* The pages of the counts of [first, first+nr), pinned. */
struct pages {
  struct page *pages[MAX_PAGES];
  size_t n;
};

static void
put_pages (struct qcow2_counts *c, struct pages *p)
{
  while (p->n > 0)
    cache_put (c->img->cache, p->pages[--p->n]);
}

static int
pin_pages (struct qcow2_counts *c, uint64_t first, uint64_t nr,
           struct pages *p)
{
  const uint64_t per_page = counts_per_page (c);
  uint64_t cluster = round_down (first, per_page);

  p->n = 0;
  for (; cluster < first + nr; cluster += per_page) {
    assert (p->n < MAX_PAGES);
    p->pages[p->n] = get_page (c, cluster);
    if (p->pages[p->n] == NULL) {
      put_pages (c, p);
      return -1;
    }
    p->n++;
  }
  return 0;
}

/* Clusters that one change may span, whatever their alignment. */
static uint64_t
max_run (const struct qcow2_counts *c)
{
  return (MAX_PAGES - 1) * counts_per_page (c);
}

/* Set counts in pinned pages, in a change section. */
static void
set_counts (struct qcow2_counts *c, struct pages *p, uint64_t first,
            uint64_t nr, uint64_t count)
{
  const uint64_t per_page = counts_per_page (c);
  const uint64_t base = round_down (first, per_page);
  uint64_t cluster;
  size_t i;

  for (cluster = first; cluster < first + nr; ++cluster)
    qcow2_count_store (p->pages[(cluster - base) / per_page]->bytes,
                       cluster % per_page, c->order, count);
  for (i = 0; i < p->n; ++i)
    cache_dirty (c->img->cache, p->pages[i], PASS_FILL);
}

/* ---- missing blocks, longer tables */

static int
damaged (struct qcow2_counts *c, const char *what, uint64_t place)
{
  report_error ("%s: %s at host offset %" PRIu64 "; " CHECK_A_COPY,
                c->img->name, what, place);
  image_set_damaged (c->img);
  errno = EIO;
  return -1;
}

/* Is there room in the file for clusters [first, first+nr), and are they
 * free of metadata?
 */
static int
check_area (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  uint64_t i;

  if (first + nr > c->max_clusters) {
    errno = ENOSPC;
    return -1;
  }
  for (i = 0; i < nr; ++i)
    if (qcow2_guard_has (&c->guard, first + i))
      return damaged (c, "a table lies in space that the refcounts call free,",
                      (first + i) << c->cluster_bits);
  if (qcow2_guard_reserve (&c->guard, nr) == -1) {
    report_error ("%s: no memory to grow the refcounts", c->img->name);
    errno = ENOMEM;
    return -1;
  }
  return 0;
}

/* Take back what was created of a structure that could not be completed, in
 * the change section that began it: no pass has seen it.
 */
static void
forget_pages (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  cache_forget (c->img->cache, first << c->cluster_bits,
                nr << c->cluster_bits);
}

/* Make a block of zeroes at cluster 'at', whose first 'nr_used' counts are
 * one.  In a change section.
 */
static int
create_block (struct qcow2_counts *c, uint64_t at, uint64_t nr_used)
{
  const uint64_t per_page = counts_per_page (c);
  const uint64_t host = at << c->cluster_bits;
  const uint32_t page_len = cache_page_len (c->img->cache);
  uint64_t done, i;

  for (done = 0; done < cluster_len (c); done += page_len) {
    const uint64_t start = done / page_len * per_page;
    struct page *page = cache_create (c->img->cache, host + done);

    if (page == NULL)
      return -1;
    for (i = start; i < MIN (nr_used, start + per_page); ++i)
      qcow2_count_store (page->bytes, i - start, c->order, 1);
    cache_put (c->img->cache, page);
  }
  return 0;
}

static void
note_used (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  const uint64_t end = (first + nr) << c->cluster_bits;

  c->zero_from = MAX (c->zero_from, end);
  c->end = MAX (c->end, end);
}

/* Have the file reach to cluster 'end'.  -1, errno ENOSPC, unreported: it
 * cannot; -1, reported.
 */
static int
grow_file (struct qcow2_counts *c, uint64_t end)
{
  return source_grow_ahead (c->img->source, end << c->cluster_bits,
                            cluster_len (c));
}

int
qcow2_take_space (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  const uint64_t end = (first + nr) << c->cluster_bits;
  const uint64_t step = MIN (nr << c->cluster_bits, TAKE_LEN);
  CLEANUP_FREE uint8_t *zeroes = NULL;
  uint64_t host = first << c->cluster_bits;

  if (!c->img->source->can_grow)
    return 0;
  zeroes = calloc (1, step);
  if (zeroes == NULL) {
    report_error ("%s: no memory for a new table", c->img->name);
    errno = ENOMEM;
    return -1;
  }
  for (; host < end; host += step)
    if (source_pwrite (c->img->source, zeroes, MIN (step, end - host),
                       host) == -1)
      return -1;
  return 0;
}

/* Make the missing block of range 'i', which the table can name. */
static int
make_block (struct qcow2_counts *c, uint64_t i)
{
  const uint64_t at = i * c->per_block;
  const uint64_t entry = c->table_host + i * 8;
  struct page *page;
  int r;

  if (at == 0)
    return damaged (c, "no refcount block counts the header", 0);
  if (check_area (c, at, 1) == -1 || grow_file (c, at + 1) == -1 ||
      qcow2_take_space (c, at, 1) == -1)
    return -1;
  page = cache_get (c->img->cache, entry);
  if (page == NULL)
    return -1;

  pass_begin_change (c->img);
  r = create_block (c, at, 1);
  if (r == 0) {
    store_entry_be64 (page->bytes + (entry - page->host),
                      at << c->cluster_bits);
    cache_dirty (c->img->cache, page, PASS_COUNT);
    c->table[i] = at << c->cluster_bits;
    c->is_full[i] = 0;
    qcow2_guard_add (&c->guard, at);
    note_used (c, at, 1);
  }
  else
    forget_pages (c, at, 1);
  pass_end_change (c->img);
  cache_put (c->img->cache, page);
  return r;
}

/* A longer table: 'nr_blocks' new blocks, counting the area, then the
 * table itself, all from cluster 'at' on.
 */
struct area {
  uint64_t at;
  uint64_t nr_blocks;
  uint64_t nr_table_clusters;
  uint64_t nr_entries;          /* of the new table */
};

/* The smallest area that counts itself and names the ranges needed. */
static int
plan_area (struct qcow2_counts *c, struct area *area)
{
  const uint64_t entries_per_cluster = cluster_len (c) / 8;
  uint64_t entries, total;

  area->at = c->nr_table * c->per_block;
  area->nr_blocks = 1;
  for (;;) {
    entries = c->nr_table + area->nr_blocks + c->nr_table / 2;
    area->nr_table_clusters = div_round_up (entries, entries_per_cluster);
    total = area->nr_blocks + area->nr_table_clusters;
    if (div_round_up (total, c->per_block) <= area->nr_blocks)
      break;
    area->nr_blocks = div_round_up (total, c->per_block);
  }
  area->nr_entries = area->nr_table_clusters * entries_per_cluster;
  if (area->nr_entries * 8 > REFCOUNT_TABLE_MAX) {
    report_error ("%s: the refcount table cannot grow beyond %d bytes, so the "
                  "file cannot grow; copy it to an image with larger "
                  "clusters", c->img->name, REFCOUNT_TABLE_MAX);
    errno = EFBIG;
    return -1;
  }
  return 0;
}

/* Write the area's contents into new pages, in a change section. */
static int
create_area (struct qcow2_counts *c, const struct area *area,
             const uint64_t *table)
{
  const uint64_t total = area->nr_blocks + area->nr_table_clusters;
  const uint64_t table_host =
    (area->at + area->nr_blocks) << c->cluster_bits;
  const uint32_t page_len = cache_page_len (c->img->cache);
  uint64_t i;

  for (i = 0; i < area->nr_blocks; ++i) {
    const uint64_t start = i * c->per_block;

    if (create_block (c, area->at + i,
                      start < total ? MIN (total - start, c->per_block)
                      : 0) == -1)
      return -1;
  }
  for (i = 0; i < area->nr_entries; i += page_len / 8) {
    struct page *page = cache_create (c->img->cache, table_host + i * 8);
    uint64_t j;

    if (page == NULL)
      return -1;
    for (j = 0; j < page_len / 8; ++j)
      store_entry_be64 (page->bytes + j * 8, table[i + j]);
    cache_put (c->img->cache, page);
  }
  return 0;
}

/* Take the area over: header, memory, guard.  In a change section. */
static void
switch_table (struct qcow2_counts *c, const struct area *area,
              struct page *header, uint64_t *table, uint8_t *is_full)
{
  const uint64_t table_first = area->at + area->nr_blocks;
  const uint64_t total = area->nr_blocks + area->nr_table_clusters;
  uint64_t i;

  store_be64 (header->bytes + HEADER_TABLE_OFFSET,
              table_first << c->cluster_bits);
  store_be32 (header->bytes + HEADER_TABLE_CLUSTERS,
              area->nr_table_clusters);
  cache_dirty (c->img->cache, header, PASS_COUNT);
  qcow2_drop (c, c->table_host >> c->cluster_bits, c->table_clusters,
              DROP_TABLE);

  for (i = 0; i < total; ++i)
    qcow2_guard_add (&c->guard, area->at + i);
  note_used (c, area->at, total);
  free (c->table);
  free (c->is_full);
  c->table = table;
  c->is_full = is_full;
  c->nr_table = area->nr_entries;
  c->table_host = table_first << c->cluster_bits;
  c->table_clusters = area->nr_table_clusters;
}

static int
grow_table (struct qcow2_counts *c)
{
  CLEANUP_FREE uint64_t *table = NULL;
  CLEANUP_FREE uint8_t *is_full = NULL;
  struct area area;
  struct page *header;
  uint64_t i, total;
  int r;

  if (plan_area (c, &area) == -1)
    return -1;
  total = area.nr_blocks + area.nr_table_clusters;
  if (check_area (c, area.at, total) == -1 ||
      grow_file (c, area.at + total) == -1 ||
      qcow2_take_space (c, area.at, total) == -1)
    return -1;
  table = calloc (area.nr_entries, sizeof *table);
  is_full = calloc (area.nr_entries, 1);
  if (table == NULL || is_full == NULL) {
    report_error ("%s: no memory to grow the refcounts", c->img->name);
    errno = ENOMEM;
    return -1;
  }
  memcpy (table, c->table, c->nr_table * sizeof *table);
  memcpy (is_full, c->is_full, c->nr_table);
  for (i = 0; i < area.nr_blocks; ++i)
    table[c->nr_table + i] = (area.at + i) << c->cluster_bits;
  if (qcow2_drop_begin (c, 1) == -1)
    return -1;
  header = cache_get (c->img->cache, 0);
  if (header == NULL) {
    qcow2_drop_end (c, 1);
    return -1;
  }

  pass_begin_change (c->img);
  r = create_area (c, &area, table);
  if (r == 0)
    switch_table (c, &area, header, STEAL (table), STEAL (is_full));
  else
    forget_pages (c, area.at, total);
  pass_end_change (c->img);
  cache_put (c->img->cache, header);
  qcow2_drop_end (c, 1);
  return r;
}

/* Have the block that counts the cluster. */
static int
need_block (struct qcow2_counts *c, uint64_t cluster)
{
  while (cluster / c->per_block >= c->nr_table)
    if (grow_table (c) == -1)
      return -1;
  if (has_block (c, cluster))
    return 0;
  return make_block (c, cluster / c->per_block);
}

/* ---- allocation */

/* Is the cluster free?  1, 0 or -1.  Its block is there. */
static int
is_free (struct qcow2_counts *c, uint64_t cluster)
{
  uint64_t count;

  if (qcow2_count_get (c, cluster, &count) == -1)
    return -1;
  if (count != 0)
    return 0;
  if (qcow2_guard_has (&c->guard, cluster))
    return damaged (c, "a table lies in space that the refcounts call free,",
                    cluster << c->cluster_bits);
  return 1;
}

/* First free count at or after 'i' in a page's worth of counts. */
static uint64_t
scan_page (const struct qcow2_counts *c, const uint8_t *bytes, uint64_t i,
           uint64_t end)
{
  while (i < end && qcow2_count_load (bytes, i, c->order) != 0)
    i++;
  return i;
}

/* Look for a free cluster in the block of *cluster, from there on.  1 with
 * *cluster set, 0 when there is none, -1.
 */
static int
scan_block (struct qcow2_counts *c, uint64_t *cluster)
{
  const uint64_t per_page = counts_per_page (c);
  const uint64_t block = *cluster / c->per_block;
  const uint64_t end = (block + 1) * c->per_block;
  const bool from_start = *cluster % c->per_block == 0;
  uint64_t at = *cluster;

  while (at < end) {
    const uint64_t base = round_down (at, per_page);
    struct page *page = get_page (c, at);
    uint64_t i;

    if (page == NULL)
      return -1;
    i = scan_page (c, page->bytes, at - base, per_page);
    cache_put (c->img->cache, page);
    at = base + i;
    if (i < per_page) {
      *cluster = at;
      return 1;
    }
  }
  if (from_start)
    c->is_full[block] = 1;
  return 0;
}

/* Move next_free to the first free cluster; its block is there then. */
static int
find_free (struct qcow2_counts *c)
{
  for (;;) {
    const uint64_t block = c->next_free / c->per_block;
    int r;

    if (c->next_free >= c->max_clusters) {
      errno = ENOSPC;
      return -1;
    }
    if (block < c->nr_table && c->table[block] != 0 && c->is_full[block]) {
      c->next_free = (block + 1) * c->per_block;
      continue;
    }
    if (need_block (c, c->next_free) == -1)
      return -1;
    r = scan_block (c, &c->next_free);
    if (r == -1)
      return -1;
    if (r == 1 && c->next_free < c->max_clusters)
      return is_free (c, c->next_free) == 1 ? 0 : -1;
    if (r == 0)
      c->next_free = (c->next_free / c->per_block + 1) * c->per_block;
  }
}

/* Have the file reach to the end of the run of '*n' from 'first' on; where
 * it cannot, of fewer.
 */
static int
reach (struct qcow2_counts *c, uint64_t first, uint64_t *n)
{
  while (grow_file (c, first + *n) == -1) {
    if (errno != ENOSPC || *n == 1)
      return -1;
    *n /= 2;
  }
  return 0;
}

int64_t
qcow2_alloc (struct qcow2_counts *c, uint64_t wanted, uint64_t *first)
{
  struct pages pages;
  uint64_t n;

  if (find_free (c) == -1)
    return -1;
  *first = c->next_free;
  wanted = MIN (wanted, max_run (c));
  wanted = MIN (wanted, c->max_clusters - *first);
  for (n = 1; n < wanted && has_block (c, *first + n); ++n) {
    int r = is_free (c, *first + n);

    if (r == -1)
      return -1;
    if (r == 0)
      break;
  }
  if (reach (c, *first, &n) == -1 || pin_pages (c, *first, n, &pages) == -1)
    return -1;
  pass_begin_change (c->img);
  set_counts (c, &pages, *first, n, 1);
  pass_end_change (c->img);
  put_pages (c, &pages);
  c->next_free = *first + n;
  return n;
}

bool
qcow2_alloc_reads_zero (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  const bool zero = c->img->source->can_grow &&
    first << c->cluster_bits >= c->zero_from;

  note_used (c, first, nr);
  return zero;
}

/* Set a count that goes down; the cluster may become free. */
static int
lower_count (struct qcow2_counts *c, uint64_t cluster, uint64_t count)
{
  struct page *page = get_page (c, cluster);

  if (page == NULL)
    return -1;
  pass_begin_change (c->img);
  qcow2_count_store (page->bytes, cluster % counts_per_page (c), c->order,
                     count);
  cache_dirty (c->img->cache, page, PASS_FILL);
  pass_end_change (c->img);
  cache_put (c->img->cache, page);
  if (count == 0) {
    c->is_full[cluster / c->per_block] = 0;
    c->next_free = MIN (c->next_free, cluster);
  }
  return 0;
}

void
qcow2_alloc_undo (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  uint64_t i;

  for (i = 0; i < nr; ++i)
    if (lower_count (c, first + i, 0) == -1)
      return;                   /* the rest leaks */
}

/* ---- dropping */

int
qcow2_drop_begin (struct qcow2_counts *c, size_t n)
{
  size_t room = MAX (c->drops_room, (size_t) 64);
  struct qcow2_drop *drops;

  while (room < c->nr_drops + c->nr_promised + n)
    room *= 2;
  if (room != c->drops_room) {
    drops = realloc (c->drops, room * sizeof *drops);
    if (drops == NULL) {
      report_error ("%s: no memory to free clusters", c->img->name);
      errno = ENOMEM;
      return -1;
    }
    c->drops = drops;
    c->drops_room = room;
  }
  c->nr_promised += n;
  return 0;
}

void
qcow2_drop_end (struct qcow2_counts *c, size_t n)
{
  assert (c->nr_promised >= n);
  c->nr_promised -= n;
}

void
qcow2_drop (struct qcow2_counts *c, uint64_t first, uint64_t nr,
            enum qcow2_drop_kind kind)
{
  const uint64_t next_cut = pass_next_cut (c->img);
  struct qcow2_drop *last = c->nr_drops ? &c->drops[c->nr_drops - 1] : NULL;

  if (last && last->cut == next_cut && last->kind == kind &&
      last->first + last->nr == first) {
    last->nr += nr;
    return;
  }
  assert (c->nr_drops < c->drops_room);
  c->drops[c->nr_drops++] = (struct qcow2_drop) {
    .first = first,
    .nr = nr,
    .cut = next_cut,
    .kind = kind,
  };
}

/* Let go of what else holds a cluster that becomes free. */
static void
forget (struct qcow2_counts *c, uint64_t cluster, enum qcow2_drop_kind kind)
{
  const uint64_t host = cluster << c->cluster_bits;

  if (kind == DROP_TABLE) {
    pass_begin_change (c->img);
    cache_forget (c->img->cache, host, cluster_len (c));
    pass_end_change (c->img);
    qcow2_guard_remove (&c->guard, cluster);
  }
  if (kind == DROP_PACKED)
    packed_forget (c->img->packed, host, cluster_len (c));
}

/* One reference to the cluster is durably gone.  1: it is free now; 0: it
 * is not; -1.
 */
static int
release (struct qcow2_counts *c, uint64_t cluster, enum qcow2_drop_kind kind)
{
  uint64_t count;

  if (qcow2_count_get (c, cluster, &count) == -1)
    return -1;
  if (count == 0)
    return damaged (c, "a cluster in use was counted 0,",
                    cluster << c->cluster_bits);
  if (kind != DROP_TABLE && qcow2_guard_has (&c->guard, cluster))
    return damaged (c, "a table was used as data,",
                    cluster << c->cluster_bits);
  if (count == 1)
    forget (c, cluster, kind);
  if (lower_count (c, cluster, count - 1) == -1)
    return -1;
  return count == 1;
}

/* Give the space back to the host.  Advice only: a failure leaves space
 * allocated.  Nobody can have allocated it since it became free, the format
 * lock has been held.
 */
static void
punch (struct qcow2_counts *c, uint64_t first, uint64_t nr)
{
  const uint64_t host = first << c->cluster_bits;
  const uint64_t len = source_len (c->img->source);

  if (nr > 0 && host < len)
    source_zero_fast (c->img->source, MIN (nr << c->cluster_bits, len - host),
                      host, SOURCE_ZERO_PUNCH);
}

static void
release_run (struct qcow2_counts *c, const struct qcow2_drop *drop)
{
  uint64_t i, nr_free = 0;
  int r = 0;

  for (i = 0; i < drop->nr && r != -1; ++i) {
    r = release (c, drop->first + i, drop->kind);
    if (r == 1)
      nr_free++;
    else {
      punch (c, drop->first + i - nr_free, nr_free);
      nr_free = 0;
    }
  }
  punch (c, drop->first + i - nr_free, nr_free);
}

void
qcow2_counts_durable (struct qcow2_counts *c, uint64_t cut)
{
  LOCK_SCOPE (&c->img->format_lock);
  size_t i;

  for (i = 0; i < c->nr_drops && c->drops[i].cut <= cut; ++i)
    release_run (c, &c->drops[i]);      /* on failure the rest leaks */
  if (i == 0)
    return;
  memmove (c->drops, c->drops + i, (c->nr_drops - i) * sizeof *c->drops);
  c->nr_drops -= i;
}

/* ---- opening and closing */

static int
read_table (struct qcow2_counts *c)
{
  const uint64_t len = c->table_clusters << c->cluster_bits;
  CLEANUP_FREE uint8_t *bytes = malloc (len);
  uint64_t i;

  c->nr_table = len / 8;
  c->table = malloc (c->nr_table * sizeof *c->table);
  c->is_full = calloc (c->nr_table, 1);
  if (bytes == NULL || c->table == NULL || c->is_full == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the refcount table",
                   c->img->name);
  if (source_pread_padded (c->img->source, bytes, len, c->table_host) == -1)
    return -1;
  for (i = 0; i < c->nr_table; ++i) {
    const uint64_t entry = load_be64 (bytes + i * 8);

    if (entry % cluster_len (c) != 0 ||
        entry >= source_len (c->img->source))
      return REFUSE (EINVAL, "%s: refcount table entry %" PRIu64
                     " (at host offset %" PRIu64 ") is 0x%" PRIx64
                     ", which is no cluster of the file; " CHECK_A_COPY,
                     c->img->name, i, c->table_host + i * 8, entry);
    c->table[i] = entry;
  }
  return 0;
}

/* Add the table and its blocks to the guard. */
static int
guard_tables (struct qcow2_counts *c)
{
  uint64_t i;

  if (qcow2_guard_reserve (&c->guard, c->table_clusters + c->nr_table) == -1)
    return REFUSE (ENOMEM, "%s: no memory for the refcounts", c->img->name);
  for (i = 0; i < c->table_clusters; ++i)
    if (!qcow2_guard_add (&c->guard, (c->table_host >> c->cluster_bits) + i))
      return REFUSE (EINVAL, "%s: the refcount table overlaps other tables; "
                     CHECK_A_COPY, c->img->name);
  for (i = 0; i < c->nr_table; ++i)
    if (c->table[i] != 0 &&
        !qcow2_guard_add (&c->guard, c->table[i] >> c->cluster_bits))
      return REFUSE (EINVAL, "%s: refcount block %" PRIu64
                     " at host offset %" PRIu64 " overlaps other tables; "
                     CHECK_A_COPY, c->img->name, i, c->table[i]);
  return 0;
}

struct qcow2_counts *
qcow2_counts_open (struct image *img, unsigned cluster_bits, unsigned order,
                   uint64_t table_host, uint64_t table_clusters)
{
  struct qcow2_counts *c = calloc (1, sizeof *c);
  const uint64_t len = source_len (img->source);

  if (c == NULL || qcow2_guard_init (&c->guard) == -1) {
    free (c);
    report_error ("%s: no memory for the refcounts", img->name);
    errno = ENOMEM;
    return NULL;
  }
  c->img = img;
  c->cluster_bits = cluster_bits;
  c->order = order;
  c->max = order == 6 ? UINT64_MAX : (UINT64_C (1) << (1 << order)) - 1;
  c->per_block = cluster_len (c) * 8 >> order;
  c->table_host = table_host;
  c->table_clusters = table_clusters;
  c->max_clusters = (img->source->can_grow ? UINT64_C (1) << 56 : len)
    >> cluster_bits;
  c->zero_from = round_up (len, cluster_len (c));
  c->end = c->zero_from;
  c->len_at_open = len;
  if (read_table (c) == -1 || guard_tables (c) == -1) {
    qcow2_counts_free (c);
    return NULL;
  }
  return c;
}

void
qcow2_counts_free (struct qcow2_counts *c)
{
  if (c == NULL)
    return;
  qcow2_guard_destroy (&c->guard);
  free (c->drops);
  free (c->table);
  free (c->is_full);
  free (c);
}

/* Only what was grown since opening goes: of what was there before, the
 * counts are no proof that it is not needed.
 */
int
qcow2_counts_trim_file (struct qcow2_counts *c)
{
  struct source *src = c->img->source;
  const uint64_t low = div_round_up (c->len_at_open, cluster_len (c));
  uint64_t cluster = div_round_up (source_len (src), cluster_len (c));
  uint64_t count = 0;

  if (!src->can_grow)
    return 0;
  while (cluster > low && count == 0) {
    if (!has_block (c, cluster - 1))
      cluster = MAX (low, round_down (cluster - 1, c->per_block));
    else if (qcow2_count_get (c, cluster - 1, &count) == -1)
      return -1;
    else if (count == 0)
      cluster--;
  }
  if (cluster << c->cluster_bits >= source_len (src))
    return 0;
  return source_truncate (src, cluster << c->cluster_bits);
}
