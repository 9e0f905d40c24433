/* Keep alive what clients would lose when they rewrite a qcow2 header.
 *
 * What is kept: header extensions of types that the specification does not
 * know, and header bytes from QCOW2_HEADER_REST on that are not zero, as
 * they were at preserve_load and as clients that know them changed them
 * since.
 *
 * Two views.  'wanted' is cluster 0 as the clients' writes alone would have
 * made it, 'disk' what is there.  A write is applied to 'wanted'; what that
 * header lacks is added, which gives the new 'disk'.  So a client that
 * rewrites the header piece by piece never meets our bytes in the middle of
 * its own.  A client that reads sees 'disk' and builds on it: from then
 * on 'wanted' is 'disk'.
 *
 * Where it goes.  Extensions go behind the client's last one, before the
 * backing name or the end of the cluster; the header grows by unknown
 * fields that it lost, and the list follows it; the backing name is never
 * moved.
 *
 * Whose change it is.  An extension of a kept type that is there with
 * other data was changed by somebody who knows it, if one write brought it
 * whole or stayed inside the data of one that stood there as kept; so were
 * unknown fields that are not zero after a write of the whole header, or
 * after one that stayed inside them.  Such changes are kept from then on.
 * A type that is gone, fewer of several equal ones, and fields that became
 * zero are losses.
 *
 * Another image.  Nothing is put back, ever again, when a write makes it
 * one: another magic or version 1 or above 3; a header with another cluster
 * size; one written from its beginning with another encryption method, or
 * an L1 table of size 0 where there was one, or both L1 and refcount table
 * elsewhere; any difference in size or place of disk, tables or
 * snapshots when the magic had been zero in between, or when the write
 * covers cluster 0 and goes on behind it (headers are not written so,
 * copies of images are).
 *
 * A header that can not be parsed is let through; what is kept waits until
 * it can be.
 *
 * Power cuts.  What is added within the header's own sector goes with the
 * client's bytes in one write.  Else the client's bytes are made durable
 * first; then what is added, behind the end of its list; then it is linked
 * by a write inside one sector.  So a cut loses nothing that the client's
 * write alone would not have lost.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header extensions".
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
#include "report/refuse.h"

#include "losses.h"
#include "preserve.h"

/* What a disk writes as a whole or not at all. */
#define SECTOR 512

/* A write inside [IDENTITY_END, PATCH_END) moves neither the list nor its
 * limit.
 */
#define PATCH_END 100
#define HEADER_LEN_HOST 100

/* ---- where it goes */

/* Let the header grow by the fields that it lost; its extensions follow.
 * Only where the header and the list can be switched by one sector, or the
 * client itself writes them all at once.
 */
static bool
merge_fields (const struct preserve *p, struct change *c)
{
  const struct view *v = &c->view;
  uint64_t shift = c->high_lost ? p->fields_end - v->h.header_len : 0;
  uint64_t i, first = v->h.header_len;

  if (v->h.version < 3)
    return false;
  if (c->high_lost) {
    if (!range_is_inside (v->list_end + shift, ENTRY_HEADER_LEN, v->limit) ||
        (v->live_end > SECTOR && (c->start > 0 || c->end < v->limit)))
      return false;
    memmove (c->merged + p->fields_end, c->next + first,
             v->list_end - first);
    c->merged_end = v->list_end + shift + ENTRY_HEADER_LEN;
    memset (c->merged + c->merged_end - ENTRY_HEADER_LEN, 0,
            ENTRY_HEADER_LEN);
    store_be32 (c->merged + HEADER_LEN_HOST, p->fields_end);
    c->has_grown = true;
    for (i = first; i < p->fields_end; ++i)
      c->merged[i] = kept_field (p, i);
    if (first <= COMPRESSION_TYPE_HOST &&
        !(v->h.incompatible & QCOW2_COMPRESSION))
      c->merged[COMPRESSION_TYPE_HOST] = 0;
  }
  if (c->low_lost)
    for (i = QCOW2_HEADER_REST; i < MIN (first, p->fields_end); ++i)
      c->merged[i] = kept_field (p, i);
  return true;
}

static uint64_t
entry_len (const struct entry *e)
{
  return ENTRY_HEADER_LEN + round_up (e->len, 8);
}

/* Put an extension in the place of END, and END behind it. */
static bool
merge_extension (struct change *c, const struct entry *e)
{
  uint8_t *place = c->merged + c->merged_end - ENTRY_HEADER_LEN;

  if (!range_is_inside (c->merged_end, entry_len (e), c->view.limit))
    return false;
  memset (place, 0, entry_len (e) + ENTRY_HEADER_LEN);
  store_be32 (place, e->type);
  store_be32 (place + 4, e->len);
  memcpy (place + ENTRY_HEADER_LEN, e->data, e->len);
  c->merged_end += entry_len (e);
  return true;
}

/* Fill c->merged, and say in c->nr_unfit what does not fit.
 * -1, reported, ENOMEM.
 */
static int
merge (const struct preserve *p, struct change *c)
{
  size_t i;

  c->merged = malloc (p->cluster_len);
  if (c->merged == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", p->name);
  memcpy (c->merged, c->next, p->cluster_len);
  c->merged_end = c->view.list_end + ENTRY_HEADER_LEN;
  if ((c->low_lost || c->high_lost) && !merge_fields (p, c))
    c->nr_unfit++;
  for (i = 0; i < p->kept.nr; ++i)
    if (p->kept.v[i].mark && !merge_extension (c, &p->kept.v[i]))
      c->nr_unfit++;
  return 0;
}

/* What does not fit: fail, or a line in the log. */
static int
judge_unfit (struct preserve *p, const struct change *c)
{
  if (c->nr_unfit == 0)
    return 0;
  if (p->mode == PRESERVE_STRICT)
    return REFUSE (EPERM, "%s: refused a write of the qcow2 header: it would "
                   "lose %zu unknown header fields or extensions, and there "
                   "is no room before byte %" PRIu64 " to put them back; "
                   "preserve=warn would let it pass",
                   p->name, c->nr_unfit, c->view.limit);
  if (c->nr_unfit != p->nr_unfit)
    report_warning ("%s: a client rewrote the qcow2 header and lost %zu "
                    "unknown header fields or extensions, and there is no "
                    "room before byte %" PRIu64 " to put them back; "
                    "preserve=strict would refuse such writes",
                    p->name, c->nr_unfit, c->view.limit);
  return 0;
}

/* ---- writing */

static bool
find_difference (const uint8_t *a, const uint8_t *b, uint64_t *start,
                 uint64_t *end)
{
  while (*start < *end && a[*start] == b[*start])
    ++*start;
  while (*start < *end && a[*end - 1] == b[*end - 1])
    --*end;
  return *start < *end;
}

static int
write_disk_locked (struct preserve *p, const struct preserve_below *below,
                   const uint8_t *target, uint64_t start, uint64_t end,
                   bool fua)
{
  assert_held (&p->lock);
  if (below->pwrite (below->handle, target + start, end - start, start,
                     fua) == -1) {
    p->stale = true;
    return -1;
  }
  memcpy (p->disk + start, target + start, end - start);
  return 0;
}

static int
flush_disk_locked (struct preserve *p, const struct preserve_below *below)
{
  assert_held (&p->lock);
  if (below->flush (below->handle) == -1) {
    p->stale = true;
    return -1;
  }
  return 0;
}

/* Make the disk hold 'target': [start, end) first, with what differs beside
 * it in its sectors; then what differs elsewhere.
 */
static int
write_target_locked (struct preserve *p, const struct preserve_below *below,
                     const uint8_t *target, uint64_t start, uint64_t end,
                     bool fua)
{
  uint64_t guarded_len = p->guarded_len;
  uint64_t first = round_down (start, SECTOR), last = start;
  uint64_t low = 0, low_end, high, high_end = guarded_len;
  bool has_low, has_high;

  if (find_difference (p->disk, target, &first, &last))
    start = first;
  first = end;
  last = MIN (round_up (end, SECTOR), guarded_len);
  if (find_difference (p->disk, target, &first, &last))
    end = last;
  low_end = start;
  high = end;
  has_low = find_difference (p->disk, target, &low, &low_end);
  has_high = find_difference (p->disk, target, &high, &high_end);
  if (write_disk_locked (p, below, target, start, end,
                         fua && !has_low && !has_high) == -1)
    return -1;
  if (!has_low && !has_high)
    return 0;
  if (flush_disk_locked (p, below) == -1)
    return -1;
  if (has_high && write_disk_locked (p, below, target, high, high_end,
                                     fua) == -1)
    return -1;
  if (has_low && write_disk_locked (p, below, target, low, low_end,
                                    fua) == -1)
    return -1;
  return 0;
}

/* Can merged bytes [start, end) go with the client's write?  They can when
 * they are in the header's own sector, or are there already; and when the
 * whole list moves, which the client then writes whole.
 */
static bool
is_one_write (const struct preserve *p, const struct change *c,
              uint64_t start, uint64_t end)
{
  return end <= SECTOR ||
    (c->has_grown && c->view.live_end > SECTOR) ||
    memcmp (p->disk + start, c->merged + start, end - start) == 0;
}

/* Write a header with what the client left out. */
static int
write_merged_locked (struct preserve *p, struct change *c)
{
  CLEANUP_FREE uint8_t *hidden = NULL;
  uint64_t start = 0, end = p->guarded_len;
  uint64_t live_end = c->view.live_end;

  assert_held (&p->lock);
  if (!find_difference (c->next, c->merged, &start, &end) ||
      is_one_write (p, c, start, end))
    return write_target_locked (p, c->below, c->merged, c->start, c->end,
                                c->fua);

  /* The client's bytes; those that its list, as it ends, can not see; the
   * others.
   */
  hidden = malloc (p->cluster_len);
  if (hidden == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", p->name);
  memcpy (hidden, c->next, p->cluster_len);
  if (write_target_locked (p, c->below, hidden, c->start, c->end,
                           false) == -1 ||
      flush_disk_locked (p, c->below) == -1)
    return -1;
  if (end > live_end) {
    memcpy (hidden + live_end, c->merged + live_end, end - live_end);
    if (write_target_locked (p, c->below, hidden, live_end, end,
                             false) == -1 ||
        flush_disk_locked (p, c->below) == -1)
      return -1;
  }
  return write_target_locked (p, c->below, c->merged, start,
                              MIN (end, live_end), c->fua);
}

/* ---- the change */

/* Where neither the header nor the list can be. */
static uint64_t
patch_limit (const struct view *view)
{
  return MAX (view->limit, (uint64_t) view->h.header_len);
}

static void
forget_locked (struct preserve *p)
{
  assert_held (&p->lock);
  p->guarded_len = 0;
  p->split = false;
  entries_free (&p->kept);
  free (STEAL (p->fields));
  free (STEAL (p->wanted));
  free (STEAL (p->disk));
  p->fields_end = 0;
}

static int
read_disk_locked (struct preserve *p, const struct preserve_below *below)
{
  struct view view;
  int r;

  assert_held (&p->lock);
  if (below->pread (below->handle, p->disk, p->guarded_len, 0) == -1)
    return -1;
  memcpy (p->wanted, p->disk, p->cluster_len);
  r = view_parse (p, p->disk, &view);
  entries_free (&view.unknown);
  if (r == -1)
    return -1;
  p->split = false;
  p->sound = r == 1;
  p->limit = patch_limit (&view);
  p->stale = false;
  return 0;
}

static void
apply (const struct change *c, uint8_t *bytes)
{
  if (c->data == NULL)
    memset (bytes + c->start, 0, c->end - c->start);
  else
    memcpy (bytes + c->start, c->data, c->end - c->start);
}

static int
write_tail (const struct change *c, uint64_t host)
{
  if (c->tail_len == 0)
    return 0;
  return c->below->pwrite (c->below->handle, c->tail, c->tail_len, host,
                           c->fua);
}

/* Neither the list nor its limit is touched: the same in both views. */
static int
change_patch_locked (struct preserve *p, const struct change *c)
{
  if (write_tail (c, c->end) == -1)
    return -1;
  apply (c, p->wanted);
  apply (c, p->disk);
  if (p->sound)
    qcow2_header_parse (p->wanted, &p->h);
  return write_disk_locked (p, c->below, p->disk, c->start, c->end, c->fua);
}

/* What the clients wrote stays as it is. */
static int
change_through_locked (struct preserve *p, struct change *c)
{
  bool another = is_another_image (p, c);

  if (write_tail (c, c->end) == -1 ||
      write_target_locked (p, c->below, c->next, c->start, c->end,
                           c->fua) == -1)
    return -1;
  if (another) {
    report_warning ("%s: a client wrote another image over the old one, "
                    "whose unknown header extensions and fields are "
                    "forgotten", p->name);
    forget_locked (p);
    return 0;
  }
  memcpy (p->wanted, c->next, p->cluster_len);
  p->split = false;
  p->sound = false;
  if (!has_magic (c->next))
    p->magic_gone = true;
  return 0;
}

/* A header that can be parsed: let it lose nothing. */
static int
change_sound_locked (struct preserve *p, struct change *c)
{
  if (compare_extensions (p, c) == -1)
    return -1;
  compare_fields (p, c);
  if (merge (p, c) == -1 || judge_unfit (p, c) == -1)
    return -1;
  if (write_tail (c, c->end) == -1 || write_merged_locked (p, c) == -1)
    return -1;
  memcpy (p->wanted, c->next, p->cluster_len);
  p->split = memcmp (p->wanted, p->disk, p->cluster_len) != 0;
  p->sound = true;
  p->magic_gone = false;
  p->h = c->view.h;
  p->limit = patch_limit (&c->view);
  p->nr_unfit = c->nr_unfit;
  if (adopt_fields (p, c) == -1)
    return -1;
  return adopt_extensions (p, c);
}

static int
change_header_locked (struct preserve *p, struct change *c)
{
  int r;

  c->next = malloc (p->cluster_len);
  if (c->next == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", p->name);
  memcpy (c->next, p->wanted, p->cluster_len);
  apply (c, c->next);
  if (is_another_image (p, c))
    return change_through_locked (p, c);
  r = view_parse (p, c->next, &c->view);
  if (r == -1)
    return -1;
  return r == 0 ? change_through_locked (p, c) : change_sound_locked (p, c);
}

static int
change_locked (struct preserve *p, struct change *c)
{
  int r;

  assert_held (&p->lock);
  if (p->stale && read_disk_locked (p, c->below) == -1)
    return -1;
  if ((c->start >= IDENTITY_END && c->end <= PATCH_END) ||
      (p->sound && c->start >= p->limit))
    return change_patch_locked (p, c);
  r = change_header_locked (p, c);
  free (c->next);
  free (c->merged);
  entries_free (&c->view.unknown);
  return r;
}

/* ---- public */

struct preserve *
preserve_new (const char *name, enum preserve_mode mode)
{
  struct preserve *p = calloc (1, sizeof *p);

  if (p != NULL)
    p->name = strdup (name);
  if (p == NULL || p->name == NULL) {
    report_error ("%s: no memory", name);
    free (p);
    errno = ENOMEM;
    return NULL;
  }
  p->mode = mode;
  lock_init (&p->lock);
  return p;
}

void
preserve_free (struct preserve *p)
{
  if (p == NULL)
    return;
  entries_free (&p->kept);
  free (p->fields);
  free (p->wanted);
  free (p->disk);
  lock_destroy (&p->lock);
  free (p->name);
  free (p);
}

/* Remember what cluster 0, which p->disk holds, has to keep. */
static int
load_kept_locked (struct preserve *p)
{
  struct view view;
  int r;

  assert_held (&p->lock);
  r = view_parse (p, p->disk, &view);
  p->kept = view.unknown;
  if (r <= 0)
    return r;
  if (entries_own (p->name, &p->kept) == -1 ||
      keep_fields (p, p->disk, &view.h) == -1)
    return -1;
  p->h = view.h;
  p->limit = patch_limit (&view);
  p->sound = true;
  return p->kept.nr > 0 || p->fields_end > 0;
}

static int
load_locked (struct preserve *p, const struct preserve_below *below,
             uint64_t len)
{
  uint8_t bytes[QCOW2_HEADER_KNOWN_LEN] = { 0 };
  struct qcow2_header h;

  assert_held (&p->lock);
  if (below->pread (below->handle, bytes, MIN (len, sizeof bytes), 0) == -1)
    return -1;
  qcow2_header_parse (bytes, &h);
  if (!shape_is_sound (p, bytes, &h))
    return 0;
  p->cluster_len = UINT64_C (1) << h.cluster_bits;
  p->guarded_len = MIN (p->cluster_len, len);
  p->disk = calloc (1, p->cluster_len);
  p->wanted = calloc (1, p->cluster_len);
  if (p->disk == NULL || p->wanted == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", p->name);
  if (below->pread (below->handle, p->disk, p->guarded_len, 0) == -1)
    return -1;
  memcpy (p->wanted, p->disk, p->cluster_len);
  return load_kept_locked (p);
}

int
preserve_load (struct preserve *p, const struct preserve_below *below,
               uint64_t len)
{
  LOCK_SCOPE (&p->lock);
  int r;

  if (p->loaded || p->mode == PRESERVE_OFF || len == 0)
    return 0;
  r = load_locked (p, below, len);
  if (r <= 0)
    forget_locked (p);
  else
    report_debug ("qcow-fixup: preserve name=%s extensions=%zu fields=%d",
                  p->name, p->kept.nr, p->fields_end > 0);
  p->loaded = r >= 0;
  return r == -1 ? -1 : 0;
}

uint64_t
preserve_guarded_len (const struct preserve *p)
{
  return p->guarded_len;
}

void
preserve_note_read (struct preserve *p)
{
  if (!p->split)
    return;

  LOCK_SCOPE (&p->lock);
  if (p->split && !p->stale) {
    memcpy (p->wanted, p->disk, p->cluster_len);
    p->split = false;
  }
}

int
preserve_pwrite (struct preserve *p, const struct preserve_below *below,
                 const void *buf, size_t len, uint64_t host, bool fua)
{
  struct change c = { .below = below, .data = buf, .start = host,
                      .fua = fua };

  if (host < p->guarded_len && len > 0) {
    LOCK_SCOPE (&p->lock);
    uint64_t guarded_len = p->guarded_len;

    if (host < guarded_len) {
      c.end = host + MIN ((uint64_t) len, guarded_len - host);
      c.tail = c.data + (c.end - host);
      c.tail_len = len - (c.end - host);
      return change_locked (p, &c);
    }
  }
  return below->pwrite (below->handle, buf, len, host, fua);
}

int
preserve_zero (struct preserve *p, const struct preserve_below *below,
               uint64_t len, uint64_t host, bool fua, uint64_t *done)
{
  struct change c = { .below = below, .start = host, .fua = fua };

  *done = 0;
  if (host >= p->guarded_len || len == 0)
    return 0;

  LOCK_SCOPE (&p->lock);
  if (host >= p->guarded_len)
    return 0;
  c.end = host + MIN (len, p->guarded_len - host);
  if (change_locked (p, &c) == -1)
    return -1;
  *done = c.end - host;
  return 0;
}

uint64_t
preserve_trim_skip (const struct preserve *p, uint64_t len, uint64_t host)
{
  uint64_t guarded_len = p->guarded_len;

  return host < guarded_len ? MIN (len, guarded_len - host) : 0;
}
