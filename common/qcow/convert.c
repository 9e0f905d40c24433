/* Converting tapdisk's L1 table to big endian: both ways.
 *
 * G, with a copy (the file can grow):
 *   0. a record with the length of the file; sync
 *   1. the table in big endian at the end of the file; sync
 *   2. one write of sector 0: the table is there, and big endian; sync
 *   3. the table in its old place; sync
 *   4. one write of sector 0: the table is in its old place; sync
 *   5. the copy is cut off; sync
 *   6. the record is zeroed; sync
 * Before 2 is durable the image is what it was, from then on it is big
 * endian throughout.
 *
 * F, in place:
 *   1. records of what ambiguous entries mean, if there are any; sync
 *   2. a big endian flag that is wrong goes; sync.  Then the flag says
 *      whether 4 was reached, which sets it and the rest of the head.
 *   3. the sectors of the table that differ; sync
 *   4. one write of sector 0; sync
 *   5. the records are zeroed; sync
 * Between 2 and 4 every entry is judged by itself again; sectors of 512
 * bytes are written whole.
 *
 * The table lies at a multiple of 8 bytes, or nothing is done.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/digest.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow/convert.h"
#include "qcow/entry.h"
#include "qcow/intent.h"
#include "qcow/l1.h"
#include "report/refuse.h"

#define HEAD_LEN QCOW_CONVERT_HEAD_LEN
#define SECTOR QCOW_SECTOR_LEN

/* Tables are read and written in pieces of this many bytes. */
#define CHUNK (64 * 1024)

/* ---- the table, entry by entry */

/* MD5 of the table in both orders. */
static int
digest_table (struct qcow_l1_reader *r, struct qcow_intent *intent)
{
  struct digest_md5 little, big;

  digest_md5_begin (&little);
  digest_md5_begin (&big);
  for (uint64_t i = 0; i < r->h->nr_l1; ++i) {
    uint64_t entry;
    uint8_t bytes[8];

    if (qcow_l1_entry (r, i, &entry) == -1)
      return -1;
    store_le64 (bytes, entry);
    digest_md5_add (&little, bytes, sizeof bytes);
    store_be64 (bytes, entry);
    digest_md5_add (&big, bytes, sizeof bytes);
  }
  digest_md5_end (&little, intent->md5_little);
  digest_md5_end (&big, intent->md5_big);
  return 0;
}

/* ---- carrying it out: sector 0 and the table */

struct work {
  struct source *src;
  const char *name;
  const struct qcow_header *h;
  const struct qcow_verdict *v;
  const struct qcow_plan *plan;
  struct qcow_gap gap;
  struct qcow_intent copy;      /* kind NONE: there is no copy to cut off */
  uint8_t old[CHUNK], new[CHUNK];
};

static int
refuse_changed (const struct work *w, uint64_t host, const char *what)
{
  return REFUSE (EIO, "%s: %s at byte %" PRIu64 " changed while the image was "
                 "being converted; it was not written over. Is another "
                 "program using the image?", w->name, what, host);
}

/* Change the first sector, in one write, durably; but only what it still
 * is.
 */
static int
put_head (const struct work *w, const uint8_t from[HEAD_LEN],
          const uint8_t to[HEAD_LEN])
{
  const size_t len = MIN (source_len (w->src), (uint64_t) SECTOR);
  uint8_t sector[SECTOR];

  if (source_pread (w->src, sector, len, 0) == -1)
    return -1;
  if (len < HEAD_LEN || memcmp (sector, from, HEAD_LEN) != 0)
    return refuse_changed (w, 0, "the header");
  if (memcmp (from, to, HEAD_LEN) == 0)
    return 0;
  memcpy (sector, to, HEAD_LEN);
  if (source_pwrite (w->src, sector, len, 0) == -1)
    return -1;
  return source_sync (w->src);
}

/* Make new[] of old[], which lies at 'host', with the entries of the table
 * whose place is 'table_host'.  Only an entry in one order or the other is
 * changed, or one that is missing in an old place.
 */
static int
convert_chunk (struct work *w, uint64_t table_host, uint64_t host,
               size_t len)
{
  const uint64_t first = host > table_host ? (host - table_host) / 8 : 0;
  const uint64_t end = MIN (table_host + w->h->nr_l1 * 8, host + len);

  memcpy (w->new, w->old, len);
  for (uint64_t i = first; table_host + (i + 1) * 8 <= end; ++i) {
    const uint64_t at = table_host + i * 8 - host;
    const uint64_t word = load_be64 (w->old + at);
    const uint64_t entry = w->v->table[i];

    if (word != entry && word != __builtin_bswap64 (entry) &&
        !(word == 0 && w->plan->must_finish))
      return refuse_changed (w, host + at, "the L1 entry");
    store_be64 (w->new + at, entry);
  }
  return 0;
}

/* Write the sectors of a chunk that differ, in as few calls. */
static int
write_changes (struct work *w, uint64_t host, size_t len)
{
  size_t start = 0, end;

  while (start < len) {
    const size_t sector = MIN (len - start, (size_t) SECTOR);

    if (memcmp (w->old + start, w->new + start, sector) == 0) {
      start += sector;
      continue;
    }
    for (end = start + sector; end < len; ) {
      const size_t next = MIN (len - end, (size_t) SECTOR);

      if (memcmp (w->old + end, w->new + end, next) == 0)
        break;
      end += next;
    }
    if (source_pwrite (w->src, w->new + start, end - start,
                       host + start) == -1)
      return -1;
    start = end;
  }
  return 0;
}

/* Convert the table in its place, by whole sectors.  Beyond the end of the
 * file it has no entries.  Without 'writes' only look whether it is still
 * what was judged.
 */
static int
put_table (struct work *w, uint64_t table_host, bool writes)
{
  const uint64_t end = MIN (round_up (table_host + w->h->nr_l1 * 8, SECTOR),
                            source_len (w->src));
  uint64_t host = round_down (table_host, SECTOR);

  while (host < end) {
    const size_t len = MIN (end - host, (uint64_t) CHUNK);

    if (source_pread (w->src, w->old, len, host) == -1 ||
        convert_chunk (w, table_host, host, len) == -1 ||
        (writes && write_changes (w, host, len) == -1))
      return -1;
    host += len;
  }
  return writes ? source_sync (w->src) : 0;
}

/* ---- the copy at the end of the file */

static uint64_t
copy_len (const struct qcow_header *h)
{
  return round_up (h->nr_l1 * 8, SECTOR);
}

/* Bytes of the copy from 'at' on, as they are when it is whole. */
static int
fill_copy (struct work *w, struct qcow_l1_reader *r, uint8_t *buf, size_t len,
           uint64_t at)
{
  memset (buf, 0, len);
  for (size_t done = 0; done < len; done += 8) {
    const uint64_t i = (at + done) / 8;
    uint64_t entry;

    if (i >= w->h->nr_l1)
      break;
    if (qcow_l1_entry (r, i, &entry) == -1)
      return -1;
    store_be64 (buf + done, entry);
  }
  return 0;
}

static int
write_copy (struct work *w)
{
  const uint64_t end = copy_len (w->h);
  struct qcow_l1_reader r;

  if (source_grow (w->src, w->copy.copy_host + end) == -1)
    return -1;
  qcow_l1_begin (&r, w->src, w->h, w->v);
  for (uint64_t at = 0; at < end; at += CHUNK) {
    const size_t len = MIN (end - at, (uint64_t) CHUNK);

    if (fill_copy (w, &r, w->new, len, at) == -1 ||
        source_pwrite (w->src, w->new, len, w->copy.copy_host + at) == -1)
      return -1;
  }
  return source_sync (w->src);
}

/* Do [host, end) and the copy hold nothing else than zeroes and sectors of
 * the copy?  1, 0, -1.
 */
static int
tail_is_ours (struct work *w, uint64_t host, uint64_t end)
{
  static const uint8_t zeroes[SECTOR];
  struct qcow_l1_reader r;

  qcow_l1_begin (&r, w->src, w->h, w->v);
  while (host < end) {
    struct source_extent ext = source_extent (w->src, host, end - host);
    const size_t len = MIN (ext.len, (uint64_t) CHUNK);
    const uint64_t copy = w->copy.copy_host;

    if (ext.hole && host % SECTOR == 0 && ext.len >= SECTOR) {
      host += round_down (ext.len, SECTOR);
      continue;
    }
    if (source_pread (w->src, w->old, len, host) == -1)
      return -1;
    for (size_t i = 0; i < len; ) {
      const uint64_t at = host + i;
      const size_t piece = MIN (SECTOR - at % SECTOR, (uint64_t) (len - i));

      memset (w->new, 0, SECTOR);
      if (at >= copy &&
          fill_copy (w, &r, w->new, SECTOR,
                     round_down (at - copy, SECTOR)) == -1)
        return -1;
      if (memcmp (w->old + i, zeroes, piece) != 0 &&
          memcmp (w->old + i, w->new + at % SECTOR, piece) != 0)
        return 0;
      i += piece;
    }
    host += len;
  }
  return 1;
}

/* Cut off the copy of w->copy, unless the image was used since: then the
 * table is another, or the file longer.
 */
static int
cut_copy (struct work *w)
{
  const struct qcow_intent *copy = &w->copy;
  struct qcow_intent now = { .kind = QCOW_INTENT_NONE };
  struct qcow_l1_reader r;
  uint64_t end;
  int ours;

  if (copy->kind != QCOW_INTENT_GROWING || !w->src->can_grow ||
      ADD_OVERFLOW (copy->copy_host, copy_len (w->h), &end) ||
      copy->file_len > copy->copy_host ||
      copy->file_len < w->plan->home_host ||
      source_len (w->src) != end)
    return 0;
  qcow_l1_begin (&r, w->src, w->h, w->v);
  if (digest_table (&r, &now) == -1)
    return -1;
  if (memcmp (now.md5_big, copy->md5_big, DIGEST_MD5_LEN) != 0)
    return 0;
  ours = tail_is_ours (w, copy->file_len, end);
  if (ours == -1 || ours == 0)
    return ours;
  report_debug ("%s: qcow: convert: cut off copy=%" PRIu64 " len=%" PRIu64,
                w->name, copy->copy_host, copy->file_len);
  if (source_truncate (w->src, copy->file_len) == -1)
    return -1;
  return source_sync (w->src);
}

/* ---- both ways */

static int
begin (struct work *w)
{
  const int copied = qcow_gap_read (w->src, w->h, &w->gap);
  int i;

  if (copied == -1 || put_head (w, w->plan->before, w->plan->before) == -1)
    return -1;
  if (w->plan->writes_table &&
      put_table (w, w->h->l1_host, false) == -1)
    return -1;
  i = qcow_gap_find_kind (&w->gap, QCOW_INTENT_GROWING);
  if (i >= 0)
    w->copy = w->gap.records[i];
  return 0;
}

/* Nothing but what was left lying about. */
static int
tidy (struct work *w)
{
  if (cut_copy (w) == -1 || qcow_gap_clear (w->src, &w->gap) == -1)
    return -1;
  report_debug ("%s: qcow: convert: done", w->name);
  return 0;
}

/* G from 3 on.  'head' is what is on disk. */
static int
finish (struct work *w, const uint8_t head[HEAD_LEN])
{
  if (put_table (w, w->plan->home_host, true) == -1 ||
      put_head (w, head, w->plan->head) == -1)
    return -1;
  return tidy (w);
}

/* Finish an earlier run.  Without its record the copy tells where the file
 * ended, within a page.
 */
static int
finish_interrupted (struct work *w)
{
  struct qcow_l1_reader r;

  report_debug ("%s: qcow: convert: finish copy=%" PRIu64, w->name,
                w->h->l1_host);
  if (w->copy.kind == QCOW_INTENT_NONE ||
      w->copy.copy_host != w->h->l1_host) {
    w->copy = (struct qcow_intent) {
      .kind = QCOW_INTENT_GROWING,
      .copy_host = w->h->l1_host, .file_len = w->h->l1_host,
    };
    qcow_l1_begin (&r, w->src, w->h, w->v);
    if (digest_table (&r, &w->copy) == -1)
      return -1;
  }
  return finish (w, w->plan->before);
}

/* No record may lie on a table. */
static int
protect_tables (struct work *w)
{
  struct qcow_l1_reader r;

  qcow_l1_begin (&r, w->src, w->h, w->v);
  for (uint64_t i = 0; i < w->h->nr_l1; ++i) {
    uint64_t entry;

    if (qcow_l1_entry (&r, i, &entry) == -1)
      return -1;
    if (entry != 0 && entry < qcow_gap_end (w->h))
      qcow_gap_take (&w->gap, entry, entry + qcow_l2_len (w->h));
  }
  return 0;
}

static int
begin_record (struct work *w, enum qcow_intent_kind kind,
              struct qcow_intent *record)
{
  struct qcow_l1_reader r;

  *record = (struct qcow_intent) {
    .kind = kind, .nr_l1 = w->h->nr_l1, .home_host = w->h->l1_host,
  };
  if (protect_tables (w) == -1)
    return -1;
  qcow_l1_begin (&r, w->src, w->h, w->v);
  return digest_table (&r, record);
}

/* ---- G */

/* Where the copy goes: behind the file, and behind tables that lie beyond
 * its end.
 */
static int
place_copy (struct work *w, uint64_t end)
{
  struct qcow_l1_reader r;

  end = MAX (end, MAX (source_len (w->src), qcow_l1_end (w->h)));
  qcow_l1_begin (&r, w->src, w->h, w->v);
  for (uint64_t i = 0; i < w->h->nr_l1; ++i) {
    uint64_t entry;

    if (qcow_l1_entry (&r, i, &entry) == -1)
      return -1;
    if (entry != 0)
      end = MAX (end, entry + qcow_l2_len (w->h));
  }
  if (end > QCOW_MAX_HOST - QCOW_GAP_UNIT - copy_len (w->h))
    return REFUSE (EFBIG, "%s: there is no room for a copy of the L1 table "
                   "behind byte %" PRIu64, w->name, end);
  w->copy.copy_host = round_up (end, QCOW_GAP_UNIT);
  w->copy.file_len = source_len (w->src);
  return 0;
}

/* What an earlier run left before its copy became valid goes first.  The
 * record is the same sector then; records of ambiguous entries stay.
 */
static int
prepare_copy (struct work *w, uint64_t end)
{
  int i;

  if (cut_copy (w) == -1 ||
      begin_record (w, QCOW_INTENT_GROWING, &w->copy) == -1 ||
      place_copy (w, end) == -1)
    return -1;
  report_debug ("%s: qcow: convert: with a copy=%" PRIu64 " len=%" PRIu64,
                w->name, w->copy.copy_host, w->copy.file_len);
  i = qcow_gap_find_kind (&w->gap, QCOW_INTENT_GROWING);
  if (i == -1)
    i = qcow_gap_find (&w->gap, QCOW_GAP_FREE);
  if (i == -1)
    return 0;                   /* the file may stay longer by a copy */
  if (qcow_gap_put (w->src, &w->gap, i, &w->copy) == -1)
    return -1;
  return source_sync (w->src);
}

static int
convert_with_copy (struct work *w, uint64_t end)
{
  uint8_t head[HEAD_LEN];

  if (prepare_copy (w, end) == -1 || write_copy (w) == -1)
    return -1;
  memcpy (head, w->plan->head, HEAD_LEN);
  store_be64 (head + QCOW_AT_L1_HOST, w->copy.copy_host);
  if (put_head (w, w->plan->before, head) == -1)
    return -1;
  return finish (w, head);
}

/* ---- F */

/* An entry that makes sense in both orders. */
static bool
is_ambiguous (const struct qcow_header *h, uint64_t file_len, uint64_t entry)
{
  const uint64_t other = __builtin_bswap64 (entry);

  return entry != other && entry != 0 &&
    qcow_entry_is_plausible (h, file_len, entry) &&
    qcow_entry_is_plausible (h, file_len, other);
}

/* Does a record say already what the entry means? */
static bool
is_recorded (const struct work *w, uint64_t index)
{
  for (unsigned i = 0; i < w->gap.nr; ++i)
    for (uint32_t j = 0; j < w->gap.records[i].nr_items; ++j)
      if (w->gap.records[i].items[j].index == index &&
          w->gap.records[i].items[j].value == w->v->table[index])
        return true;
  return false;
}

static int
put_record (struct work *w, struct qcow_intent *record)
{
  const int i = qcow_gap_find (&w->gap, QCOW_GAP_FREE);

  if (i == -1)
    return REFUSE (ENOTSUP, "%s: the L1 table has entries that make sense "
                   "in either byte order, and there is no free sector "
                   "between the headers and the table (byte %" PRIu64 ") to "
                   "note their meaning while it is converted in place; "
                   "convert it where the file can grow", w->name,
                   w->h->l1_host);
  if (qcow_gap_put (w->src, &w->gap, i, record) == -1)
    return -1;
  record->nr_items = 0;
  return 0;
}

static int
record_ambiguous (struct work *w)
{
  const uint64_t file_len = source_len (w->src);
  struct qcow_intent record;
  bool wrote = false;

  if (begin_record (w, QCOW_INTENT_FIXED, &record) == -1)
    return -1;
  for (uint64_t i = 0; i < w->h->nr_l1; ++i) {
    if (!is_ambiguous (w->h, file_len, w->v->table[i]) || is_recorded (w, i))
      continue;
    if (record.nr_items == QCOW_INTENT_MAX_ITEMS &&
        put_record (w, &record) == -1)
      return -1;
    record.items[record.nr_items++] = (struct qcow_intent_item) {
      .index = i, .value = w->v->table[i],
    };
    wrote = true;
  }
  if (!wrote)
    return 0;
  if (put_record (w, &record) == -1)
    return -1;
  return source_sync (w->src);
}

/* Take away a flag that says already what is to become true. */
static int
lower_flag (struct work *w, uint8_t head[HEAD_LEN])
{
  memcpy (head, w->plan->before, HEAD_LEN);
  if (w->h->has_flags && (w->h->flags & QCOW_XEN_BIG_ENDIAN))
    store_be32 (head + QCOW_AT_FLAGS,
                load_be32 (w->plan->head + QCOW_AT_FLAGS) &
                ~QCOW_XEN_BIG_ENDIAN);
  return put_head (w, w->plan->before, head);
}

static int
convert_in_place (struct work *w)
{
  uint8_t head[HEAD_LEN];

  report_debug ("%s: qcow: convert: in place table=%d", w->name,
                w->plan->writes_table);
  memcpy (head, w->plan->before, HEAD_LEN);
  if (w->plan->writes_table &&
      ((w->v->nr_ambiguous > 0 && record_ambiguous (w) == -1) ||
       lower_flag (w, head) == -1 ||
       put_table (w, w->h->l1_host, true) == -1))
    return -1;
  if (put_head (w, head, w->plan->head) == -1)
    return -1;
  return tidy (w);
}

/* ---- */

static int
convert (struct work *w, bool with_copy, uint64_t end)
{
  const struct qcow_plan *plan = w->plan;

  if (begin (w) == -1)
    return -1;
  if (plan->must_finish)
    return finish_interrupted (w);
  if (with_copy && plan->writes_table && w->src->can_grow &&
      w->h->l1_host == qcow_gap_end (w->h))
    return convert_with_copy (w, end);
  return convert_in_place (w);
}

static int
begin_work (struct source *src, const char *name,
            const struct qcow_header *h, const struct qcow_verdict *v,
            const struct qcow_plan *plan, struct work **w)
{
  assert (v->table != NULL || (!plan->writes_table && !plan->must_finish));
  *w = calloc (1, sizeof **w);
  if (*w == NULL) {
    report_error ("%s: no memory to convert the L1 table: %m", name);
    errno = ENOMEM;
    return -1;
  }
  **w = (struct work) {
    .src = src, .name = name, .h = h, .v = v, .plan = plan,
  };
  return 0;
}

int
qcow_convert_growing (struct source *src, const char *name,
                      const struct qcow_header *h,
                      const struct qcow_verdict *v,
                      const struct qcow_plan *plan, uint64_t end)
{
  CLEANUP_FREE struct work *w = NULL;

  if (!plan->is_needed)
    return 0;
  if (begin_work (src, name, h, v, plan, &w) == -1)
    return -1;
  return convert (w, true, end);
}

int
qcow_convert_fixed (struct source *src, const char *name,
                    const struct qcow_header *h,
                    const struct qcow_verdict *v,
                    const struct qcow_plan *plan)
{
  CLEANUP_FREE struct work *w = NULL;

  if (!plan->is_needed)
    return 0;
  if (begin_work (src, name, h, v, plan, &w) == -1)
    return -1;
  return convert (w, false, 0);
}
