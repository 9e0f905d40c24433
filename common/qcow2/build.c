/* Tables for clusters whose places are known.
 *
 * Memory is bounded by one cluster, a piece of the L1 table and the
 * refcount table, whatever the size of the disk.  Space that does not read
 * as zeroes, on a device say, is written even where a table has nothing.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header", "Host cluster
 * management", "Cluster mapping".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/build.h"
#include "qcow2/count.h"
#include "qcow2/counts.h"
#include "qcow2/entry.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"

/* Entries of the L1 table that are written at once. */
#define L1_PIECE UINT64_C (8192)

/* Host offsets are below this. */
#define MAX_HOST (UINT64_C (1) << 56)

static uint64_t
cluster_len (const struct qcow2_build *b)
{
  return UINT64_C (1) << b->header.cluster_bits;
}

static bool
is_extended (const struct qcow2_build *b)
{
  return b->header.incompatible & QCOW2_EXTENDED_L2;
}

/* Log2 of the bytes of an L2 entry. */
static unsigned
entry_bits (const struct qcow2_build *b)
{
  return is_extended (b) ? 4 : 3;
}

/* An L2 table maps 2 to this many bytes. */
static unsigned
span_bits (const struct qcow2_build *b)
{
  return 2 * b->header.cluster_bits - entry_bits (b);
}

static int
no_memory (const struct qcow2_build *b)
{
  return REFUSE (ENOMEM, "%s: no memory for its tables", b->src->name);
}

/* ---- the plan */

/* The next L2 table that is needed at or after the one for 'guest': 1 and
 * its L1 index, 0 for none, -1.
 */
static int
next_table (const struct qcow2_build *b, uint64_t guest, uint64_t *l1_index)
{
  struct build_run run;
  int r;

  if (guest >= b->header.disk_len)
    return 0;
  r = b->next ? b->next (b->opaque, guest, &run) : 0;
  if (r == 1)
    *l1_index = MAX (run.guest, guest) >> span_bits (b);
  return r;
}

static int
count_tables (const struct qcow2_build *b, uint64_t *nr)
{
  uint64_t l1_index, guest = 0;
  int r;

  *nr = 0;
  while ((r = next_table (b, guest, &l1_index)) == 1) {
    ++*nr;
    guest = (l1_index + 1) << span_bits (b);
  }
  return r;
}

/* Bytes of header, extensions and backing name. */
static int
check_header (const struct qcow2_build *b)
{
  const uint64_t room = b->only_sector ? BUILD_SECTOR_LEN : cluster_len (b);
  const uint64_t name_len = b->backing_name ? strlen (b->backing_name) : 0;
  const uint64_t len = b->header.header_len +
    extension_list_len (b->extensions) + name_len;

  if (name_len > QCOW2_MAX_BACKING_NAME)
    return REFUSE (EINVAL, "%s: the name of the backing file has %" PRIu64
                   " bytes, the most is %d", b->src->name, name_len,
                   QCOW2_MAX_BACKING_NAME);
  if (len > room)
    return REFUSE (EINVAL, "%s: the header would be %" PRIu64 " bytes long "
                   "with the names of other files in it, and has %" PRIu64
                   "; use shorter names or larger clusters",
                   b->src->name, len, room);
  return 0;
}

static int
check_l1 (const struct qcow2_build *b, const struct build_plan *plan)
{
  if (b->header.disk_len > INT64_MAX || plan->nr_l1 > L1_MAX_ENTRIES)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large for "
                   "clusters of %" PRIu64 " bytes%s, the most is %" PRIu64
                   " bytes; use larger clusters", b->src->name,
                   b->header.disk_len, cluster_len (b),
                   is_extended (b) ? " with extended L2 entries" : "",
                   MIN ((uint64_t) L1_MAX_ENTRIES << span_bits (b),
                        (uint64_t) INT64_MAX));
  return 0;
}

/* Find how many blocks count everything up to the end, themselves and the
 * table that names them included; in clusters.
 */
static void
plan_counts (const struct qcow2_build *b, struct build_plan *plan,
             uint64_t others)
{
  const uint64_t per_block =
    cluster_len (b) * 8 >> b->header.refcount_order;

  plan->nr_blocks = 1;
  for (;;) {
    uint64_t nr;

    plan->table_clusters = div_round_up (plan->nr_blocks * 8,
                                         cluster_len (b));
    nr = div_round_up (others + plan->nr_blocks + plan->table_clusters,
                       per_block);
    if (nr <= plan->nr_blocks)
      return;
    plan->nr_blocks = nr;
  }
}

static int
check_end (const struct qcow2_build *b, const struct build_plan *plan)
{
  const uint64_t len = source_len (b->src);

  if (plan->table_clusters * cluster_len (b) > REFCOUNT_TABLE_MAX)
    return REFUSE (EFBIG, "%s: a file of %" PRIu64 " bytes needs a refcount "
                   "table of more than %d bytes; use larger clusters or "
                   "fewer refcount bits", b->src->name, plan->end,
                   REFCOUNT_TABLE_MAX);
  if (plan->end > MAX_HOST)
    return REFUSE (EFBIG, "%s: the file would be %" PRIu64 " bytes long, the "
                   "most is %" PRIu64, b->src->name, plan->end, MAX_HOST);
  if (!b->src->can_grow && plan->end > len)
    return REFUSE (ENOSPC, "%s: %" PRIu64 " bytes are needed, and it has %"
                   PRIu64 " and cannot grow", b->src->name, plan->end, len);
  return 0;
}

int
qcow2_build_plan (const struct qcow2_build *b, struct build_plan *plan)
{
  const unsigned bits = b->header.cluster_bits;
  uint64_t l1_clusters;

  memset (plan, 0, sizeof *plan);
  plan->nr_l1 = div_round_up (b->header.disk_len,
                              UINT64_C (1) << span_bits (b));
  if (check_l1 (b, plan) == -1 || check_header (b) == -1 ||
      count_tables (b, &plan->nr_l2) == -1)
    return -1;
  if (b->data_len > MAX_HOST || b->host > MAX_HOST)
    return REFUSE (EFBIG, "%s: the file would be longer than %" PRIu64
                   " bytes, which is the most", b->src->name, MAX_HOST);
  l1_clusters = div_round_up (plan->nr_l1 * 8, cluster_len (b));
  plan_counts (b, plan, (b->host >> bits) + l1_clusters + plan->nr_l2 +
               div_round_up (b->data_len, cluster_len (b)));

  plan->table_host = b->host;
  plan->blocks_host = plan->table_host + (plan->table_clusters << bits);
  plan->l1_host = plan->blocks_host + (plan->nr_blocks << bits);
  plan->l2_host = plan->l1_host + (l1_clusters << bits);
  plan->data_host = plan->l2_host + (plan->nr_l2 << bits);
  plan->end = round_up (plan->data_host + b->data_len, cluster_len (b));
  plan->reads_zero = b->src->can_grow && b->host >= source_len (b->src);
  return check_end (b, plan);
}

/* ---- writing */

static uint64_t
count_of (const struct qcow2_build *b, const struct build_plan *plan,
          uint64_t cluster)
{
  const unsigned bits = b->header.cluster_bits;

  if (cluster == 0)
    return 1;
  if (cluster < b->host >> bits)
    return b->count ? b->count (b->opaque, cluster) : 0;
  return cluster < plan->end >> bits;
}

static int
write_blocks (const struct qcow2_build *b, const struct build_plan *plan)
{
  const uint64_t len = cluster_len (b);
  const unsigned order = b->header.refcount_order;
  const uint64_t per_block = len * 8 >> order;
  CLEANUP_FREE uint8_t *bytes = malloc (len);
  uint64_t i, j;

  if (bytes == NULL)
    return no_memory (b);
  for (i = 0; i < plan->nr_blocks; ++i) {
    memset (bytes, 0, len);
    for (j = 0; j < per_block; ++j) {
      const uint64_t count = count_of (b, plan, i * per_block + j);

      if (count != 0)
        qcow2_count_store (bytes, j, order, count);
    }
    if (source_pwrite (b->src, bytes, len,
                       plan->blocks_host + i * len) == -1)
      return -1;
  }
  return 0;
}

static int
write_refcount_table (const struct qcow2_build *b,
                      const struct build_plan *plan)
{
  const uint64_t len = plan->table_clusters * cluster_len (b);
  CLEANUP_FREE uint8_t *bytes = calloc (1, len);
  uint64_t i;

  if (bytes == NULL)
    return no_memory (b);
  for (i = 0; i < plan->nr_blocks; ++i)
    store_be64 (bytes + i * 8, plan->blocks_host + i * cluster_len (b));
  return source_pwrite (b->src, bytes, len, plan->table_host);
}

/* The L2 entry for the cluster at 'guest' in the run, 'bytes' being its
 * place in the table.
 */
static void
store_entry (const struct qcow2_build *b, const struct build_run *run,
             uint64_t guest, uint8_t *bytes)
{
  const uint64_t copied = run->is_shared ? 0 : L2_COPIED;
  uint64_t entry = 0, bitmap = 0;

  switch (run->kind) {
  case BUILD_DATA:
    bitmap = UINT32_MAX;
    /* fall through */
  case BUILD_RESERVED:
    entry = (run->host + (guest - run->guest)) | copied;
    break;
  case BUILD_ZERO:
    entry = is_extended (b) ? 0 : L2_ZERO;
    bitmap = (uint64_t) UINT32_MAX << 32;
    break;
  case BUILD_PACKED:
    entry = packed_entry (run->host, run->packed_len,
                          b->header.cluster_bits);
    break;
  }
  store_be64 (bytes, entry);
  if (is_extended (b))
    store_be64 (bytes + 8, bitmap);
}

/* Fill in the table for [start, end) of the disk. */
static int
fill_l2 (const struct qcow2_build *b, uint64_t start, uint64_t end,
         uint8_t *bytes)
{
  const unsigned bits = b->header.cluster_bits;
  uint64_t guest = start;
  struct build_run run;
  int r;

  memset (bytes, 0, cluster_len (b));
  while (guest < end) {
    r = b->next (b->opaque, guest, &run);
    if (r != 1)
      return r;
    guest = MAX (guest, run.guest);
    for (; guest < MIN (end, run.guest + run.len); guest += cluster_len (b))
      store_entry (b, &run, guest,
                   bytes + (((guest - start) >> bits) << entry_bits (b)));
  }
  return 0;
}

/* What writing the L1 and L2 tables is at. */
struct progress {
  uint8_t *l1;                  /* L1_PIECE entries; owned */
  uint8_t *l2;                  /* a table; owned */
  uint64_t nr_l2;               /* tables written */
};

/* Write the L2 tables for L1 entries [first, end), and those entries. */
static int
write_piece (const struct qcow2_build *b, const struct build_plan *plan,
             uint64_t first, uint64_t end, struct progress *p)
{
  const uint64_t before = p->nr_l2;
  uint64_t l1_index = first;
  int r;

  memset (p->l1, 0, L1_PIECE * 8);
  while (l1_index < end) {
    const uint64_t host = plan->l2_host + p->nr_l2 * cluster_len (b);

    r = next_table (b, l1_index << span_bits (b), &l1_index);
    if (r == -1)
      return -1;
    if (r == 0 || l1_index >= end)
      break;
    if (fill_l2 (b, l1_index << span_bits (b),
                 MIN ((l1_index + 1) << span_bits (b), b->header.disk_len),
                 p->l2) == -1 ||
        source_pwrite (b->src, p->l2, cluster_len (b), host) == -1)
      return -1;
    store_be64 (p->l1 + (l1_index - first) * 8, host | L1_COPIED);
    p->nr_l2++;
    l1_index++;
  }
  if (p->nr_l2 == before && plan->reads_zero)
    return 0;
  return source_pwrite (b->src, p->l1, (end - first) * 8,
                        plan->l1_host + first * 8);
}

static int
write_tables (const struct qcow2_build *b, const struct build_plan *plan)
{
  CLEANUP_FREE uint8_t *l1 = malloc (L1_PIECE * 8);
  CLEANUP_FREE uint8_t *l2 = malloc (cluster_len (b));
  struct progress p = { .l1 = l1, .l2 = l2 };
  const uint64_t l1_end = plan->l1_host + plan->nr_l1 * 8;
  uint64_t i;

  if (l1 == NULL || l2 == NULL)
    return no_memory (b);
  for (i = 0; i < plan->nr_l1; i += L1_PIECE)
    if (write_piece (b, plan, i, MIN (i + L1_PIECE, plan->nr_l1), &p) == -1)
      return -1;
  if (p.nr_l2 != plan->nr_l2)
    return REFUSE (EIO, "%s: changed while its tables were made: %" PRIu64
                   " L2 tables, not %" PRIu64, b->src->name, p.nr_l2,
                   plan->nr_l2);
  if (plan->reads_zero)
    return 0;
  return source_zero (b->src, plan->l2_host - l1_end, l1_end,
                      SOURCE_ZERO_KEEP);
}

/* ---- the header */

/* Cluster 0, as far as it has contents.  NULL, reported; else the caller
 * frees it.
 */
static uint8_t *
format_header (const struct qcow2_build *b, const struct build_plan *plan)
{
  const uint64_t name_len = b->backing_name ? strlen (b->backing_name) : 0;
  const uint64_t name_host = b->header.header_len +
    extension_list_len (b->extensions);
  struct qcow2_header h = b->header;
  uint8_t *bytes = calloc (1, cluster_len (b));

  if (bytes == NULL) {
    no_memory (b);
    return NULL;
  }
  h.backing_host = name_len ? name_host : 0;
  h.backing_len = name_len;
  h.l1_size = plan->nr_l1;
  h.l1_host = plan->l1_host;
  h.refcount_table_host = plan->table_host;
  h.refcount_table_clusters = plan->table_clusters;
  qcow2_header_format (&h, bytes);
  extension_list_format (b->extensions, bytes + h.header_len);
  if (name_len)
    memcpy (bytes + name_host, b->backing_name, name_len);
  return bytes;
}

/* What of cluster 0 lies behind the first sector. */
static int
write_header_rest (const struct qcow2_build *b,
                   const struct build_plan *plan)
{
  CLEANUP_FREE uint8_t *bytes = NULL;

  if (b->only_sector || cluster_len (b) == BUILD_SECTOR_LEN)
    return 0;
  bytes = format_header (b, plan);
  if (bytes == NULL)
    return -1;
  return source_pwrite (b->src, bytes + BUILD_SECTOR_LEN,
                        cluster_len (b) - BUILD_SECTOR_LEN,
                        BUILD_SECTOR_LEN);
}

int
qcow2_build_write (const struct qcow2_build *b,
                   const struct build_plan *plan)
{
  if (b->src->can_grow && source_grow (b->src, plan->end) == -1)
    return -1;
  if (write_refcount_table (b, plan) == -1 ||
      write_blocks (b, plan) == -1 ||
      write_tables (b, plan) == -1 ||
      write_header_rest (b, plan) == -1)
    return -1;
  return source_sync (b->src);
}

int
qcow2_build_commit (const struct qcow2_build *b,
                    const struct build_plan *plan)
{
  CLEANUP_FREE uint8_t *bytes = format_header (b, plan);

  if (bytes == NULL ||
      source_pwrite (b->src, bytes, BUILD_SECTOR_LEN, 0) == -1)
    return -1;
  return source_sync (b->src);
}
