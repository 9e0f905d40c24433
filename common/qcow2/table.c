/* The L1 table and the L2 tables, page by page through the metadata cache.
 *
 * A table stays in on-disk byte order in the cache's pages, which are never
 * larger than a cluster, so that a page belongs to one table.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Cluster mapping".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "include/checked.h"
#include "qcow2/refuse.h"
#include "qcow2/table.h"

/* Of the L1 table this much is read when the image is opened. */
#define L1_READ_AHEAD (1024 * 1024)

static int
check_place (const char *name, const struct qcow2_header *h)
{
  uint64_t cluster_len = UINT64_C (1) << h->cluster_bits;

  if (h->l1_size > L1_MAX_ENTRIES)
    return REFUSE (EINVAL, "%s: the L1 table is too large: %" PRIu32
                   " entries (header byte 36), the most is %" PRIu32 "; "
                   CHECK_A_COPY, name, h->l1_size, L1_MAX_ENTRIES);
  if (h->l1_host % cluster_len != 0)
    return REFUSE (EINVAL, "%s: L1 table offset %" PRIu64 " (header byte 40) "
                   "is not a multiple of the cluster size %" PRIu64 "; "
                   CHECK_A_COPY, name, h->l1_host, cluster_len);
  if (h->l1_host > INT64_MAX - (uint64_t) h->l1_size * 8)
    return REFUSE (EINVAL, "%s: L1 table offset %" PRIu64 " (header byte 40) "
                   "is too large; " CHECK_A_COPY, name, h->l1_host);
  return 0;
}

/* The file may end inside the last page of the table: whoever made it need
 * not have written the zeroes at the end.
 */
static int
check_inside (const struct image *img, const struct qcow2 *q,
              uint32_t page_len)
{
  uint64_t file_len = source_len (img->source);
  uint64_t end = q->l1.host + q->l1.nr_entries * 8;

  if (q->l1.nr_entries == 0)
    return 0;
  if (q->l1.host == 0)
    return REFUSE (EINVAL, "%s: L1 table offset (header byte 40) is 0, where "
                   "the header is; " CHECK_A_COPY, img->name);
  if (q->l1.host < file_len && round_down (end - 1, page_len) < file_len)
    return 0;
  return REFUSE (EINVAL, "%s: the L1 table, bytes %" PRIu64 " to %" PRIu64
                 " (header bytes 36 and 40), lies beyond the end of the "
                 "file, which has %" PRIu64 " bytes; "
                 "the file is cut short, or the header is damaged",
                 img->name, q->l1.host, end, file_len);
}

int
l1_table_open (const struct image *img, struct qcow2 *q)
{
  const struct qcow2_header *h = &q->header;
  uint64_t span = UINT64_C (1) << l2_span_bits (q);

  if (check_place (img->name, h) == -1)
    return -1;
  q->l1.host = h->l1_host;
  q->l1.nr_entries = div_round_up (h->disk_len, span);
  if (q->l1.nr_entries > h->l1_size)
    return REFUSE (EINVAL, "%s: the L1 table is too small: %" PRIu32
                   " entries (header byte 36), a virtual size of %" PRIu64
                   " bytes (header byte 24) needs %" PRIu64 "; "
                   CHECK_A_COPY,
                   img->name, h->l1_size, h->disk_len, q->l1.nr_entries);
  return check_inside (img, q, MIN (q->cluster_len, UINT32_C (4096)));
}

int
l1_table_load (struct image *img, const struct qcow2 *q)
{
  struct page *page;

  if (q->l1.nr_entries == 0)
    return 0;
  cache_read_ahead (img->cache, q->l1.host,
                    MIN (q->l1.nr_entries * 8, (uint64_t) L1_READ_AHEAD));
  page = cache_get (img->cache, q->l1.host);
  if (page == NULL)
    return -1;
  cache_put (img->cache, page);
  return 0;
}

int
l1_entry_decode (struct image *img, uint64_t l1_index, uint64_t entry,
                 uint64_t *l2_host)
{
  struct qcow2 *q = qcow2_state (img);
  uint64_t file_len = source_len (img->source);
  uint64_t place = l1_entry_host (q, l1_index);

  *l2_host = entry & L1_HOST;
  if (*l2_host == 0)
    return 0;
  if (*l2_host % q->cluster_len != 0)
    damage_log_report (&q->damage, img->name, place,
                       "L1 entry %" PRIu64 " (byte %" PRIu64 ") points to "
                       "%" PRIu64 ", not a multiple of the cluster size %"
                       PRIu32 "; its range cannot be read; " CHECK_A_COPY,
                       l1_index, place, *l2_host, q->cluster_len);
  else if (*l2_host >= file_len)
    damage_log_report (&q->damage, img->name, place,
                       "L1 entry %" PRIu64 " (byte %" PRIu64 ") points to "
                       "%" PRIu64 ", beyond the end of the file, which has "
                       "%" PRIu64 " bytes; its range cannot be read; "
                       "the file is cut short or damaged",
                       l1_index, place, *l2_host, file_len);
  else
    return 1;
  image_set_damaged (img);
  return -1;
}
