/* What a power cut leaves of a recorded source (see record.h).
 *
 * Every sector has versions: what it held before the changes that no sync
 * covers, and after each of them that touches it.  A random image takes
 * any one version of each sector, and the length after the first 'kept'
 * of the changes.  A shortening among those bars the versions before it,
 * one that is not among them bars its own and all later ones.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "source/memory.h"
#include "source/record-log.h"

#define SECTOR UINT64_C (512)
#define COPY_MAX UINT64_C (65536)

struct sector {
  uint64_t host;
  unsigned touched;             /* changes that touch it, so far */
  unsigned low, high;           /* versions that are possible */
  unsigned version;             /* the one that was chosen */
};

struct cut {
  struct source *image;         /* begins as the durable state */
  const struct change **open;   /* changes no sync covers, in order */
  size_t nr_open;
  size_t kept;                  /* changes whose effect on the length is */
  uint64_t len;                 /* the length that follows */
  struct sector *sectors;       /* sorted by host, each once */
  size_t nr_sectors;
  size_t max_sectors;
  uint64_t random;              /* state */
};

/* SplitMix64. */
static uint64_t
next_random (struct cut *cut)
{
  uint64_t z = cut->random += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* Do to the image what 'c' does to bytes [from, to); never shortens. */
static int
apply_part (struct source *image, const struct change *c, uint64_t from,
            uint64_t to)
{
  uint64_t end = c->op == RECORD_TRUNCATE ? source_len (image)
    : c->host + c->len;

  from = MAX (from, c->op == RECORD_TRUNCATE ? c->len : c->host);
  to = MIN (to, end);
  if (from >= to)
    return 0;
  if (c->op == RECORD_WRITE)
    return source_pwrite (image, c->data + (from - c->host), to - from, from);
  return source_zero (image, to - from, from,
                      c->op == RECORD_ZERO ? c->mode : SOURCE_ZERO_PUNCH);
}

static int
apply_whole (struct source *image, const struct change *c)
{
  if (c->op == RECORD_TRUNCATE)
    return source_truncate (image, c->len);
  return apply_part (image, c, 0, UINT64_MAX);
}

/* The beginning of the last sync of the source that had completed. */
static size_t
find_barrier (const struct record *r, unsigned source, size_t position)
{
  size_t barrier = 0;

  for (size_t i = 0; i < r->nr_changes; i++) {
    const struct change *c = &r->changes[i];

    if (!c->is_mark && c->is_barrier && c->source == source
        && c->end < position)
      barrier = MAX (barrier, c->begin);
  }
  return barrier;
}

/* Bring the image to the durable state; list the changes after that. */
static int
replay_durable (struct cut *cut, const struct record *r, unsigned source,
                size_t position)
{
  size_t barrier = find_barrier (r, source, position);

  for (size_t i = 0; i < r->nr_changes; i++) {
    const struct change *c = &r->changes[i];

    if (c->is_mark || c->op == RECORD_SYNC || c->source != source
        || c->begin >= position)
      continue;
    if (c->end >= barrier)
      cut->open[cut->nr_open++] = c;
    else if (apply_whole (cut->image, c) == -1)
      return -1;
  }
  return 0;
}

/* Changes that were under way together have no order: choose one. */
static void
shuffle_concurrent (struct cut *cut)
{
  for (size_t i = 1; i < cut->nr_open; i++) {
    const struct change *a = cut->open[i - 1], *b = cut->open[i];

    if (b->begin < a->end && a->begin < b->end && next_random (cut) % 2) {
      cut->open[i - 1] = b;
      cut->open[i] = a;
    }
  }
}

static uint64_t
length_after (const struct change *c, uint64_t len)
{
  if (c->op == RECORD_TRUNCATE)
    return c->len;
  return c->op == RECORD_WRITE ? MAX (len, c->host + c->len) : len;
}

static void
choose_length (struct cut *cut)
{
  uint64_t choice = next_random (cut);

  if (choice % 4 == 0)
    cut->kept = cut->nr_open;
  else if (choice % 4 == 1)
    cut->kept = 0;
  else
    cut->kept = (choice >> 2) % (cut->nr_open + 1);

  cut->len = source_len (cut->image);
  for (size_t i = 0; i < cut->kept; i++)
    cut->len = length_after (cut->open[i], cut->len);
}

/* Add the sectors of [host, end) to the list. */
static int
add_sectors (struct cut *cut, uint64_t host, uint64_t end)
{
  size_t more = div_round_up (end - round_down (host, SECTOR), SECTOR);

  if (cut->nr_sectors + more > cut->max_sectors) {
    size_t max = 2 * (cut->nr_sectors + more);
    struct sector *sectors = reallocarray (cut->sectors, max, sizeof *sectors);

    if (sectors == NULL)
      return -1;
    cut->sectors = sectors;
    cut->max_sectors = max;
  }
  for (host = round_down (host, SECTOR); host < end; host += SECTOR)
    cut->sectors[cut->nr_sectors++] =
      (struct sector) { .host = host, .high = UINT_MAX };
  return 0;
}

/* The same, without those that were never anything but zero. */
static int
add_allocated_sectors (struct cut *cut, uint64_t host, uint64_t end)
{
  end = MIN (end, source_len (cut->image));
  while (host < end) {
    struct source_extent ext = source_extent (cut->image, host, end - host);

    if (!ext.hole && add_sectors (cut, host, host + ext.len) == -1)
      return -1;
    host += ext.len;
  }
  return 0;
}

static int
compare_sectors (const void *a_, const void *b_)
{
  const struct sector *a = a_, *b = b_;

  return (a->host > b->host) - (a->host < b->host);
}

/* List the sectors on which the open changes could make a difference. */
static int
collect_sectors (struct cut *cut)
{
  size_t n = 0;

  for (size_t i = 0; i < cut->nr_open; i++) {
    const struct change *c = cut->open[i];
    int r;

    if (c->op == RECORD_WRITE)
      r = add_sectors (cut, c->host, c->host + c->len);
    else if (c->op == RECORD_ZERO)
      r = add_allocated_sectors (cut, c->host, c->host + c->len);
    else
      r = add_allocated_sectors (cut, c->len, UINT64_MAX);
    if (r == -1)
      return -1;
  }

  if (cut->nr_sectors > 0)
    qsort (cut->sectors, cut->nr_sectors, sizeof *cut->sectors,
           compare_sectors);
  for (size_t i = 0; i < cut->nr_sectors; i++)
    if (n == 0 || cut->sectors[n - 1].host != cut->sectors[i].host)
      cut->sectors[n++] = cut->sectors[i];
  cut->nr_sectors = n;
  return 0;
}

/* The listed sectors that a change from a length of 'len' touches: from
 * the one returned to the one before *last.
 */
static struct sector *
touched_by (struct cut *cut, const struct change *c, uint64_t len,
            struct sector **last)
{
  bool is_truncate = c->op == RECORD_TRUNCATE;
  uint64_t from = is_truncate ? c->len : c->host;
  uint64_t to = is_truncate ? UINT64_MAX : c->host + c->len;
  size_t low = 0, high = cut->nr_sectors;

  *last = cut->sectors;
  if (high == 0)
    return cut->sectors;        /* NULL, to which nothing may be added */
  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (cut->sectors[middle].host + SECTOR <= from)
      low = middle + 1;
    else
      high = middle;
  }
  high = low;
  if (!is_truncate || c->len < len)
    while (high < cut->nr_sectors && cut->sectors[high].host < to)
      high++;
  *last = cut->sectors + high;
  return cut->sectors + low;
}

/* Count each sector's versions and find which of them are possible. */
static void
find_versions (struct cut *cut)
{
  uint64_t len = source_len (cut->image);

  for (size_t i = 0; i < cut->nr_open; i++) {
    const struct change *c = cut->open[i];
    struct sector *s, *last;

    for (s = touched_by (cut, c, len, &last); s < last; s++) {
      s->touched++;
      if (c->op != RECORD_TRUNCATE)
        continue;
      if (i < cut->kept)
        s->low = s->touched;
      else
        s->high = MIN (s->high, s->touched - 1);
    }
    len = length_after (c, len);
  }
}

/* Some seeds prefer new versions, some old ones: what goes wrong when one
 * sector is missing, or only one arrives, is found sooner.
 */
static void
choose_versions (struct cut *cut)
{
  uint64_t taste = next_random (cut) % 3;

  for (size_t i = 0; i < cut->nr_sectors; i++) {
    struct sector *s = &cut->sectors[i];
    unsigned high = MIN (s->high, s->touched);
    uint64_t choice = next_random (cut);
    bool is_typical = taste > 0 && choice % 8 != 0;

    if (is_typical)
      s->version = taste == 1 ? high : s->low;
    else
      s->version = s->low + (choice >> 3) % (high - s->low + 1);
    s->touched = 0;
  }
}

static int
apply_versions (struct cut *cut)
{
  uint64_t len = source_len (cut->image);

  for (size_t i = 0; i < cut->nr_open; i++) {
    const struct change *c = cut->open[i];
    struct sector *s, *last;

    for (s = touched_by (cut, c, len, &last); s < last; s++)
      if (++s->touched <= s->version
          && apply_part (cut->image, c, s->host, s->host + SECTOR) == -1)
        return -1;
    len = length_after (c, len);
  }
  return source_truncate (cut->image, cut->len);
}

static int
cut_power (struct cut *cut, enum record_mode mode)
{
  switch (mode) {
  case RECORD_NONE:
    return 0;
  case RECORD_ALL:
    for (size_t i = 0; i < cut->nr_open; i++)
      if (apply_whole (cut->image, cut->open[i]) == -1)
        return -1;
    return 0;
  case RECORD_RANDOM:
    shuffle_concurrent (cut);
    choose_length (cut);
    if (collect_sectors (cut) == -1)
      return -1;
    find_versions (cut);
    choose_versions (cut);
    return apply_versions (cut);
  }
  abort ();
}

struct source *
crash_image_copy (const char *name, struct source *from, uint64_t limit)
{
  uint64_t len = source_len (from);
  CLEANUP_FREE char *buf = malloc (COPY_MAX);
  CLEANUP_SOURCE struct source *copy =
    source_memory (name, len, MAX (len, limit));
  struct source_extent ext;

  if (copy == NULL || buf == NULL)
    return NULL;
  for (uint64_t host = 0; host < len; host += ext.len) {
    ext = source_extent (from, host, len - host);
    if (ext.hole)
      continue;
    ext.len = MIN (ext.len, COPY_MAX);
    if (source_pread (from, buf, ext.len, host) == -1
        || source_pwrite (copy, buf, ext.len, host) == -1)
      return NULL;
  }
  return STEAL (copy);
}

struct source *
crash_image_locked (struct record *r, unsigned source, size_t position,
                    uint64_t seed, enum record_mode mode)
{
  struct source *initial = r->initials[source];
  CLEANUP_SOURCE struct source *image =
    crash_image_copy (initial->name, initial, r->limits[source]);
  CLEANUP_FREE const struct change **open =
    calloc (r->nr_changes + 1, sizeof *open);
  struct cut cut = {
    .image = image,
    .open = open,
    .random = seed + (position * 2 + 1) * UINT64_C (0xd1342543de82ef95)
              + source,
  };
  int result;

  assert_held (&r->lock);
  if (image == NULL || open == NULL)
    return NULL;
  result = replay_durable (&cut, r, source, position);
  if (result == 0)
    result = cut_power (&cut, mode);
  free (cut.sectors);
  return result == 0 ? STEAL (image) : NULL;
}
