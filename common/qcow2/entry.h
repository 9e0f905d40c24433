/* Entries of the L1 and L2 tables, decoded.
 *
 * Reserved bits are masked on reading, as QEMU does.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Cluster mapping".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_ENTRY_H
#define NDF_QCOW2_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "include/checked.h"

/* L1 entry: the host offset of an L2 table, 0 for none. */
#define L1_COPIED   (UINT64_C (1) << 63) /* refcount is exactly 1 */
#define L1_HOST     UINT64_C (0x00fffffffffffe00)
#define L1_RESERVED UINT64_C (0x7f000000000001ff)

/* L2 entry, spec "Standard Cluster Descriptor".  Bit 0 means zeroes in
 * version 3 with standard entries; it is a fault in version 2, and ignored
 * in extended entries.
 */
#define L2_COPIED   (UINT64_C (1) << 63) /* refcount is exactly 1 */
#define L2_PACKED   (UINT64_C (1) << 62) /* compressed cluster */
#define L2_HOST     UINT64_C (0x00fffffffffffe00)
#define L2_ZERO     UINT64_C (1)
#define L2_RESERVED UINT64_C (0x3f000000000001fe)

/* The second half of an extended L2 entry has a bit for each of the 32
 * subclusters that says "allocated", and 32 bits higher one for "reads as
 * zeroes".
 */
#define NR_SUBCLUSTERS 32
#define SUBCLUSTER_BITS 5       /* log2 of that */
#define L2_BITMAP_ALLOCATED(bitmap) ((uint32_t) (bitmap))
#define L2_BITMAP_ZERO(bitmap) ((uint32_t) ((bitmap) >> 32))

/* Compressed clusters are counted in sectors of this length. */
#define PACKED_SECTOR_LEN 512

/* What an image's entries can mean. */
struct entry_rules {
  uint32_t cluster_bits;
  bool has_zero_flag;           /* version 3, standard entries */
  bool is_extended;
  bool has_data_file;           /* guest data lie where the guest thinks */
};

/* What an L2 entry says of its cluster. */
enum cluster_kind {
  CLUSTER_BACKING,              /* unallocated */
  CLUSTER_ZERO,
  CLUSTER_DATA,
  CLUSTER_MIXED,                /* ask the subclusters' bits */
  CLUSTER_PACKED,
  CLUSTER_DAMAGED,
};

/* Why an entry makes no sense. */
enum cluster_damage {
  DAMAGE_NONE,
  DAMAGE_UNALIGNED,             /* 'host' is not a multiple of C */
  DAMAGE_ZERO_IN_V2,
  DAMAGE_BOTH_BITS,             /* a subcluster allocated and zero */
  DAMAGE_ALLOCATED_NOWHERE,     /* subclusters allocated, no host offset */
  DAMAGE_DATA_FILE_HOST,        /* 'host' is not the guest offset */
  DAMAGE_PACKED_IN_DATA_FILE,
  DAMAGE_PACKED_COPIED,         /* no structural damage, but no sense */
};

struct cluster {
  enum cluster_kind kind;
  enum cluster_damage damage;
  bool allocated;               /* host space is held at 'host' */
  bool copied;
  uint64_t host;                /* bytes; of the stream if packed */
  uint64_t packed_len;          /* bytes, an upper bound */
  uint32_t allocated_bits;      /* CLUSTER_MIXED */
  uint32_t zero_bits;           /* CLUSTER_MIXED; disjoint from those */
};

/* ---- compressed clusters, spec "Compressed Clusters Descriptor" */

/* Where the count of additional sectors begins. */
static inline unsigned
packed_count_shift (uint32_t cluster_bits)
{
  return 62 - (cluster_bits - 8);
}

static inline uint64_t
packed_host (uint64_t entry, uint32_t cluster_bits)
{
  return entry & ((UINT64_C (1) << packed_count_shift (cluster_bits)) - 1);
}

/* Bytes from packed_host to the end of the last sector: the stream is not
 * longer, and may be shorter.
 */
static inline uint64_t
packed_len (uint64_t entry, uint32_t cluster_bits)
{
  uint64_t mask = (UINT64_C (1) << (cluster_bits - 8)) - 1;
  uint64_t extra = (entry >> packed_count_shift (cluster_bits)) & mask;

  return (extra + 1) * PACKED_SECTOR_LEN
    - packed_host (entry, cluster_bits) % PACKED_SECTOR_LEN;
}

/* The entry for a stream of 'len' bytes at 'host'; 0 < len <= C. */
static inline uint64_t
packed_entry (uint64_t host, uint64_t len, uint32_t cluster_bits)
{
  uint64_t extra = (host + len - 1) / PACKED_SECTOR_LEN
    - host / PACKED_SECTOR_LEN;

  return host | extra << packed_count_shift (cluster_bits) | L2_PACKED;
}

/* ---- decoding */

static inline void
cluster_set_damaged (struct cluster *c, enum cluster_damage damage)
{
  c->kind = CLUSTER_DAMAGED;
  c->damage = damage;
}

static inline void
cluster_decode_packed (const struct entry_rules *rules, uint64_t entry,
                       struct cluster *c)
{
  c->host = packed_host (entry, rules->cluster_bits);
  c->packed_len = packed_len (entry, rules->cluster_bits);
  c->allocated = true;
  c->copied = false;
  c->kind = CLUSTER_PACKED;
  if (rules->has_data_file)
    cluster_set_damaged (c, DAMAGE_PACKED_IN_DATA_FILE);
  else if (entry & L2_COPIED)
    cluster_set_damaged (c, DAMAGE_PACKED_COPIED);
}

/* The kind by the bits of subclusters. */
static inline void
cluster_decode_bitmap (uint64_t bitmap, struct cluster *c)
{
  c->allocated_bits = L2_BITMAP_ALLOCATED (bitmap);
  c->zero_bits = L2_BITMAP_ZERO (bitmap);
  if (c->allocated_bits & c->zero_bits)
    cluster_set_damaged (c, DAMAGE_BOTH_BITS);
  else if (c->allocated_bits != 0 && !c->allocated)
    cluster_set_damaged (c, DAMAGE_ALLOCATED_NOWHERE);
  else if (c->allocated_bits == UINT32_MAX)
    c->kind = CLUSTER_DATA;
  else if (c->zero_bits == UINT32_MAX)
    c->kind = CLUSTER_ZERO;
  else if (c->allocated_bits == 0 && c->zero_bits == 0)
    c->kind = CLUSTER_BACKING;
  else
    c->kind = CLUSTER_MIXED;
}

/* Decode an L2 entry; 'bitmap' is the second half of an extended one;
 * 'guest' is where its cluster begins on the disk.
 */
static inline void
cluster_decode (const struct entry_rules *rules, uint64_t entry,
                uint64_t bitmap, uint64_t guest, struct cluster *c)
{
  c->damage = DAMAGE_NONE;
  if (entry & L2_PACKED) {
    cluster_decode_packed (rules, entry, c);
    return;
  }

  c->host = entry & L2_HOST;
  c->copied = entry & L2_COPIED;
  /* In a data file guest cluster 0 lies at host offset 0, with COPIED. */
  c->allocated = c->host != 0 || (rules->has_data_file && c->copied);
  if (c->host & ((UINT64_C (1) << rules->cluster_bits) - 1))
    cluster_set_damaged (c, DAMAGE_UNALIGNED);
  else if (rules->has_data_file && c->allocated && c->host != guest)
    cluster_set_damaged (c, DAMAGE_DATA_FILE_HOST);
  else if (rules->is_extended)
    cluster_decode_bitmap (bitmap, c);
  else if (!(entry & L2_ZERO))
    c->kind = c->allocated ? CLUSTER_DATA : CLUSTER_BACKING;
  else if (rules->has_zero_flag)
    c->kind = CLUSTER_ZERO;
  else
    cluster_set_damaged (c, DAMAGE_ZERO_IN_V2);
}

/* Of a mixed cluster: what subcluster 'index' is, and for how many from
 * there on that holds.
 */
static inline unsigned
cluster_subcluster_run (const struct cluster *c, unsigned index,
                        enum cluster_kind *kind)
{
  uint32_t bit = UINT32_C (1) << index;
  uint32_t same;

  if (c->allocated_bits & bit) {
    *kind = CLUSTER_DATA;
    same = c->allocated_bits;
  }
  else if (c->zero_bits & bit) {
    *kind = CLUSTER_ZERO;
    same = c->zero_bits;
  }
  else {
    *kind = CLUSTER_BACKING;
    same = ~(c->allocated_bits | c->zero_bits);
  }
  /* Bits above 31 of the complement end the run at the cluster's end. */
  return __builtin_ctzll (~((uint64_t) same >> index));
}

#endif /* NDF_QCOW2_ENTRY_H */
