/* The L1 table and the L2 tables, page by page through the metadata cache.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_TABLE_H
#define NDF_QCOW2_TABLE_H

#include <stdint.h>

#include "image/cache.h"
#include "qcow2/state.h"

/* The L1 table may have so many entries: 32 MiB. */
#define L1_MAX_ENTRIES UINT32_C (4194304)

/* Check what the header says of the L1 table: bounds, alignment, room for
 * the whole disk, inside the file.  Sets q->l1.
 * Returns 0; -1, reported, errno EINVAL.
 */
extern int l1_table_open (const struct image *img, struct qcow2 *q);

/* Have the beginning of the L1 table in the cache, so that an unreadable
 * one is noticed at once.  -1, reported, errno EIO or ENOMEM.
 */
extern int l1_table_load (struct image *img, const struct qcow2 *q);

/* How many bytes of the disk one L2 table maps: 2 to this. */
static inline unsigned
l2_span_bits (const struct qcow2 *q)
{
  return q->l2_bits + q->rules.cluster_bits;
}

static inline uint64_t
l1_index_of (const struct qcow2 *q, uint64_t guest)
{
  return guest >> l2_span_bits (q);
}

static inline uint64_t
l2_index_of (const struct qcow2 *q, uint64_t guest)
{
  return (guest >> q->rules.cluster_bits)
    & ((UINT64_C (1) << q->l2_bits) - 1);
}

/* Where the entry lies in the image's file. */
static inline uint64_t
l1_entry_host (const struct qcow2 *q, uint64_t l1_index)
{
  return q->l1.host + (l1_index << 3);
}

static inline uint64_t
l2_entry_host (const struct qcow2 *q, uint64_t l2_host, uint64_t l2_index)
{
  return l2_host + (l2_index << q->entry_bits);
}

/* How many entries of 2^entry_bits bytes there are in the page from file
 * offset 'host' on.
 */
static inline uint64_t
entries_left_in_page (const struct cache *cache, uint64_t host,
                      unsigned entry_bits)
{
  uint32_t page_len = cache_page_len (cache);

  return (page_len - (host & (page_len - 1))) >> entry_bits;
}

/* The L2 table that an L1 entry names: 1 and its offset; 0 for none; -1,
 * reported, when the entry makes no sense (the image is then marked
 * damaged).
 */
extern int l1_entry_decode (struct image *img, uint64_t l1_index,
                            uint64_t entry, uint64_t *l2_host);

#endif /* NDF_QCOW2_TABLE_H */
