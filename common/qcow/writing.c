/* An image between opening for writing and closing.
 *
 * Opening reads every table, to know what space is in use, and refuses what
 * cannot be written safely; then it converts a table in tapdisk's byte
 * order, if that was wished.
 *
 * A trap that QEMU leaves: it writes an L1 entry before the table, which
 * after a power cut lies at the end of the file, where the next allocation
 * would go, so that two entries shared one table.  Here such a place counts
 * as used, whether the file reaches there or not.
 *
 * The first change makes Xen's header safe: a tapdisk that finds the
 * checksum right and min_cluster_alloc as it was would not read the L2
 * tables but compute what it expects in them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "qcow/convert.h"
#include "qcow/writer.h"
#include "report/refuse.h"

/* ---- fix-up */

/* Read header and table again, which conversion has changed. */
static int
read_again (struct image *img)
{
  struct qcow *q = qcow_state (img);
  uint8_t head[QCOW_HEAD_LEN];
  struct qcow_verdict verdict;
  struct qcow_header h;

  pass_begin_change (img);
  cache_forget (img->cache, 0, cache_page_len (img->cache));
  pass_end_change (img);
  if (source_pread_padded (img->source, head, sizeof head, 0) == -1 ||
      qcow_header_check (img->name, head, source_len (img->source),
                         &h) == -1 ||
      qcow_judge (img->source, img->name, &h, &verdict) == -1)
    return -1;
  if (verdict.table != NULL || verdict.nr_damaged > 0) {
    qcow_verdict_free (&verdict);
    return REFUSE (EIO, "%s: its L1 table was converted, but is not what it "
                   "should be; the image is not written", img->name);
  }
  qcow_verdict_free (&q->verdict);
  q->verdict = verdict;
  q->header = h;
  return 0;
}

/* An interrupted conversion is to be finished: the table goes back to its
 * home.  Gather again what is in use, now with that; nothing may lie there.
 */
static int
survey_home (struct image *img, uint64_t home_host)
{
  struct qcow *q = qcow_state (img);
  const uint64_t copy_host = q->header.l1_host;
  int r;

  qcow_space_free (q->writer->space);
  q->writer->space = qcow_space_new (img, q->header.cluster_bits);
  if (q->writer->space == NULL)
    return -1;
  q->header.l1_host = home_host;
  r = qcow_survey (img);
  q->header.l1_host = copy_host;
  return r;
}

/* Convert the L1 table, or finish what an earlier conversion left.  1: it
 * was done; 0: nothing is to be done; -1.
 */
static int
fix_up_once (struct image *img)
{
  struct qcow *q = qcow_state (img);
  const uint64_t end = qcow_space_end (q->writer->space)
    << q->header.cluster_bits;
  struct qcow_plan plan;
  int r;

  if (qcow_convert_plan (img->source, img->name, &q->header, &q->verdict,
                         &plan) == -1)
    return -1;
  if (!plan.is_needed)
    return 0;
  if (plan.must_finish && survey_home (img, plan.home_host) == -1)
    return -1;
  if (img->source->can_grow)
    r = qcow_convert_growing (img->source, img->name, &q->header,
                              &q->verdict, &plan, end);
  else
    r = qcow_convert_fixed (img->source, img->name, &q->header, &q->verdict,
                            &plan);
  if (r == -1)
    return -1;
  return read_again (img) == -1 ? -1 : 1;
}

/* Where an old tapdisk came upon an interrupted conversion and turned the
 * copy of the table round, there are two things to do.
 */
static int
fix_up (struct image *img)
{
  struct qcow_verdict *v = &qcow_state (img)->verdict;
  int r = fix_up_once (img);

  if (r == 1)
    r = fix_up_once (img);
  if (r == -1)
    return -1;
  if (v->nr_little > 0 || v->nr_damaged > 0)
    return REFUSE (EINVAL, "%s: its L1 table was not converted; the image is "
                   "not written", img->name);
  if (v->nr_fleeting > 0)
    return REFUSE (EINVAL, "%s: entries of its L1 table make sense in both "
                   "byte orders, and what tells them apart now would go with "
                   "the first change; the image is not written", img->name);
  qcow_verdict_use_disk (v);
  return 0;
}

/* ---- opening */

static int
make_writer (struct qcow *q, struct image *img)
{
  q->writer = calloc (1, sizeof *q->writer);
  if (q->writer == NULL)
    return REFUSE (ENOMEM, "%s: no memory to open it for writing",
                   img->name);
  q->writer->space = qcow_space_new (img, q->header.cluster_bits);
  return q->writer->space ? qcow_zero_stream_make (img) : -1;
}

int
qcow_begin_writing (struct image *img)
{
  struct qcow *q = qcow_state (img);

  if (make_writer (q, img) == -1 || qcow_survey (img) == -1)
    return -1;
  return img->wishes.fixup == IMAGE_FIXUP_WRITE ? fix_up (img) : 0;
}

void
qcow_writer_free (struct qcow_writer *w)
{
  if (w == NULL)
    return;
  qcow_space_free (w->space);
  free (w->zero_stream);
  free (w);
}

/* ---- the first change */

int
qcow_change_header (struct image *img, unsigned at, const void *bytes,
                    size_t len)
{
  struct page *page = cache_get (img->cache, 0);

  if (page == NULL)
    return -1;
  {
    LOCK_SCOPE (&img->format_lock);

    pass_begin_change (img);
    memcpy (page->bytes + at, bytes, len);
    cache_dirty (img->cache, page, PASS_HEADER);
    pass_end_change (img);
  }
  cache_put (img->cache, page);
  return 0;
}

/* Tables that the file does not reach to yet take their space now, so that
 * no pass runs out of it.
 */
static int
write_missing (struct image *img)
{
  static const uint8_t zeroes[65536];
  const uint64_t end = qcow_state (img)->writer->tables_end;
  uint64_t host = source_len (img->source), len;

  for (; host < end; host += len) {
    len = MIN (end - host, (uint64_t) sizeof zeroes);
    if (source_pwrite (img->source, zeroes, len, host) == -1)
      return -1;
  }
  return 0;
}

int
qcow_prepare (struct image *img)
{
  struct qcow_header *h = &qcow_state (img)->header;
  uint8_t one[4];

  if (write_missing (img) == -1)
    return -1;
  if (h->xen != QCOW_XEN_PRESENT || h->min_cluster_alloc == 1)
    return 0;
  store_be32 (one, 1);
  if (qcow_change_header (img, QCOW_AT_MIN_CLUSTER_ALLOC, one,
                          sizeof one) == -1 ||
      pass_run (img) == -1)
    return -1;
  h->min_cluster_alloc = 1;
  return 0;
}

/* ---- passes */

void
qcow_durable (struct image *img, uint64_t cut)
{
  qcow_space_durable (qcow_state (img)->writer->space, cut);
}

bool
qcow_is_metadata (struct image *img, uint64_t host, uint32_t len,
                  enum pass_phase phase)
{
  const struct qcow *q = qcow_state (img);
  const unsigned bits = q->header.cluster_bits;

  (void) phase;
  for (uint64_t i = host >> bits; i <= (host + len - 1) >> bits; ++i) {
    if (qcow_space_use (q->writer->space, i) != QCOW_META) {
      report_error ("%s: metadata for byte %" PRIu64 " were not written: no "
                    "table is known there", img->name, host);
      return false;
    }
  }
  return true;
}

int
qcow_finish (struct image *img)
{
  LOCK_SCOPE (&img->format_lock);

  return qcow_space_trim_file (qcow_state (img)->writer->space);
}
