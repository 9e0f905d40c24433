/* Zero and trim: entries change, no data moves.
 *
 * The format has no flag for zeroes.  Without a backing file a cluster
 * that is not allocated reads so, and its space goes.  Over a backing file
 * entries can be pointed at one compressed cluster of zeroes, shared by
 * all; not in images with Xen's header, whose readers could not bear it:
 * there zeroes are written.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "image/codec.h"
#include "include/checked.h"
#include "qcow/writer.h"
#include "report/refuse.h"

static int
not_supported (void)
{
  errno = ENOTSUP;
  return -1;
}

/* ---- the stream of zeroes */

/* Its bytes, into the writer. */
static int
make_stream (struct image *img)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_writer *w = q->writer;
  uint8_t *zeroes = calloc (1, q->cluster_len);
  uint8_t *stream = malloc (q->cluster_len);
  ssize_t len = -1;

  if (zeroes && stream)
    len = codec_encode_deflate (CODEC_DEFLATE_MAX_LEVEL, zeroes,
                                q->cluster_len, stream, q->cluster_len);
  free (zeroes);
  if (len <= 0) {
    free (stream);
    return REFUSE (ENOMEM, "%s: no memory to compress a cluster", img->name);
  }
  w->zero_stream = stream;
  w->zero_len = len;
  return 0;
}

/* Put it into the file.  It is written before any pass that names it. */
static int
place_stream (struct image *img)
{
  const struct qcow *q = qcow_state (img);
  struct qcow_writer *w = q->writer;
  uint64_t first, host;
  bool reads_zero;
  int err;

  if (qcow_space_take (w->space, 1, 1, QCOW_SHARED, &first,
                       &reads_zero) == -1)
    return -1;
  host = first << q->header.cluster_bits;
  if (host >> qcow_packed_bits (&q->header) != 0) {
    qcow_space_undo (w->space, first, 1);
    return not_supported ();
  }
  if (source_pwrite (img->source, w->zero_stream, w->zero_len, host) == -1) {
    err = errno;
    qcow_space_undo (w->space, first, 1);
    errno = err;
    return -1;
  }
  pass_data_written (img);
  packed_forget (img->packed, host, w->zero_len);
  w->zero_entry = qcow_packed_entry (&q->header, host, w->zero_len);
  return 0;
}

int
qcow_zero_stream_make (struct image *img)
{
  return make_stream (img);
}

static int
need_stream (struct image *img)
{
  assert_held (&img->format_lock);
  return qcow_state (img)->writer->zero_entry ? 0 : place_stream (img);
}

/* ---- what is wished */

enum way {
  WAY_NOTHING,                  /* leave everything */
  WAY_FREE,                     /* entries become 0 */
  WAY_STREAM,                   /* entries name the stream */
  WAY_STREAM_IF_THERE,          /* likewise, those that hold space */
};

/* How to do it; -1, ENOTSUP. */
static int
choose_way (const struct image *img, enum unmap_wish wish)
{
  const struct qcow *q = qcow_state (img);
  const bool is_xen = q->header.xen != QCOW_XEN_NONE;

  /* What lies in a table tells which of two places is meant. */
  if (q->verdict.nr_ambiguous > 0)
    return wish == UNMAP_TRIM ? WAY_NOTHING : not_supported ();
  if (!qcow_has_base (img))
    return WAY_FREE;
  if (wish == UNMAP_TRIM)
    return is_xen ? WAY_NOTHING : WAY_STREAM_IF_THERE;
  if (is_xen || wish == UNMAP_ZERO_KEEP)
    return not_supported ();
  return WAY_STREAM;
}

/* What entry 'i' of the slot becomes. */
static uint64_t
new_entry (const struct image *img, const struct qcow_slot *slot, uint64_t i,
           enum way way)
{
  const uint64_t old = load_entry_be64 (slot->bytes + i * 8);

  switch (way) {
  case WAY_NOTHING:
    return old;
  case WAY_FREE:
    return 0;
  case WAY_STREAM_IF_THERE:
    if (old == 0)
      return 0;
    /* fall through */
  case WAY_STREAM:
    break;
  }
  return qcow_state (img)->writer->zero_entry;
}

/* ---- work */

/* Zeroes in space that is kept: only where there is nothing to do, that is
 * nothing allocated.  How many bytes from 'guest' on are so?  -1.
 */
static int64_t
len_of_nothing (struct image *img, uint64_t guest, uint64_t end)
{
  uint64_t at = guest;

  if (qcow_has_base (img))
    return 0;
  while (at < end) {
    struct extent ext;

    if (qcow_lookup (img, at, end - at, &ext, 1) == -1)
      return -1;
    if (ext.type != EXTENT_ZERO) {
      at = round_down (at, img->zero_unit);
      break;
    }
    at += ext.len;
  }
  return at > guest ? at - guest : 0;
}

static ssize_t
keep (struct image *img, uint64_t guest, uint64_t end, bool fast)
{
  const int64_t n = len_of_nothing (img, guest, end);

  if (n == -1)
    return -1;
  if (n == 0 || (fast && guest + n < end))
    return not_supported ();
  return n;
}

/* How far from 'guest' on are there no L2 tables?  0: there is one; -1. */
static int64_t
len_without_table (struct image *img, uint64_t guest, uint64_t end)
{
  const struct qcow *q = qcow_state (img);
  const uint64_t span = UINT64_C (1) << qcow_span_bits (&q->header);
  uint64_t at = guest, l2_host;
  int r;

  while (at < end) {
    r = qcow_l1_get (img, qcow_l1_index (q, at), &l2_host);
    if (r == -1)
      return -1;
    if (r == 1)
      break;
    at = MIN (round_down (at, span) + span, end);
  }
  return at - guest;
}

/* Change the slot's first 'nr' entries. */
static int
change (struct image *img, const struct qcow_slot *slot, uint64_t nr,
        enum way way)
{
  struct qcow_space *space = qcow_state (img)->writer->space;
  struct qcow_cluster c;
  uint64_t i;

  for (i = 0; i < nr; ++i) {
    qcow_slot_decode (img, slot, i, &c);
    if (c.kind == QCOW_DAMAGED) {
      errno = EIO;              /* told when it was found */
      return -1;
    }
  }
  if (qcow_space_promise (space, nr) == -1)
    return -1;
  pass_begin_change (img);
  for (i = 0; i < nr; ++i) {
    const uint64_t entry = new_entry (img, slot, i, way);

    if (load_entry_be64 (slot->bytes + i * 8) == entry)
      qcow_space_unpromise (space, 1);
    else
      qcow_slot_replace (img, slot, i, entry);
  }
  pass_end_change (img);
  return 0;
}

ssize_t
qcow_unmap (struct image *img, uint64_t guest, uint64_t len,
            enum unmap_wish wish, bool fast)
{
  LOCK_SCOPE (&img->format_lock);
  const struct qcow *q = qcow_state (img);
  const uint64_t end = guest + len;
  const int way = choose_way (img, wish);
  struct qcow_slot slot;
  int64_t n = 0;
  uint64_t nr;
  int r;

  if (way == -1)
    return -1;
  if (way == WAY_NOTHING)
    return len;
  if (wish == UNMAP_ZERO_KEEP)
    return keep (img, guest, end, fast);
  if (way != WAY_STREAM)
    n = len_without_table (img, guest, end);
  if (n != 0)
    return n;
  if (way != WAY_FREE && need_stream (img) == -1) {
    /* A trim may leave what it cannot free. */
    return wish == UNMAP_TRIM && errno == ENOSPC ? (ssize_t) len : -1;
  }
  if (qcow_slot_get (img, guest, &slot) == -1)
    return -1;
  nr = MIN (div_round_up (len, q->cluster_len), slot.nr);
  r = change (img, &slot, nr, way);
  qcow_slot_put (img, &slot);
  return r == -1 ? -1 : (ssize_t) MIN (nr * q->cluster_len, len);
}
