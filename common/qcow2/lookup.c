/* Where a guest range lives: a walk through the L1 and L2 tables.
 *
 * The walk holds at most one page of the L1 table and one of an L2 table
 * pinned, takes no lock but the cache's, and looks at a bounded number of
 * pages; when that is used up the answer is shorter than asked.
 *
 * Neighbouring runs that continue each other become one extent, across
 * clusters, pages and tables.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Cluster mapping".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdatomic.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/lookup.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

/* Pages of tables that one lookup may look at. */
#define MAX_PAGES 64

/* Pages of one table that a walk keeps in the cache; of a longer part it
 * only takes a look at pieces of so many bytes.
 */
#define MAX_KEPT_PAGES 4
#define PEEK_LEN (64 * 1024)

/* An entry that makes no sense, to be told of. */
struct finding {
  enum cluster_damage damage;   /* DAMAGE_NONE: nothing was found */
  uint64_t entry;
  uint64_t place;               /* in the file, bytes */
  uint64_t guest;
};

struct walk {
  struct image *img;
  struct qcow2 *q;
  struct source *data;          /* where guest data lie */
  uint64_t data_len;            /* bytes; its length */
  bool may_write;               /* the image is open for writing */

  uint64_t guest, end;          /* still to be answered */
  unsigned pages_left;

  struct extent_list out;

  struct page *l1_page;         /* pinned, or NULL */

  /* While the table read may be another's by now, what is wrong with it is
   * kept back (the first fault; the others are met again).
   */
  bool is_table_uncertain;
  struct finding finding;
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

/* ---- clusters */

static const char *
damage_text (enum cluster_damage damage)
{
  switch (damage) {
  case DAMAGE_NONE:
    break;
  case DAMAGE_UNALIGNED:
    return "its offset is not a multiple of the cluster size";
  case DAMAGE_ZERO_IN_V2:
    return "the zero flag is set, which version 2 does not have";
  case DAMAGE_BOTH_BITS:
    return "subclusters are marked both as allocated and as zeroes";
  case DAMAGE_ALLOCATED_NOWHERE:
    return "subclusters are marked as allocated without an offset";
  case DAMAGE_DATA_FILE_HOST:
    return "its offset in the external data file is not the disk offset";
  case DAMAGE_PACKED_IN_DATA_FILE:
    return "it is compressed, which an external data file does not allow";
  case DAMAGE_PACKED_COPIED:
    return "it is compressed, but marked as writable in place";
  }
  return "it makes no sense";
}

/* Tell of an entry that was certainly the table's. */
static void
report_damage (struct walk *w, const struct finding *f)
{
  damage_log_report (&w->q->damage, w->img->name, f->place,
                     "the L2 entry at byte %" PRIu64 ", 0x%016" PRIx64
                     ", for disk offset %" PRIu64 " is wrong: %s; "
                     "this range cannot be read; " CHECK_A_COPY,
                     f->place, f->entry,
                     round_down (f->guest, w->q->cluster_len),
                     damage_text (f->damage));
  if (f->damage != DAMAGE_PACKED_COPIED)
    image_set_damaged (w->img);
}

static void
add_damaged (struct walk *w, const struct cluster *c, uint64_t entry,
             uint64_t place, uint64_t len)
{
  const struct finding f = {
    .damage = c->damage,
    .entry = entry,
    .place = place,
    .guest = w->guest,
  };

  if (!w->is_table_uncertain)
    report_damage (w, &f);
  else if (w->finding.damage == DAMAGE_NONE)
    w->finding = f;
  add_plain (w, EXTENT_DAMAGED, len);
}

static void
add_packed (struct walk *w, const struct cluster *c, uint64_t within,
            uint64_t len)
{
  struct extent ext = {
    .type = EXTENT_PACKED,
    .len = len,
    .src = w->img->source,
    .host = c->host,
    .allocated = true,
    .codec = w->q->codec,
    .packed_len = c->packed_len,
    .within = within,
  };

  add_extent (w, &ext);
}

/* A cluster wholly past the end of its file reads as zeroes, as QEMU reads
 * it; but it is a sign of a file that was cut short.
 */
static void
warn_of_end (struct walk *w, uint64_t host)
{
  if (atomic_exchange (&w->q->has_warned_of_end, true))
    return;
  report_warning ("%s: data at disk offset %" PRIu64 " lie at byte %" PRIu64
                  ", beyond the end of %s, which has %" PRIu64 " bytes; "
                  "such data read as zeroes; the file may have been cut "
                  "short", w->img->name, w->guest, host, w->data->name,
                  w->data_len);
}

/* May the cluster at 'host', whose entry says so, be written in place?  Not
 * before the refcounts are known, and never where a table is.
 */
static bool
is_writable (const struct walk *w, const struct cluster *c)
{
  struct qcow2_writer *writer = w->q->writer;

  if (!c->copied || !w->may_write)
    return false;
  if (w->q->rules.has_data_file)
    return true;
  return writer->counts != NULL && c->host < w->data_len &&
    !qcow2_guard_has (&writer->counts->guard,
                      c->host >> w->q->rules.cluster_bits);
}

/* A run of one kind inside the cluster: data, zeroes or nothing. */
static void
add_run (struct walk *w, const struct cluster *c, enum cluster_kind kind,
         uint64_t within, uint64_t len)
{
  struct extent ext = { .len = len, .allocated = c->allocated };

  switch (kind) {
  case CLUSTER_DATA:
    ext.type = EXTENT_DATA;
    if (c->host >= w->data_len)
      warn_of_end (w, c->host);
    break;
  case CLUSTER_ZERO:
    ext.type = EXTENT_ZERO;
    break;
  default:
    ext.type = EXTENT_BACKING;
    break;
  }
  if (c->allocated && kind != CLUSTER_BACKING) {
    ext.src = w->data;
    ext.host = c->host + within;
    ext.writable = is_writable (w, c);
  }
  add_extent (w, &ext);
}

static void
add_mixed (struct walk *w, const struct cluster *c, uint64_t within,
           uint64_t len)
{
  unsigned bits = w->q->subcluster_bits;
  uint64_t end = within + len;

  while (within < end && !w->out.is_full) {
    unsigned index = within >> bits;
    enum cluster_kind kind;
    unsigned nr = cluster_subcluster_run (c, index, &kind);
    uint64_t run_end = MIN ((uint64_t) (index + nr) << bits, end);

    add_run (w, c, kind, within, run_end - within);
    within = run_end;
  }
}

/* Answer what the L2 entry at bytes[0..] says, as far as its cluster is
 * asked for; 'place' is its offset in the file.
 */
static void
add_cluster (struct walk *w, const uint8_t *bytes, uint64_t place,
             bool l2_copied)
{
  const struct entry_rules *rules = &w->q->rules;
  uint64_t within = w->guest & (w->q->cluster_len - 1);
  uint64_t len = MIN (w->q->cluster_len - within, w->end - w->guest);
  uint64_t entry = load_entry_be64 (bytes);
  uint64_t bitmap = rules->is_extended ? load_entry_be64 (bytes + 8) : 0;
  struct cluster c;

  cluster_decode (rules, entry, bitmap, w->guest - within, &c);
  c.copied = c.copied && l2_copied;
  switch (c.kind) {
  case CLUSTER_DAMAGED:
    add_damaged (w, &c, entry, place, len);
    break;
  case CLUSTER_PACKED:
    add_packed (w, &c, within, len);
    break;
  case CLUSTER_MIXED:
    add_mixed (w, &c, within, len);
    break;
  default:
    add_run (w, &c, c.kind, within, len);
    break;
  }
}

/* ---- tables */

/* Answer what 'nr' entries say, as far as they lie before 'end'; 'place' is
 * the first one's offset in the file.  Runs without any cluster, of which
 * long tables mostly consist, are answered at once.
 */
static void
walk_entries (struct walk *w, const uint8_t *bytes, uint64_t place,
              uint64_t nr, uint64_t end, bool l2_copied)
{
  const unsigned bits = w->q->entry_bits;
  const uint64_t first = round_down (w->guest, w->q->cluster_len);
  uint64_t n;

  nr = MIN (nr, div_round_up (end - first, w->q->cluster_len));
  while (nr > 0 && w->guest < end && !w->out.is_full) {
    n = count_zero_words (bytes, nr << (bits - 3)) >> (bits - 3);
    if (n > 0) {
      const uint64_t start = round_down (w->guest, w->q->cluster_len);
      const uint64_t run_end = MIN (start + n * w->q->cluster_len, end);

      add_plain (w, EXTENT_BACKING, run_end - w->guest);
    }
    else {
      n = 1;
      add_cluster (w, bytes, place, l2_copied);
    }
    bytes += n << bits;
    place += n << bits;
    nr -= n;
  }
}

/* Answer from one page of the L2 table at 'l2_host' what lies before
 * 'end'.  -1: the page cannot be read.
 */
static int
walk_l2_page (struct walk *w, uint64_t l2_host, uint64_t end,
              bool l2_copied)
{
  struct cache *cache = w->img->cache;
  uint64_t place = l2_entry_host (w->q, l2_host,
                                  l2_index_of (w->q, w->guest));
  struct page *page = cache_get (cache, place);

  if (page == NULL)
    return -1;
  walk_entries (w, page->bytes + (place - page->host), place,
                entries_left_in_page (cache, place, w->q->entry_bits), end,
                l2_copied);
  cache_put (cache, page);
  w->pages_left--;
  return 0;
}

/* The same for a long part of a table, whose pages need not be kept.  No
 * more than a piece of it is held in memory.
 */
static int
walk_l2_piece (struct walk *w, uint64_t l2_host, uint64_t end,
               bool l2_copied)
{
  _Alignas (8) uint8_t buf[PEEK_LEN];
  const uint32_t page_len = cache_page_len (w->img->cache);
  const uint64_t place = l2_entry_host (w->q, l2_host,
                                        l2_index_of (w->q, w->guest));
  const uint64_t last = l2_entry_host (w->q, l2_host,
                                       l2_index_of (w->q, end - 1));
  const uint64_t start = round_down (place, page_len);
  uint64_t len = round_down (last, page_len) + page_len - start;

  len = MIN (len, (uint64_t) PEEK_LEN);
  len = MIN (len, (uint64_t) w->pages_left * page_len);
  if (cache_peek (w->img->cache, start, len, buf) == -1)
    return -1;
  walk_entries (w, buf + (place - start), place,
                (len - (place - start)) >> w->q->entry_bits, end, l2_copied);
  w->pages_left -= len / page_len;
  return 0;
}

/* How many pages of the table does the walk need as far as 'end'? */
static uint64_t
count_l2_pages (const struct walk *w, uint64_t l2_host, uint64_t end)
{
  const uint32_t page_len = cache_page_len (w->img->cache);
  const uint64_t first = l2_entry_host (w->q, l2_host,
                                        l2_index_of (w->q, w->guest));
  const uint64_t last = l2_entry_host (w->q, l2_host,
                                       l2_index_of (w->q, end - 1));

  return last / page_len - first / page_len + 1;
}

static int
walk_l2_table (struct walk *w, uint64_t l2_host, uint64_t end,
               bool l2_copied)
{
  const uint32_t page_len = cache_page_len (w->img->cache);
  const uint64_t first = l2_entry_host (w->q, l2_host,
                                        l2_index_of (w->q, w->guest));
  const uint64_t nr_pages = count_l2_pages (w, l2_host, end);
  int r = 0;

  if (nr_pages > 1 && nr_pages <= MAX_KEPT_PAGES)
    cache_read_ahead (w->img->cache, round_down (first, page_len),
                      nr_pages * page_len);
  while (r == 0 && w->guest < end && w->pages_left > 0 && !w->out.is_full)
    r = nr_pages > MAX_KEPT_PAGES
      ? walk_l2_piece (w, l2_host, end, l2_copied)
      : walk_l2_page (w, l2_host, end, l2_copied);
  return r;
}

/* Where the range of the L1 entry ends, or what is asked for. */
static uint64_t
span_end (const struct walk *w, uint64_t l1_index)
{
  uint64_t last = l1_index_of (w->q, w->end - 1);

  return l1_index < last ? (l1_index + 1) << l2_span_bits (w->q) : w->end;
}

/* Where a walk stood, to begin again from there. */
struct walk_mark {
  uint64_t guest, last_len;
  size_t nr_ext;
  bool is_full;
};

static struct walk_mark
mark (const struct walk *w)
{
  return (struct walk_mark) {
    .guest = w->guest,
    .last_len = w->out.nr > 0 ? w->out.ext[w->out.nr - 1].len : 0,
    .nr_ext = w->out.nr,
    .is_full = w->out.is_full,
  };
}

static void
go_back (struct walk *w, const struct walk_mark *m)
{
  w->guest = m->guest;
  w->out.nr = m->nr_ext;
  w->out.is_full = m->is_full;
  if (m->nr_ext > 0)
    w->out.ext[m->nr_ext - 1].len = m->last_len;
}

/* Answer from the table that the L1 entry at 'bytes' names.  Somebody else
 * may give the entry a copy of the table meanwhile (the range lock is on
 * clusters, not on tables), and the old one's place may get other content:
 * what was read counts only if the entry is still the same.  *entry is
 * what it was.  A table is copied once at most, so this ends.
 */
static int
walk_l1_entry (struct walk *w, const uint8_t *bytes, uint64_t l2_host,
               uint64_t end, uint64_t entry)
{
  const struct walk_mark start = mark (w);

  for (;;) {
    const uint64_t l1_index = l1_index_of (w->q, start.guest);
    int r;

    w->is_table_uncertain = w->img->is_writable;
    w->finding.damage = DAMAGE_NONE;
    r = walk_l2_table (w, l2_host, end, entry & L1_COPIED);
    w->is_table_uncertain = false;
    if (load_entry_be64 (bytes) == entry) {
      if (w->finding.damage != DAMAGE_NONE)
        report_damage (w, &w->finding);
      return r;
    }
    go_back (w, &start);
    w->pages_left = MAX (w->pages_left, 1U);
    entry = load_entry_be64 (bytes);
    if (l1_entry_decode (w->img, l1_index, entry, &l2_host) != 1)
      return 0;                 /* answered by the next lookup */
  }
}

/* Answer what the entries of one page of the L1 table say. */
static int
walk_l1_page (struct walk *w)
{
  struct cache *cache = w->img->cache;
  uint64_t l1_index = l1_index_of (w->q, w->guest);
  uint64_t place = l1_entry_host (w->q, l1_index);
  uint64_t nr = entries_left_in_page (cache, place, 3);
  const uint8_t *bytes;

  w->l1_page = cache_get (cache, place);
  if (w->l1_page == NULL)
    return -1;
  w->pages_left--;
  bytes = w->l1_page->bytes + (place - w->l1_page->host);
  for (; nr > 0 && w->guest < w->end && !w->out.is_full; --nr) {
    uint64_t entry = load_entry_be64 (bytes);
    uint64_t end = span_end (w, l1_index);
    uint64_t l2_host;
    int r = l1_entry_decode (w->img, l1_index, entry, &l2_host);

    if (r == 1) {
      if (w->pages_left == 0)
        break;
      if (walk_l1_entry (w, bytes, l2_host, end, entry) == -1)
        return -1;
      if (w->guest < end)
        break;
    }
    else
      add_plain (w, r == 0 ? EXTENT_BACKING : EXTENT_DAMAGED,
                 end - w->guest);
    bytes += 8;
    l1_index++;
  }
  return 0;
}

ssize_t
qcow2_lookup (struct image *img, uint64_t guest, uint64_t len,
              struct extent *ext, size_t max)
{
  struct qcow2 *q = qcow2_state (img);
  struct source *data = q->rules.has_data_file ? img->data_source
    : img->source;
  struct walk w = {
    .img = img,
    .q = q,
    .data = data,
    .data_len = source_len (data),
    .may_write = img->is_writable,
    .guest = guest,
    .end = guest + len,
    .pages_left = MAX_PAGES,
    .out = { .ext = ext, .max = max },
  };
  int r = 0;

  while (r == 0 && w.guest < w.end && w.pages_left > 0 && !w.out.is_full) {
    r = walk_l1_page (&w);
    cache_put (img->cache, w.l1_page);
    w.l1_page = NULL;
  }
  /* What was answered before a failure is answered. */
  return w.out.nr > 0 ? (ssize_t) w.out.nr : -1;
}
