/* Entries of L2 tables, decoded.
 *
 * An L1 entry is a plain file offset, 0 for none.  An L2 entry is that
 * too, or with bit 63 a compressed cluster.  There is no flag for zeroes.
 *
 * Format: block/qcow.c in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_ENTRY_H
#define NDF_QCOW_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "qcow/header.h"

#define QCOW_PACKED (UINT64_C (1) << 63)

/* Plain clusters lie on sectors; every known writer puts them on multiples
 * of the cluster size.
 */
#define QCOW_SECTOR_LEN 512

/* No offset in a file is beyond. */
#define QCOW_MAX_HOST INT64_MAX

enum qcow_kind {
  QCOW_NOTHING,                 /* not allocated */
  QCOW_PLAIN,
  QCOW_COMPRESSED,
  QCOW_DAMAGED,
};

enum qcow_damage {
  QCOW_DAMAGE_NONE,
  QCOW_DAMAGE_UNALIGNED,        /* plain, not on a sector */
  QCOW_DAMAGE_TOO_FAR,          /* the file cannot be that long */
  QCOW_DAMAGE_ON_HEADER,        /* on the header or the L1 table */
  QCOW_DAMAGE_EMPTY_STREAM,     /* compressed to no bytes */
};

struct qcow_cluster {
  enum qcow_kind kind;
  enum qcow_damage damage;      /* for QCOW_DAMAGED */
  uint64_t host;                /* bytes */
  uint64_t len;                 /* bytes: of the stream, or of a cluster */
};

static inline bool
qcow_meets (uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
  return a < b_end && b < a_end;
}

/* Does [host, end) meet the header or the L1 table? */
static inline bool
qcow_is_on_header (const struct qcow_header *h, uint64_t host, uint64_t end)
{
  return host < QCOW_HEADER_LEN ||
    qcow_meets (host, end, h->l1_host, qcow_l1_end (h));
}

static inline void
qcow_set_damaged (struct qcow_cluster *c, enum qcow_damage damage)
{
  c->kind = QCOW_DAMAGED;
  c->damage = damage;
}

/* The offset of a stream has 63 - cluster_bits bits, its length the rest. */
static inline unsigned
qcow_packed_bits (const struct qcow_header *h)
{
  return 63 - h->cluster_bits;
}

static inline uint64_t
qcow_packed_entry (const struct qcow_header *h, uint64_t host, uint64_t len)
{
  return QCOW_PACKED | len << qcow_packed_bits (h) | host;
}

static inline void
qcow_decode (const struct qcow_header *h, uint64_t entry,
             struct qcow_cluster *c)
{
  *c = (struct qcow_cluster) { .kind = QCOW_NOTHING };
  if (entry == 0)
    return;
  if (entry & QCOW_PACKED) {
    c->kind = QCOW_COMPRESSED;
    c->host = entry & ((UINT64_C (1) << qcow_packed_bits (h)) - 1);
    c->len = (entry >> qcow_packed_bits (h)) & (qcow_cluster_len (h) - 1);
    if (c->len == 0)
      qcow_set_damaged (c, QCOW_DAMAGE_EMPTY_STREAM);
  }
  else {
    c->kind = QCOW_PLAIN;
    c->host = entry;
    c->len = qcow_cluster_len (h);
    if (entry % QCOW_SECTOR_LEN != 0)
      qcow_set_damaged (c, QCOW_DAMAGE_UNALIGNED);
    else if (entry > QCOW_MAX_HOST - c->len)
      qcow_set_damaged (c, QCOW_DAMAGE_TOO_FAR);
  }
  if (c->kind != QCOW_DAMAGED &&
      qcow_is_on_header (h, c->host, c->host + c->len))
    qcow_set_damaged (c, QCOW_DAMAGE_ON_HEADER);
}

#endif /* NDF_QCOW_ENTRY_H */
