/* Converting tapdisk's L1 table: what is to be done, and how the image will
 * look afterwards.
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
#include "include/cleanup.h"
#include "qcow/after.h"
#include "qcow/convert.h"
#include "qcow/entry.h"
#include "qcow/intent.h"
#include "qcow/l1.h"
#include "report/refuse.h"

#define HEAD_LEN QCOW_CONVERT_HEAD_LEN

/* Whether min_cluster_alloc can stay is found out by reading so many L2
 * tables, no more: 8 GiB in tapdisk's geometry.  Without it nothing is
 * lost but a short cut of tapdisk's.
 */
#define MAX_FORMULA_TABLES 4096

/* ---- the table in memory */

/* If it is not there yet, it was judged to be big endian. */
static int
load_table (struct source *src, const char *name,
            const struct qcow_header *h, struct qcow_verdict *v)
{
  CLEANUP_FREE uint64_t *table = NULL;
  struct qcow_l1_reader r;

  if (v->table != NULL)
    return 0;
  table = calloc (h->nr_l1, sizeof *table);
  if (table == NULL) {
    report_error ("%s: no memory for the L1 table, %" PRIu64 " entries: %m",
                  name, h->nr_l1);
    errno = ENOMEM;
    return -1;
  }
  qcow_l1_begin (&r, src, h, v);
  for (uint64_t i = 0; i < h->nr_l1; ++i)
    if (qcow_l1_word (&r, i, &table[i]) == -1)
      return -1;
  v->table = STEAL (table);
  return 0;
}

/* ---- is it a conversion with a copy, between 2 and 4? */

/* Tables must lie behind the old place: else there is something in it.
 * Then it holds each entry in either order, or, for one that was added
 * since, nothing.  1: yes; 0: no; -1.
 */
static int
compare_home (struct source *src, const struct qcow_header *h,
              const struct qcow_verdict *v, uint64_t home)
{
  struct qcow_header old = *h;
  struct qcow_l1_reader now, before;
  bool is_same = false;

  old.l1_host = home;
  qcow_l1_begin (&now, src, h, v);
  qcow_l1_begin (&before, src, &old, v);
  for (uint64_t i = 0; i < h->nr_l1; ++i) {
    uint64_t entry, word;

    if (qcow_l1_word (&now, i, &entry) == -1 ||
        qcow_l1_word (&before, i, &word) == -1)
      return -1;
    if (entry != 0 && entry < home + h->nr_l1 * 8)
      return 0;
    if (word == 0)
      continue;
    if (word != entry && word != __builtin_bswap64 (entry))
      return 0;
    is_same = true;
  }
  return is_same;
}

static int
find_interrupted (struct source *src, const char *name,
                  const struct qcow_header *h, struct qcow_verdict *v,
                  struct qcow_plan *plan)
{
  const uint64_t home = qcow_gap_end (h);
  int r;

  if (h->l1_host == home || h->l1_host % QCOW_GAP_UNIT != 0 ||
      h->l1_host < home + h->nr_l1 * 8 || h->nr_l1 > QCOW_MAX_JUDGED ||
      h->xen != QCOW_XEN_PRESENT || v->order != QCOW_ORDER_BIG ||
      v->nr_damaged > 0 ||
      (h->has_flags && (h->flags & QCOW_XEN_BIG_ENDIAN) == 0))
    return 0;
  r = compare_home (src, h, v, home);
  if (r == -1 || r == 0)
    return r;
  if (load_table (src, name, h, v) == -1)
    return -1;
  plan->must_finish = true;
  plan->home_host = home;
  store_be64 (plan->head + QCOW_AT_L1_HOST, home);
  return 0;
}

/* ---- the plan */

/* Do all L2 tables say what tapdisk computes: the clusters of the span, in
 * order, directly behind the table?  1: yes; 0: no, or too many to look;
 * -1.
 */
static int
follows_formula (struct source *src, const struct qcow_header *h,
                 const struct qcow_verdict *v)
{
  const uint32_t l2_len = qcow_l2_len (h);
  CLEANUP_FREE uint8_t *l2 = malloc (l2_len);
  unsigned nr_tables = 0;
  struct qcow_l1_reader r;

  if (l2 == NULL)
    return 0;
  qcow_l1_begin (&r, src, h, v);
  for (uint64_t i = 0; i < h->nr_l1; ++i) {
    uint64_t entry;

    if (qcow_l1_entry (&r, i, &entry) == -1)
      return -1;
    if (entry == 0)
      continue;
    if (++nr_tables > MAX_FORMULA_TABLES ||
        entry > (uint64_t) QCOW_MAX_HOST - l2_len)
      return 0;
    if (source_pread_padded (src, l2, l2_len, entry) == -1)
      return -1;
    for (uint32_t j = 0; j < l2_len / 8; ++j)
      if (load_be64 (l2 + j * 8) != qcow_formula (h, entry, j))
        return 0;
  }
  return 1;
}

static bool
converts_table (const struct qcow_verdict *v)
{
  return v->order == QCOW_ORDER_LITTLE || v->order == QCOW_ORDER_MIXED;
}

/* Is there anything to be done to the head, but for the checksum?  If not,
 * a checksum of the little endian table is left: who set the flag did not
 * care.  Without flags it is the one sign of a conversion that did not
 * come so far.
 */
static bool
head_is_old (const struct qcow_header *h, const struct qcow_verdict *v)
{
  if (converts_table (v) || h->xen == QCOW_XEN_REVERSED)
    return true;
  if (h->has_flags)
    return (h->flags & QCOW_XEN_BIG_ENDIAN) == 0;
  return v->cksum == QCOW_CKSUM_LITTLE;
}

/* A table that is little endian under the flag: in Xen 3.0.4 its bit said
 * that the file is sparse.
 */
static uint32_t
new_flags (const struct qcow_header *h, const struct qcow_verdict *v)
{
  uint32_t flags = h->flags | QCOW_XEN_BIG_ENDIAN;

  if (converts_table (v) && (h->flags & QCOW_XEN_BIG_ENDIAN))
    flags |= QCOW_XEN_SPARSE;
  return flags;
}

/* The checksum is made to fit, and with it min_cluster_alloc, for tapdisk
 * does not look at L2 tables when both are in order.
 */
static int
renew_cksum (struct source *src, const char *name,
             const struct qcow_header *h, struct qcow_verdict *v,
             struct qcow_plan *plan)
{
  int r;

  if (v->cksum == QCOW_CKSUM_LITTLE && v->nr_damaged == 0) {
    if (load_table (src, name, h, v) == -1)
      return -1;
    store_be32 (plan->head + QCOW_AT_CKSUM,
                qcow_cksum_of (v->table, h->nr_l1, true,
                               v->cksum_is_reversed));
  }
  if (v->cksum == QCOW_CKSUM_NONE || h->min_cluster_alloc == 1 ||
      h->min_cluster_alloc != qcow_l2_entries (h))
    return 0;
  r = follows_formula (src, h, v);
  if (r == 0)
    store_be32 (plan->head + QCOW_AT_MIN_CLUSTER_ALLOC, 1);
  return r == -1 ? -1 : 0;
}

static int
plan_head (struct source *src, const char *name,
           const struct qcow_header *h, struct qcow_verdict *v,
           struct qcow_plan *plan)
{
  if (!head_is_old (h, v))
    return 0;
  store_be32 (plan->head + QCOW_AT_XEN_MAGIC, QCOW_XEN_MAGIC);
  if (h->has_flags)
    store_be32 (plan->head + QCOW_AT_FLAGS, new_flags (h, v));
  return renew_cksum (src, name, h, v, plan);
}

static void
plan_records (const struct qcow_gap *gap, struct qcow_plan *plan)
{
  for (unsigned i = 0; i < gap->nr; ++i)
    if (gap->uses[i] == QCOW_GAP_RECORD)
      plan->intent_sectors |= 1 << i;
  if (plan->intent_sectors != 0)
    plan->intent_host = gap->host;
}

/* Ambiguous entries must be as clear afterwards. */
static int
check_after (struct source *src, const char *name,
             const struct qcow_header *h, const struct qcow_verdict *v,
             struct qcow_plan *plan)
{
  int r;

  if (!plan->is_needed || v->nr_ambiguous == 0)
    return 0;
  r = qcow_after_is_same (src, name, h, v, plan);
  if (r == 0) {
    plan->why_not = "entries of its L1 table make sense in both byte orders, "
      "and could not be told apart afterwards";
    plan->is_needed = false;
  }
  return r == -1 ? -1 : 0;
}

int
qcow_convert_plan (struct source *src, const char *name,
                   const struct qcow_header *h, struct qcow_verdict *v,
                   struct qcow_plan *plan)
{
  struct qcow_gap gap;

  *plan = (struct qcow_plan) { .home_host = h->l1_host };
  if (h->xen == QCOW_XEN_NONE || source_len (src) < HEAD_LEN)
    return 0;
  if (source_pread (src, plan->before, HEAD_LEN, 0) == -1 ||
      qcow_gap_read (src, h, &gap) == -1)
    return -1;
  if (load_be64 (plan->before + QCOW_AT_L1_HOST) != h->l1_host)
    return REFUSE (EIO, "%s: the header changed while the image was open; "
                   "the L1 table is not converted", name);
  memcpy (plan->head, plan->before, HEAD_LEN);
  plan_records (&gap, plan);
  plan->writes_table = converts_table (v);
  if (plan_head (src, name, h, v, plan) == -1 ||
      find_interrupted (src, name, h, v, plan) == -1)
    return -1;
  plan->writes_head = memcmp (plan->head, plan->before, HEAD_LEN) != 0;
  plan->is_needed = plan->writes_table || plan->writes_head ||
    plan->must_finish || plan->intent_host != 0;

  if (plan->is_needed && v->nr_damaged > 0)
    plan->why_not = "entries of its L1 table are damaged";
  else if (plan->is_needed && h->l1_host % 8 != 0)
    plan->why_not = "its L1 table does not lie at a multiple of 8 bytes";
  if (plan->why_not != NULL)
    plan->is_needed = false;
  if (check_after (src, name, h, v, plan) == -1)
    return -1;
  if (plan->is_needed || plan->why_not != NULL)
    report_debug ("%s: qcow: convert: plan table=%d head=%d finish=%d "
                  "record=%" PRIu64 " possible=%d", name,
                  plan->writes_table, plan->writes_head, plan->must_finish,
                  plan->intent_host, plan->is_needed);
  return 0;
}

/* ---- seeing it before it is done */

/* Copy what of bytes[0..bytes_len-1], which lies at 'at', meets the
 * buffer.
 */
static void
overlay (uint8_t *buf, size_t len, uint64_t host, const uint8_t *bytes,
         size_t bytes_len, uint64_t at)
{
  const uint64_t first = MAX (host, at);
  const uint64_t end = MIN (host + len, at + bytes_len);

  if (first < end)
    memcpy (buf + (first - host), bytes + (first - at), end - first);
}

/* Put the entries of the table, which lies at 'at', into the buffer. */
static void
overlay_table (const struct qcow_header *h, const uint64_t *table,
               uint64_t at, uint8_t *buf, size_t len, uint64_t host)
{
  const uint64_t end = MIN (at + h->nr_l1 * 8, host + len);

  for (uint64_t i = host > at ? (host - at) / 8 : 0; at + i * 8 < end; ++i) {
    uint8_t bytes[8];

    if (table[i] == QCOW_L1_DAMAGED)
      continue;
    store_be64 (bytes, table[i]);
    overlay (buf, len, host, bytes, sizeof bytes, at + i * 8);
  }
}

void
qcow_convert_view (const struct qcow_header *h, const struct qcow_verdict *v,
                   const struct qcow_plan *plan, void *buf, size_t len,
                   uint64_t host)
{
  static const uint8_t zeroes[QCOW_INTENT_LEN];

  if (!plan->is_needed && plan->why_not == NULL)
    return;
  if (v->table != NULL)
    overlay_table (h, v->table, plan->home_host, buf, len, host);
  overlay (buf, len, host, plan->head, HEAD_LEN, 0);
  for (unsigned i = 0; i < QCOW_GAP_SECTORS; ++i)
    if (plan->intent_sectors & 1 << i)
      overlay (buf, len, host, zeroes, sizeof zeroes,
               plan->intent_host + i * QCOW_INTENT_LEN);
}
