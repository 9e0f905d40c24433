/* Making new, empty images.
 *
 * First what there is must not be taken for an image any more; then the
 * table, which is all zeroes, and what of the name lies behind the first
 * sector become durable; the first sector, with the header, is last.
 *
 * Format: block/qcow.c in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/create.h"
#include "qcow/header.h"
#include "report/refuse.h"

/* Disks are made of sectors, and a sector is written as one. */
#define SECTOR_LEN 512

/* A device that begins with so many zeroes has nothing on it. */
#define BLANK_LEN (1024 * 1024)

/* Header and name. */
#define MAX_HEAD_LEN                                                    \
  (QCOW_HEADER_LEN + QCOW_MAX_BACKING_NAME)

/* Where things lie, bytes of the file. */
struct plan {
  uint64_t disk_len;
  uint64_t name_len;            /* 0: no backing file */
  uint64_t l1_host;
  uint64_t end;                 /* of the file, with the whole L1 table */
};

/* ---- what makes no sense */

static int
check_geometry (const char *name, const struct qcow_create_options *o)
{
  if (!is_power_of_2 (o->cluster_len) ||
      o->cluster_len < 1 << QCOW_MIN_CLUSTER_BITS ||
      o->cluster_len > 1 << QCOW_MAX_CLUSTER_BITS)
    return REFUSE (EINVAL, "%s: a cluster size of %" PRIu64 " bytes is not "
                   "possible, only powers of two from %d to %d", name,
                   o->cluster_len, 1 << QCOW_MIN_CLUSTER_BITS,
                   1 << QCOW_MAX_CLUSTER_BITS);
  if (o->l2_bits < QCOW_MIN_L2_BITS || o->l2_bits > QCOW_MAX_L2_BITS)
    return REFUSE (EINVAL, "%s: L2 tables of 2^%" PRIu64 " entries are not "
                   "possible, only of 2^%d to 2^%d (l2-bits)", name,
                   o->l2_bits, QCOW_MIN_L2_BITS, QCOW_MAX_L2_BITS);
  return 0;
}

/* Guest bytes behind an L1 entry. */
static uint64_t
span_of (const struct qcow_create_options *o)
{
  return o->cluster_len << o->l2_bits;
}

static int
check_len (const char *name, const struct qcow_create_options *o)
{
  if (o->len == 0)
    return REFUSE (EINVAL, "%s: an empty disk is not possible in this "
                   "format: its size must be at least 1", name);
  if (o->len > INT64_MAX - SECTOR_LEN)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large",
                   name, o->len);
  if (div_round_up (o->len, span_of (o)) > QCOW_MAX_L1_ENTRIES)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large for "
                   "clusters of %" PRIu64 " bytes and L2 tables of %" PRIu64
                   " entries: at most %" PRIu64 " are possible", name,
                   o->len, o->cluster_len, UINT64_C (1) << o->l2_bits,
                   QCOW_MAX_L1_ENTRIES * span_of (o));
  return 0;
}

int
qcow_create_check (const char *name, const struct qcow_create_options *o)
{
  if (check_geometry (name, o) == -1 || check_len (name, o) == -1)
    return -1;
  if (o->backing_name == NULL)
    return 0;
  if (o->backing_name[0] == '\0')
    return REFUSE (EINVAL, "%s: the name of the backing file is empty", name);
  if (strlen (o->backing_name) > QCOW_MAX_BACKING_NAME)
    return REFUSE (EINVAL, "%s: the name of the backing file is longer than "
                   "%d bytes", name, QCOW_MAX_BACKING_NAME);
  return 0;
}

/* ---- the layout */

static void
make_plan (const struct qcow_create_options *o, struct plan *plan)
{
  uint64_t l1_len;

  plan->disk_len = round_up (o->len, SECTOR_LEN);
  plan->name_len = o->backing_name ? strlen (o->backing_name) : 0;
  plan->l1_host = round_up (QCOW_HEADER_LEN + plan->name_len, 8);
  l1_len = div_round_up (plan->disk_len, span_of (o)) * 8;
  plan->end = plan->l1_host + round_up (l1_len, SECTOR_LEN);
}

/* Header, name, and the table as far as it fits: bytes[0..round_up
 * (MAX_HEAD_LEN, SECTOR_LEN)-1], which are zero.
 */
static void
format_head (const struct qcow_create_options *o, const struct plan *plan,
             uint8_t *bytes)
{
  store_be32 (bytes, QCOW_MAGIC);
  store_be32 (bytes + 4, QCOW_VERSION);
  if (plan->name_len > 0) {
    store_be64 (bytes + QCOW_AT_BACKING_HOST, QCOW_HEADER_LEN);
    store_be32 (bytes + QCOW_AT_BACKING_LEN, plan->name_len);
    memcpy (bytes + QCOW_HEADER_LEN, o->backing_name, plan->name_len);
  }
  store_be64 (bytes + QCOW_AT_LEN, plan->disk_len);
  bytes[QCOW_AT_CLUSTER_BITS] = __builtin_ctzll (o->cluster_len);
  bytes[QCOW_AT_L2_BITS] = o->l2_bits;
  store_be64 (bytes + QCOW_AT_L1_HOST, plan->l1_host);
}

/* ---- what there is */

static int
check_blank (struct source *src)
{
  const uint64_t head_len = MIN (source_len (src), (uint64_t) BLANK_LEN);
  CLEANUP_FREE uint8_t *head = NULL;
  uint64_t i;

  if (src->can_grow && source_len (src) == 0)
    return 0;
  if (src->can_grow)
    return REFUSE (EEXIST, "%s: there is something in it, %" PRIu64 " bytes, "
                   "which would be lost; name another file, or if it may be "
                   "lost say overwrite=true", src->name, source_len (src));
  head = malloc (BLANK_LEN);
  if (head == NULL)
    return REFUSE (ENOMEM, "%s: no memory to look at it", src->name);
  if (source_pread (src, head, head_len, 0) == -1)
    return -1;
  for (i = 0; i < head_len; ++i)
    if (head[i] != 0)
      return REFUSE (EEXIST, "%s: there is something on it, byte %" PRIu64
                     " is 0x%02x, which would be lost; if it may be lost say "
                     "overwrite=true", src->name, i, head[i]);
  return 0;
}

static int
check_room (struct source *src, const struct plan *plan)
{
  if (src->can_grow || plan->end <= source_len (src))
    return 0;
  return REFUSE (ENOSPC, "%s: has %" PRIu64 " bytes, and the image needs %"
                 PRIu64 " for its tables alone", src->name, source_len (src),
                 plan->end);
}

/* ---- making it */

/* Have nothing there that could be taken for an image, durably. */
static int
make_blank (struct source *src)
{
  static const uint8_t zeroes[SECTOR_LEN];

  if (src->can_grow) {
    if (source_len (src) == 0)
      return 0;
    if (source_truncate (src, 0) == -1)
      return -1;
  }
  else if (source_pwrite (src, zeroes, sizeof zeroes, 0) == -1)
    return -1;
  return source_sync (src);
}

/* All but the first sector: a table of zeroes, and over its beginning what
 * of the name lies there.
 */
static int
write_rest (struct source *src, const struct plan *plan, const uint8_t *head)
{
  const uint64_t name_end = QCOW_HEADER_LEN + plan->name_len;

  if (src->can_grow) {
    if (source_grow (src, plan->end) == -1)
      return -1;
  }
  else if (source_zero (src, plan->end - SECTOR_LEN, SECTOR_LEN,
                        SOURCE_ZERO_PUNCH) == -1)
    return -1;
  if (name_end > SECTOR_LEN &&
      source_pwrite (src, head + SECTOR_LEN,
                     round_up (name_end, 8) - SECTOR_LEN, SECTOR_LEN) == -1)
    return -1;
  return source_sync (src);
}

/* It could not be made: give the space back that it took. */
static void
make_empty (struct source *src)
{
  const int err = errno;

  if (src->can_grow)
    source_truncate (src, 0);
  errno = err;
}

int
qcow_create (struct source *src, const struct qcow_create_options *o)
{
  uint8_t head[3 * SECTOR_LEN] = { 0 };
  struct plan plan;

  _Static_assert (MAX_HEAD_LEN <= sizeof head, "header and name fit");
  if (qcow_create_check (src->name, o) == -1)
    return -1;
  make_plan (o, &plan);
  format_head (o, &plan, head);
  if ((!o->overwrite && check_blank (src) == -1) ||
      check_room (src, &plan) == -1 ||
      make_blank (src) == -1)
    return -1;
  if (write_rest (src, &plan, head) == -1) {
    make_empty (src);
    return -1;
  }
  if (source_pwrite (src, head, SECTOR_LEN, 0) == -1)
    return -1;
  return source_sync (src);
}
