/* The header of qcow version 1, with what Xen's tapdisk put behind it.
 *
 * Everything is big endian.  Between byte 48 and the first of name and L1
 * table lies what other programs keep there; we never change bytes that
 * are not named here.
 *
 * Format: block/qcow.c in QEMU 7.2; tools/blktap in Xen 3.0.3 to 4.1 for
 * the extended header.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_HEADER_H
#define NDF_QCOW_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "QFI\xfb"; qcow2 begins with it too. */
#define QCOW_MAGIC UINT32_C (0x514649fb)
#define QCOW_VERSION 1
#define QCOW_HEADER_LEN 48

#define QCOW_MIN_CLUSTER_BITS 9
#define QCOW_MAX_CLUSTER_BITS 16
#define QCOW_MIN_L2_BITS 6
#define QCOW_MAX_L2_BITS 13
#define QCOW_MAX_BACKING_NAME 1023

/* The L1 table may have so many entries: nearly 2 GiB. */
#define QCOW_MAX_L1_ENTRIES UINT64_C (268435455)

/* Where fields lie, for those that are changed one by one. */
#define QCOW_AT_BACKING_HOST 8
#define QCOW_AT_BACKING_LEN 16
#define QCOW_AT_LEN 24
#define QCOW_AT_CLUSTER_BITS 32
#define QCOW_AT_L2_BITS 33
#define QCOW_AT_L1_HOST 40
#define QCOW_AT_XEN_MAGIC 48
#define QCOW_AT_CKSUM 52
#define QCOW_AT_MIN_CLUSTER_ALLOC 56
#define QCOW_AT_FLAGS 60

/* Xen's extended header, directly behind the normal one: "XEN\xfb", or
 * reversed by the converter of 2008.
 */
#define QCOW_XEN_MAGIC UINT32_C (0x58454efb)
#define QCOW_XEN_MAGIC_REVERSED UINT32_C (0xfb4e4558)

#define QCOW_XEN_SPARSE UINT32_C (1)    /* flags */
#define QCOW_XEN_BIG_ENDIAN UINT32_C (2) /* ... of the L1 table; or so said */

/* Bytes of the file that tell all of it: both headers. */
#define QCOW_HEAD_LEN 80

enum qcow_xen {
  QCOW_XEN_NONE,
  QCOW_XEN_PRESENT,
  QCOW_XEN_REVERSED,            /* its magic is */
};

struct qcow_header {
  uint64_t backing_host;        /* of the backing name; 0: none */
  uint32_t backing_len;
  uint32_t mtime;
  uint64_t len;                 /* of the disk, as recorded, bytes */
  uint32_t cluster_bits;
  uint32_t l2_bits;             /* log2 of the entries of an L2 table */
  uint32_t crypt_method;
  uint64_t l1_host;

  /* Follows from these; set by qcow_header_check. */
  uint64_t disk_len;            /* whole sectors of 512 bytes */
  uint64_t nr_l1;               /* entries; by 'len' */
  uint64_t head_end;            /* where headers and name end, bytes */

  /* Xen's.  has_flags: not in the header of 12 bytes (a name at 60). */
  enum qcow_xen xen;
  bool has_flags;
  uint32_t cksum;
  uint32_t min_cluster_alloc;
  uint32_t flags;               /* 0 without has_flags */
};

static inline uint32_t
qcow_cluster_len (const struct qcow_header *h)
{
  return UINT32_C (1) << h->cluster_bits;
}

static inline uint32_t
qcow_l2_entries (const struct qcow_header *h)
{
  return UINT32_C (1) << h->l2_bits;
}

/* Bytes of an L2 table. */
static inline uint32_t
qcow_l2_len (const struct qcow_header *h)
{
  return UINT32_C (8) << h->l2_bits;
}

/* Guest bytes behind one L1 entry: 2 to this; 15 to 29. */
static inline unsigned
qcow_span_bits (const struct qcow_header *h)
{
  return h->cluster_bits + h->l2_bits;
}

static inline uint64_t
qcow_l1_end (const struct qcow_header *h)
{
  return h->l1_host + h->nr_l1 * 8;
}

/* Could this begin a qcow version 1 image? */
extern bool qcow_header_probe (const uint8_t *head, size_t head_len);

/* Read the fields from head[0..QCOW_HEAD_LEN-1], the first bytes of a file
 * that is 'file_len' long (padded with zeroes), and check everything that
 * can be checked: the sums cannot overflow afterwards, the name lies in
 * the file, the table not on the header (but perhaps beyond the end of the
 * file, where it is zero).  'name' is for messages.
 *
 * 0; -1, reported, errno EINVAL, or ENOTSUP for another version or an
 * encrypted disk.
 */
extern int qcow_header_check (const char *name, const uint8_t *head,
                              uint64_t file_len, struct qcow_header *h);

/* Why its image may not be written, a part sentence; or NULL. */
extern const char *qcow_header_why_read_only (const struct qcow_header *h);

#endif /* NDF_QCOW_HEADER_H */
