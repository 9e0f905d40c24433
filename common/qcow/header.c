/* The header of qcow version 1: parsing and checking.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/header.h"
#include "report/refuse.h"

bool
qcow_header_probe (const uint8_t *head, size_t head_len)
{
  return head_len >= 8 && load_be32 (head) == QCOW_MAGIC &&
    load_be32 (head + 4) == QCOW_VERSION;
}

static void
parse (const uint8_t *head, struct qcow_header *h)
{
  *h = (struct qcow_header) {
    .backing_host = load_be64 (head + QCOW_AT_BACKING_HOST),
    .backing_len = load_be32 (head + 16),
    .mtime = load_be32 (head + 20),
    .len = load_be64 (head + QCOW_AT_LEN),
    .cluster_bits = head[32],
    .l2_bits = head[33],
    .crypt_method = load_be32 (head + 36),
    .l1_host = load_be64 (head + QCOW_AT_L1_HOST),
  };
}

/* Xen's header has no length: where name and L1 table begin tells what of
 * it there is room for.
 */
static void
parse_xen (const uint8_t *head, struct qcow_header *h)
{
  const uint32_t magic = load_be32 (head + QCOW_AT_XEN_MAGIC);
  const uint64_t end = MIN (h->backing_host ?: UINT64_MAX, h->l1_host);

  if (end < QCOW_AT_FLAGS)
    return;
  if (magic == QCOW_XEN_MAGIC)
    h->xen = QCOW_XEN_PRESENT;
  else if (magic == QCOW_XEN_MAGIC_REVERSED)
    h->xen = QCOW_XEN_REVERSED;
  else
    return;
  h->cksum = load_be32 (head + QCOW_AT_CKSUM);
  h->min_cluster_alloc = load_be32 (head + QCOW_AT_MIN_CLUSTER_ALLOC);
  h->has_flags = end >= QCOW_AT_FLAGS + 4;
  h->flags = h->has_flags ? load_be32 (head + QCOW_AT_FLAGS) : 0;
}

/* ---- checks */

static int
check_version (const char *name, const uint8_t *head)
{
  const uint32_t version = load_be32 (head + 4);

  if (load_be32 (head) != QCOW_MAGIC)
    return REFUSE (EINVAL, "%s: is not a qcow image: it begins with "
                   "0x%08" PRIx32 ", not with 0x%08" PRIx32,
                   name, load_be32 (head), QCOW_MAGIC);
  if (version == 2 || version == 3)
    return REFUSE (ENOTSUP, "%s: is a qcow2 image (version %" PRIu32
                   "); use the qcow2 plugin", name, version);
  if (version != QCOW_VERSION)
    return REFUSE (ENOTSUP, "%s: qcow version %" PRIu32 " (header byte 4) "
                   "is not known", name, version);
  return 0;
}

/* In the order in which QEMU looks. */
static int
check_fields (const char *name, const struct qcow_header *h)
{
  if (h->len < 2)
    return REFUSE (EINVAL, "%s: the disk size %" PRIu64 " (header byte 24) "
                   "is too small, it must be at least 2 bytes", name,
                   h->len);
  if (h->cluster_bits < QCOW_MIN_CLUSTER_BITS ||
      h->cluster_bits > QCOW_MAX_CLUSTER_BITS)
    return REFUSE (EINVAL, "%s: %" PRIu32 " cluster bits (header byte 32): "
                   "must be %d to %d (512 bytes to 64 KiB)", name,
                   h->cluster_bits, QCOW_MIN_CLUSTER_BITS,
                   QCOW_MAX_CLUSTER_BITS);
  if (h->l2_bits < QCOW_MIN_L2_BITS || h->l2_bits > QCOW_MAX_L2_BITS)
    return REFUSE (EINVAL, "%s: %" PRIu32 " L2 bits (header byte 33): must "
                   "be %d to %d (tables of 512 bytes to 64 KiB)", name,
                   h->l2_bits, QCOW_MIN_L2_BITS, QCOW_MAX_L2_BITS);
  if (h->crypt_method > 1)
    return REFUSE (EINVAL, "%s: encryption method %" PRIu32 " (header byte "
                   "36) is not known", name, h->crypt_method);
  if (h->crypt_method == 1)
    return REFUSE (ENOTSUP, "%s: the image is encrypted with AES (header "
                   "byte 36 is 1); support for AES encryption is not built",
                   name);
  return 0;
}

static int
check_table (const char *name, struct qcow_header *h)
{
  const uint64_t span = UINT64_C (1) << qcow_span_bits (h);
  uint64_t end;

  h->disk_len = round_down (h->len, 512);
  h->nr_l1 = div_round_up (h->len, span);
  if (h->len > UINT64_MAX - span || h->nr_l1 > QCOW_MAX_L1_ENTRIES)
    return REFUSE (EINVAL, "%s: the disk size %" PRIu64 " (header byte 24) "
                   "is too large: it needs %" PRIu64 " L1 entries, at most "
                   "%" PRIu64 " are possible", name, h->len, h->nr_l1,
                   QCOW_MAX_L1_ENTRIES);
  if (ADD_OVERFLOW (h->l1_host, h->nr_l1 * 8, &end) ||
      end > INT64_MAX - UINT64_C (65536))
    return REFUSE (EINVAL, "%s: the L1 table at byte %" PRIu64 " (header "
                   "byte 40) lies where no file reaches", name, h->l1_host);
  if (h->l1_host < QCOW_HEADER_LEN)
    return REFUSE (EINVAL, "%s: the L1 table at byte %" PRIu64 " (header "
                   "byte 40) overlaps the header", name, h->l1_host);
  return 0;
}

static int
check_name (const char *name, uint64_t file_len, struct qcow_header *h)
{
  h->head_end = QCOW_HEADER_LEN;
  if (h->backing_host == 0)
    return 0;
  if (h->backing_len > QCOW_MAX_BACKING_NAME)
    return REFUSE (EINVAL, "%s: the backing file's name has %" PRIu32
                   " bytes (header byte 16): at most %d are possible", name,
                   h->backing_len, QCOW_MAX_BACKING_NAME);
  if (h->backing_host < QCOW_HEADER_LEN ||
      !range_is_inside (h->backing_host, h->backing_len, file_len))
    return REFUSE (EINVAL, "%s: the backing file's name at byte %" PRIu64
                   " (header byte 8), %" PRIu32 " bytes long, is not in the "
                   "file behind the header", name, h->backing_host,
                   h->backing_len);
  if (h->backing_len > 0 &&
      h->backing_host < qcow_l1_end (h) &&
      h->l1_host < h->backing_host + h->backing_len)
    return REFUSE (EINVAL, "%s: the backing file's name at byte %" PRIu64
                   " (header byte 8) and the L1 table at byte %" PRIu64
                   " (header byte 40) overlap", name, h->backing_host,
                   h->l1_host);
  h->head_end = h->backing_host + h->backing_len;
  return 0;
}

int
qcow_header_check (const char *name, const uint8_t *head, uint64_t file_len,
                   struct qcow_header *h)
{
  if (check_version (name, head) == -1)
    return -1;
  parse (head, h);
  if (check_fields (name, h) == -1 ||
      check_table (name, h) == -1 ||
      check_name (name, file_len, h) == -1)
    return -1;
  parse_xen (head, h);
  if (h->xen != QCOW_XEN_NONE)
    h->head_end = MAX (h->head_end, (uint64_t) (h->has_flags ? 64 : 60));
  return 0;
}

const char *
qcow_header_why_read_only (const struct qcow_header *h)
{
  if (h->l1_host % 8 != 0)
    return "its L1 table does not lie at a multiple of 8 bytes, so that a "
      "power cut could tear an entry";
  return NULL;
}
