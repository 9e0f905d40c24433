/* Records of a conversion under way: parsing, formatting, placing.
 *
 * Whatever a record says is a hint for what the table may be taken for:
 * nothing here makes an offset of a file out of its numbers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/entry.h"
#include "qcow/intent.h"

#define AT_LIST 80
#define ITEM_LEN 12
#define AT_DIGEST (QCOW_INTENT_LEN - DIGEST_MD5_LEN)

_Static_assert (AT_LIST + QCOW_INTENT_MAX_ITEMS * ITEM_LEN <= AT_DIGEST,
                "the list must end before the digest");

/* ---- one record */

static void
digest_of (const uint8_t *sector, uint8_t digest[DIGEST_MD5_LEN])
{
  struct digest_md5 md5;

  digest_md5_begin (&md5);
  digest_md5_add (&md5, sector, AT_DIGEST);
  digest_md5_end (&md5, digest);
}

void
qcow_intent_format (const struct qcow_intent *intent,
                    uint8_t sector[QCOW_INTENT_LEN])
{
  assert (intent->nr_items <= QCOW_INTENT_MAX_ITEMS);
  memset (sector, 0, QCOW_INTENT_LEN);
  store_be64 (sector, QCOW_INTENT_MAGIC);
  store_be32 (sector + 8, intent->kind);
  store_be32 (sector + 12, intent->nr_items);
  store_be64 (sector + 16, intent->nr_l1);
  store_be64 (sector + 24, intent->home_host);
  store_be64 (sector + 32, intent->copy_host);
  store_be64 (sector + 40, intent->file_len);
  memcpy (sector + 48, intent->md5_little, DIGEST_MD5_LEN);
  memcpy (sector + 64, intent->md5_big, DIGEST_MD5_LEN);
  for (uint32_t i = 0; i < intent->nr_items; ++i) {
    uint8_t *item = sector + AT_LIST + i * ITEM_LEN;

    store_be32 (item, intent->items[i].index);
    store_be64 (item + 4, intent->items[i].value);
  }
  digest_of (sector, sector + AT_DIGEST);
}

bool
qcow_intent_parse (const uint8_t sector[QCOW_INTENT_LEN],
                   struct qcow_intent *intent)
{
  const uint32_t kind = load_be32 (sector + 8);
  uint8_t digest[DIGEST_MD5_LEN];

  if (load_be64 (sector) != QCOW_INTENT_MAGIC)
    return false;
  digest_of (sector, digest);
  if (memcmp (digest, sector + AT_DIGEST, DIGEST_MD5_LEN) != 0)
    return false;
  *intent = (struct qcow_intent) {
    .nr_items = load_be32 (sector + 12),
    .nr_l1 = load_be64 (sector + 16),
    .home_host = load_be64 (sector + 24),
    .copy_host = load_be64 (sector + 32),
    .file_len = load_be64 (sector + 40),
  };
  if ((kind != QCOW_INTENT_FIXED && kind != QCOW_INTENT_GROWING) ||
      intent->nr_items > QCOW_INTENT_MAX_ITEMS)
    return false;
  intent->kind = kind;
  memcpy (intent->md5_little, sector + 48, DIGEST_MD5_LEN);
  memcpy (intent->md5_big, sector + 64, DIGEST_MD5_LEN);
  for (uint32_t i = 0; i < intent->nr_items; ++i) {
    const uint8_t *item = sector + AT_LIST + i * ITEM_LEN;

    intent->items[i].index = load_be32 (item);
    intent->items[i].value = load_be64 (item + 4);
  }
  return true;
}

/* ---- the gap */

static bool
is_zero (const uint8_t *p, size_t len)
{
  return p[0] == 0 && memcmp (p, p + 1, len - 1) == 0;
}

static void
look_at_sector (const struct qcow_header *h, struct qcow_gap *gap,
                unsigned i, const uint8_t *sector)
{
  struct qcow_intent *record = &gap->records[i];

  if (is_zero (sector, QCOW_INTENT_LEN))
    gap->uses[i] = QCOW_GAP_FREE;
  else if (qcow_intent_parse (sector, record)) {
    gap->uses[i] = QCOW_GAP_RECORD;
    if (record->nr_l1 != h->nr_l1 ||
        (record->home_host != h->l1_host &&
         record->home_host != qcow_gap_end (h)))
      *record = (struct qcow_intent) { .kind = QCOW_INTENT_NONE };
  }
}

uint64_t
qcow_gap_end (const struct qcow_header *h)
{
  return round_up (h->head_end, QCOW_GAP_UNIT);
}

/* Header and name end before 2^63 (they are in the file). */
int
qcow_gap_read (struct source *src, const struct qcow_header *h,
               struct qcow_gap *gap)
{
  const uint64_t end = MIN (MIN (qcow_gap_end (h), h->l1_host),
                            source_len (src));
  uint8_t bytes[QCOW_GAP_UNIT];

  memset (gap, 0, sizeof *gap);
  gap->host = round_up (h->head_end, QCOW_INTENT_LEN);
  if (gap->host >= end)
    return 0;
  gap->nr = (end - gap->host) / QCOW_INTENT_LEN;
  if (gap->nr > 0 &&
      source_pread (src, bytes, gap->nr * QCOW_INTENT_LEN, gap->host) == -1)
    return -1;
  for (unsigned i = 0; i < gap->nr; ++i)
    look_at_sector (h, gap, i, bytes + i * QCOW_INTENT_LEN);
  return 0;
}

void
qcow_gap_take (struct qcow_gap *gap, uint64_t host, uint64_t end)
{
  for (unsigned i = 0; i < gap->nr; ++i) {
    const uint64_t sector = gap->host + i * QCOW_INTENT_LEN;

    if (gap->uses[i] == QCOW_GAP_FREE &&
        qcow_meets (sector, sector + QCOW_INTENT_LEN, host, end))
      gap->uses[i] = QCOW_GAP_TAKEN;
  }
}

int
qcow_gap_find (const struct qcow_gap *gap, enum qcow_gap_use use)
{
  for (unsigned i = 0; i < gap->nr; ++i)
    if (gap->uses[i] == use)
      return (int) i;
  return -1;
}

int
qcow_gap_find_kind (const struct qcow_gap *gap, enum qcow_intent_kind kind)
{
  for (unsigned i = 0; i < gap->nr; ++i)
    if (gap->uses[i] == QCOW_GAP_RECORD && gap->records[i].kind == kind)
      return (int) i;
  return -1;
}

int
qcow_gap_put (struct source *src, struct qcow_gap *gap, unsigned i,
              const struct qcow_intent *intent)
{
  uint8_t sector[QCOW_INTENT_LEN];

  assert (i < gap->nr && gap->uses[i] != QCOW_GAP_TAKEN);
  qcow_intent_format (intent, sector);
  if (source_pwrite (src, sector, sizeof sector,
                     gap->host + i * QCOW_INTENT_LEN) == -1)
    return -1;
  gap->uses[i] = QCOW_GAP_RECORD;
  gap->records[i] = *intent;
  return 0;
}

int
qcow_gap_clear (struct source *src, struct qcow_gap *gap)
{
  static const uint8_t zeroes[QCOW_INTENT_LEN];

  if (qcow_gap_find (gap, QCOW_GAP_RECORD) == -1)
    return 0;
  for (unsigned i = 0; i < gap->nr; ++i)
    if (gap->uses[i] == QCOW_GAP_RECORD &&
        source_pwrite (src, zeroes, sizeof zeroes,
                       gap->host + i * QCOW_INTENT_LEN) == -1)
      return -1;
  if (source_sync (src) == -1)
    return -1;
  for (unsigned i = 0; i < gap->nr; ++i)
    if (gap->uses[i] == QCOW_GAP_RECORD)
      gap->uses[i] = QCOW_GAP_FREE;
  return 0;
}
