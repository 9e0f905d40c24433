/* The refcount table and blocks: so far what the header says of them, since
 * reading a disk needs no refcounts.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Host cluster management".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "qcow2/refcount.h"
#include "qcow2/refuse.h"

int
refcount_table_check (const struct image *img, const struct qcow2_header *h)
{
  uint64_t cluster_len = UINT64_C (1) << h->cluster_bits;
  uint64_t len = h->refcount_table_clusters * cluster_len;

  if (len == 0)
    return REFUSE (EINVAL, "%s: the image has no refcount table (header "
                   "byte 56 is 0); " CHECK_A_COPY, img->name);
  if (len > REFCOUNT_TABLE_MAX_LEN)
    return REFUSE (EINVAL, "%s: the refcount table is too large: %" PRIu32
                   " clusters (header byte 56) of %" PRIu64 " bytes, "
                   "the most is %" PRIu64 " bytes in all; " CHECK_A_COPY,
                   img->name, h->refcount_table_clusters, cluster_len,
                   REFCOUNT_TABLE_MAX_LEN);
  if (h->refcount_table_host % cluster_len != 0)
    return REFUSE (EINVAL, "%s: refcount table offset %" PRIu64 " (header "
                   "byte 48) is not a multiple of the cluster size %" PRIu64
                   "; " CHECK_A_COPY,
                   img->name, h->refcount_table_host, cluster_len);
  if (h->refcount_table_host > INT64_MAX - len)
    return REFUSE (EINVAL, "%s: refcount table offset %" PRIu64 " (header "
                   "byte 48) is too large; " CHECK_A_COPY,
                   img->name, h->refcount_table_host);
  return 0;
}

const char *
refcount_table_why_read_only (const struct image *img,
                              const struct qcow2_header *h)
{
  if (h->refcount_table_host == 0)
    return "its refcount table is said to be where the header is";
  if (h->refcount_table_host >= source_len (img->source))
    return "its refcount table lies beyond the end of the file";
  return NULL;
}
