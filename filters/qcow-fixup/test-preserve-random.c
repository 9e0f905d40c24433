/* Test random rewrites of qcow2 headers against a model.
 *
 * The model knows lists of extensions as texts, and says in words (see
 * describe) what must be on disk after each write.  A run prints its seed
 * when it goes red: "test-preserve-random SEED [ROUNDS]".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"

#include "test-preserve.h"

#define FORMAT UINT32_C (0xe2792aca)
#define FIRST_KEPT UINT32_C (0x10000000) /* types of what is there first */
#define FIRST_NEW UINT32_C (0x20000000)  /* of what clients bring */
#define MAX_EXTENSIONS 40
#define MAX_FIELDS 24

struct ext {
  uint32_t type;
  size_t len;
  char data[700];
};

struct list {
  struct ext v[MAX_EXTENSIONS];
  size_t nr;
};

/* A header as one party sees it. */
struct header {
  size_t header_len;
  char fields[MAX_FIELDS];      /* from byte 112 */
  uint64_t compatible;
  struct list list;
  size_t name;                  /* where it is, or 0 */
};

static struct list kept;
static char kept_fields[MAX_FIELDS];
static size_t kept_len;         /* header length with fields, or 0 */
static size_t cluster_len;
static unsigned bits;
static unsigned long seed, nr_put_back, nr_refused, nr_unfit;

static unsigned
draw (unsigned n)
{
  static uint64_t state;

  if (n == 0) {                 /* begin anew */
    state = seed * UINT64_C (0x9e3779b97f4a7c15) + 1;
    return 0;
  }
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 20) % n;
}

static void
draw_ext (struct ext *e, uint32_t type)
{
  size_t i;

  e->type = type;
  e->len = draw (8) == 0 ? draw (600) : draw (40);
  for (i = 0; i < e->len; ++i)
    e->data[i] = 'a' + draw (26);
}

static bool
is_equal (const struct ext *a, const struct ext *b)
{
  return a->type == b->type && a->len == b->len &&
    memcmp (a->data, b->data, a->len) == 0;
}

static size_t
ext_len (const struct ext *e)
{
  return 8 + (e->len + 7) / 8 * 8;
}

static size_t
list_len (const struct list *l)
{
  size_t len = 8, i;

  for (i = 0; i < l->nr; ++i)
    len += ext_len (&l->v[i]);
  return len;
}

/* ---- the model */

/* Put what is kept of a type and not found into 'lost'; or return true: what
 * was found replaces it.
 */
static bool
model_type (uint32_t type, const struct list *found, struct list *lost)
{
  bool used[MAX_EXTENSIONS] = { false };
  static struct list missing;
  size_t i, j;

  missing.nr = 0;
  for (i = 0; i < kept.nr; ++i) {
    if (kept.v[i].type != type)
      continue;
    for (j = 0; j < found->nr; ++j)
      if (!used[j] && is_equal (&found->v[j], &kept.v[i]))
        break;
    if (j < found->nr)
      used[j] = true;
    else
      missing.v[missing.nr++] = kept.v[i];
  }
  for (j = 0; j < found->nr; ++j) {
    if (found->v[j].type != type || used[j])
      continue;
    for (i = 0; i < kept.nr; ++i)
      if (is_equal (&found->v[j], &kept.v[i]))
        break;
    if (i == kept.nr)
      return true;
  }
  for (i = 0; i < missing.nr; ++i)
    lost->v[lost->nr++] = missing.v[i];
  return false;
}

/* In the order of what is kept, all that the list lacks. */
static void
model_lost (const struct list *found, struct list *lost, bool may_adopt)
{
  static struct list unsorted, now;
  bool used[MAX_EXTENSIONS] = { false }, replaced[8];
  size_t i, j;

  unsorted.nr = lost->nr = now.nr = 0;
  for (i = 0; i < 8; ++i) {
    replaced[i] = model_type (FIRST_KEPT + i, found, &unsorted);
    CHECK (may_adopt || !replaced[i]);
  }
  for (i = 0; i < kept.nr; ++i)
    if (!replaced[kept.v[i].type - FIRST_KEPT])
      now.v[now.nr++] = kept.v[i];
  for (i = 0; i < found->nr; ++i) {
    uint32_t type = found->v[i].type - FIRST_KEPT;

    if (type < 8 && replaced[type])
      now.v[now.nr++] = found->v[i];
  }
  kept = now;
  for (i = 0; i < kept.nr; ++i)
    for (j = 0; j < unsorted.nr; ++j)
      if (!used[j] && is_equal (&unsorted.v[j], &kept.v[i])) {
        used[j] = true;
        lost->v[lost->nr++] = unsorted.v[j];
        break;
      }
}

/* What becomes of a header whose first 'end' bytes come in one write.
 * Returns how many things do not fit; 'h' is then what is on disk.
 */
static size_t
model_write (struct header *h, size_t end, bool may_adopt)
{
  static const char zeroes[MAX_FIELDS];
  static struct list lost;
  size_t limit = h->name ? h->name : cluster_len;
  size_t live_end, i, nr = 0, low = 0, at;
  bool high;

  model_lost (&h->list, &lost, may_adopt);
  if (kept_len > 0 && h->header_len > 112)
    low = (kept_len < h->header_len ? kept_len : h->header_len) - 112;
  high = kept_len > h->header_len &&
    memcmp (kept_fields + low, zeroes, kept_len - 112 - low) != 0;
  live_end = h->header_len + list_len (&h->list);
  if (high && (live_end + kept_len - h->header_len > limit ||
               (live_end > 512 && end < limit))) {
    high = false;
    nr++;
  }
  else if (low > 0 && memcmp (h->fields, zeroes, low) == 0)
    memcpy (h->fields, kept_fields, low);
  if (high) {
    memcpy (h->fields + low, kept_fields + low, kept_len - 112 - low);
    h->header_len = kept_len;
    nr_put_back++;
  }
  at = h->header_len + list_len (&h->list);
  for (i = 0; i < lost.nr; ++i)
    if (at + ext_len (&lost.v[i]) <= limit) {
      at += ext_len (&lost.v[i]);
      h->list.v[h->list.nr++] = lost.v[i];
      nr_put_back++;
    }
    else
      nr++;
  return nr;
}

/* ---- bytes */

static size_t
format (uint8_t *b, const struct header *h)
{
  size_t at, i;

  memset (b, 0, cluster_len);
  at = put_header (b, 3, bits, h->header_len, NULL);
  store_be64 (b + 80, h->compatible);
  if (h->header_len > 112)
    memcpy (b + 112, h->fields, h->header_len - 112);
  for (i = 0; i < h->list.nr; ++i)
    at = put_bytes (b, at, h->list.v[i].type, h->list.v[i].data,
                    h->list.v[i].len);
  if (h->name == 0)
    return at + 8;
  put_name (b, h->name, "base");
  return h->name + 4;
}

/* What is on disk must read like this header. */
static void
check_disk (struct world *w, const struct header *h)
{
  static uint8_t b[MAX_CLUSTER];
  char *expected, *found;

  format (b, h);
  expected = describe (b, cluster_len);
  found = describe (on_disk (w), cluster_len);
  CHECK (strcmp (expected, "unsound") != 0);
  if (strcmp (expected, found) != 0) {
    fprintf (stderr, "seed %lu: expected: %s\nseed %lu: found:    %s\n",
             seed, expected, seed, found);
    exit (EXIT_FAILURE);
  }
  CHECK (load_be64 (w->cluster + 80) == h->compatible);
  free (expected);
  free (found);
}

/* ---- what clients do */

static void
draw_list (struct list *l, bool may_change)
{
  size_t i, j;

  l->nr = 0;
  for (i = 0; i < kept.nr; ++i)
    if (draw (3) > 0) {
      l->v[l->nr] = kept.v[i];
      if (may_change && draw (12) == 0)
        draw_ext (&l->v[l->nr], kept.v[i].type);
      l->nr++;
    }
  if (draw (2))
    draw_ext (&l->v[l->nr++], FIRST_NEW + draw (1000));
  if (draw (2)) {
    draw_ext (&l->v[l->nr], FORMAT);
    l->v[l->nr++].len %= 15;
  }
  for (i = l->nr; i > 1; --i) {
    static struct ext swap;

    j = draw (i);
    swap = l->v[i - 1];
    l->v[i - 1] = l->v[j];
    l->v[j] = swap;
  }
}

/* A header that a client could write. */
static void
draw_header (struct header *h, bool may_change)
{
  size_t end, room;

  do {
    /* Whether a header in pieces says how the fields are depends on what
     * is in between: they are all there then, or none.
     */
    h->header_len = 104 + 8 * draw (5);
    if (!may_change && kept_len > 0 && draw (2))
      h->header_len = kept_len;
    memset (h->fields, 0, sizeof h->fields);
    if (draw (2) && kept_len > 0 &&
        (may_change || h->header_len == kept_len))
      memcpy (h->fields, kept_fields, MAX_FIELDS);
    if (h->header_len < kept_len || h->header_len > kept_len)
      memset (h->fields + (h->header_len > 112 ? h->header_len - 112 : 0), 0,
              MAX_FIELDS - (h->header_len > 112 ? h->header_len - 112 : 0));
    draw_list (&h->list, may_change);
    end = h->header_len + list_len (&h->list);
  } while (end + 4 > cluster_len);
  room = cluster_len - 4 - end;
  h->name = 0;
  switch (draw (4)) {
  case 0: h->name = end; break;
  case 1: h->name = end + draw (room + 1); break;
  case 2: h->name = cluster_len - 4; break;
  }
}

/* A write of a whole header that lost no fields says how they are. */
static void
adopt_fields (const struct header *wrote, size_t end)
{
  static const char zeroes[MAX_FIELDS];
  size_t low = 0;

  if (kept_len == 0 || end < wrote->header_len)
    return;
  if (wrote->header_len > 112)
    low = MIN (kept_len, wrote->header_len) - 112;
  if (memcmp (wrote->fields, zeroes, low) == 0 ||
      memcmp (kept_fields + low, zeroes, kept_len - 112 - low) != 0)
    return;
  kept_len = wrote->header_len;
  memcpy (kept_fields, wrote->fields, sizeof kept_fields);
}

static void
rewrite (struct world *w, struct header *now, enum preserve_mode mode)
{
  static struct header h, wrote;
  static struct list kept_before;
  static uint8_t b[MAX_CLUSTER];
  bool in_pieces = mode == PRESERVE_WARN && draw (3) == 0;
  size_t end, nr, at, len, first_len = 0;
  int r;

  h.compatible = now->compatible;
  draw_header (&h, !in_pieces);
  end = format (b, &h);
  if (draw (2))
    end = cluster_len;
  wrote = h;
  kept_before = kept;
  if (in_pieces) {
    for (at = 0; at < end; at += len) {
      len = MIN (end - at, (at == 0 ? 144 : 1) + (size_t) draw (200));
      CHECK (client_write (w, b + at, len, at) == 0);
      if (at == 0)
        first_len = len;
    }
    nr = model_write (&h, first_len, false);
    adopt_fields (&wrote, first_len);
    *now = h;
    nr_unfit += nr;
    return;
  }
  r = client_write (w, b, end, 0);
  nr = model_write (&h, end, true);
  if (nr > 0 && mode == PRESERVE_STRICT) {
    CHECK (r == -1 && errno == EPERM);
    kept = kept_before;
    nr_refused++;
    return;
  }
  CHECK (r == 0);
  adopt_fields (&wrote, end);
  *now = h;
  nr_unfit += nr;
}

/* Somebody who knows an extension changes a part of its data. */
static void
patch_data (struct world *w, struct header *now)
{
  static uint8_t b[MAX_CLUSTER];
  size_t at = now->header_len, i, start, len;

  client_read (w, b, cluster_len, 0);
  for (i = 0; i < now->list.nr; ++i) {
    struct ext *e = &now->list.v[i];

    if (e->len > 0 && draw (3) == 0) {
      start = draw (e->len);
      len = 1 + draw (e->len - start);
      memset (e->data + start, 'A' + draw (26), len);
      CHECK (client_write (w, e->data + start, len, at + 8 + start) == 0);
      model_write (now, 0, true);
      return;
    }
    at += ext_len (e);
  }
}

/* The header is no more, then there again, as it is on disk now. */
static void
wipe (struct world *w, const struct header *now)
{
  uint8_t b[4096];

  client_read (w, b, cluster_len, 0);
  CHECK (client_zero (w, draw (2) ? 512 : cluster_len, 0) == 0);
  CHECK (client_write (w, b, cluster_len, 0) == 0);
  adopt_fields (now, cluster_len);
}

static void
round_of (enum preserve_mode mode)
{
  static struct header now;
  static uint8_t b[MAX_CLUSTER];
  struct world *w;
  unsigned i;

  bits = 9 + draw (4);
  cluster_len = (size_t) 1 << bits;
  do {
    memset (&now, 0, sizeof now);
    kept.nr = 0;
    now.header_len = 112 + 8 * draw (4);
    for (i = 112; i < now.header_len; ++i)
      now.fields[i - 112] = 'a' + draw (26);
    for (i = draw (6); i > 0; --i)
      draw_ext (&now.list.v[now.list.nr++], FIRST_KEPT + draw (8));
    kept = now.list;
    format (b, &now);
  } while (now.header_len + list_len (&now.list) > cluster_len);
  format (b, &now);
  memcpy (kept_fields, now.fields, sizeof kept_fields);
  kept_len = now.header_len > 112 ? now.header_len : 0;

  w = world_new (b, cluster_len, cluster_len * 4, mode, true);
  CHECK ((preserve_guarded_len (w->p) > 0) == (kept.nr > 0 || kept_len > 0));
  for (i = 0; i < 30 && preserve_guarded_len (w->p) > 0; ++i) {
    switch (draw (8)) {
    case 0:
      client_read (w, b, cluster_len, 0);
      break;
    case 1:
      now.compatible = draw (1000000);
      store_be64 (b, now.compatible);
      CHECK (client_write (w, b, 8, 80) == 0);
      break;
    case 2:
      if (mode == PRESERVE_STRICT)
        patch_data (w, &now);
      break;
    case 3:
      if (mode == PRESERVE_STRICT)
        wipe (w, &now);
      break;
    default:
      rewrite (w, &now, mode);
    }
    check_disk (w, &now);
  }
  CHECK (preserve_guarded_len (w->p) == cluster_len ||
         (kept.nr == 0 && kept_len == 0));
  world_free (w);
}

int
main (int argc, char **argv)
{
  unsigned long first = argc > 1 ? strtoul (argv[1], NULL, 0) : 1;
  unsigned long nr = argc > 2 ? strtoul (argv[2], NULL, 0) :
    argc > 1 ? 1 : 400;

  for (seed = first; seed < first + nr; ++seed) {
    draw (0);
    draw (1);
    round_of (seed % 2 ? PRESERVE_STRICT : PRESERVE_WARN);
  }
  /* Everything that this is about must have come up. */
  if (nr >= 100)
    CHECK (nr_put_back > nr && nr_refused > 10 && nr_unfit > 10);
  return EXIT_SUCCESS;
}
