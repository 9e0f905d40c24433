/* An image that was not closed cleanly: its refcounts are made anew.
 *
 * Everything in use is counted by a survey.  The new refcount blocks and
 * the table that names them, which count themselves, are written behind
 * everything that the file holds; when they are durable, one sector of the
 * header is written: it names the new table and clears the dirty bit.
 * Before that write nothing of the image has changed; after it the old
 * table is free space.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header", "Host cluster
 * management".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/count.h"
#include "qcow2/counts.h"
#include "qcow2/refuse.h"
#include "qcow2/repair.h"
#include "qcow2/state.h"
#include "qcow2/survey.h"

/* Address space for the counts of a file, four bytes each; only what is
 * counted takes memory.
 */
#define MAX_COUNTS_LEN (UINT64_C (64) << 30)

/* A count that an entry's COPIED flag says must be 1. */
#define MUST_BE_ONE (UINT32_C (1) << 31)

/* Bytes of the header's first sector that change. */
#define HEADER_TABLE_OFFSET 48
#define HEADER_TABLE_CLUSTERS 56
#define HEADER_INCOMPATIBLE 72
#define SECTOR_LEN 512

struct repair {
  struct image *img;
  struct qcow2 *q;
  uint32_t *counts;             /* of the file's clusters, mapped */
  uint64_t nr;                  /* clusters in the file */
  uint64_t max;                 /* of a count */
};

/* Where the new structures go, in clusters: blocks, then the table.  Ranges
 * of the file in which nothing is counted have no block.
 */
struct plan {
  uint64_t first;
  uint64_t nr_ranges;           /* that the table names, with a block or not */
  uint64_t nr_blocks, nr_table;
  uint64_t per_block;
};

/* ---- counting */

static int
count_run (void *opaque, uint64_t host, uint64_t len, bool copied)
{
  struct repair *r = opaque;
  const uint64_t bits = r->q->rules.cluster_bits;
  uint64_t cluster, last;

  if (len == 0)
    return 0;
  last = (host + len - 1) >> bits;
  for (cluster = host >> bits; cluster <= last; ++cluster) {
    uint32_t *count;

    if (cluster >= r->nr)
      return REFUSE (EIO, "%s: host offset %" PRIu64 " is in use but behind "
                     "the end of the file; " CHECK_A_COPY, r->img->name,
                     cluster << bits);
    count = &r->counts[cluster];
    if ((*count & ~MUST_BE_ONE) >= MIN (r->max, (uint64_t) MUST_BE_ONE - 1))
      return REFUSE (EIO, "%s: host offset %" PRIu64 " is used too often "
                     "for the image's refcounts; " CHECK_A_COPY,
                     r->img->name, cluster << bits);
    ++*count;
    if (copied)
      *count |= MUST_BE_ONE;
  }
  return 0;
}

static int
check_copied (struct repair *r)
{
  uint64_t i;

  for (i = 0; i < r->nr; ++i) {
    if (!(r->counts[i] & MUST_BE_ONE))
      continue;                 /* do not touch memory for nothing */
    if (r->counts[i] != (MUST_BE_ONE | 1))
      return REFUSE (EIO, "%s: host offset %" PRIu64 " is used more than "
                     "once but marked as used once; repair a copy of the "
                     "image with qemu-img check -r all", r->img->name,
                     i << r->q->rules.cluster_bits);
    r->counts[i] &= ~MUST_BE_ONE;
  }
  return 0;
}

/* ---- writing */

/* Is anything counted in range 'i' of the file as it is? */
static bool
has_counts (const struct repair *r, const struct plan *p, uint64_t i)
{
  const uint64_t end = MIN ((i + 1) * p->per_block, r->nr);
  uint64_t cluster;

  for (cluster = i * p->per_block; cluster < end; ++cluster)
    if (r->counts[cluster] != 0)
      return true;
  return false;
}

/* The smallest area behind the file that counts itself. */
static void
make_plan (const struct repair *r, struct plan *p)
{
  const uint64_t cluster_len = r->q->cluster_len;
  uint64_t nr_below = 0, nr_area = 2, i;

  p->per_block = cluster_len * 8 >> r->q->header.refcount_order;
  p->first = r->nr;
  for (i = 0; i < p->first / p->per_block; ++i)
    nr_below += has_counts (r, p, i);
  for (;;) {
    p->nr_ranges = div_round_up (p->first + nr_area, p->per_block);
    p->nr_blocks = nr_below + p->nr_ranges - p->first / p->per_block;
    p->nr_table = div_round_up (p->nr_ranges * 8, cluster_len);
    if (p->nr_blocks + p->nr_table <= nr_area)
      break;
    nr_area = p->nr_blocks + p->nr_table;
  }
}

static uint64_t
count_of (const struct repair *r, const struct plan *p, uint64_t cluster)
{
  if (cluster < p->first)
    return r->counts[cluster];
  return cluster < p->first + p->nr_blocks + p->nr_table;
}

static int
write_block (const struct repair *r, const struct plan *p, uint64_t i,
             uint8_t *bytes, uint64_t at)
{
  const uint64_t cluster_len = r->q->cluster_len;
  uint64_t j;

  memset (bytes, 0, cluster_len);
  for (j = 0; j < p->per_block; ++j)
    qcow2_count_store (bytes, j, r->q->header.refcount_order,
                       count_of (r, p, i * p->per_block + j));
  return source_pwrite (r->img->source, bytes, cluster_len,
                        at * cluster_len);
}

/* Write the blocks, noting their places in the table's bytes. */
static int
write_blocks (const struct repair *r, const struct plan *p, uint8_t *table)
{
  CLEANUP_FREE uint8_t *bytes = malloc (r->q->cluster_len);
  uint64_t at = p->first, i;

  if (bytes == NULL)
    return REFUSE (ENOMEM, "%s: no memory to repair it", r->img->name);
  for (i = 0; i < p->nr_ranges; ++i) {
    if (i < p->first / p->per_block && !has_counts (r, p, i))
      continue;
    if (write_block (r, p, i, bytes, at) == -1)
      return -1;
    store_be64 (table + i * 8, at * r->q->cluster_len);
    at++;
  }
  assert (at == p->first + p->nr_blocks);
  return 0;
}

static int
write_structures (const struct repair *r, const struct plan *p)
{
  const uint64_t cluster_len = r->q->cluster_len;
  const uint64_t len = p->nr_table * cluster_len;
  CLEANUP_FREE uint8_t *table = calloc (1, len);

  if (table == NULL)
    return REFUSE (ENOMEM, "%s: no memory to repair it", r->img->name);
  if (write_blocks (r, p, table) == -1)
    return -1;
  return source_pwrite (r->img->source, table, len,
                        (p->first + p->nr_blocks) * cluster_len);
}

static int
switch_header (const struct repair *r, const struct plan *p)
{
  struct qcow2_header *h = &r->q->header;
  uint8_t sector[SECTOR_LEN];

  if (source_pread_padded (r->img->source, sector, sizeof sector, 0) == -1)
    return -1;
  store_be64 (sector + HEADER_TABLE_OFFSET,
              (p->first + p->nr_blocks) * r->q->cluster_len);
  store_be32 (sector + HEADER_TABLE_CLUSTERS, p->nr_table);
  store_be64 (sector + HEADER_INCOMPATIBLE, h->incompatible & ~QCOW2_DIRTY);
  if (source_pwrite (r->img->source, sector, sizeof sector, 0) == -1 ||
      source_sync (r->img->source) == -1)
    return -1;
  h->refcount_table_host = (p->first + p->nr_blocks) * r->q->cluster_len;
  h->refcount_table_clusters = p->nr_table;
  h->incompatible &= ~QCOW2_DIRTY;
  return 0;
}

static int
rebuild (struct repair *r)
{
  struct plan plan;

  if (qcow2_survey (r->img, count_run, r) == -1 || check_copied (r) == -1)
    return -1;
  make_plan (r, &plan);
  if (write_structures (r, &plan) == -1 || source_sync (r->img->source) == -1)
    return -1;
  return switch_header (r, &plan);
}

/* Could a table of the longest allowed length name the whole file? */
static bool
is_too_large (const struct repair *r)
{
  const uint64_t per_block =
    (uint64_t) r->q->cluster_len * 8 >> r->q->header.refcount_order;
  const uint64_t max = REFCOUNT_TABLE_MAX / 8 * per_block;

  /* Some of it is left for the new structures themselves. */
  return r->nr > max - max / 8 || r->nr * sizeof *r->counts > MAX_COUNTS_LEN;
}

int
qcow2_repair_counts (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);
  struct repair r = { .img = img, .q = q };
  uint64_t len;
  int ret;

  r.nr = div_round_up (source_len (img->source), q->cluster_len);
  r.max = q->header.refcount_order >= 5 ? UINT32_MAX
    : (UINT64_C (1) << (1 << q->header.refcount_order)) - 1;
  len = r.nr * sizeof *r.counts;
  if (is_too_large (&r))
    return REFUSE (EFBIG, "%s: not closed cleanly, and too large to be "
                   "repaired here; repair it with qemu-img check -r all",
                   img->name);
  r.counts = mmap (NULL, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (r.counts == MAP_FAILED)
    return REFUSE (ENOMEM, "%s: no memory to repair it", img->name);
  report_warning ("%s: it was not closed cleanly; its refcounts are made "
                  "anew before the first change", img->name);
  ret = rebuild (&r);
  munmap (r.counts, len);
  return ret;
}
