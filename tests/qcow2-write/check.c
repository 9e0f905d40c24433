/* Is a qcow2 image sound?
 *
 * Every reference is counted first; then the counts and flags of the image
 * are held against that.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "check.h"

#define COPIED (UINT64_C (1) << 63)
#define PACKED (UINT64_C (1) << 62)
#define HOST_BITS UINT64_C (0x00fffffffffffe00)
#define L1_RESERVED_BITS UINT64_C (0x7f000000000001ff)
#define L2_RESERVED_BITS UINT64_C (0x3f000000000001fe)

/* Limits, so that a damaged number cannot make us walk for ever. */
#define MAX_L1 4194304
#define MAX_TABLE (8 * 1024 * 1024)
#define MAX_SNAPSHOTS 65536
#define MAX_DIRECTORY (64 * 1024 * 1024)
#define MAX_BITMAP_TABLE 0x8000000

/* What a cluster is used for. */
enum purpose {
  AS_NOTHING, AS_HEADER, AS_L1, AS_L2, AS_DATA, AS_PACKED, AS_REFCOUNTS,
  AS_SNAPSHOTS, AS_BITMAPS,
};

struct check {
  struct source *src;
  FILE *fp;
  bool strict;
  struct report *report;

  uint32_t version, cluster_bits, order;
  uint64_t cluster_len, file_len, nr;
  uint64_t incompatible;
  bool is_extended, has_data_file;
  uint64_t l1_host, l1_size;
  uint64_t table_host, table_clusters;
  uint64_t nr_snapshots, snapshots_host;

  uint64_t *refs;               /* by cluster */
  uint8_t *purpose;             /* likewise */
  uint32_t *tree;               /* likewise: the last L1 table, numbered
                                   from 1, under which it was named */
  uint32_t this_tree;
  uint64_t *table;              /* of refcounts */
  uint64_t nr_table;
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

static uint8_t *
read_bytes (const struct check *c, uint64_t host, uint64_t len)
{
  uint8_t *bytes = malloc (MAX (len, UINT64_C (1)));

  CHECK (bytes != NULL);
  CHECK (source_pread_padded (c->src, bytes, len, host) == 0);
  return bytes;
}

/* ---- references */

static void
refer (struct check *c, uint64_t host, uint64_t len, enum purpose purpose,
       const char *what)
{
  uint64_t i, end;

  if (len == 0)
    return;
  if (ADD_OVERFLOW (host, len, &end) || end >= c->file_len + c->cluster_len) {
    error (c, "%s at %" PRIu64 " lies behind the end of the file", what,
           host);
    return;
  }
  for (i = host >> c->cluster_bits; i <= (end - 1) >> c->cluster_bits; ++i) {
    if (i >= c->nr)
      break;                    /* less than a cluster behind the end */
    c->refs[i]++;
    if (c->strict && c->purpose[i] != AS_NOTHING &&
        c->purpose[i] != purpose)
      error (c, "%s at %" PRIu64 " is used for something else, too", what,
             host);
    c->purpose[i] = purpose;
  }
}

/* One L1 table names a cluster once. */
static void
refer_in_tree (struct check *c, uint64_t host, enum purpose purpose,
               const char *what)
{
  const uint64_t i = host >> c->cluster_bits;

  if (c->strict && i < c->nr) {
    if (c->tree[i] == c->this_tree)
      error (c, "%s at %" PRIu64 " is named twice", what, host);
    c->tree[i] = c->this_tree;
  }
  refer (c, host, c->cluster_len, purpose, what);
}

static void
packed_entry (struct check *c, uint64_t entry, uint64_t bitmap,
              uint64_t place)
{
  const unsigned x = 70 - c->cluster_bits;
  const uint64_t host = entry & ((UINT64_C (1) << x) - 1);
  const uint64_t sectors =
    (entry >> x & ((UINT64_C (1) << (c->cluster_bits - 8)) - 1)) + 1;

  if (entry & COPIED)
    error (c, "compressed entry at %" PRIu64 " is marked COPIED", place);
  if (c->has_data_file || bitmap != 0) {
    error (c, "compressed entry at %" PRIu64 " must not be", place);
    return;
  }
  refer (c, host, sectors * 512 - host % 512, AS_PACKED,
         "a compressed cluster");
}

static void
l2_entry (struct check *c, uint64_t entry, uint64_t bitmap, uint64_t place,
          uint64_t guest)
{
  const uint64_t host = entry & HOST_BITS;
  const bool is_there = host != 0 ||
    (c->has_data_file && (entry & COPIED));

  if (entry & PACKED) {
    packed_entry (c, entry, bitmap, place);
    return;
  }
  if (entry & L2_RESERVED_BITS)
    error (c, "L2 entry at %" PRIu64 " has reserved bits: %" PRIx64, place,
           entry);
  if (c->strict && (entry & 1) && (c->is_extended || c->version < 3))
    error (c, "L2 entry at %" PRIu64 " has bit 0", place);
  if ((bitmap & UINT32_MAX) & (bitmap >> 32)) {
    error (c, "subclusters at %" PRIu64 " allocated and zero", place);
    return;
  }
  if (!is_there) {
    if ((bitmap & UINT32_MAX) != 0)
      error (c, "subclusters at %" PRIu64 " allocated nowhere", place);
    return;
  }
  if (host % c->cluster_len != 0)
    error (c, "L2 entry at %" PRIu64 " is out of line: %" PRIx64, place,
           entry);
  if (!c->has_data_file)
    refer_in_tree (c, host, AS_DATA, "a data cluster");
  else if (host != guest)
    error (c, "L2 entry at %" PRIu64 " is not where the guest thinks",
           place);
}

static void
l2_table (struct check *c, uint64_t l2_host, uint64_t guest)
{
  CLEANUP_FREE uint8_t *bytes = read_bytes (c, l2_host, c->cluster_len);
  const unsigned step = c->is_extended ? 16 : 8;
  uint64_t at;

  for (at = 0; at < c->cluster_len; at += step)
    l2_entry (c, load_be64 (bytes + at),
              c->is_extended ? load_be64 (bytes + at + 8) : 0,
              l2_host + at, guest + at / step * c->cluster_len);
}

static void
l1_table (struct check *c, uint64_t host, uint64_t size)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  const uint64_t span = c->cluster_len / (c->is_extended ? 16 : 8)
    * c->cluster_len;
  uint64_t i;

  c->this_tree++;
  if (size > MAX_L1 || host % c->cluster_len != 0) {
    error (c, "L1 table at %" PRIu64 " is no table", host);
    return;
  }
  refer (c, host, size * 8, AS_L1, "an L1 table");
  bytes = read_bytes (c, host, size * 8);
  for (i = 0; i < size; ++i) {
    const uint64_t entry = load_be64 (bytes + i * 8);
    const uint64_t l2_host = entry & HOST_BITS;

    if (entry == 0)
      continue;
    if (entry & L1_RESERVED_BITS)
      error (c, "L1 entry %" PRIu64 " has reserved bits", i);
    if (l2_host == 0) {
      error (c, "L1 entry %" PRIu64 " has flags, but no table", i);
      continue;
    }
    refer_in_tree (c, l2_host, AS_L2, "an L2 table");
    if (l2_host % c->cluster_len != 0)
      error (c, "L1 entry %" PRIu64 " is out of line", i);
    l2_table (c, l2_host, i * span);
  }
}

static void
snapshots (struct check *c)
{
  uint64_t at = c->snapshots_host, i;

  for (i = 0; i < c->nr_snapshots; ++i) {
    CLEANUP_FREE uint8_t *bytes = read_bytes (c, at, 40);

    l1_table (c, load_be64 (bytes), load_be32 (bytes + 8));
    at += 40 + (uint64_t) load_be32 (bytes + 36) + load_be16 (bytes + 12) +
      load_be16 (bytes + 14);
    /* The next begins on a multiple of 8; the last is not padded. */
    if (i + 1 < c->nr_snapshots)
      at = round_up (at, 8);
  }
  refer (c, c->snapshots_host, at - c->snapshots_host, AS_SNAPSHOTS,
         "the snapshot table");
}

static void
bitmap_table (struct check *c, uint64_t host, uint32_t size)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint32_t i;

  if (size > MAX_BITMAP_TABLE) {
    error (c, "bitmap table at %" PRIu64 " is too large", host);
    return;
  }
  refer (c, host, size * UINT64_C (8), AS_BITMAPS, "a bitmap table");
  bytes = read_bytes (c, host, size * UINT64_C (8));
  for (i = 0; i < size; ++i) {
    const uint64_t data = load_be64 (bytes + i * UINT64_C (8)) & HOST_BITS;

    if (data != 0)
      refer (c, data, c->cluster_len, AS_BITMAPS, "a bitmap's cluster");
  }
}

static void
bitmap_directory (struct check *c, const uint8_t *ext)
{
  const uint32_t nr = load_be32 (ext);
  const uint64_t len = load_be64 (ext + 8), host = load_be64 (ext + 16);
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint64_t at = 0;
  uint32_t i;

  if (len > MAX_DIRECTORY) {
    error (c, "the bitmap directory is too large");
    return;
  }
  refer (c, host, len, AS_BITMAPS, "the bitmap directory");
  bytes = read_bytes (c, host, len);
  for (i = 0; i < nr && at + 24 <= len; ++i) {
    bitmap_table (c, load_be64 (bytes + at), load_be32 (bytes + at + 8));
    at += round_up (UINT64_C (24) + load_be16 (bytes + at + 18) +
                    load_be32 (bytes + at + 20), 8);
  }
}

/* Bitmaps count as long as their autoclear bit says that they are right. */
static void
bitmaps (struct check *c, const uint8_t *cluster0)
{
  const uint64_t backing = load_be64 (cluster0 + 8);
  const uint64_t end = backing != 0 ? backing : c->cluster_len;
  uint64_t at = load_be32 (cluster0 + 100);

  if (!c->report->gives_up)
    return;
  while (at + 8 <= end && load_be32 (cluster0 + at) != 0) {
    const uint32_t len = load_be32 (cluster0 + at + 4);

    if (load_be32 (cluster0 + at) == 0x23852875 && len == 24 &&
        at + 32 <= end)
      bitmap_directory (c, cluster0 + at + 8);
    at += 8 + round_up ((uint64_t) len, 8);
  }
}

/* ---- counts */

static uint64_t
load_width (const uint8_t *block, uint64_t i, unsigned order)
{
  const unsigned width = 1u << order;

  if (width < 8) {
    const unsigned per_byte = 8 / width;

    return block[i / per_byte] >> i % per_byte * width & ((1u << width) - 1);
  }
  switch (width) {
  case 8: return block[i];
  case 16: return load_be16 (block + i * 2);
  case 32: return load_be32 (block + i * 4);
  default: return load_be64 (block + i * 8);
  }
}

static uint64_t
per_block (const struct check *c)
{
  return c->cluster_len * 8 >> c->order;
}

static void
refcount_structures (struct check *c)
{
  const uint64_t len = c->table_clusters << c->cluster_bits;
  CLEANUP_FREE uint8_t *bytes = read_bytes (c, c->table_host, len);
  uint64_t i;

  refer (c, c->table_host, len, AS_REFCOUNTS, "the refcount table");
  c->nr_table = len / 8;
  c->table = calloc (c->nr_table, sizeof *c->table);
  CHECK (c->table != NULL);
  for (i = 0; i < c->nr_table; ++i) {
    const uint64_t entry = load_be64 (bytes + i * 8);

    if (entry == 0)
      continue;
    if (entry % c->cluster_len != 0 || entry >> c->cluster_bits >= c->nr) {
      error (c, "refcount table entry %" PRIu64 " is %" PRIx64, i, entry);
      continue;
    }
    c->table[i] = entry;
    refer (c, entry, c->cluster_len, AS_REFCOUNTS, "a refcount block");
    if (c->refs[entry >> c->cluster_bits] != 1)
      error (c, "refcount block %" PRIu64 " is used otherwise, too", i);
  }
}

/* The image's own counts of the file's clusters. */
static uint64_t *
load_counts (struct check *c)
{
  uint64_t *counts = calloc (MAX (c->nr, UINT64_C (1)), sizeof *counts);
  uint64_t i, j;

  CHECK (counts != NULL);
  for (i = 0; i < c->nr_table; ++i) {
    CLEANUP_FREE uint8_t *block = NULL;

    if (c->table[i] == 0)
      continue;
    block = read_bytes (c, c->table[i], c->cluster_len);
    for (j = 0; j < per_block (c); ++j) {
      const uint64_t count = load_width (block, j, c->order);

      if (i * per_block (c) + j < c->nr)
        counts[i * per_block (c) + j] = count;
      else if (count != 0)
        c->report->nr_beyond++;
    }
  }
  return counts;
}

static void
compare_counts (struct check *c, const uint64_t *counts)
{
  uint64_t i;

  for (i = 0; i < c->nr; ++i) {
    if (counts[i] < c->refs[i])
      error (c, "cluster %" PRIu64 " (purpose %d) is used %" PRIu64
             " times, counted %" PRIu64, i, c->purpose[i], c->refs[i],
             counts[i]);
    else if (counts[i] > c->refs[i])
      c->report->nr_leaks++;
  }
}

/* ---- COPIED, in the active tables */

static void
check_copied (struct check *c, const uint64_t *counts, uint64_t entry,
              uint64_t place)
{
  const uint64_t i = (entry & HOST_BITS) >> c->cluster_bits;
  const uint64_t count = i < c->nr ? counts[i] : 0;

  if ((count == 1) != !!(entry & COPIED))
    error (c, "entry %" PRIx64 " at %" PRIu64 ": COPIED does not fit a "
           "count of %" PRIu64, entry, place, count);
}

static void
check_copied_l2 (struct check *c, const uint64_t *counts, uint64_t l2_host)
{
  CLEANUP_FREE uint8_t *bytes = read_bytes (c, l2_host, c->cluster_len);
  const unsigned step = c->is_extended ? 16 : 8;
  uint64_t at;

  if (c->has_data_file)
    return;
  for (at = 0; at < c->cluster_len; at += step) {
    const uint64_t entry = load_be64 (bytes + at);

    if (!(entry & PACKED) && (entry & HOST_BITS) != 0)
      check_copied (c, counts, entry, l2_host + at);
  }
}

static void
check_copied_all (struct check *c, const uint64_t *counts)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint64_t i;

  if (c->l1_size > MAX_L1 || c->l1_host % c->cluster_len != 0)
    return;
  bytes = read_bytes (c, c->l1_host, c->l1_size * 8);
  for (i = 0; i < c->l1_size; ++i) {
    const uint64_t entry = load_be64 (bytes + i * 8);

    if ((entry & HOST_BITS) == 0)
      continue;
    check_copied (c, counts, entry, c->l1_host + i * 8);
    check_copied_l2 (c, counts, entry & HOST_BITS);
  }
}

/* ---- the image */

static bool
read_header (struct check *c, const uint8_t *h)
{
  if (load_be32 (h) != 0x514649fb)
    return false;
  c->version = load_be32 (h + 4);
  c->cluster_bits = load_be32 (h + 20);
  if (c->version < 2 || c->version > 3 || c->cluster_bits < 9 ||
      c->cluster_bits > 21)
    return false;
  c->cluster_len = UINT64_C (1) << c->cluster_bits;
  c->order = 4;
  c->l1_size = load_be32 (h + 36);
  c->l1_host = load_be64 (h + 40);
  c->table_host = load_be64 (h + 48);
  c->table_clusters = load_be32 (h + 56);
  c->nr_snapshots = load_be32 (h + 60);
  c->snapshots_host = load_be64 (h + 64);
  if (c->version >= 3) {
    c->incompatible = load_be64 (h + 72);
    c->report->gives_up = load_be64 (h + 88) & 1; /* bitmaps */
    c->order = load_be32 (h + 96);
    if (load_be32 (h + 100) < 104 || load_be32 (h + 100) > c->cluster_len)
      return false;
  }
  c->is_extended = c->incompatible & 16;
  c->has_data_file = c->incompatible & 4;
  c->report->is_dirty = c->incompatible & 1;
  return c->order <= 6 && c->incompatible < 32 &&
    c->table_clusters >= 1 &&
    c->table_clusters << c->cluster_bits <= MAX_TABLE &&
    c->table_host % c->cluster_len == 0 &&
    c->l1_host % c->cluster_len == 0 && c->l1_size <= MAX_L1 &&
    c->snapshots_host % c->cluster_len == 0 &&
    c->nr_snapshots <= MAX_SNAPSHOTS &&
    load_be64 (h + 8) <= c->cluster_len;
}

static bool
begin (struct check *c, struct source *src)
{
  uint8_t head[112];

  c->src = src;
  c->file_len = source_len (src);
  CHECK (source_pread_padded (src, head, sizeof head, 0) == 0);
  if (!read_header (c, head))
    return false;
  c->nr = div_round_up (c->file_len, c->cluster_len);
  c->refs = calloc (c->nr + 1, sizeof *c->refs);
  c->purpose = calloc (c->nr + 1, sizeof *c->purpose);
  c->tree = calloc (c->nr + 1, sizeof *c->tree);
  CHECK (c->refs != NULL && c->purpose != NULL && c->tree != NULL);
  return true;
}

/* Everything but the refcounts. */
static void
refer_all (struct check *c)
{
  CLEANUP_FREE uint8_t *cluster0 = read_bytes (c, 0, c->cluster_len);

  refer (c, 0, c->cluster_len, AS_HEADER, "the header");
  l1_table (c, c->l1_host, c->l1_size);
  if (c->nr_snapshots > 0)
    snapshots (c);
  bitmaps (c, cluster0);
}

static void
end (struct check *c)
{
  free (c->refs);
  free (c->purpose);
  free (c->tree);
  free (c->table);
}

void
check_image (struct source *src, bool strict, FILE *fp,
             struct report *report)
{
  struct check c = { .fp = fp, .strict = strict, .report = report };
  CLEANUP_FREE uint64_t *counts = NULL;

  *report = (struct report) { 0 };
  report->is_image = begin (&c, src);
  if (!report->is_image)
    return;
  refer_all (&c);
  refcount_structures (&c);
  counts = load_counts (&c);
  if (!report->is_dirty || !strict) {
    compare_counts (&c, counts);
    check_copied_all (&c, counts);
  }
  end (&c);
}

uint64_t *
check_references (struct source *src, uint64_t *nr)
{
  struct report report = { 0 };
  struct check c = { .report = &report };
  uint64_t *refs;

  CHECK (begin (&c, src));
  refer_all (&c);
  *nr = c.nr;
  refs = STEAL (c.refs);
  end (&c);
  return refs;
}
