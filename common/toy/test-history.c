/* What each sector of a disk has held, and when.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/lock.h"
#include "include/testing.h"
#include "toy/test-history.h"

#define PENDING UINT64_MAX

struct version {
  size_t position;              /* of the log when it was asked for */
  uint64_t done;                /* time of its answer, or PENDING */
  bool failed;
  uint8_t bytes[HISTORY_SECTOR];
};

struct sector {
  struct version *versions;     /* oldest first */
  size_t nr, room;
};

struct flush {
  uint64_t begun;               /* time */
  size_t position;              /* of the log when answered */
};

struct history {
  struct lock lock;             /* guards all */
  uint64_t now;                 /* counts events */
  struct sector *sectors;
  uint64_t nr_sectors;
  struct flush *flushes;
  size_t nr_flushes, room_flushes;
};

static struct version *
add_version_locked (struct history *h, uint64_t index)
{
  struct sector *s = &h->sectors[index];

  assert_held (&h->lock);
  if (s->nr == s->room) {
    s->room = s->room * 2 + 4;
    s->versions = realloc (s->versions, s->room * sizeof *s->versions);
    CHECK (s->versions != NULL);
  }
  return &s->versions[s->nr++];
}

struct history *
history_new (const uint8_t *bytes, uint64_t len)
{
  struct history *h = calloc (1, sizeof *h);

  CHECK (h != NULL);
  assert (len % HISTORY_SECTOR == 0);
  lock_init (&h->lock);
  h->nr_sectors = len / HISTORY_SECTOR;
  h->sectors = calloc (h->nr_sectors, sizeof *h->sectors);
  CHECK (h->sectors != NULL);

  LOCK_SCOPE (&h->lock);
  for (uint64_t i = 0; i < h->nr_sectors; ++i) {
    struct version *v = add_version_locked (h, i);

    v->position = 0;
    v->done = 0;
    v->failed = false;
    memcpy (v->bytes, bytes + i * HISTORY_SECTOR, HISTORY_SECTOR);
  }
  return h;
}

void
history_free (struct history *h)
{
  for (uint64_t i = 0; i < h->nr_sectors; ++i)
    free (h->sectors[i].versions);
  free (h->sectors);
  free (h->flushes);
  lock_destroy (&h->lock);
  free (h);
}

void
history_begin (struct history *h, const uint8_t *bytes, uint64_t len,
               uint64_t guest, size_t position)
{
  const uint64_t end = guest + len;

  LOCK_SCOPE (&h->lock);

  while (guest < end) {
    const uint64_t index = guest / HISTORY_SECTOR;
    const uint64_t within = guest % HISTORY_SECTOR;
    const uint64_t n = MIN (HISTORY_SECTOR - within, end - guest);
    struct version *v = add_version_locked (h, index);

    memcpy (v->bytes, v[-1].bytes, HISTORY_SECTOR);
    if (bytes) {
      memcpy (v->bytes + within, bytes, n);
      bytes += n;
    }
    else
      memset (v->bytes + within, 0, n);
    v->position = position;
    v->done = PENDING;
    v->failed = false;
    guest += n;
  }
}

void
history_done (struct history *h, uint64_t len, uint64_t guest, bool failed)
{
  const uint64_t end = div_round_up (guest + len, HISTORY_SECTOR);

  LOCK_SCOPE (&h->lock);

  h->now++;
  for (uint64_t i = guest / HISTORY_SECTOR; i < end; ++i) {
    struct version *v = &h->sectors[i].versions[h->sectors[i].nr - 1];

    assert (v->done == PENDING);
    v->failed = failed;
    v->done = h->now;
  }
}

uint64_t
history_flush_begin (struct history *h)
{
  LOCK_SCOPE (&h->lock);
  return ++h->now;
}

void
history_flush_done (struct history *h, uint64_t ticket, size_t position)
{
  LOCK_SCOPE (&h->lock);

  if (h->nr_flushes == h->room_flushes) {
    h->room_flushes = h->room_flushes * 2 + 4;
    h->flushes = realloc (h->flushes, h->room_flushes * sizeof *h->flushes);
    CHECK (h->flushes != NULL);
  }
  h->flushes[h->nr_flushes++] = (struct flush) {
    .begun = ticket, .position = position,
  };
}

/* Everything answered before this time is durable at 'position'. */
static uint64_t
durable_time_locked (struct history *h, size_t position)
{
  uint64_t t = 0;

  assert_held (&h->lock);
  for (size_t i = 0; i < h->nr_flushes; ++i)
    if (h->flushes[i].position <= position)
      t = MAX (t, h->flushes[i].begun);
  return t;
}

static bool
sector_allows (const struct sector *s, const uint8_t *bytes,
               uint64_t durable, size_t position)
{
  /* From the newest back to the last that is durable. */
  for (size_t i = s->nr; i-- > 0; ) {
    const struct version *v = &s->versions[i];
    const bool is_base = !v->failed && v->done <= durable;

    if ((is_base || v->position < position) &&
        memcmp (v->bytes, bytes, HISTORY_SECTOR) == 0)
      return true;
    if (is_base)
      break;
  }
  return false;
}

bool
history_allows (struct history *h, const uint8_t *bytes, uint64_t len,
                uint64_t guest, size_t position, uint64_t *guest_bad)
{
  uint64_t durable;

  LOCK_SCOPE (&h->lock);

  durable = durable_time_locked (h, position);
  for (; len > 0; len -= HISTORY_SECTOR) {
    if (!sector_allows (&h->sectors[guest / HISTORY_SECTOR], bytes, durable,
                        position)) {
      *guest_bad = guest;
      return false;
    }
    guest += HISTORY_SECTOR;
    bytes += HISTORY_SECTOR;
  }
  return true;
}

bool
history_is_first (struct history *h, const uint8_t *bytes, uint64_t len,
                  uint64_t guest)
{
  LOCK_SCOPE (&h->lock);

  for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
    if (memcmp (h->sectors[(guest + i) / HISTORY_SECTOR].versions[0].bytes,
                bytes + i, HISTORY_SECTOR) != 0)
      return false;
  return true;
}

static bool
adopt_sector_locked (struct history *h, uint64_t index, const uint8_t *bytes,
                     size_t position)
{
  struct sector *s = &h->sectors[index];
  struct version *v;
  size_t i = s->nr;
  bool found = false;

  do {
    v = &s->versions[--i];
    found = memcmp (v->bytes, bytes, HISTORY_SECTOR) == 0;
  } while (!found && v->failed);
  if (!found)
    return false;
  if (i == s->nr - 1 && !v->failed)
    return true;

  v = add_version_locked (h, index);
  memcpy (v->bytes, bytes, HISTORY_SECTOR);
  v->position = position;
  v->done = h->now;
  v->failed = false;
  return true;
}

bool
history_adopt (struct history *h, const uint8_t *bytes, uint64_t len,
               uint64_t guest, size_t position)
{
  LOCK_SCOPE (&h->lock);

  h->now++;
  for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
    if (!adopt_sector_locked (h, (guest + i) / HISTORY_SECTOR, bytes + i,
                              position))
      return false;
  return true;
}
