/* An image between opening for writing and closing.
 *
 * Opening gathers the clusters that hold metadata and refuses what cannot
 * be written safely.  The first change clears, durably, the bits that say
 * of the image what a writer without their knowledge makes untrue.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/refuse.h"
#include "qcow2/repair.h"
#include "qcow2/snapshot.h"
#include "qcow2/table.h"
#include "qcow2/writer.h"

#define HEADER_INCOMPATIBLE 72
#define HEADER_AUTOCLEAR 88

/* ---- gathering metadata */

/* Guard a run of clusters that must be in use: counted, and nothing else's.
 */
static int
guard_run (struct qcow2_counts *counts, uint64_t host, uint64_t len,
           const char *what)
{
  struct image *img = counts->img;
  const struct qcow2 *q = qcow2_state (img);
  const unsigned bits = q->rules.cluster_bits;
  const uint64_t nr = div_round_up (len, q->cluster_len);
  uint64_t i, count;

  if (qcow2_guard_reserve (&counts->guard, nr) == -1)
    return REFUSE (ENOMEM, "%s: no memory for the refcounts", img->name);
  for (i = 0; i < nr; ++i) {
    if (!qcow2_guard_add (&counts->guard, (host >> bits) + i))
      return REFUSE (EINVAL, "%s: %s at host offset %" PRIu64
                     " overlaps other tables; " CHECK_A_COPY, img->name,
                     what, host);
    if (qcow2_count_get (counts, (host >> bits) + i, &count) == -1)
      return -1;
    if (count == 0)
      return REFUSE (EINVAL, "%s: %s at host offset %" PRIu64
                     " is counted as free; " CHECK_A_COPY, img->name, what,
                     host);
  }
  return 0;
}

/* The refcount structures themselves were guarded when they were read. */
static int
check_counted (struct qcow2_counts *counts)
{
  const struct image *img = counts->img;
  uint64_t i, count;

  for (i = 0; i < counts->table_clusters; ++i) {
    const uint64_t cluster = (counts->table_host >> counts->cluster_bits) + i;

    if (qcow2_count_get (counts, cluster, &count) == -1)
      return -1;
    if (count == 0)
      return REFUSE (EINVAL, "%s: the refcount table is counted as free; "
                     CHECK_A_COPY, img->name);
  }
  for (i = 0; i < counts->nr_table; ++i) {
    if (counts->table[i] == 0)
      continue;
    if (qcow2_count_get (counts, counts->table[i] >> counts->cluster_bits,
                         &count) == -1)
      return -1;
    if (count == 0)
      return REFUSE (EINVAL, "%s: refcount block %" PRIu64
                     " is counted as free; " CHECK_A_COPY, img->name, i);
  }
  return 0;
}

/* An L2 table of the active disk: writable in place only if nobody else
 * has it.
 */
static int
guard_l2 (struct qcow2_counts *counts, uint64_t l1_index, uint64_t entry)
{
  struct image *img = counts->img;
  const struct qcow2 *q = qcow2_state (img);
  uint64_t l2_host, count;
  int r = l1_entry_decode (img, l1_index, entry, &l2_host);

  if (r == 0)
    return 0;
  if (r == -1)
    return REFUSE (EINVAL, "%s: L1 entry %" PRIu64 " is damaged; "
                   CHECK_A_COPY, img->name, l1_index);
  if (guard_run (counts, l2_host, q->cluster_len, "an L2 table") == -1)
    return -1;
  if (qcow2_count_get (counts, l2_host >> q->rules.cluster_bits,
                       &count) == -1)
    return -1;
  if ((entry & L1_COPIED) && count != 1)
    return REFUSE (EINVAL, "%s: the L2 table at host offset %" PRIu64
                   " is marked as used once, but counted %" PRIu64
                   " times; " CHECK_A_COPY, img->name, l2_host, count);
  return 0;
}

/* The active L1 table, with those entries behind the disk that hold the
 * state of a machine, and the L2 tables that it names.
 */
static int
guard_active (struct qcow2_counts *counts)
{
  struct image *img = counts->img;
  const struct qcow2 *q = qcow2_state (img);
  const uint64_t nr = q->header.l1_size;
  uint64_t i;

  if (nr == 0)
    return 0;
  if (guard_run (counts, q->l1.host, nr * 8, "the L1 table") == -1)
    return -1;
  cache_read_ahead (img->cache, q->l1.host, nr * 8);
  for (i = 0; i < nr; ++i) {
    const uint64_t place = l1_entry_host (q, i);
    struct page *page = cache_get (img->cache, place);
    uint64_t entry;

    if (page == NULL)
      return -1;
    entry = load_entry_be64 (page->bytes + (place - page->host));
    cache_put (img->cache, page);
    if (guard_l2 (counts, i, entry) == -1)
      return -1;
  }
  return 0;
}

/* The table of snapshots and every snapshot's L1 table.  Those of their L2
 * tables that are not the active disk's own are safe by their counts.
 */
static int
guard_snapshots (struct qcow2_counts *counts)
{
  const struct image *img = counts->img;
  const struct qcow2 *q = qcow2_state (img);
  struct snapshot_reader reader;
  struct snapshot s;
  int r;

  if (q->header.nr_snapshots == 0)
    return 0;
  r = snapshot_reader_start (&reader, img, &q->header);
  while (r == 0 && (r = snapshot_reader_next (&reader, &s)) == 1) {
    r = 0;
    if (s.l1_size == 0)
      continue;
    if (s.l1_size > L1_MAX_ENTRIES || s.l1_host % q->cluster_len != 0 ||
        !range_is_inside (s.l1_host, s.l1_size * UINT64_C (8),
                          round_up (source_len (img->source),
                                    q->cluster_len)))
      r = REFUSE (EINVAL, "%s: the L1 table of snapshot %" PRIu32 " is not "
                  "in the file; " CHECK_A_COPY, img->name, reader.index - 1);
    else
      r = guard_run (counts, s.l1_host, s.l1_size * UINT64_C (8),
                     "a snapshot's L1 table");
  }
  if (r == 0)
    r = guard_run (counts, reader.start, reader.next - reader.start,
                   "the snapshot table");
  snapshot_reader_free (&reader);
  return r;
}

static int
gather (struct qcow2_counts *counts)
{
  if (guard_run (counts, 0, 1, "the header") == -1 ||
      check_counted (counts) == -1 ||
      guard_active (counts) == -1)
    return -1;
  return guard_snapshots (counts);
}

/* Read the refcounts, and learn what is metadata.  Requests may be running:
 * they see the counts when these are complete.
 */
static int
open_counts (struct image *img)
{
  const struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts =
    qcow2_counts_open (img, q->rules.cluster_bits, q->header.refcount_order,
                       q->header.refcount_table_host,
                       q->header.refcount_table_clusters);

  if (counts == NULL)
    return -1;
  if (gather (counts) == -1) {
    qcow2_counts_free (counts);
    return -1;
  }
  q->writer->counts = counts;
  return 0;
}

int
qcow2_begin_writing (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);

  q->writer = calloc (1, sizeof *q->writer);
  if (q->writer == NULL)
    return REFUSE (ENOMEM, "%s: no memory to open it for writing",
                   img->name);
  /* Counts of a dirty image tell nothing before they are repaired. */
  if (q->header.incompatible & QCOW2_DIRTY)
    return 0;
  return open_counts (img);
}

void
qcow2_writer_free (struct qcow2_writer *w)
{
  if (w == NULL)
    return;
  qcow2_counts_free (w->counts);
  free (w);
}

/* ---- the first change */

/* Set a field of 8 bytes in the header, for the next pass to write. */
static int
change_header (struct image *img, unsigned at, uint64_t v)
{
  struct page *page = cache_get (img->cache, 0);

  if (page == NULL)
    return -1;
  {
    LOCK_SCOPE (&img->format_lock);

    pass_begin_change (img);
    store_be64 (page->bytes + at, v);
    /* The header may name a new refcount table in the same pass. */
    cache_dirty (img->cache, page, PASS_HEADER);
    pass_end_change (img);
  }
  cache_put (img->cache, page);
  return 0;
}

/* Clear the autoclear bits that are not kept true, durably. */
static int
clear_autoclear (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);
  /* The data file is kept raw. */
  const uint64_t kept = q->header.autoclear & QCOW2_DATA_FILE_RAW;

  if (q->header.version < 3 || q->header.autoclear == kept)
    return 0;
  if (change_header (img, HEADER_AUTOCLEAR, kept) == -1 ||
      pass_run (img) == -1)
    return -1;
  q->header.autoclear = kept;
  return 0;
}

int
qcow2_prepare (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);

  if (q->header.incompatible & QCOW2_DIRTY) {
    if (qcow2_repair_counts (img) == -1)
      return -1;
    pass_begin_change (img);
    cache_forget (img->cache, 0, q->cluster_len);
    pass_end_change (img);
  }
  if (q->writer->counts == NULL && open_counts (img) == -1)
    return -1;
  return clear_autoclear (img);
}

/* Version 2 has no mark for it. */
int
qcow2_mark_damaged (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);

  if (q->header.version < 3)
    return 0;
  q->header.incompatible |= QCOW2_CORRUPT;
  return change_header (img, HEADER_INCOMPATIBLE, q->header.incompatible);
}

/* ---- passes */

void
qcow2_durable (struct image *img, uint64_t cut)
{
  struct qcow2_counts *counts = qcow2_state (img)->writer->counts;

  if (counts != NULL)
    qcow2_counts_durable (counts, cut);
}

bool
qcow2_is_metadata (struct image *img, uint64_t host, uint32_t len,
                   enum pass_phase phase)
{
  struct qcow2 *q = qcow2_state (img);
  struct qcow2_counts *counts = q->writer->counts;
  uint64_t at;

  (void) phase;
  for (at = host; at < host + len; at += cache_page_len (img->cache)) {
    const uint64_t cluster = at >> q->rules.cluster_bits;

    /* Of a dirty image nothing but the header is known before the repair:
     * a mark of damage may be written.
     */
    if (counts ? !qcow2_guard_has (&counts->guard, cluster) : cluster != 0) {
      report_error ("%s: metadata for host offset %" PRIu64 " was not "
                    "written: no table is known there", img->name, at);
      return false;
    }
  }
  return true;
}

int
qcow2_finish (struct image *img)
{
  LOCK_SCOPE (&img->format_lock);

  /* Prepared, so the counts are there. */
  return qcow2_counts_trim_file (qcow2_state (img)->writer->counts);
}
