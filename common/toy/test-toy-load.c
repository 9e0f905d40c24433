/* A disk under random parallel load, against a shadow of it in memory.
 *
 * Threads ask for any range at all; the shadow keeps two requests from
 * touching the same sector at once, so that it knows what each byte must
 * be, but lets them meet in the same unit, table page and allocation.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "include/testing.h"
#include "toy/test-bed.h"

#define NR_THREADS 8
#define NR_REQUESTS 700         /* by each thread */
#define SECTOR 512

struct shadow {
  struct bed bed;
  uint64_t len;
  uint8_t *bytes;               /* guarded, by sector, by 'busy' */

  struct lock lock;
  struct condition changed;
  bool *busy;                   /* by sector; guarded by lock */
};

static void
shadow_make (struct shadow *s, const struct bed_form *form)
{
  bed_make (&s->bed, form);
  s->len = form->len;
  s->bytes = malloc (s->len);
  s->busy = calloc (div_round_up (s->len, SECTOR), sizeof *s->busy);
  CHECK (s->bytes != NULL && s->busy != NULL);
  for (uint64_t i = 0; i < s->len; ++i)
    s->bytes[i] = bed_base_byte (form, i);
  lock_init (&s->lock);
  condition_init (&s->changed);
  bed_open (&s->bed);
}

static void
shadow_free (struct shadow *s)
{
  condition_destroy (&s->changed);
  lock_destroy (&s->lock);
  bed_free (&s->bed);
  free (s->bytes);
  free (s->busy);
}

static bool
is_busy_locked (struct shadow *s, uint64_t first, uint64_t end)
{
  assert_held (&s->lock);
  for (uint64_t i = first; i < end; ++i)
    if (s->busy[i])
      return true;
  return false;
}

static void
occupy (struct shadow *s, uint64_t guest, uint64_t len)
{
  const uint64_t end = div_round_up (guest + len, SECTOR);

  LOCK_SCOPE (&s->lock);

  while (is_busy_locked (s, guest / SECTOR, end))
    condition_wait (&s->changed, &s->lock);
  for (uint64_t i = guest / SECTOR; i < end; ++i)
    s->busy[i] = true;
}

static void
leave (struct shadow *s, uint64_t guest, uint64_t len)
{
  const uint64_t end = div_round_up (guest + len, SECTOR);

  LOCK_SCOPE (&s->lock);

  for (uint64_t i = guest / SECTOR; i < end; ++i)
    s->busy[i] = false;
  condition_wake_all (&s->changed);
}

/* ---- requests; the range is occupied */

static void
read_and_compare (struct shadow *s, uint64_t guest, uint64_t len)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  CHECK (image_read (s->bed.img, buf, len, guest) == 0);
  for (uint64_t i = 0; i < len; ++i)
    if (buf[i] != s->bytes[guest + i]) {
      fprintf (stderr, "%s: byte %" PRIu64 " of the disk is %02x, not %02x "
               "(read of %" PRIu64 " at %" PRIu64 ")\n", s->bed.form.name,
               guest + i, buf[i], s->bytes[guest + i], len, guest);
      exit (EXIT_FAILURE);
    }
}

/* The request may have been done in part: each byte is as it was or as
 * 'to' says (NULL: zero), and is now what is read.
 */
static void
read_and_adopt (struct shadow *s, uint64_t guest, uint64_t len,
                const uint8_t *to)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  CHECK (image_read (s->bed.img, buf, len, guest) == 0);
  for (uint64_t i = 0; i < len; ++i)
    CHECK (buf[i] == s->bytes[guest + i] || buf[i] == (to ? to[i] : 0));
  memcpy (s->bytes + guest, buf, len);
}

/* Only full disks may refuse. */
static void
check_no_space (const struct shadow *s)
{
  CHECK (errno == ENOSPC);
  CHECK (s->bed.form.is_fixed);
}

static void
request_write (struct shadow *s, uint64_t *state, uint64_t guest,
               uint64_t len)
{
  CLEANUP_FREE uint8_t *buf = malloc (len);

  CHECK (buf != NULL);
  chance_fill (state, buf, len);
  if (image_write (s->bed.img, buf, len, guest) == -1) {
    check_no_space (s);
    read_and_adopt (s, guest, len, buf);
    return;
  }
  memcpy (s->bytes + guest, buf, len);
  if (chance_below (state, 16) == 0)
    CHECK (image_flush (s->bed.img) == 0);      /* as FUA asks */
}

static void
request_zero (struct shadow *s, uint64_t *state, uint64_t guest,
              uint64_t len)
{
  const bool may_trim = chance_below (state, 2);
  const bool fast = chance_below (state, 4) == 0;

  if (image_zero (s->bed.img, len, guest, may_trim, fast) == 0)
    memset (s->bytes + guest, 0, len);
  else if (fast && errno == ENOTSUP)
    read_and_compare (s, guest, len);   /* nothing has changed */
  else {
    check_no_space (s);
    read_and_adopt (s, guest, len, NULL);
  }
}

static void
request (struct shadow *s, uint64_t *state)
{
  uint64_t guest, len;

  chance_range (state, 0, s->len, &guest, &len);
  occupy (s, guest, len);
  switch (chance_below (state, 12)) {
  case 0: case 1: case 2: case 3: case 4:
    request_write (s, state, guest, len);
    break;
  case 5: case 6:
    request_zero (s, state, guest, len);
    break;
  case 7:
    CHECK (image_trim (s->bed.img, len, guest) == 0);
    read_and_adopt (s, guest, len, NULL);
    break;
  case 8:
    CHECK (image_flush (s->bed.img) == 0);
    read_and_compare (s, guest, len);
    break;
  case 9:
    image_prefetch (s->bed.img, len, guest);
    /* fallthrough */
  default:
    read_and_compare (s, guest, len);
  }
  leave (s, guest, len);
}

struct worker {
  struct shadow *shadow;
  uint64_t state;
  pthread_t thread;
};

static void *
work (void *opaque)
{
  struct worker *w = opaque;

  for (unsigned i = 0; i < NR_REQUESTS; ++i)
    request (w->shadow, &w->state);
  return NULL;
}

/* ---- status, when all is quiet */

struct status_walk {
  const struct shadow *shadow;
  uint64_t next;
};

static int
check_status (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  struct status_walk *walk = opaque;

  CHECK (guest == walk->next && len > 0);
  CHECK (guest + len <= walk->shadow->len);
  if (flags & STATUS_ZERO)
    for (uint64_t i = guest; i < guest + len; ++i)
      CHECK (walk->shadow->bytes[i] == 0);
  walk->next = guest + len;
  return 0;
}

static void
check_all (struct shadow *s)
{
  struct status_walk walk = { .shadow = s };

  read_and_compare (s, 0, s->len);
  while (walk.next < s->len)
    CHECK (image_status (s->bed.img, s->len - walk.next, walk.next, false,
                         check_status, &walk) == 0);
}

static void
run (const struct bed_form *form, uint64_t seed)
{
  struct worker workers[NR_THREADS];
  struct toy_report report;
  struct shadow s;

  shadow_make (&s, form);
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    workers[i] = (struct worker) { .shadow = &s, .state = seed * 1000 + i };
    CHECK (pthread_create (&workers[i].thread, NULL, work, &workers[i])
           == 0);
  }
  for (unsigned i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_join (workers[i].thread, NULL) == 0);

  check_all (&s);
  CHECK (image_finish (s.bed.img) == 0);
  bed_close (&s.bed);
  report = toy_check (s.bed.src, s.bed.data, true);
  CHECK (report.nr_errors == 0 && report.nr_leaks == 0 && !report.is_dirty);
  bed_open (&s.bed);
  check_all (&s);
  shadow_free (&s);
}

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)

static const struct bed_form forms[] = {
  { .name = "plain", .len = MIB + 700, .host_len = 8 * MIB,
    .cache_limit = MIB },
  { .name = "pressed", .len = MIB, .host_len = 8 * MIB, .cache_limit = 0 },
  { .name = "backing", .len = MIB + 1, .host_len = 8 * MIB,
    .features = TOY_BACKING, .backing_len = 3 * MIB / 4 + 333,
    .cache_limit = 16 * KIB },
  { .name = "no zero flag", .len = MIB, .host_len = 8 * MIB,
    .features = TOY_BACKING | TOY_NO_ZERO_FLAG, .backing_len = 2 * MIB,
    .cache_limit = MIB },
  { .name = "data file", .len = MIB + 4000, .host_len = 8 * MIB,
    .features = TOY_DATA_FILE, .cache_limit = 16 * KIB },
  { .name = "crowded", .len = 5 * TOY_UNIT + 100, .host_len = MIB,
    .features = TOY_BACKING, .backing_len = 4 * TOY_UNIT + 7,
    .cache_limit = MIB, .yields = true },
  { .name = "crowded and fixed", .len = 5 * TOY_UNIT, .host_len = MIB / 4,
    .is_fixed = true, .yields = true },
  { .name = "full", .len = MIB, .host_len = 1280 * KIB,
    .is_fixed = true, .cache_limit = 16 * KIB },
  { .name = "overfull", .len = MIB, .host_len = 768 * KIB,
    .is_fixed = true, .cache_limit = MIB },
};

int
main (void)
{
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; ++i)
    for (uint64_t seed = 1; seed <= 2; ++seed)
      run (&forms[i], seed);
  return EXIT_SUCCESS;
}
