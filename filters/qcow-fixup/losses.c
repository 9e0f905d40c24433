/* What a change of a qcow2 header loses, changes or replaces.
 *
 * Everything here is in memory.  Lists may be long (a cluster full of empty
 * extensions), so they are compared in sorted order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/extension.h"
#include "report/refuse.h"

#include "losses.h"

/* ---- lists of extensions */

void
entries_free (struct entries *e)
{
  free (e->v);
  free (e->bytes);
  memset (e, 0, sizeof *e);
}

static bool
type_is_known (uint32_t type)
{
  switch (type) {
  case EXTENSION_END:
  case EXTENSION_BACKING_FORMAT:
  case EXTENSION_FEATURE_NAMES:
  case EXTENSION_BITMAPS:
  case EXTENSION_CRYPTO:
  case EXTENSION_DATA_FILE:
    return true;
  default:
    return false;
  }
}

static int
entries_add (const char *name, struct entries *list, const struct entry *e)
{
  struct entry *v;

  if (list->nr == 0 || is_power_of_2 (list->nr)) {
    v = realloc (list->v, MAX (list->nr * 2, (size_t) 1) * sizeof *v);
    if (v == NULL)
      return REFUSE (ENOMEM, "%s: no memory for header extensions", name);
    list->v = v;
  }
  list->v[list->nr++] = *e;
  return 0;
}

int
entries_own (const char *name, struct entries *list)
{
  uint64_t len = 0;
  uint8_t *p;
  size_t i;

  for (i = 0; i < list->nr; ++i)
    len += list->v[i].len;
  p = malloc (len + 1);
  if (p == NULL)
    return REFUSE (ENOMEM, "%s: no memory for header extensions", name);
  list->bytes = p;
  for (i = 0; i < list->nr; ++i) {
    memcpy (p, list->v[i].data, list->v[i].len);
    list->v[i].data = p;
    p += list->v[i].len;
  }
  return 0;
}

static int
compare_entries (const void *a, const void *b)
{
  const struct entry *x = *(const struct entry *const *) a;
  const struct entry *y = *(const struct entry *const *) b;

  if (x->type != y->type)
    return x->type < y->type ? -1 : 1;
  if (x->len != y->len)
    return x->len < y->len ? -1 : 1;
  return memcmp (x->data, y->data, x->len);
}

/* The entries in the order of type, length, data; the caller frees. */
static struct entry **
entries_sort (const char *name, const struct entries *list)
{
  struct entry **sorted = malloc ((list->nr + 1) * sizeof *sorted);
  size_t i;

  if (sorted == NULL) {
    report_error ("%s: no memory for header extensions", name);
    errno = ENOMEM;
    return NULL;
  }
  for (i = 0; i < list->nr; ++i)
    sorted[i] = &list->v[i];
  if (list->nr > 1)
    qsort (sorted, list->nr, sizeof *sorted, compare_entries);
  return sorted;
}

/* ---- one header */

bool
has_magic (const uint8_t *bytes)
{
  uint32_t version = load_be32 (bytes + 4);

  return load_be32 (bytes) == QCOW2_MAGIC && (version == 2 || version == 3);
}

bool
shape_is_sound (const struct preserve *p, const uint8_t *bytes,
                const struct qcow2_header *h)
{
  int r;

  report_set_quiet (true);
  r = qcow2_header_check_shape (p->name, bytes, h);
  report_set_quiet (false);
  return r == 0;
}

int
view_parse (const struct preserve *p, const uint8_t *bytes,
            struct view *view)
{
  struct extension_walk walk;
  struct extension ext;
  int r;

  memset (view, 0, sizeof *view);
  qcow2_header_parse (bytes, &view->h);
  if (!shape_is_sound (p, bytes, &view->h) ||
      UINT64_C (1) << view->h.cluster_bits != p->cluster_len)
    return 0;
  extension_walk_start (&walk, bytes, &view->h);
  view->list_end = walk.next;
  while ((r = extension_walk_next (&walk, &ext)) == 1) {
    const struct entry e = {
      .type = ext.type, .len = ext.len, .data = ext.data,
      .host = view->list_end,
    };

    view->list_end = walk.next;
    if (!type_is_known (e.type) &&
        entries_add (p->name, &view->unknown, &e) == -1)
      return -1;
  }
  if (r == -1)
    return 0;
  view->limit = MIN (walk.limit, (uint64_t) p->guarded_len);
  view->live_end = MIN (view->list_end + ENTRY_HEADER_LEN, walk.limit);
  return 1;
}

static bool
is_zero (const uint8_t *bytes, uint64_t start, uint64_t end)
{
  for (; start < end; ++start)
    if (bytes[start] != 0)
      return false;
  return true;
}

int
keep_fields (struct preserve *p, const uint8_t *bytes,
             const struct qcow2_header *h)
{
  uint8_t *fields;
  uint64_t len;

  if (h->header_len <= QCOW2_HEADER_REST ||
      is_zero (bytes, QCOW2_HEADER_REST, h->header_len)) {
    p->fields_end = 0;
    return 0;
  }
  len = h->header_len - COMPRESSION_TYPE_HOST;
  fields = realloc (p->fields, len);
  if (fields == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header", p->name);
  memcpy (fields, bytes + COMPRESSION_TYPE_HOST, len);
  p->fields = fields;
  p->fields_end = h->header_len;
  return 0;
}

/* ---- another image? */

static bool
has_moved (const struct qcow2_header *a, const struct qcow2_header *b)
{
  return a->disk_len != b->disk_len ||
    a->l1_size != b->l1_size || a->l1_host != b->l1_host ||
    a->refcount_table_host != b->refcount_table_host ||
    a->refcount_table_clusters != b->refcount_table_clusters ||
    a->nr_snapshots != b->nr_snapshots ||
    a->snapshots_host != b->snapshots_host;
}

bool
is_another_image (const struct preserve *p, const struct change *c)
{
  const struct qcow2_header *old = &p->h;
  struct qcow2_header new;

  if (!has_magic (c->next))
    return c->start == 0 && c->end >= 8 && load_be32 (c->next) != 0;
  qcow2_header_parse (c->next, &new);
  if (!shape_is_sound (p, c->next, &new))
    return false;
  if (new.cluster_bits != old->cluster_bits)
    return true;
  if (p->magic_gone && has_moved (old, &new))
    return true;
  if (c->start == 0 && c->end == p->cluster_len && c->tail_len > 0 &&
      has_moved (old, &new))
    return true;
  if (c->start >= IDENTITY_END)
    return false;
  return new.crypt_method != old->crypt_method ||
    (new.l1_size == 0 && old->l1_size != 0) ||
    (new.l1_host != old->l1_host &&
     new.refcount_table_host != old->refcount_table_host);
}

/* ---- what is lost, and what was changed */

/* Did this one write bring the extension whole, or change a part of the data
 * of one that was kept as it stood there?
 */
static bool
is_deliberate (const struct preserve *p, const struct change *c,
               const struct entry *e, struct entry *const *kept,
               size_t nr_kept)
{
  const uint64_t data = e->host + ENTRY_HEADER_LEN;
  const struct entry before = { .type = e->type, .len = e->len,
                                .data = p->wanted + data };
  const struct entry *x = &before;
  size_t i;

  if (c->start <= e->host && c->end >= data + e->len)
    return true;
  if (c->start < data || c->end > data + e->len)
    return false;
  for (i = 0; i < nr_kept; ++i)
    if (compare_entries (&x, &kept[i]) == 0)
      return true;
  return false;
}

/* Both lists are of one type and sorted: mark the kept that are not found,
 * and the found that are like none that is kept.  One more of the same is
 * no change: it may be an old one that a rewrite in pieces has not reached.
 */
static void
match_type (struct entry **kept, size_t nr_kept, struct entry **found,
            size_t nr_found)
{
  size_t i, j = 0;

  for (i = 0; i <= nr_kept; ++i) {
    for (; j < nr_found &&
           (i == nr_kept || compare_entries (&found[j], &kept[i]) < 0); ++j)
      found[j]->mark = i == 0 ||
        compare_entries (&found[j], &kept[i - 1]) != 0;
    if (i == nr_kept)
      break;
    kept[i]->mark = j == nr_found ||
      compare_entries (&found[j], &kept[i]) != 0;
    if (!kept[i]->mark)
      ++j;
  }
}

/* Compare those of one type, kept and found. */
static void
compare_type (const struct preserve *p, const struct change *c,
              struct entry **kept, size_t nr_kept,
              struct entry **found, size_t nr_found)
{
  bool differs = false, deliberate = true;
  size_t i, j;

  match_type (kept, nr_kept, found, nr_found);
  for (j = 0; j < nr_found; ++j)
    if (found[j]->mark) {
      differs = true;
      if (!is_deliberate (p, c, found[j], kept, nr_kept))
        deliberate = false;
    }
  if (!differs)
    return;
  for (i = 0; i < nr_kept; ++i) {
    kept[i]->mark = false;
    kept[i]->moved = deliberate;
  }
  for (j = 0; j < nr_found; ++j)
    found[j]->moved = deliberate;
}

static size_t
count_type (struct entry *const *sorted, size_t nr, uint32_t type)
{
  size_t i;

  for (i = 0; i < nr && sorted[i]->type == type; ++i)
    ;
  return i;
}

int
compare_extensions (struct preserve *p, struct change *c)
{
  const struct entries *found = &c->view.unknown;
  CLEANUP_FREE struct entry **k = entries_sort (p->name, &p->kept);
  CLEANUP_FREE struct entry **f = entries_sort (p->name, found);
  size_t i, j = 0, nr_kept, nr_found;

  if (k == NULL || f == NULL)
    return -1;
  for (i = 0; i < p->kept.nr; ++i)
    p->kept.v[i].mark = p->kept.v[i].moved = false;
  for (i = 0; i < p->kept.nr; i += nr_kept) {
    nr_kept = count_type (k + i, p->kept.nr - i, k[i]->type);
    while (j < found->nr && f[j]->type < k[i]->type)
      ++j;
    nr_found = count_type (f + j, found->nr - j, k[i]->type);
    compare_type (p, c, k + i, nr_kept, f + j, nr_found);
    j += nr_found;
  }
  return 0;
}

void
compare_fields (const struct preserve *p, struct change *c)
{
  const struct qcow2_header *h = &c->view.h;
  uint64_t low_end = MIN ((uint64_t) h->header_len, p->fields_end);
  uint64_t i;

  for (i = QCOW2_HEADER_REST; i < low_end; ++i)
    if (kept_field (p, i) != 0)
      c->low_lost = true;
  if (c->low_lost &&
      (!is_zero (c->next, QCOW2_HEADER_REST, low_end) ||
       (c->start >= QCOW2_HEADER_REST && c->end <= low_end)))
    c->low_lost = false;
  for (i = MAX (low_end, (uint64_t) QCOW2_HEADER_REST);
       i < p->fields_end; ++i)
    if (kept_field (p, i) != 0)
      c->high_lost = true;
  if (p->fields_end > 0 && h->header_len <= COMPRESSION_TYPE_HOST &&
      (h->incompatible & QCOW2_COMPRESSION) &&
      kept_field (p, COMPRESSION_TYPE_HOST) != 0)
    c->high_lost = true;
}

int
adopt_extensions (struct preserve *p, const struct change *c)
{
  const struct entries *found = &c->view.unknown;
  struct entries kept = { NULL, 0, NULL };
  bool changed = false;
  int r = 0;
  size_t i;

  for (i = 0; i < p->kept.nr; ++i)
    changed |= p->kept.v[i].moved;
  if (!changed)
    return 0;
  for (i = 0; i < p->kept.nr && r == 0; ++i)
    if (!p->kept.v[i].moved)
      r = entries_add (p->name, &kept, &p->kept.v[i]);
  for (i = 0; i < found->nr && r == 0; ++i)
    if (found->v[i].moved)
      r = entries_add (p->name, &kept, &found->v[i]);
  if (r == 0)
    r = entries_own (p->name, &kept);
  if (r == -1) {
    entries_free (&kept);
    return -1;
  }
  entries_free (&p->kept);
  p->kept = kept;
  return 0;
}

int
adopt_fields (struct preserve *p, const struct change *c)
{
  const struct qcow2_header *h = &c->view.h;
  bool inside = c->start >= QCOW2_HEADER_REST && c->end <= h->header_len;

  if (p->fields_end == 0 || c->low_lost || c->high_lost ||
      !(inside || (c->start == 0 && c->end >= h->header_len)))
    return 0;
  return keep_fields (p, c->next, h);
}
