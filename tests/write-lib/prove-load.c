/* A disk under random parallel load, against a shadow of it in memory; then
 * others judge what is left.
 *
 * Threads ask for any range at all; the shadow keeps two requests from
 * touching the same sector at once, so that it knows what each byte must
 * be, but lets them meet in the same cluster, table and allocation.
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
#include "bed.h"
#include "chance.h"
#include "jitter.h"
#include "prove.h"

#define NR_THREADS 8
#define SECTOR 512

struct shadow {
  struct bed bed;
  uint64_t len;
  uint64_t max_request;
  uint64_t first_leaks;         /* with what the first change gives up */
  uint8_t *bytes;               /* guarded, by sector, by 'busy' */

  struct lock lock;
  struct condition changed;
  bool *busy;                   /* by sector; guarded by lock */
};

static void
shadow_make (struct shadow *s, const struct form *form)
{
  uint64_t overhead;

  bed_make (&s->bed, form);
  kind.measure_leaks (&s->bed, &s->first_leaks, &overhead);
  s->len = s->bed.len;
  s->bytes = malloc (s->len);
  s->busy = calloc (div_round_up (s->len, SECTOR), sizeof *s->busy);
  CHECK (s->bytes != NULL && s->busy != NULL);
  lock_init (&s->lock);
  condition_init (&s->changed);
  bed_open (&s->bed);
  s->max_request = form->max_request ?: MIN (5 * s->bed.img->unit, s->len / 2);
  CHECK (image_read (s->bed.img, s->bytes, s->len, 0) == 0);
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
  if (memcmp (buf, s->bytes + guest, len) == 0)
    return;
  for (uint64_t i = 0; i < len; ++i)
    if (buf[i] != s->bytes[guest + i]) {
      fprintf (stderr, "%s: byte %" PRIu64 " of the disk is %02x, not %02x "
               "(read of %" PRIu64 " at %" PRIu64 ")\n",
               s->bed.form->name, guest + i, buf[i], s->bytes[guest + i],
               len, guest);
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

/* Only full devices may refuse. */
static void
check_no_space (const struct shadow *s)
{
  CHECK (errno == ENOSPC);
  CHECK (s->bed.form->room);
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
request_trim (struct shadow *s, uint64_t guest, uint64_t len)
{
  if (image_trim (s->bed.img, len, guest) == -1)
    check_no_space (s);
  read_and_adopt (s, guest, len, NULL);
}

static void
request (struct shadow *s, uint64_t *state)
{
  uint64_t guest, len;

  chance_range (state, 0, s->len, s->max_request, &guest, &len);
  occupy (s, guest, len);
  switch (chance_below (state, 12)) {
  case 0: case 1: case 2: case 3: case 4:
    request_write (s, state, guest, len);
    break;
  case 5: case 6:
    request_zero (s, state, guest, len);
    break;
  case 7:
    request_trim (s, guest, len);
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
  unsigned nr_requests;
  pthread_t thread;
};

static void *
work (void *opaque)
{
  struct worker *w = opaque;

  for (unsigned i = 0; i < w->nr_requests; ++i)
    request (w->shadow, &w->state);
  return NULL;
}

/* ---- when all is quiet */

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

/* The image is closed. */
static void
check_closed (const struct shadow *s)
{
  struct report report;

  kind.check (&s->bed, stderr, &report);
  CHECK (report.is_image && !report.is_dirty && report.nr_errors == 0);
  CHECK (!kind.counts_leaks || report.nr_leaks <= s->first_leaks);
  if (kind.can_qemu_check && bed_has_qemu ()) {
    bed_export (&s->bed);
    if (bed_qemu_check () != (report.nr_leaks ? 3 : 0)) {
      bed_run ("head -20 said >&2");
      exit (EXIT_FAILURE);
    }
  }
  CHECK (bed_reads_as (&s->bed, true, s->bytes, stderr));
}

static void
run_threads (struct shadow *s, unsigned nr_requests, uint64_t seed)
{
  struct worker workers[NR_THREADS];

  jitter_set (true);
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    workers[i] = (struct worker) {
      .shadow = s, .state = seed * 1000 + i, .nr_requests = nr_requests,
    };
    CHECK (pthread_create (&workers[i].thread, NULL, work, &workers[i])
           == 0);
  }
  for (unsigned i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_join (workers[i].thread, NULL) == 0);
  jitter_set (false);
}

static void
run (const struct load *load, const struct form *form, unsigned nr_requests,
     uint64_t seed)
{
  CLEANUP_FREE uint8_t *base = NULL;
  void *noted = NULL;
  struct shadow s;

  if (!bed_can_make (form))
    return;
  fprintf (stderr, "%s\n", form->name);
  shadow_make (&s, form);
  if (s.bed.base)
    base = bed_bytes (s.bed.base);
  if (load->before)
    noted = load->before (&s.bed);
  run_threads (&s, nr_requests, seed);
  check_all (&s);
  CHECK (image_finish (s.bed.img) == 0);
  bed_close (&s.bed);
  check_closed (&s);
  if (load->after)
    load->after (&s.bed, s.bytes, noted);
  if (base) {
    CLEANUP_FREE uint8_t *now = bed_bytes (s.bed.base);

    CHECK (memcmp (base, now, form->backing_len) == 0);
  }
  bed_open (&s.bed);
  check_all (&s);
  shadow_free (&s);
}

static const struct form *
form_number (const struct load *load, size_t i)
{
  return i < bed_nr_forms ? &bed_forms[i] : &load->forms[i - bed_nr_forms];
}

void
prove_load (const struct load *load, int argc, char **argv)
{
  const size_t nr_forms = bed_nr_forms + load->nr_forms;
  size_t part = 0, nr_parts = 1, i;
  unsigned nr_requests = 120, nr_seeds = 1;
  const char *only = NULL;

  if (argc == 2) {
    nr_requests = 1500;
    nr_seeds = 4;
    only = strcmp (argv[1], "long") == 0 ? NULL : argv[1];
  }
  else if (argc == 3) {
    part = strtoul (argv[1], NULL, 10);
    nr_parts = strtoul (argv[2], NULL, 10);
  }
  CHECK (nr_parts > 0);
  for (i = part; i < nr_forms; i += nr_parts)
    for (unsigned seed = 1; seed <= nr_seeds; ++seed)
      if (only == NULL || strcmp (only, form_number (load, i)->name) == 0)
        run (load, form_number (load, i), nr_requests, seed);
}
