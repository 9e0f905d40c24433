/* Records of a conversion under way, in free sectors of the image.
 *
 * Between headers and L1 table tapdisk left a page nearly empty.  While
 * the table is converted a sector there says what cannot be seen in the
 * table: in place, what ambiguous entries mean; with a copy, how long the
 * file was.  Every sector is a record by itself with a digest of its own,
 * so that any set of them may be there after a power cut.  At the end all
 * are zero again.
 *
 * A record, numbers big endian:
 *
 *    0   8  QCOW_INTENT_MAGIC
 *    8   4  kind
 *   12   4  entries that are listed
 *   16   8  entries of the L1 table
 *   24   8  its place
 *   32   8  place of the copy; 0: none
 *   40   8  length of the file before there was a copy; 0: no copy
 *   48  16  MD5 of the table in little endian
 *   64  16  MD5 of the table in big endian
 *   80   .  list: index (4), meaning (8)
 *  496  16  MD5 of all bytes before
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_INTENT_H
#define NDF_QCOW_INTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/digest.h"
#include "qcow/header.h"
#include "source/source.h"

#define QCOW_INTENT_MAGIC UINT64_C (0x6e64662d6c310d0a) /* "ndf-l1\r\n" */
#define QCOW_INTENT_LEN 512
#define QCOW_INTENT_MAX_ITEMS 34        /* in one record */

/* The gap ends at the first page behind the headers, where tapdisk puts
 * the table: it never has more sectors.
 */
#define QCOW_GAP_UNIT 4096
#define QCOW_GAP_SECTORS (QCOW_GAP_UNIT / QCOW_INTENT_LEN)

enum qcow_intent_kind {
  QCOW_INTENT_NONE,
  QCOW_INTENT_FIXED,            /* the table is converted in place */
  QCOW_INTENT_GROWING,          /* with a copy at the end of the file */
};

struct qcow_intent_item {
  uint32_t index;               /* of an L1 entry */
  uint64_t value;               /* what it means */
};

struct qcow_intent {
  enum qcow_intent_kind kind;
  uint32_t nr_items;
  uint64_t nr_l1;
  uint64_t home_host;
  uint64_t copy_host;
  uint64_t file_len;
  uint8_t md5_little[DIGEST_MD5_LEN];
  uint8_t md5_big[DIGEST_MD5_LEN];
  struct qcow_intent_item items[QCOW_INTENT_MAX_ITEMS];
};

enum qcow_gap_use {
  QCOW_GAP_TAKEN,               /* not ours, or not to be used */
  QCOW_GAP_FREE,                /* zero */
  QCOW_GAP_RECORD,              /* a record, sound */
};

/* What lies in the gap. */
struct qcow_gap {
  uint64_t host;                /* of its first whole sector, bytes */
  unsigned nr;                  /* whole sectors */
  enum qcow_gap_use uses[QCOW_GAP_SECTORS];
  struct qcow_intent records[QCOW_GAP_SECTORS];
};

/* Where tapdisk's L1 table lies: the first page behind the headers. */
extern uint64_t qcow_gap_end (const struct qcow_header *h);

/* Look at the gap.  Changes nothing.  Records about another table (their
 * nr_l1 or home_host differ) are there with nothing in them: kind
 * QCOW_INTENT_NONE.  0; -1, reported.
 */
extern int qcow_gap_read (struct source *src, const struct qcow_header *h,
                          struct qcow_gap *gap);

/* Sectors of the gap that meet [host, end) are not to be used. */
extern void qcow_gap_take (struct qcow_gap *gap, uint64_t host,
                           uint64_t end);

/* The first sector of that use, or -1. */
extern int qcow_gap_find (const struct qcow_gap *gap, enum qcow_gap_use use);

/* The sector with the first record of that kind, or -1. */
extern int qcow_gap_find_kind (const struct qcow_gap *gap,
                               enum qcow_intent_kind kind);

/* Write a record into sector i; not yet durable.  0; -1, reported. */
extern int qcow_gap_put (struct source *src, struct qcow_gap *gap,
                         unsigned i, const struct qcow_intent *intent);

/* Zero all records, durably.  0, at once if there are none; -1, reported.
 */
extern int qcow_gap_clear (struct source *src, struct qcow_gap *gap);

/* A record in its bytes and back; false: it is none. */
extern void qcow_intent_format (const struct qcow_intent *intent,
                                uint8_t sector[QCOW_INTENT_LEN]);
extern bool qcow_intent_parse (const uint8_t sector[QCOW_INTENT_LEN],
                               struct qcow_intent *intent);

#endif /* NDF_QCOW_INTENT_H */
