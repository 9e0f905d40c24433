/* Is a qcow (version 1) image sound?
 *
 * Every range that something refers to is noted with its purpose; then they
 * are sorted, and no two may meet.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "check.h"

#define PACKED (UINT64_C (1) << 63)
#define SECTOR 512

/* So that a damaged number cannot make us walk for ever. */
#define MAX_L1 65536

#define XEN_MAGIC 0x58454efb
#define AT_MIN_CLUSTER_ALLOC 56

enum purpose { AS_HEADER, AS_NAME, AS_L1, AS_L2, AS_DATA, AS_STREAM };
static const char *const purposes[] = {
  "the header", "the name", "the L1 table", "an L2 table", "a cluster",
  "a stream",
};

struct layout {
  uint64_t name_host, name_len, len, l1_host, nr_l1;
  unsigned cluster_bits, l2_bits;
  uint64_t cluster_len, l2_len, span;
};

/* What bytes [host, end) are used for. */
struct piece {
  uint64_t host, end;
  enum purpose purpose;
  bool was_there;               /* the entry was in the first image */
};

struct check {
  struct source *src, *first;
  FILE *fp;
  struct report *report;
  struct layout layout;
  uint64_t file_len;
  struct piece *pieces;
  size_t nr, room;
};

__attribute__ ((format (printf, 2, 3)))
static void
error (struct check *c, const char *fmt, ...)
{
  va_list args;

  c->report->nr_errors++;
  if (c->fp == NULL)
    return;
  va_start (args, fmt);
  fprintf (c->fp, "check: ");
  vfprintf (c->fp, fmt, args);
  fprintf (c->fp, "\n");
  va_end (args);
}

/* ---- reading */

static uint64_t
load_entry (struct source *src, uint64_t host)
{
  uint8_t bytes[8];

  CHECK (source_pread_padded (src, bytes, sizeof bytes, host) == 0);
  return load_be64 (bytes);
}

/* False: it is no image whose structure can be followed. */
static bool
read_layout (struct source *src, struct layout *l)
{
  uint8_t h[48];

  CHECK (source_pread_padded (src, h, sizeof h, 0) == 0);
  *l = (struct layout) {
    .name_host = load_be64 (h + 8), .name_len = load_be32 (h + 16),
    .len = load_be64 (h + 24), .l1_host = load_be64 (h + 40),
    .cluster_bits = h[32], .l2_bits = h[33],
  };
  if (load_be32 (h) != 0x514649fb || load_be32 (h + 4) != 1 ||
      load_be32 (h + 36) != 0 || l->cluster_bits < 9 ||
      l->cluster_bits > 16 || l->l2_bits < 6 || l->l2_bits > 13 ||
      l->len >> 62 != 0 || l->l1_host >> 62 != 0 ||
      l->name_host >> 62 != 0 || l->name_len > 1023)
    return false;
  l->cluster_len = UINT64_C (1) << l->cluster_bits;
  l->l2_len = UINT64_C (8) << l->l2_bits;
  l->span = l->cluster_len << l->l2_bits;
  l->nr_l1 = div_round_up (l->len, l->span);
  return l->nr_l1 <= MAX_L1;
}

static uint64_t
stream_host (const struct layout *l, uint64_t entry)
{
  return entry & ((UINT64_C (1) << (63 - l->cluster_bits)) - 1);
}

static uint64_t
stream_len (const struct layout *l, uint64_t entry)
{
  return entry >> (63 - l->cluster_bits) & (l->cluster_len - 1);
}

/* The entry for the guest's cluster; 0 without a table. */
static uint64_t
find_entry (struct source *src, const struct layout *l, uint64_t guest)
{
  const uint64_t l2 = load_entry (src, l->l1_host + guest / l->span * 8);

  return l2 == 0 ? 0
    : load_entry (src, l2 + guest % l->span / l->cluster_len * 8);
}

static bool
decode (struct source *src, const struct layout *l, uint64_t entry,
        uint8_t *cluster)
{
  const uint64_t len = stream_len (l, entry);
  CLEANUP_FREE uint8_t *stream = malloc (MAX (len, UINT64_C (1)));

  CHECK (stream != NULL);
  CHECK (source_pread_padded (src, stream, len, stream_host (l, entry))
         == 0);
  return codec_decode (CODEC_DEFLATE, stream, len, cluster, l->cluster_len)
    == 0;
}

/* Are bytes [host, end) as they were? */
static bool
is_kept (struct source *src, struct source *first, uint64_t host,
         uint64_t end)
{
  CLEANUP_FREE uint8_t *now = malloc (MAX (end - host, UINT64_C (1)));
  CLEANUP_FREE uint8_t *then = malloc (MAX (end - host, UINT64_C (1)));

  CHECK (now != NULL && then != NULL);
  CHECK (source_pread_padded (src, now, end - host, host) == 0);
  CHECK (source_pread_padded (first, then, end - host, host) == 0);
  return memcmp (now, then, end - host) == 0;
}

/* ---- what refers to what */

static void
refer (struct check *c, uint64_t host, uint64_t len, enum purpose purpose,
       bool was_there)
{
  if (len == 0)
    return;
  if (c->nr == c->room) {
    c->room = c->room * 2 + 64;
    c->pieces = realloc (c->pieces, c->room * sizeof *c->pieces);
    CHECK (c->pieces != NULL);
  }
  c->pieces[c->nr++] = (struct piece) {
    .host = host, .end = host + len, .purpose = purpose,
    .was_there = was_there,
  };
}

static void
stream_entry (struct check *c, uint64_t entry, uint64_t guest,
              bool was_there)
{
  const struct layout *l = &c->layout;
  const uint64_t host = stream_host (l, entry), len = stream_len (l, entry);
  CLEANUP_FREE uint8_t *cluster = malloc (l->cluster_len);

  CHECK (cluster != NULL);
  if (len == 0)
    error (c, "the stream for %" PRIu64 " has no bytes", guest);
  else if (!range_is_inside (host, len, c->file_len))
    error (c, "the stream for %" PRIu64 ", at %" PRIu64 ", is not in the "
           "file", guest, host);
  /* One that is as it was decodes, or else the disk cannot be read. */
  else if (!(was_there && is_kept (c->src, c->first, host, host + len)) &&
           !decode (c->src, l, entry, cluster))
    error (c, "the stream for %" PRIu64 ", at %" PRIu64 ", does not decode",
           guest, host);
  refer (c, host, len, AS_STREAM, was_there);
}

static void
plain_entry (struct check *c, uint64_t entry, uint64_t guest,
             bool was_there)
{
  const uint64_t len = c->layout.cluster_len;

  if (entry >> 62 != 0) {
    error (c, "the cluster for %" PRIu64 " lies nowhere: %" PRIx64, guest,
           entry);
    return;
  }
  if (entry % SECTOR != 0 || (entry % len != 0 && !was_there))
    error (c, "the cluster for %" PRIu64 " is out of line: %" PRIx64, guest,
           entry);
  if (!range_is_inside (entry, len, c->file_len) && !was_there)
    error (c, "the cluster for %" PRIu64 ", at %" PRIu64 ", is not in the "
           "file", guest, entry);
  refer (c, entry, len, AS_DATA, was_there);
}

static void
l2_entry (struct check *c, uint64_t entry, uint64_t guest)
{
  const struct layout *l = &c->layout;
  bool was_there;

  if (entry == 0)
    return;
  was_there = c->first != NULL && find_entry (c->first, l, guest) == entry;
  if (guest >= l->len && !was_there)
    error (c, "an entry for %" PRIu64 ", behind the disk's end", guest);
  if (entry & PACKED)
    stream_entry (c, entry, guest, was_there);
  else
    plain_entry (c, entry, guest, was_there);
}

static void
l2_table (struct check *c, uint64_t host, uint64_t guest)
{
  const struct layout *l = &c->layout;
  CLEANUP_FREE uint8_t *bytes = malloc (l->l2_len);

  CHECK (bytes != NULL);
  CHECK (source_pread_padded (c->src, bytes, l->l2_len, host) == 0);
  for (uint64_t at = 0; at < l->l2_len; at += 8)
    l2_entry (c, load_be64 (bytes + at), guest + at / 8 * l->cluster_len);
}

static void
l1_table (struct check *c)
{
  const struct layout *l = &c->layout;

  for (uint64_t i = 0; i < l->nr_l1; ++i) {
    const uint64_t entry = load_entry (c->src, l->l1_host + i * 8);
    const bool was_there = c->first != NULL &&
      load_entry (c->first, l->l1_host + i * 8) == entry;

    if (entry == 0)
      continue;
    if (entry >> 62 != 0 || entry % l->cluster_len != 0) {
      error (c, "L1 entry %" PRIu64 " is out of line: %" PRIx64, i, entry);
      continue;
    }
    if (!range_is_inside (entry, l->l2_len, c->file_len) && !was_there)
      error (c, "the L2 table %" PRIu64 ", at %" PRIu64 ", is not in the "
             "file", i, entry);
    refer (c, entry, l->l2_len, AS_L2, was_there);
    l2_table (c, entry, i * l->span);
  }
}

/* ---- what meets */

static int
compare_pieces (const void *a, const void *b)
{
  const struct piece *p = a, *q = b;

  if (p->host != q->host)
    return p->host < q->host ? -1 : 1;
  if (p->purpose != q->purpose)
    return (int) p->purpose - (int) q->purpose;
  return p->end < q->end ? -1 : p->end > q->end;
}

/* One stream may serve many. */
static bool
is_same_stream (const struct piece *p, const struct piece *q)
{
  return p->purpose == AS_STREAM && q->purpose == AS_STREAM &&
    p->host == q->host && p->end == q->end;
}

static bool
may_meet (const struct piece *p, const struct piece *q)
{
  return is_same_stream (p, q) ||
    (p->purpose == AS_DATA && q->purpose == AS_DATA && p->was_there &&
     q->was_there);
}

static void
meet (struct check *c)
{
  const struct piece *last = NULL; /* of those so far, ends last */
  uint64_t end = 0, used = 0;

  qsort (c->pieces, c->nr, sizeof *c->pieces, compare_pieces);
  for (size_t i = 0; i < c->nr; ++i) {
    const struct piece *p = &c->pieces[i];

    if (last && p->host < last->end && !may_meet (last, p))
      error (c, "%s at %" PRIu64 " meets %s at %" PRIu64,
             purposes[p->purpose], p->host, purposes[last->purpose],
             last->host);
    if (p->end > end) {
      used += MIN (p->end, c->file_len) -
        MIN (MAX (p->host, end), c->file_len);
      end = p->end;
    }
    if (last == NULL || p->end > last->end)
      last = p;
  }
  c->report->nr_leaks = (c->file_len - used) >> c->layout.cluster_bits;
}

/* ---- the image */

static uint64_t
header_len (struct source *src)
{
  uint8_t h[52];

  CHECK (source_pread_padded (src, h, sizeof h, 0) == 0);
  if (load_be32 (h + 48) != XEN_MAGIC)
    return 48;
  return load_be64 (h + 8) == 60 ? 60 : 64; /* by where the name begins */
}

/* Tapdisk keeps the L1 table in memory by whole pages, and writes them back:
 * nothing else can be in them.
 */
static uint64_t
l1_end (const struct check *c)
{
  const uint64_t end = c->layout.l1_host + c->layout.nr_l1 * 8;

  return header_len (c->src) > 48 ? round_up (end, 4096) : end;
}

static void
refer_all (struct check *c)
{
  const struct layout *l = &c->layout;

  refer (c, 0, header_len (c->src), AS_HEADER, true);
  if (l->name_host != 0)
    refer (c, l->name_host, l->name_len, AS_NAME, true);
  refer (c, l->l1_host, l1_end (c) - l->l1_host, AS_L1, true);
  l1_table (c);
}

void
check_image (struct source *src, struct source *first, FILE *fp,
             struct report *report)
{
  struct check c = {
    .src = src, .first = first, .fp = fp, .report = report,
    .file_len = source_len (src),
  };

  *report = (struct report) { 0 };
  report->is_image = read_layout (src, &c.layout);
  if (!report->is_image)
    return;
  if (c.layout.l1_host % 8 != 0)
    error (&c, "the L1 table is out of line");
  refer_all (&c);
  meet (&c);
  free (c.pieces);
}

uint64_t
check_end (struct source *src)
{
  struct report report = { 0 };
  struct check c = {
    .src = src, .report = &report, .file_len = source_len (src),
  };
  uint64_t end = 0;

  CHECK (read_layout (src, &c.layout));
  refer_all (&c);
  for (size_t i = 0; i < c.nr; ++i)
    end = MAX (end, c.pieces[i].end);
  free (c.pieces);
  return end;
}

bool
check_kept (struct source *src, struct source *first, FILE *fp)
{
  struct layout l;
  uint64_t header_end;
  bool has_changed;

  CHECK (read_layout (first, &l));
  header_end = l.l1_host;
  if (header_len (first) > 48 &&
      !is_kept (src, first, AT_MIN_CLUSTER_ALLOC, AT_MIN_CLUSTER_ALLOC + 4))
  {
    uint8_t now[4];

    CHECK (source_pread_padded (src, now, sizeof now, AT_MIN_CLUSTER_ALLOC)
           == 0);
    has_changed = load_be32 (now) != 1 ||
      !is_kept (src, first, 0, AT_MIN_CLUSTER_ALLOC) ||
      !is_kept (src, first, AT_MIN_CLUSTER_ALLOC + 4, header_end);
  }
  else
    has_changed = !is_kept (src, first, 0, header_end);
  if (l.name_host != 0 &&
      !is_kept (src, first, l.name_host, l.name_host + l.name_len))
    has_changed = true;
  if (has_changed) {
    if (fp)
      fprintf (fp, "check: the header is not what it was\n");
    return false;
  }
  if (header_len (first) > 48 &&
      (load_entry (src, AT_MIN_CLUSTER_ALLOC) >> 32) != 1 &&
      !is_kept (src, first, 0, source_len (first))) {
    if (fp)
      fprintf (fp, "check: changed, but min_cluster_alloc is not 1\n");
    return false;
  }
  return true;
}

/* ---- the disk */

static void
read_base (struct source *base, uint64_t guest, uint8_t *buf, uint64_t len)
{
  if (base)
    CHECK (source_pread_padded (base, buf, len, guest) == 0);
  else
    memset (buf, 0, len);
}

/* Streams decoded lately: several entries may name one. */
struct memo {
  uint64_t entry;
  uint8_t *cluster;             /* owned */
};
#define NR_MEMOS 2

static const uint8_t *
decode_once (struct source *src, const struct layout *l, uint64_t entry,
             struct memo memos[NR_MEMOS])
{
  const struct memo oldest = memos[NR_MEMOS - 1];

  if (memos[0].entry != entry) {
    memos[NR_MEMOS - 1] = memos[0];
    memos[0] = oldest;
  }
  if (memos[0].entry != entry) {
    memos[0].entry = entry;
    CHECK (decode (src, l, entry, memos[0].cluster));
  }
  return memos[0].cluster;
}

void
check_read (struct source *src, struct source *base, uint8_t *buf,
            uint64_t len)
{
  struct memo memos[NR_MEMOS] = { 0 };
  struct layout l;
  size_t i;

  CHECK (read_layout (src, &l));
  for (i = 0; i < NR_MEMOS; ++i) {
    memos[i].cluster = malloc (l.cluster_len);
    CHECK (memos[i].cluster != NULL);
  }
  for (uint64_t guest = 0; guest < len; guest += l.cluster_len) {
    const uint64_t n = MIN (l.cluster_len, len - guest);
    const uint64_t entry = find_entry (src, &l, guest);

    if (entry == 0)
      read_base (base, guest, buf + guest, n);
    else if (entry & PACKED)
      memcpy (buf + guest, decode_once (src, &l, entry, memos), n);
    else
      CHECK (source_pread_padded (src, buf + guest, n, entry) == 0);
  }
  for (i = 0; i < NR_MEMOS; ++i)
    free (memos[i].cluster);
}
