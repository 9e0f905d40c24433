/* What is in use in an image: every table is read once.
 *
 * The format keeps no counts, so this is the only way to know which space
 * is free, which clusters may be written in place, and that no entry
 * points into a table, where writing would destroy it.  The time is that of
 * reading all L2 tables; memory does not follow what the image says.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/intent.h"
#include "qcow/writer.h"
#include "report/refuse.h"

#define LEAVE_ALONE "the image is not written; work on a copy"

/* A table lies so far behind the header, if between them there may be
 * something that we do not know.
 */
#define GAP_LEN 65536

/* Tapdisk's unit for the L1 table. */
#define XEN_PAGE_LEN 4096

/* So much of the L1 table may lie behind the end of the file: it is written
 * there before the first change.
 */
#define MAX_MISSING (UINT64_C (64) << 20)

/* Streams that may be our zero stream are looked at so often. */
#define MAX_LOOKS 8

struct survey {
  struct image *img;
  struct qcow *q;
  struct qcow_space *space;
  uint8_t *l2;                  /* room for an L2 table; owned */
  unsigned nr_looks;
};

typedef int (*on_table) (struct survey *v, uint64_t l1_index,
                         uint64_t l2_host);

/* ---- walking through the L1 table */

/* Call 'on' for every table, by the entry at 'l1_index'. */
static int
visit (struct survey *v, uint64_t l1_index, uint64_t entry, on_table on)
{
  if (entry == 0)
    return 0;
  if (entry == QCOW_L1_DAMAGED || !qcow_l1_entry_is_sound (v->img, entry))
    return REFUSE (EINVAL, "%s: entry %" PRIu64 " of the L1 table names no "
                   "place for a table; " LEAVE_ALONE, v->img->name,
                   l1_index);
  return on (v, l1_index, entry);
}

/* The table on disk, past its holes. */
static int
visit_on_disk (struct survey *v, on_table on)
{
  const struct qcow *q = v->q;
  struct source *src = v->img->source;
  const uint64_t end = MIN (qcow_l1_end (&q->header), source_len (src));
  _Alignas (8) uint8_t buf[4096];
  uint64_t host = q->header.l1_host, data_end = 0, len;

  while (host < end) {
    if (host >= data_end) {
      const struct source_extent ext = source_extent (src, host, end - host);

      if (ext.hole && round_down (ext.len, 8) > 0) {
        host += round_down (ext.len, 8);
        continue;
      }
      data_end = host + ext.len;
    }
    len = MIN (data_end - host, (uint64_t) sizeof buf);
    len = MIN (round_up (len, 8), qcow_l1_end (&q->header) - host);
    if (source_pread_padded (src, buf, len, host) == -1)
      return -1;
    for (uint64_t i = 0; i < len; i += 8)
      if (visit (v, (host + i - q->header.l1_host) / 8,
                 load_be64 (buf + i), on) == -1)
        return -1;
    host += len;
  }
  return 0;
}

static int
visit_tables (struct survey *v, on_table on)
{
  const struct qcow *q = v->q;

  if (q->verdict.table == NULL)
    return visit_on_disk (v, on);
  for (uint64_t i = 0; i < q->header.nr_l1; ++i)
    if (visit (v, i, q->verdict.table[i], on) == -1)
      return -1;
  return 0;
}

/* ---- marking */

/* Clusters that [host, host+len) touches. */
static int
mark (struct survey *v, uint64_t host, uint64_t len, enum qcow_use use)
{
  const unsigned bits = v->q->header.cluster_bits;
  const uint64_t first = host >> bits;

  return qcow_space_mark (v->space, first,
                          ((host + len - 1) >> bits) - first + 1, use);
}

/* Can a pass write the pages of a table that ends at 'end'? */
static bool
reaches (const struct survey *v, uint64_t end)
{
  const struct source *src = v->img->source;

  return src->can_grow ||
    round_up (end, cache_page_len (v->img->cache)) <= source_len (src);
}

static int
mark_table (struct survey *v, uint64_t l1_index, uint64_t l2_host)
{
  const uint32_t cluster_len = v->q->cluster_len;
  const uint64_t end = l2_host + qcow_l2_len (&v->q->header);
  int r;

  if (l2_host % cluster_len != 0)
    return REFUSE (EINVAL, "%s: the L2 table of L1 entry %" PRIu64 ", at "
                   "byte %" PRIu64 ", does not lie at a multiple of the "
                   "cluster size %" PRIu32 ", as every known program puts "
                   "it; " LEAVE_ALONE, v->img->name, l1_index, l2_host,
                   cluster_len);
  if (!reaches (v, end))
    return REFUSE (EINVAL, "%s: the L2 table of L1 entry %" PRIu64 ", at "
                   "byte %" PRIu64 ", passes the end of the file, which "
                   "cannot grow; " LEAVE_ALONE, v->img->name, l1_index,
                   l2_host);
  v->q->writer->tables_end = MAX (v->q->writer->tables_end, end);
  r = mark (v, l2_host, qcow_l2_len (&v->q->header), QCOW_META);
  if (r == 1)
    return REFUSE (EINVAL, "%s: the L2 table of L1 entry %" PRIu64 ", at "
                   "byte %" PRIu64 ", lies on another table or the header; "
                   LEAVE_ALONE, v->img->name, l1_index, l2_host);
  return r;
}

/* A stream of the right length that is the zero stream serves again. */
static int
note_zero_stream (struct survey *v, const struct qcow_cluster *c,
                  uint64_t entry)
{
  struct qcow_writer *w = v->q->writer;
  uint8_t buf[128];

  if (w->zero_entry != 0 || c->len != w->zero_len || c->len > sizeof buf ||
      v->nr_looks == MAX_LOOKS)
    return 0;
  v->nr_looks++;
  if (source_pread_padded (v->img->source, buf, c->len, c->host) == -1)
    return -1;
  if (memcmp (buf, w->zero_stream, c->len) == 0)
    w->zero_entry = entry;
  return 0;
}

static int
mark_entry (struct survey *v, uint64_t entry, uint64_t place,
            uint64_t guest)
{
  struct qcow_cluster c;
  int r = 0;

  qcow_decode (&v->q->header, entry, &c);
  switch (c.kind) {
  case QCOW_NOTHING:
    return 0;
  case QCOW_DAMAGED:
    qcow_report_damage (v->img, &c, entry, place, guest);
    errno = EINVAL;
    return -1;
  case QCOW_COMPRESSED:
    /* Streams are never changed, so they may share a cluster with a table
     * that does not reach to its end.
     */
    r = mark (v, c.host, c.len, QCOW_SHARED);
    return r == -1 ? -1 : note_zero_stream (v, &c, entry);
  case QCOW_PLAIN:
    r = mark (v, c.host, c.len,
              c.host % v->q->cluster_len == 0 ? QCOW_ONCE : QCOW_SHARED);
    break;
  }
  if (r == 1)
    return REFUSE (EINVAL, "%s: the L2 entry at byte %" PRIu64 ", for disk "
                   "offset %" PRIu64 ", points at byte %" PRIu64 ", where a "
                   "table or the header lies; " LEAVE_ALONE, v->img->name,
                   place, guest, c.host);
  return r;
}

/* Tables that are holes say nothing. */
static int
mark_data (struct survey *v, uint64_t l1_index, uint64_t l2_host)
{
  const struct qcow_header *h = &v->q->header;
  const uint32_t len = qcow_l2_len (h);
  const struct source_extent ext = source_extent (v->img->source, l2_host,
                                                  len);

  if (ext.hole && ext.len >= len)
    return 0;
  if (source_pread_padded (v->img->source, v->l2, len, l2_host) == -1)
    return -1;
  for (uint32_t i = 0; i < len; i += 8) {
    const uint64_t entry = load_be64 (v->l2 + i);
    const uint64_t guest = (l1_index << qcow_span_bits (h)) +
      ((uint64_t) (i / 8) << h->cluster_bits);

    if (entry != 0 && mark_entry (v, entry, l2_host + i, guest) == -1)
      return -1;
  }
  return 0;
}

/* What lies between the header and the table belongs to somebody (Xen's
 * header, say): it is not ours to take.
 */
static int
mark_gap (struct survey *v)
{
  const uint64_t end = MIN (v->q->header.l1_host, (uint64_t) GAP_LEN);
  const unsigned bits = v->q->header.cluster_bits;

  for (uint64_t i = 0; i < end >> bits; ++i)
    if (qcow_space_use (v->space, i) == QCOW_FREE &&
        qcow_space_mark (v->space, i, 1, QCOW_SHARED) == -1)
      return -1;
  return 0;
}

/* Tapdisk reads the L1 table in whole pages once, and writes them back as
 * they were then: what lies in the rest of the last one would be lost.
 */
static int
mark_rest_of_l1_page (struct survey *v)
{
  const struct qcow_header *h = &v->q->header;
  const unsigned bits = h->cluster_bits;
  const uint64_t end = round_up (qcow_l1_end (h), XEN_PAGE_LEN);

  if (h->xen == QCOW_XEN_NONE)
    return 0;
  for (uint64_t i = div_round_up (qcow_l1_end (h), UINT64_C (1) << bits);
       i < end >> bits; ++i)
    if (qcow_space_use (v->space, i) == QCOW_FREE &&
        qcow_space_mark (v->space, i, 1, QCOW_SHARED) == -1)
      return -1;
  return 0;
}

/* With Xen's header conversion puts its records behind it, where tapdisk
 * leaves a page free.
 */
static uint64_t
len_of_head (const struct qcow_header *h)
{
  return h->xen == QCOW_XEN_NONE ? QCOW_HEADER_LEN
    : MIN (h->l1_host, qcow_gap_end (h));
}

static int
survey (struct survey *v)
{
  const struct qcow_header *h = &v->q->header;

  if (!reaches (v, qcow_l1_end (h)))
    return REFUSE (EINVAL, "%s: the L1 table at byte %" PRIu64 " (header "
                   "byte 40) passes the end of the file, which cannot grow; "
                   LEAVE_ALONE, v->img->name, h->l1_host);
  if (qcow_l1_end (h) > source_len (v->img->source) + MAX_MISSING)
    return REFUSE (EINVAL, "%s: the L1 table at byte %" PRIu64 " (header "
                   "byte 40) ends at byte %" PRIu64 ", far beyond the end "
                   "of the file, which has %" PRIu64 " bytes; " LEAVE_ALONE,
                   v->img->name, h->l1_host, qcow_l1_end (h),
                   source_len (v->img->source));
  v->q->writer->tables_end = qcow_l1_end (h);
  if (mark (v, 0, len_of_head (h), QCOW_META) == -1 ||
      (h->backing_host != 0 &&
       mark (v, h->backing_host, MAX (h->backing_len, 1U),
             QCOW_META) == -1) ||
      mark (v, h->l1_host, h->nr_l1 * 8, QCOW_META) == -1)
    return -1;
  if (visit_tables (v, mark_table) == -1 ||
      visit_tables (v, mark_data) == -1 ||
      mark_gap (v) == -1 ||
      mark_rest_of_l1_page (v) == -1)
    return -1;
  qcow_space_gathered (v->space);
  return 0;
}

int
qcow_survey (struct image *img)
{
  struct qcow *q = qcow_state (img);
  CLEANUP_FREE uint8_t *l2 = malloc (qcow_l2_len (&q->header));
  struct survey v = {
    .img = img,
    .q = q,
    .space = q->writer->space,
    .l2 = l2,
  };

  if (l2 == NULL)
    return REFUSE (ENOMEM, "%s: no memory to open it for writing",
                   img->name);
  return survey (&v);
}
