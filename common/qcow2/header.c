/* The qcow2 header: numbers in memory, bytes on disk.
 *
 * Checks are in the order in which later ones may rely on earlier ones;
 * what needs the file's length is checked where it is used.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/header.h"
#include "qcow2/refuse.h"

/* ---- bytes to numbers and back */

static void
parse_v3 (const uint8_t *bytes, struct qcow2_header *h)
{
  h->incompatible = load_be64 (bytes + 72);
  h->compatible = load_be64 (bytes + 80);
  h->autoclear = load_be64 (bytes + 88);
  h->refcount_order = load_be32 (bytes + 96);
  h->header_len = load_be32 (bytes + 100);
  if (h->header_len > QCOW2_HEADER_V3_LEN)
    h->compression_type = bytes[104];
}

void
qcow2_header_parse (const uint8_t *bytes, struct qcow2_header *h)
{
  memset (h, 0, sizeof *h);
  h->version = load_be32 (bytes + 4);
  h->backing_host = load_be64 (bytes + 8);
  h->backing_len = load_be32 (bytes + 16);
  h->cluster_bits = load_be32 (bytes + 20);
  h->disk_len = load_be64 (bytes + 24);
  h->crypt_method = load_be32 (bytes + 32);
  h->l1_size = load_be32 (bytes + 36);
  h->l1_host = load_be64 (bytes + 40);
  h->refcount_table_host = load_be64 (bytes + 48);
  h->refcount_table_clusters = load_be32 (bytes + 56);
  h->nr_snapshots = load_be32 (bytes + 60);
  h->snapshots_host = load_be64 (bytes + 64);
  h->refcount_order = 4;
  h->header_len = QCOW2_HEADER_V2_LEN;
  if (h->version >= 3)
    parse_v3 (bytes, h);
}

static void
format_v3 (const struct qcow2_header *h, uint8_t *bytes)
{
  store_be64 (bytes + 72, h->incompatible);
  store_be64 (bytes + 80, h->compatible);
  store_be64 (bytes + 88, h->autoclear);
  store_be32 (bytes + 96, h->refcount_order);
  store_be32 (bytes + 100, h->header_len);
  if (h->header_len > QCOW2_HEADER_V3_LEN)
    bytes[104] = h->compression_type;
  if (h->rest_len > 0)
    memcpy (bytes + QCOW2_HEADER_REST, h->rest, h->rest_len);
}

void
qcow2_header_format (const struct qcow2_header *h, uint8_t *bytes)
{
  memset (bytes, 0, h->header_len);
  store_be32 (bytes, QCOW2_MAGIC);
  store_be32 (bytes + 4, h->version);
  store_be64 (bytes + 8, h->backing_host);
  store_be32 (bytes + 16, h->backing_len);
  store_be32 (bytes + 20, h->cluster_bits);
  store_be64 (bytes + 24, h->disk_len);
  store_be32 (bytes + 32, h->crypt_method);
  store_be32 (bytes + 36, h->l1_size);
  store_be64 (bytes + 40, h->l1_host);
  store_be64 (bytes + 48, h->refcount_table_host);
  store_be32 (bytes + 56, h->refcount_table_clusters);
  store_be32 (bytes + 60, h->nr_snapshots);
  store_be64 (bytes + 64, h->snapshots_host);
  if (h->version >= 3)
    format_v3 (h, bytes);
}

int
qcow2_header_keep_rest (const char *name, const uint8_t *cluster,
                        struct qcow2_header *h)
{
  if (h->header_len <= QCOW2_HEADER_REST)
    return 0;
  h->rest_len = h->header_len - QCOW2_HEADER_REST;
  h->rest = malloc (h->rest_len);
  if (h->rest == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", name);
  memcpy (h->rest, cluster + QCOW2_HEADER_REST, h->rest_len);
  return 0;
}

void
qcow2_header_free (struct qcow2_header *h)
{
  free (h->rest);
  h->rest = NULL;
  h->rest_len = 0;
}

/* ---- checks */

static int
check_version (const char *name, const uint8_t *bytes,
               const struct qcow2_header *h)
{
  if (load_be32 (bytes) != QCOW2_MAGIC)
    return REFUSE (EINVAL, "%s: not a qcow2 image: it begins with "
                   "%02x %02x %02x %02x, not with 51 46 49 fb; give the "
                   "plugin of its own format, or check the file name",
                   name, bytes[0], bytes[1], bytes[2], bytes[3]);
  if (h->version == 1)
    return REFUSE (ENOTSUP, "%s: this is a qcow image (version 1, header "
                   "byte 4), not a qcow2 image (version 2 or 3)", name);
  if (h->version != 2 && h->version != 3)
    return REFUSE (ENOTSUP, "%s: qcow2 version %" PRIu32 " (header byte 4) "
                   "is not supported, only 2 and 3 are; it was made by a "
                   "newer program, or the header is damaged",
                   name, h->version);
  return 0;
}

/* The backing name lies in cluster 0. */
static int
check_backing (const char *name, const struct qcow2_header *h)
{
  uint64_t cluster_len = UINT64_C (1) << h->cluster_bits;

  if (h->backing_host == 0)
    return 0;
  if (h->backing_host > cluster_len)
    return REFUSE (EINVAL, "%s: backing file offset %" PRIu64 " (header "
                   "byte 8) lies outside the first cluster of %" PRIu64
                   " bytes; " CHECK_A_COPY,
                   name, h->backing_host, cluster_len);
  if (h->backing_len > QCOW2_MAX_BACKING_NAME ||
      h->backing_len > cluster_len - h->backing_host)
    return REFUSE (EINVAL, "%s: backing file name length %" PRIu32 " (header "
                   "byte 16) is too large at offset %" PRIu64 ", it may be "
                   "up to %" PRIu64 "; " CHECK_A_COPY,
                   name, h->backing_len, h->backing_host,
                   MIN ((uint64_t) QCOW2_MAX_BACKING_NAME,
                        cluster_len - h->backing_host));
  return 0;
}

int
qcow2_header_check_shape (const char *name, const uint8_t *bytes,
                          const struct qcow2_header *h)
{
  if (check_version (name, bytes, h) == -1)
    return -1;
  if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
      h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
    return REFUSE (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS
                   ? EINVAL : ENOTSUP,
                   "%s: cluster size 2^%" PRIu32 " (header byte 20) is not "
                   "supported, only 2^%d to 2^%d are; "
                   "if the header is damaged restore it from a backup",
                   name, h->cluster_bits,
                   QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
  if (h->version >= 3 && h->header_len < QCOW2_HEADER_V3_LEN)
    return REFUSE (EINVAL, "%s: header length %" PRIu32 " (header byte 100) "
                   "is too small, version 3 needs at least %d; "
                   CHECK_A_COPY, name, h->header_len, QCOW2_HEADER_V3_LEN);
  if (h->header_len > UINT32_C (1) << h->cluster_bits)
    return REFUSE (EINVAL, "%s: header length %" PRIu32 " (header byte 100) "
                   "exceeds the cluster size %" PRIu32 "; " CHECK_A_COPY,
                   name, h->header_len, UINT32_C (1) << h->cluster_bits);
  return check_backing (name, h);
}

static int
check_compression (const char *name, const struct qcow2_header *h)
{
  bool has_bit = h->incompatible & QCOW2_COMPRESSION;

  if ((h->compression_type != QCOW2_COMPRESSION_DEFLATE) != has_bit)
    return REFUSE (EINVAL, "%s: compression type %u (header byte 104) does "
                   "not fit incompatible feature bit 3 (header byte 79), "
                   "which is %s: the bit must be set for any type but 0; "
                   CHECK_A_COPY, name, h->compression_type,
                   has_bit ? "set" : "clear");
  if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
    return REFUSE (ENOTSUP, "%s: compression type %u (header byte 104) is "
                   "unknown, only 0 (deflate) and 1 (zstd) are supported",
                   name, h->compression_type);
  return 0;
}

static int
check_features (const char *name, const struct qcow2_header *h)
{
  if ((h->incompatible & QCOW2_EXTENDED_L2) &&
      h->cluster_bits < QCOW2_MIN_EXTENDED_CLUSTER_BITS)
    return REFUSE (EINVAL, "%s: cluster size 2^%" PRIu32 " (header byte 20) "
                   "is too small for extended L2 entries (incompatible "
                   "feature bit 4), which need at least 2^%d; " CHECK_A_COPY,
                   name, h->cluster_bits, QCOW2_MIN_EXTENDED_CLUSTER_BITS);
  if (!(h->autoclear & QCOW2_DATA_FILE_RAW))
    return 0;
  if (!(h->incompatible & QCOW2_DATA_FILE))
    return REFUSE (EINVAL, "%s: autoclear feature bit 1 (header byte 95), "
                   "raw external data, is set although the image has no "
                   "external data file (incompatible feature bit 2); "
                   CHECK_A_COPY, name);
  if (h->backing_host != 0 && h->backing_len != 0)
    return REFUSE (EINVAL, "%s: raw external data (autoclear feature bit 1, "
                   "header byte 95) and a backing file (header byte 8) "
                   "exclude each other, so it is uncertain what the disk "
                   "holds; " CHECK_A_COPY, name);
  return 0;
}

int
qcow2_header_check (const char *name, const struct qcow2_header *h)
{
  if (check_compression (name, h) == -1 ||
      check_features (name, h) == -1)
    return -1;
  if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
    return REFUSE (EINVAL, "%s: refcount width 2^%" PRIu32 " bits (header "
                   "byte 96) is too large, the most is 2^%d; " CHECK_A_COPY,
                   name, h->refcount_order, QCOW2_MAX_REFCOUNT_ORDER);
  if (h->crypt_method > QCOW2_CRYPT_LUKS)
    return REFUSE (ENOTSUP, "%s: encryption method %" PRIu32 " (header byte "
                   "32) is unknown", name, h->crypt_method);
  if (h->disk_len > INT64_MAX)
    return REFUSE (EINVAL, "%s: virtual size %" PRIu64 " (header byte 24) is "
                   "too large, the most is %" PRIi64 "; " CHECK_A_COPY,
                   name, h->disk_len, INT64_MAX);
  return 0;
}

const char *
qcow2_header_why_read_only (const struct qcow2_header *h)
{
  if (h->incompatible & QCOW2_CORRUPT)
    return "it is marked corrupt";
  if (h->header_len % 8 != 0)
    return "its header length is not a multiple of 8";
  if (h->backing_host != 0 && h->backing_host < h->header_len)
    return "its backing file name lies inside the header";
  return NULL;
}
