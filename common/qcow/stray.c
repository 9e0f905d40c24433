/* The stray header of Xen 3.3 and 3.4: finding it, and repair.
 *
 * Tapdisk read and wrote the L1 table in whole pages.  Xen 3.3 wrote the
 * header directly behind them, Xen 3.4 a sector later.
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
#include "qcow/entry.h"
#include "qcow/l1.h"
#include "qcow/stray.h"
#include "report/refuse.h"

#define PAGE_LEN 4096
#define STRAY_LEN 512           /* what is written: a sector */
#define STRAY_ENTRIES (STRAY_LEN / 8)

/* Magic and version 1, as a little endian host has them in memory.  Read as
 * an entry it is a compressed cluster far beyond any file.
 */
#define STRAY_MAGIC UINT64_C (0xfb49465101000000)

static int
has_stray_magic (struct source *src, uint64_t host)
{
  uint8_t bytes[8];

  if (source_pread_padded (src, bytes, sizeof bytes, host) == -1)
    return -1;
  return load_be64 (bytes) == STRAY_MAGIC;
}

/* Whose table has the sector at stray->host? */
static int
find_table (struct source *src, const struct qcow_header *h,
            const struct qcow_verdict *v, struct qcow_stray *stray)
{
  struct qcow_l1_reader r;

  qcow_l1_begin (&r, src, h, v);
  for (uint64_t i = 0; i < h->nr_l1; ++i) {
    uint64_t entry;

    if (qcow_l1_entry (&r, i, &entry) == -1)
      return -1;
    if (entry == 0 || entry == QCOW_L1_DAMAGED || entry > stray->host ||
        !range_is_inside (stray->host - entry, STRAY_LEN, qcow_l2_len (h)))
      continue;
    stray->is_found = true;
    stray->l2_host = entry;
    stray->l1_index = i;
    return 0;
  }
  return 0;
}

/* Does the rest of the table say what tapdisk computes? */
static int
check_rest (struct source *src, const char *name,
            const struct qcow_header *h, struct qcow_stray *stray)
{
  const uint64_t first = (stray->host - stray->l2_host) / 8;
  const uint64_t nr = qcow_l2_entries (h);
  CLEANUP_FREE uint8_t *l2 = NULL;

  if (h->backing_host != 0 || nr <= STRAY_ENTRIES)
    return 0;
  l2 = malloc (qcow_l2_len (h));
  if (l2 == NULL)
    return REFUSE (ENOMEM, "%s: no memory to look at an L2 table", name);
  if (source_pread_padded (src, l2, qcow_l2_len (h), stray->l2_host) == -1)
    return -1;
  for (uint64_t i = 0; i < nr; ++i)
    if ((i < first || i >= first + STRAY_ENTRIES) &&
        load_be64 (l2 + i * 8) != qcow_formula (h, stray->l2_host, i))
      return 0;
  stray->can_repair = true;
  return 0;
}

int
qcow_stray_find (struct source *src, const char *name,
                 const struct qcow_header *h, const struct qcow_verdict *v,
                 struct qcow_stray *stray)
{
  const uint64_t behind = round_up (qcow_l1_end (h), PAGE_LEN);

  *stray = (struct qcow_stray) { .is_found = false };
  if (h->xen == QCOW_XEN_NONE)
    return 0;
  for (unsigned i = 0; i <= 1; ++i) {
    const uint64_t host = behind + i * STRAY_LEN;
    const int found = has_stray_magic (src, host);

    if (found == -1)
      return -1;
    if (!found)
      continue;
    stray->host = host;
    if (find_table (src, h, v, stray) == -1)
      return -1;
    if (stray->is_found)
      return check_rest (src, name, h, stray);
  }
  return 0;
}

int
qcow_stray_repair (struct source *src, const char *name,
                   const struct qcow_header *h,
                   const struct qcow_stray *stray)
{
  const uint64_t first = (stray->host - stray->l2_host) / 8;
  uint8_t sector[STRAY_LEN];
  int found;

  if (!stray->is_found || !stray->can_repair)
    return REFUSE (EINVAL, "%s: there is no stray header that could be "
                   "repaired", name);
  found = has_stray_magic (src, stray->host);
  if (found == -1)
    return -1;
  if (!found)
    return REFUSE (EIO, "%s: the stray header at byte %" PRIu64 " is no "
                   "longer there; nothing was written. Is another program "
                   "using the image?", name, stray->host);
  for (uint64_t i = 0; i < STRAY_ENTRIES; ++i)
    store_be64 (sector + i * 8, qcow_formula (h, stray->l2_host, first + i));
  report_debug ("%s: qcow: stray: repair host=%" PRIu64 " l2=%" PRIu64
                " l1-index=%" PRIu64, name, stray->host, stray->l2_host,
                stray->l1_index);
  if (source_pwrite (src, sector, sizeof sector, stray->host) == -1)
    return -1;
  return source_sync (src);
}
