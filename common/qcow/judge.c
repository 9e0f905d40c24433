/* In which byte order is the L1 table?
 *
 * The table is read once, in pieces, and holes in the file are skipped.
 * Every entry that is not zero falls in a class by itself (bytes are
 * compared, never the order of the host); those that make sense either way
 * are settled afterwards (resolve.c).  Then what is left can be counted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/entry.h"
#include "qcow/judge.h"
#include "qcow/resolve.h"
#include "report/refuse.h"

#define PIECE_LEN (UINT64_C (64) * 1024)

/* So many damaged entries are named. */
#define MAX_NAMED 8

struct judge {
  struct source *src;
  const char *name;
  const struct qcow_header *h;
  uint64_t file_len;
  struct qcow_verdict *v;
  uint64_t nr_used;             /* entries that are not zero */
  uint64_t nr_only_little;      /* plain images: make sense only so */
  uint64_t nr_unaligned;        /* plain images: not on a cluster */
  unsigned nr_named;            /* damaged ones, told of */
  struct qcow_ambiguities ambiguities;
};

/* ---- one entry */

/* Could a table lie there, whose offset is a multiple of 'unit'? */
static bool
is_table_place (const struct qcow_header *h, uint64_t file_len,
                uint64_t host, uint64_t unit)
{
  const uint64_t l2_len = qcow_l2_len (h);

  return host % unit == 0 && host <= QCOW_MAX_HOST - l2_len &&
    host <= round_up (file_len, qcow_cluster_len (h)) &&
    !qcow_is_on_headers (h, host, host + l2_len);
}

bool
qcow_entry_is_plausible (const struct qcow_header *h, uint64_t file_len,
                         uint64_t v)
{
  return is_table_place (h, file_len, v, qcow_cluster_len (h));
}

enum qcow_class
qcow_entry_classify (const struct qcow_header *h, uint64_t file_len,
                     uint64_t as_big)
{
  const uint64_t as_little = __builtin_bswap64 (as_big);
  bool is_big, is_little;

  if (as_big == 0)
    return QCOW_CLASS_EMPTY;
  is_big = qcow_entry_is_plausible (h, file_len, as_big);
  is_little = qcow_entry_is_plausible (h, file_len, as_little);
  if (is_big && is_little)
    return as_big == as_little ? QCOW_CLASS_EITHER : QCOW_CLASS_AMBIGUOUS;
  if (is_big)
    return QCOW_CLASS_BIG;
  return is_little ? QCOW_CLASS_LITTLE : QCOW_CLASS_DAMAGED;
}

/* ---- the whole table */

/* Is called for each entry that is not zero, in order.  0; anything else
 * ends it.
 */
typedef int visit_fn (struct judge *j, uint64_t index, uint64_t as_big);

/* How many entries from 'index' on are in one hole; 0: read, at most
 * *nr_here are of one kind.
 */
static uint64_t
nr_in_hole (const struct judge *j, uint64_t index, uint64_t *nr_here)
{
  uint64_t host = j->h->l1_host + index * 8;
  struct source_extent ext =
    source_extent (j->src, host, qcow_l1_end (j->h) - host);

  *nr_here = div_round_up (ext.len, 8);
  return ext.hole ? ext.len / 8 : 0;
}

/* What the last call returned; -1, reported, also for I/O errors. */
static int
visit_entries (struct judge *j, visit_fn *visit)
{
  CLEANUP_FREE uint8_t *piece = malloc (PIECE_LEN);
  uint64_t index, nr, nr_data = 0, i;
  int r = 0;

  if (piece == NULL)
    return REFUSE (ENOMEM, "%s: out of memory while judging the L1 table",
                   j->name);
  for (index = 0; index < j->h->nr_l1; index += nr) {
    nr = nr_data == 0 ? nr_in_hole (j, index, &nr_data) : 0;
    if (nr > 0) {
      nr_data = 0;
      continue;
    }
    nr = MIN (nr_data, PIECE_LEN / 8);
    nr_data -= nr;
    if (source_pread_padded (j->src, piece, nr * 8,
                             j->h->l1_host + index * 8) == -1)
      return -1;
    for (i = 0; i < nr; ++i) {
      uint64_t as_big = load_be64 (piece + i * 8);

      if (as_big != 0)
        r = visit (j, index + i, as_big);
      if (r != 0)
        return r;
    }
  }
  return 0;
}

/* ---- telling of damage */

static void
note_damaged (struct judge *j, uint64_t index)
{
  struct qcow_verdict *v = j->v;

  v->first_damaged = v->nr_damaged++ == 0 ? index
    : MIN (v->first_damaged, index);
}

/* Not for an entry that is sound. */
static const char *
why_damaged (const struct judge *j, uint64_t as_big)
{
  const struct qcow_header *h = j->h;

  if (h->xen != QCOW_XEN_NONE)
    return qcow_entry_classify (h, j->file_len, as_big) ==
      QCOW_CLASS_AMBIGUOUS
      ? "could be a table's place in either byte order, and nothing tells "
      "which is right"
      : "is a table's place in neither byte order";
  if (as_big % QCOW_SECTOR_LEN != 0)
    return "is not a multiple of 512";
  if (as_big > round_up (j->file_len, qcow_cluster_len (h)) ||
      as_big > QCOW_MAX_HOST - qcow_l2_len (h))
    return "lies beyond the end of the file";
  return "lies on the header or on the L1 table";
}

static bool
is_damaged (const struct judge *j, uint64_t index, uint64_t as_big)
{
  if (j->v->table != NULL)
    return j->v->table[index] == QCOW_L1_DAMAGED;
  return !is_table_place (j->h, j->file_len, as_big, QCOW_SECTOR_LEN);
}

/* 1: enough has been said. */
static int
tell_damaged (struct judge *j, uint64_t index, uint64_t as_big)
{
  if (!is_damaged (j, index, as_big))
    return 0;
  if (j->nr_named++ == MAX_NAMED)
    return 1;
  report_warning ("%s: L1 entry %" PRIu64 " (at byte %" PRIu64 ") is 0x%016"
                  PRIx64 ", which %s: %" PRIu64 " bytes of the disk from "
                  "byte %" PRIu64 " on cannot be read", j->name, index,
                  j->h->l1_host + index * 8, as_big, why_damaged (j, as_big),
                  UINT64_C (1) << qcow_span_bits (j->h),
                  index << qcow_span_bits (j->h));
  return 0;
}

static int
tell_all_damaged (struct judge *j)
{
  if (j->v->nr_damaged == 0)
    return 0;
  if (visit_entries (j, tell_damaged) == -1)
    return -1;
  if (j->v->nr_damaged > MAX_NAMED)
    report_warning ("%s: in all, %" PRIu64 " entries of the L1 table are "
                    "damaged; their parts of the disk cannot be read",
                    j->name, j->v->nr_damaged);
  return 0;
}

/* ---- images without Xen's header */

static int
visit_plain (struct judge *j, uint64_t index, uint64_t as_big)
{
  j->nr_used++;
  if (is_table_place (j->h, j->file_len, as_big, QCOW_SECTOR_LEN)) {
    j->v->nr_big++;
    if (as_big % qcow_cluster_len (j->h) != 0)
      j->nr_unaligned++;
    return 0;
  }
  note_damaged (j, index);
  if (qcow_entry_is_plausible (j->h, j->file_len,
                               __builtin_bswap64 (as_big)))
    j->nr_only_little++;
  return 0;
}

/* Its disk would read as zeroes, or as nothing. */
static int
refuse_little (const struct judge *j)
{
  const struct qcow_header *h = j->h;
  bool has_room = MIN (h->backing_host ?: UINT64_MAX, h->l1_host) >=
    QCOW_AT_FLAGS;

  return REFUSE (EINVAL, "%s: all %" PRIu64 " used entries of the L1 table at "
                 "byte %" PRIu64 " (header byte 40) are little endian, as in "
                 "old images of Xen's tapdisk, but its header, which begins "
                 "with 58 45 4e fb at byte 48, is missing%s", j->name,
                 j->nr_used, h->l1_host, has_room
                 ? "; if the image does come from tapdisk, put these four "
                 "bytes into a copy of it" : "");
}

static int
judge_plain (struct judge *j)
{
  if (visit_entries (j, visit_plain) == -1)
    return -1;
  if (j->nr_only_little > 0 && j->nr_only_little == j->nr_used)
    return refuse_little (j);
  j->v->order = j->v->nr_big > 0 ? QCOW_ORDER_BIG : QCOW_ORDER_EMPTY;
  if (j->nr_unaligned > 0)
    report_debug ("qcow: judge name=%s unaligned-tables=%" PRIu64, j->name,
                  j->nr_unaligned);
  return tell_all_damaged (j);
}

/* ---- images with it */

static int
visit_xen (struct judge *j, uint64_t index, uint64_t as_big)
{
  struct qcow_verdict *v = j->v;
  int r;

  j->nr_used++;
  v->table[index] = QCOW_L1_DAMAGED;
  switch (qcow_entry_classify (j->h, j->file_len, as_big)) {
  case QCOW_CLASS_EMPTY:
    break;                      /* it is not */
  case QCOW_CLASS_EITHER:
    v->table[index] = as_big;
    break;
  case QCOW_CLASS_BIG:
    v->table[index] = as_big;
    v->nr_big++;
    break;
  case QCOW_CLASS_LITTLE:
    v->table[index] = __builtin_bswap64 (as_big);
    v->nr_little++;
    break;
  case QCOW_CLASS_AMBIGUOUS:
    v->nr_ambiguous++;
    r = qcow_ambiguities_add (&j->ambiguities, index, as_big);
    if (r == -1)
      return REFUSE (ENOMEM, "%s: out of memory while judging the L1 table",
                     j->name);
    if (r == 0)
      note_damaged (j, index);
    break;
  case QCOW_CLASS_DAMAGED:
    note_damaged (j, index);
    break;
  }
  return 0;
}

static void
count_settled (struct judge *j)
{
  size_t i;

  for (i = 0; i < j->ambiguities.nr; ++i) {
    const struct qcow_ambiguous *e = &j->ambiguities.list[i];

    switch (e->choice) {
    case QCOW_AS_BIG: j->v->nr_big++; break;
    case QCOW_AS_LITTLE: j->v->nr_little++; break;
    default: note_damaged (j, e->index);
    }
  }
}

static enum qcow_order
order_of (const struct qcow_verdict *v)
{
  if (v->nr_little > 0)
    return v->nr_big > 0 ? QCOW_ORDER_MIXED : QCOW_ORDER_LITTLE;
  return v->nr_big > 0 ? QCOW_ORDER_BIG : QCOW_ORDER_EMPTY;
}

static int
judge_xen (struct judge *j)
{
  struct qcow_verdict *v = j->v;

  if (j->h->nr_l1 > QCOW_MAX_JUDGED)
    return REFUSE (ENOTSUP, "%s: the disk size %" PRIu64 " (header byte 24) "
                   "needs %" PRIu64 " L1 entries; in images of Xen's tapdisk "
                   "(bytes 48 to 51 say so) at most %" PRIu64 " are "
                   "supported", j->name, j->h->len, j->h->nr_l1,
                   QCOW_MAX_JUDGED);
  v->table = calloc (j->h->nr_l1, sizeof *v->table);
  if (v->table == NULL)
    return REFUSE (ENOMEM, "%s: out of memory for %" PRIu64 " L1 entries",
                   j->name, j->h->nr_l1);
  if (visit_entries (j, visit_xen) == -1)
    return -1;
  if (j->ambiguities.nr > 0 &&
      qcow_resolve (j->src, j->h, v->table, v->nr_damaged == 0,
                    &j->ambiguities) == -1)
    return -1;
  count_settled (j);
  v->nr_fleeting = j->ambiguities.nr - j->ambiguities.nr_by_content;
  v->order = order_of (v);
  if (tell_all_damaged (j) == -1)
    return -1;
  if (v->nr_damaged == 0 && j->nr_used > 0)
    v->cksum = qcow_cksum_find (j->h, v->table, &v->cksum_is_reversed);
  if (v->nr_damaged == 0 && v->nr_little == 0) {
    free (v->table);
    v->table = NULL;
  }
  return 0;
}

/* ---- all of it */

int
qcow_judge (struct source *src, const char *name,
            const struct qcow_header *h, struct qcow_verdict *v)
{
  static const char *const orders[] = { "empty", "big", "little", "mixed" };
  static const char *const cksums[] = { "none", "little", "big" };
  struct judge j = {
    .src = src,
    .name = name,
    .h = h,
    .file_len = source_len (src),
    .v = v,
  };
  int r, err;

  *v = (struct qcow_verdict) { .table = NULL };
  r = h->xen == QCOW_XEN_NONE ? judge_plain (&j) : judge_xen (&j);
  err = errno;
  qcow_ambiguities_free (&j.ambiguities);
  if (r == -1) {
    qcow_verdict_free (v);
    errno = err;
    return -1;
  }
  report_debug ("qcow: judge name=%s order=%s big=%" PRIu64 " little=%" PRIu64
                " damaged=%" PRIu64 " ambiguous=%" PRIu64 " cksum=%s", name,
                orders[v->order], v->nr_big, v->nr_little, v->nr_damaged,
                v->nr_ambiguous, cksums[v->cksum]);
  return 0;
}

void
qcow_verdict_free (struct qcow_verdict *v)
{
  free (v->table);
  v->table = NULL;
}
