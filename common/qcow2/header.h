/* The qcow2 header: numbers in memory, bytes on disk.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_HEADER_H
#define NDF_QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "QFI\xfb"; qcow version 1 begins with it too. */
#define QCOW2_MAGIC UINT32_C (0x514649fb)

#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MIN_EXTENDED_CLUSTER_BITS 14
#define QCOW2_MAX_REFCOUNT_ORDER 6
#define QCOW2_MAX_BACKING_NAME 1023

/* Where headers end: version 2, the least of version 3, and with all the
 * fields we know.
 */
#define QCOW2_HEADER_V2_LEN 72
#define QCOW2_HEADER_V3_LEN 104
#define QCOW2_HEADER_KNOWN_LEN 112

/* The first byte that we only keep: padding, then unknown fields. */
#define QCOW2_HEADER_REST 105

/* Feature bits, spec "Header", bytes 72 to 95. */
#define QCOW2_DIRTY          (UINT64_C (1) << 0) /* refcounts are stale */
#define QCOW2_CORRUPT        (UINT64_C (1) << 1) /* must not be written */
#define QCOW2_DATA_FILE      (UINT64_C (1) << 2)
#define QCOW2_COMPRESSION    (UINT64_C (1) << 3) /* another than deflate */
#define QCOW2_EXTENDED_L2    (UINT64_C (1) << 4)
#define QCOW2_INCOMPATIBLE_KNOWN UINT64_C (0x1f)
#define QCOW2_LAZY_REFCOUNTS (UINT64_C (1) << 0) /* compatible */
#define QCOW2_BITMAPS_VALID  (UINT64_C (1) << 0) /* autoclear */
#define QCOW2_DATA_FILE_RAW  (UINT64_C (1) << 1) /* autoclear */

enum qcow2_crypt_method {
  QCOW2_CRYPT_NONE = 0,
  QCOW2_CRYPT_AES = 1,
  QCOW2_CRYPT_LUKS = 2,
};

enum qcow2_compression_type {
  QCOW2_COMPRESSION_DEFLATE = 0,
  QCOW2_COMPRESSION_ZSTD = 1,
};

/* In the order of the disk.  Version 2 has the fields up to snapshots_host;
 * the others then hold what they mean there.
 */
struct qcow2_header {
  uint32_t version;
  uint64_t backing_host;        /* of the backing name; 0: none */
  uint32_t backing_len;
  uint32_t cluster_bits;
  uint64_t disk_len;
  uint32_t crypt_method;
  uint32_t l1_size;             /* entries */
  uint64_t l1_host;
  uint64_t refcount_table_host;
  uint32_t refcount_table_clusters;
  uint32_t nr_snapshots;
  uint64_t snapshots_host;
  uint64_t incompatible;
  uint64_t compatible;
  uint64_t autoclear;
  uint32_t refcount_order;
  uint32_t header_len;
  uint8_t compression_type;

  /* Bytes [QCOW2_HEADER_REST, header_len) as they were found; owned. */
  uint8_t *rest;
  size_t rest_len;
};

/* Parse the fields that have a fixed place.  'bytes' are the first
 * QCOW2_HEADER_KNOWN_LEN of the file, zeroes where it is shorter.  Nothing
 * is checked; h->rest is empty.
 */
extern void qcow2_header_parse (const uint8_t *bytes,
                                struct qcow2_header *h);

/* Check what must hold before anything else of the file can be found:
 * magic, version, cluster size, header length, place of the backing name.
 * 'name' is for messages.
 * Returns 0; -1, reported, errno EINVAL or ENOTSUP.
 */
extern int qcow2_header_check_shape (const char *name, const uint8_t *bytes,
                                     const struct qcow2_header *h);

/* Keep the bytes that have no meaning for us; 'cluster' is cluster 0.  The
 * shape has been checked.  -1, reported, errno ENOMEM.
 */
extern int qcow2_header_keep_rest (const char *name, const uint8_t *cluster,
                                   struct qcow2_header *h);

/* Check every field whose meaning is known, but for those of the tables
 * (table.h, refcount.h, snapshot.h) and incompatible features (feature.h).
 * Returns 0; -1, reported, errno EINVAL or ENOTSUP.
 */
extern int qcow2_header_check (const char *name,
                               const struct qcow2_header *h);

/* Why an image with this header may be read but not be changed: a part
 * sentence, or NULL.
 */
extern const char *
qcow2_header_why_read_only (const struct qcow2_header *h);

/* The bytes [0, h->header_len) of a file with this header. */
extern void qcow2_header_format (const struct qcow2_header *h,
                                 uint8_t *bytes);

/* Free what the header owns. */
extern void qcow2_header_free (struct qcow2_header *h);

#endif /* NDF_QCOW2_HEADER_H */
