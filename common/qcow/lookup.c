/* Where a guest range lives: a walk through the L1 and L2 tables.
 *
 * The walk holds at most one page of either table pinned, takes no lock
 * but the cache's, and looks at a bounded number of pages; when that is
 * used up the answer is shorter than asked.  Tables never move while
 * requests run: an L1 entry changes once, from 0 to its table.
 *
 * Neighbouring runs that continue each other become one extent, across
 * clusters, pages and tables.
 *
 * Format: block/qcow.c in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "include/checked.h"
#include "qcow/state.h"
#include "qcow/writer.h"
#include "report/report.h"

/* Pages of tables that one lookup may look at. */
#define MAX_PAGES 64

/* So much of the L1 table is read at once when more than a page of it is
 * asked for: bytes, at least a page.
 */
#define L1_PART_LEN 16384

struct walk {
  struct image *img;
  struct qcow *q;
  uint64_t file_len;            /* bytes */
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
add_nothing (struct walk *w, uint64_t len)
{
  add_plain (w, qcow_has_base (w->img) ? EXTENT_BACKING : EXTENT_ZERO, len);
}

/* ---- clusters */

static const char *
damage_text (enum qcow_damage damage)
{
  switch (damage) {
  case QCOW_DAMAGE_NONE:
    break;
  case QCOW_DAMAGE_UNALIGNED:
    return "its offset is not a multiple of 512";
  case QCOW_DAMAGE_TOO_FAR:
    return "no file reaches to its offset";
  case QCOW_DAMAGE_ON_HEADER:
    return "it points into the header or the L1 table";
  case QCOW_DAMAGE_EMPTY_STREAM:
    return "it is compressed, to no bytes";
  }
  return "it makes no sense";
}

void
qcow_report_damage (struct image *img, const struct qcow_cluster *c,
                    uint64_t entry, uint64_t place, uint64_t guest)
{
  struct qcow *q = qcow_state (img);

  damage_log_report (&q->damage, img->name, place,
                     "the L2 entry at byte %" PRIu64 ", 0x%016" PRIx64
                     ", for disk offset %" PRIu64 " is wrong: %s; this "
                     "range cannot be read; if the image matters, work on "
                     "a copy", place, entry,
                     round_down (guest, q->cluster_len),
                     damage_text (c->damage));
  image_set_damaged (img);
}

/* A cluster wholly past the end of the file reads as zeroes, as QEMU reads
 * it; but it is a sign of a file that was cut short.
 */
static void
warn_of_end (struct walk *w, uint64_t host)
{
  if (atomic_exchange (&w->q->has_warned_of_end, true))
    return;
  report_warning ("%s: data at disk offset %" PRIu64 " lie at byte %" PRIu64
                  ", beyond the end of the file, which has %" PRIu64
                  " bytes; such data read as zeroes; the file may have been "
                  "cut short", w->img->name, w->guest, host, w->file_len);
}

/* Is it the stream of zeroes that this disk's writer uses?  Entries that
 * name it hold no space of their own.
 */
static bool
is_zero_stream (const struct walk *w, uint64_t entry)
{
  return w->img->is_writable && w->q->writer->zero_entry == entry;
}

/* Answer what the L2 entry says, as far as its cluster is asked for;
 * 'place' is its offset in the file.
 */
static void
add_cluster (struct walk *w, uint64_t entry, uint64_t place)
{
  struct qcow *q = w->q;
  const uint64_t within = w->guest & (q->cluster_len - 1);
  struct extent ext = {
    .len = MIN (q->cluster_len - within, w->end - w->guest),
    .src = w->img->source,
  };
  struct qcow_cluster c;

  qcow_decode (&q->header, entry, &c);
  switch (c.kind) {
  case QCOW_NOTHING:
    add_nothing (w, ext.len);
    return;
  case QCOW_DAMAGED:
    qcow_report_damage (w->img, &c, entry, place, w->guest);
    add_plain (w, EXTENT_DAMAGED, ext.len);
    return;
  case QCOW_PLAIN:
    if (c.host >= w->file_len)
      warn_of_end (w, c.host);
    ext.type = EXTENT_DATA;
    ext.host = c.host + within;
    ext.writable = qcow_is_writable (w->img, &c);
    break;
  case QCOW_COMPRESSED:
    if (is_zero_stream (w, entry)) {
      add_plain (w, EXTENT_ZERO, ext.len);
      return;
    }
    ext.type = EXTENT_PACKED;
    ext.codec = CODEC_DEFLATE;
    ext.host = c.host;
    ext.packed_len = c.len;
    ext.within = within;
    break;
  }
  ext.allocated = true;
  add_extent (w, &ext);
}

/* ---- tables */

/* Answer what 'nr' entries say, as far as they lie before 'end'. */
static void
walk_entries (struct walk *w, const uint8_t *bytes, uint64_t place,
              uint64_t nr, uint64_t end)
{
  const uint64_t cluster_len = w->q->cluster_len;
  const uint64_t first = round_down (w->guest, cluster_len);

  nr = MIN (nr, div_round_up (end - first, cluster_len));
  while (nr > 0 && w->guest < end && !w->out.is_full) {
    uint64_t n = count_zero_words (bytes, nr);

    if (n > 0) {
      const uint64_t start = round_down (w->guest, cluster_len);

      add_nothing (w, MIN (start + n * cluster_len, end) - w->guest);
    }
    else {
      n = 1;
      add_cluster (w, load_entry_be64 (bytes), place);
    }
    bytes += n * 8;
    place += n * 8;
    nr -= n;
  }
}

/* Answer from a table that is asked for whole: it is read at once, and its
 * pages need not be kept.
 */
static int
walk_whole_table (struct walk *w, uint64_t l2_host, uint64_t end)
{
  _Alignas (8) uint8_t buf[8 << QCOW_MAX_L2_BITS];
  const uint32_t len = qcow_l2_len (&w->q->header);
  const uint32_t nr_pages = len / cache_page_len (w->img->cache);

  if (cache_peek (w->img->cache, l2_host, len, buf) == -1)
    return -1;
  walk_entries (w, buf, l2_host, len / 8, end);
  w->pages_left -= MIN (nr_pages, w->pages_left);
  return 0;
}

/* Answer from the table at 'l2_host' what lies before 'end', as far as
 * there are pages left.  -1: a page cannot be read.
 */
static int
walk_l2_table (struct walk *w, uint64_t l2_host, uint64_t end)
{
  struct cache *cache = w->img->cache;
  const uint64_t first = qcow_l2_index (w->q, w->guest);
  const uint64_t last = qcow_l2_index (w->q, end - 1);
  const uint32_t page_len = cache_page_len (cache);

  if (last - first + 1 == qcow_l2_entries (&w->q->header) &&
      l2_host % page_len == 0)
    return walk_whole_table (w, l2_host, end);
  if ((last - first) * 8 >= page_len)
    cache_read_ahead (cache, round_down (l2_host + first * 8, page_len),
                      (last - first + 1) * 8);
  while (w->guest < end && w->pages_left > 0 && !w->out.is_full) {
    const uint64_t place = l2_host + qcow_l2_index (w->q, w->guest) * 8;
    struct page *page = cache_get (cache, place);

    if (page == NULL)
      return -1;
    walk_entries (w, page->bytes + (place - page->host), place,
                  qcow_entries_in_page (cache, place), end);
    cache_put (cache, page);
    w->pages_left--;
  }
  return 0;
}

/* Where the range of the L1 entry ends, or what is asked for. */
static uint64_t
span_end (const struct walk *w, uint64_t l1_index)
{
  const uint64_t last = qcow_l1_index (w->q, w->end - 1);

  return l1_index < last
    ? (l1_index + 1) << qcow_span_bits (&w->q->header) : w->end;
}

bool
qcow_l1_entry_is_sound (const struct image *img, uint64_t entry)
{
  const struct qcow *q = qcow_state (img);
  const uint32_t len = qcow_l2_len (&q->header);
  const uint64_t file_end = round_up (source_len (img->source),
                                      q->cluster_len);

  return entry % QCOW_SECTOR_LEN == 0 && entry <= file_end &&
    entry <= QCOW_MAX_HOST - len &&
    !qcow_is_on_header (&q->header, entry, entry + len);
}

/* What the entry says: 1, 0, or -1, reported. */
static int
judge_l1_entry (struct image *img, uint64_t l1_index, uint64_t entry)
{
  struct qcow *q = qcow_state (img);

  if (entry == 0)
    return 0;
  if (entry != QCOW_L1_DAMAGED && qcow_l1_entry_is_sound (img, entry))
    return 1;
  damage_log_report (&q->damage, img->name, qcow_l1_place (q, l1_index),
                     "entry %" PRIu64 " of the L1 table, at byte %" PRIu64
                     ", for disk offset %" PRIu64 " and the %" PRIu64
                     " bytes from there on, names no place for a table; "
                     "this range cannot be read", l1_index,
                     qcow_l1_place (q, l1_index),
                     l1_index << qcow_span_bits (&q->header),
                     UINT64_C (1) << qcow_span_bits (&q->header));
  image_set_damaged (img);
  return -1;
}

/* Entries that lie across pages: the table is on no multiple of 8, and the
 * image is never written.
 */
static int
read_unaligned (struct image *img, uint64_t place, uint64_t nr, uint8_t *buf)
{
  if (source_pread_padded (img->source, buf, nr * 8, place) == 0)
    return 0;
  errno = EIO;
  return -1;
}

/* The entry at 'place' of the file. */
static int
read_l1_entry (struct image *img, uint64_t place, uint64_t *entry)
{
  _Alignas (8) uint8_t buf[8];
  struct page *page;

  if (place % 8 != 0) {
    if (read_unaligned (img, place, 1, buf) == -1)
      return -1;
    *entry = load_entry_be64 (buf);
    return 0;
  }
  page = cache_get (img->cache, place);
  if (page == NULL)
    return -1;
  *entry = load_entry_be64 (page->bytes + (place - page->host));
  cache_put (img->cache, page);
  return 0;
}

int
qcow_l1_get (struct image *img, uint64_t l1_index, uint64_t *l2_host)
{
  struct qcow *q = qcow_state (img);
  int r;

  if (q->verdict.table)
    *l2_host = q->verdict.table[l1_index];
  else if (read_l1_entry (img, qcow_l1_place (q, l1_index), l2_host) == -1)
    return -1;
  r = judge_l1_entry (img, l1_index, *l2_host);
  if (r == -1)
    errno = EIO;
  return r;
}

/* Answer what L1 entries say: 'nr' of them, from w->guest's on, lie in
 * 'bytes' (NULL: they are those in memory).
 */
static int
walk_l1_entries (struct walk *w, const uint8_t *bytes, uint64_t nr)
{
  const uint64_t first = qcow_l1_index (w->q, w->guest);
  uint64_t i;

  for (i = 0; i < nr && w->guest < w->end && !w->out.is_full; ++i) {
    const uint64_t end = span_end (w, first + i);
    const uint64_t entry = bytes ? load_entry_be64 (bytes + i * 8)
      : w->q->verdict.table[first + i];
    const int kind = judge_l1_entry (w->img, first + i, entry);

    if (kind == 1) {
      if (w->pages_left == 0)
        break;
      if (walk_l2_table (w, entry, end) == -1)
        return -1;
      if (w->guest < end)
        break;
    }
    else if (kind == 0)
      add_nothing (w, end - w->guest);
    else
      add_plain (w, EXTENT_DAMAGED, end - w->guest);
  }
  return 0;
}

/* The same from a page of the table. */
static int
walk_l1_page (struct walk *w, uint64_t place)
{
  struct cache *cache = w->img->cache;
  struct page *page = cache_get (cache, place);
  int r;

  if (page == NULL)
    return -1;
  w->pages_left--;
  r = walk_l1_entries (w, page->bytes + (place - page->host),
                       qcow_entries_in_page (cache, place));
  cache_put (cache, page);
  return r;
}

/* The same where the answer needs several pages, [start, end) of the file,
 * which need not be kept.
 */
static int
walk_l1_part (struct walk *w, uint64_t place, uint64_t start, uint64_t end)
{
  _Alignas (8) uint8_t buf[L1_PART_LEN];

  end = MIN (end, start + sizeof buf);
  if (cache_peek (w->img->cache, start, end - start, buf) == -1)
    return -1;
  w->pages_left--;
  return walk_l1_entries (w, buf + (place - start), (end - place) / 8);
}

static int
walk_l1_unaligned (struct walk *w, uint64_t place, uint64_t nr)
{
  _Alignas (8) uint8_t buf[L1_PART_LEN];

  nr = MIN (nr, sizeof buf / 8);
  if (read_unaligned (w->img, place, nr, buf) == -1)
    return -1;
  w->pages_left--;
  return walk_l1_entries (w, buf, nr);
}

/* Answer from one part of the L1 table. */
static int
walk_l1 (struct walk *w)
{
  const uint32_t page_len = cache_page_len (w->img->cache);
  const uint64_t first = qcow_l1_index (w->q, w->guest);
  const uint64_t last = qcow_l1_index (w->q, w->end - 1);
  const uint64_t place = qcow_l1_place (w->q, first);
  const uint64_t start = round_down (place, page_len);
  const uint64_t end = round_up (qcow_l1_place (w->q, last) + 8, page_len);

  if (w->q->verdict.table)
    return walk_l1_entries (w, NULL, last - first + 1);
  if (place % 8 != 0)
    return walk_l1_unaligned (w, place, last - first + 1);
  if (end - start == page_len)
    return walk_l1_page (w, place);
  return walk_l1_part (w, place, start, end);
}

ssize_t
qcow_lookup (struct image *img, uint64_t guest, uint64_t len,
             struct extent *ext, size_t max)
{
  struct walk w = {
    .img = img,
    .q = qcow_state (img),
    .file_len = source_len (img->source),
    .guest = guest,
    .end = guest + len,
    .pages_left = MAX_PAGES,
    .out = { .ext = ext, .max = max },
  };
  int r = 0;

  while (r == 0 && w.guest < w.end && w.pages_left > 0 && !w.out.is_full)
    r = walk_l1 (&w);
  /* What was answered before a failure is answered. */
  return w.out.nr > 0 ? (ssize_t) w.out.nr : -1;
}
