/* Each read, write, zero, sync, truncate and allocation fails once: the
 * request says so or does without, nothing is corrupt, and a failed sync
 * is never forgotten.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/testing.h"
#include "cut.h"
#include "prove.h"

/* Clusters that may be lost when a count could not be read, or a page not
 * be made, while something was given up.
 */
#define LEAKS_IN_NEED 80

static unsigned nr_requests = 14;
static size_t nr_struck[RECORD_NR_OPS];

/* ---- allocations that fail when told to */

static struct {
  bool armed;                   /* inside a request */
  size_t nr;                    /* allocations so far */
  size_t fail_at;               /* the nth; 0: none */
} memory;

static void
arm_memory (bool on)
{
  memory.armed = on;
}

#define CAN_FAIL_MEMORY (!IS_SANITIZED)

/* The sanitizers have their own. */
#if !IS_SANITIZED
extern void *__libc_malloc (size_t);
extern void *__libc_calloc (size_t, size_t);
extern void *__libc_realloc (void *, size_t);
extern void *__libc_memalign (size_t, size_t);

static bool
must_fail (void)
{
  if (!memory.armed || ++memory.nr != memory.fail_at)
    return false;
  errno = ENOMEM;
  return true;
}

void *
malloc (size_t size)
{
  return must_fail () ? NULL : __libc_malloc (size);
}

void *
calloc (size_t nr, size_t size)
{
  return must_fail () ? NULL : __libc_calloc (nr, size);
}

void *
realloc (void *p, size_t size)
{
  return must_fail () ? NULL : __libc_realloc (p, size);
}

void *
aligned_alloc (size_t alignment, size_t size)
{
  return must_fail () ? NULL : __libc_memalign (alignment, size);
}
#endif

/* Allocations of the sources do not fail: a recorded write that did half of
 * its work would be no longer what the log says.  The linker puts these in
 * the place of the functions.
 */
#define SPARE_SOURCE(name, parameters, arguments)                       \
  extern int __real_##name parameters;                                  \
  extern int __wrap_##name parameters;                                  \
                                                                        \
  int                                                                   \
  __wrap_##name parameters                                              \
  {                                                                     \
    const bool was_armed = memory.armed;                                \
    int r;                                                              \
                                                                        \
    memory.armed = false;                                               \
    r = __real_##name arguments;                                        \
    memory.armed = was_armed;                                           \
    return r;                                                           \
  }

SPARE_SOURCE (source_pread,
              (struct source *src, void *buf, size_t len, uint64_t host),
              (src, buf, len, host))
SPARE_SOURCE (source_pread_padded,
              (struct source *src, void *buf, size_t len, uint64_t host),
              (src, buf, len, host))
SPARE_SOURCE (source_pwrite,
              (struct source *src, const void *buf, size_t len,
               uint64_t host), (src, buf, len, host))
SPARE_SOURCE (source_zero,
              (struct source *src, uint64_t len, uint64_t host,
               enum source_zero_mode mode), (src, len, host, mode))
SPARE_SOURCE (source_zero_fast,
              (struct source *src, uint64_t len, uint64_t host,
               enum source_zero_mode mode), (src, len, host, mode))
SPARE_SOURCE (source_sync, (struct source *src), (src))
SPARE_SOURCE (source_truncate, (struct source *src, uint64_t len),
              (src, len))
SPARE_SOURCE (source_grow, (struct source *src, uint64_t len), (src, len))
SPARE_SOURCE (source_grow_ahead,
              (struct source *src, uint64_t len, uint32_t unit),
              (src, len, unit))

/* ---- pages of the metadata cache: none stays pinned */

static long nr_pins;            /* held by the driver and the data path */

extern struct page *__real_cache_get (struct cache *cache, uint64_t host);
extern struct page *__wrap_cache_get (struct cache *cache, uint64_t host);
extern struct page *__real_cache_create (struct cache *cache, uint64_t host);
extern struct page *__wrap_cache_create (struct cache *cache, uint64_t host);
extern void __real_cache_put (struct cache *cache, struct page *page);
extern void __wrap_cache_put (struct cache *cache, struct page *page);

struct page *
__wrap_cache_get (struct cache *cache, uint64_t host)
{
  struct page *page = __real_cache_get (cache, host);

  nr_pins += page != NULL;
  return page;
}

struct page *
__wrap_cache_create (struct cache *cache, uint64_t host)
{
  struct page *page = __real_cache_create (cache, host);

  nr_pins += page != NULL;
  return page;
}

void
__wrap_cache_put (struct cache *cache, struct page *page)
{
  nr_pins -= page != NULL;
  __real_cache_put (cache, page);
}

/* ---- the scenario, and what must hold after it */

static bool
sync_has_failed (const struct crash *c)
{
  return c->bed.src->sync_failed || (c->bed.data && c->bed.data->sync_failed);
}

static void
play (struct crash *c, uint64_t seed)
{
  uint64_t state = seed;
  const uint64_t len = MIN (c->bed.len / 4, 40 * KIB);

  /* This much needs new space, and the file grows. */
  crash_write (c, &state, len, c->bed.len - len);
  crash_trim (c, c->bed.len / 8, 0);
  crash_flush (c);
  for (unsigned i = 0; i < nr_requests; ++i)
    crash_request (c, &state, 0, c->bed.len);
  CHECK (nr_pins == 0);
}

/* The image as it lies there is sound, and holds what it should, after a
 * power cut, too.
 */
static void
check_power_cuts (struct crash *c)
{
  const size_t end = record_position (c->record);
  const struct crash_range range = {
    .from = end, .to = end, .step = 1, .seeds = 1, .loud = true,
  };

  CHECK (crash_check_range (c, &range));
}

static void
check_failed_sync (struct crash *c)
{
  CHECK_FAILS (image_flush (c->bed.img), EIO);
  CHECK_FAILS (image_flush (c->bed.img), EIO);
  CHECK (crash_finish (c) == -1);
  crash_check_running (c);
  check_power_cuts (c);

  /* Opening the file anew does not make it good. */
  CHECK (crash_try_reopen (c) == 0);
  crash_check_reopened (c);
  image_write (c->bed.img, "new", 3, 4096);
  CHECK_FAILS (image_flush (c->bed.img), EIO);
}

/* Ask twice: once the fault is over, all can be saved.  False: a sync has
 * failed, and what that means was checked.
 */
static bool
ask_twice (struct crash *c, int (*ask) (struct crash *c))
{
  if (ask (c) == 0)
    return true;
  if (sync_has_failed (c)) {
    check_failed_sync (c);
    return false;
  }
  CHECK (ask (c) == 0);
  return true;
}

static void
check_recovered (struct crash *c, uint64_t leaks)
{
  CHECK (!c->bed.img->is_damaged);
  if (!ask_twice (c, crash_flush))
    return;
  crash_check_running (c);
  check_power_cuts (c);
  if (!ask_twice (c, crash_finish))
    return;
  check_power_cuts (c);
  CHECK (!c->bed.img->is_damaged);

  /* The tester's own reads are not to fail. */
  for (enum record_op op = 0; op < RECORD_NR_OPS; ++op)
    record_fail_at (c->record, op, 0, 0, false);
  bed_close (&c->bed);
  crash_check_sound (c, crash_first_leaks (c) + leaks);
}

/* ---- sources that fail */

/* Must somebody be told?  Not of space that could not be punched, nor of a
 * count that could not be read to be lowered.
 */
static bool
must_be_told (enum record_op op)
{
  return op == RECORD_WRITE || op == RECORD_SYNC || op == RECORD_TRUNCATE;
}

/* Returns whether the fault struck at all. */
static bool
fail_once (const struct form *form, uint64_t seed, enum record_op op,
           size_t nth, int err)
{
  struct crash c;
  size_t before;
  bool struck;

  crash_begin (&c, form);
  before = record_count (c.record, op);
  record_fail_at (c.record, op, nth, err, false);
  play (&c, seed);
  if (sync_has_failed (&c))
    check_failed_sync (&c);
  else
    check_recovered (&c, op == RECORD_READ ? LEAKS_IN_NEED : 0);
  struck = record_count (c.record, op) - before >= nth;
  if (struck && must_be_told (op) && err == EIO && c.nr_failures == 0) {
    fprintf (stderr, "%s: nobody was told that call %zu of kind %d "
             "failed\n", form->name, nth, (int) op);
    exit (EXIT_FAILURE);
  }
  crash_end (&c);
  return struck;
}

static void
fail_sources (const struct form *form, uint64_t seed)
{
  for (enum record_op op = 0; op < RECORD_NR_OPS; ++op) {
    size_t nth = 1;

    while (fail_once (form, seed, op, nth, EIO))
      nth++;
    nr_struck[op] += nth - 1;
  }
  for (size_t nth = 1; fail_once (form, seed, RECORD_WRITE, nth, ENOSPC); )
    nth++;
  for (size_t nth = 1; fail_once (form, seed, RECORD_TRUNCATE, nth,
                                  ENOSPC); )
    nth++;
}

/* ---- opening */

static void
fail_opening (const struct form *form)
{
  struct crash c;
  size_t nth = 1;

  crash_begin (&c, form);
  bed_close (&c.bed);
  for (;; ++nth) {
    size_t before = record_count (c.record, RECORD_READ);

    record_fail_at (c.record, RECORD_READ, nth, EIO, false);
    if (bed_try_open (&c.bed) == 0) {
      /* Reading ahead may fail without harm. */
      if (record_count (c.record, RECORD_READ) - before < nth)
        break;
      bed_close (&c.bed);
      continue;
    }
    CHECK (errno == EIO);
  }
  CHECK (nth > 1);
  record_fail_at (c.record, RECORD_READ, 0, 0, false);
  bed_close (&c.bed);

  memory.fail_at = CAN_FAIL_MEMORY;
  for (;; ++memory.fail_at) {
    int r, err;

    memory.nr = 0;
    arm_memory (true);
    r = bed_try_open (&c.bed);
    err = errno;
    arm_memory (false);
    CHECK (nr_pins == 0);
    if (r == 0 && memory.nr < memory.fail_at)
      break;
    CHECK (r == 0 || err == ENOMEM);
    bed_close (&c.bed);
    if (!CAN_FAIL_MEMORY)
      break;
  }
  memory.fail_at = 0;
  if (c.bed.img == NULL)
    bed_open (&c.bed);
  crash_check_running (&c);
  crash_end (&c);
}

/* ---- no memory */

static bool
fail_allocation (const struct form *form, uint64_t seed, size_t nth)
{
  struct crash c;
  bool struck;

  crash_begin (&c, form);
  c.arm = arm_memory;
  memory.nr = 0;
  memory.fail_at = nth;
  play (&c, seed);
  if (sync_has_failed (&c))
    check_failed_sync (&c);
  else
    check_recovered (&c, LEAKS_IN_NEED);
  struck = memory.nr >= nth;
  memory.fail_at = 0;
  crash_end (&c);
  return struck;
}

/* ---- no space */

void
prove_no_space (const char *name)
{
  const struct form *form = bed_form (name);
  uint64_t state = 8, full = 0, step;
  struct crash_range range = { .seeds = 1, .loud = true, .nr_qemu = 50 };
  struct crash c;

  crash_begin (&c, form);
  step = c.bed.img->unit;
  for (uint64_t guest = 0; guest < c.bed.len; guest += step)
    if (crash_write (&c, &state, step, guest) == -1) {
      CHECK (errno == ENOSPC);
      full++;
    }
  CHECK (full > 0);
  CHECK (crash_flush (&c) == 0);
  crash_check_running (&c);

  /* Without a flush between: the write itself makes the room usable. */
  CHECK (crash_trim (&c, 16 * step, 0) == 0);
  CHECK (crash_write (&c, &state, 4 * step, c.bed.len - 4 * step) == 0);
  crash_check_running (&c);
  range.to = record_position (c.record);
  range.step = MAX (range.to / 80, (size_t) 1);
  CHECK (crash_check_range (&c, &range));
  CHECK (crash_finish (&c) == 0);
  bed_close (&c.bed);
  crash_check_closed (&c, crash_first_leaks (&c));
  crash_end (&c);
}

static void
run (const struct form *form, uint64_t seed)
{
  fprintf (stderr, "%s\n", form->name);
  fail_opening (form);
  fail_sources (form, seed);
  if (CAN_FAIL_MEMORY)
    for (size_t nth = 1; fail_allocation (form, seed, nth); )
      nth++;
}

void
prove_faults (int argc, char **argv)
{
  const bool is_long = argc == 2 && strcmp (argv[1], "long") == 0;

  if (argc == 2 && !is_long) {
    run (bed_form (argv[1]), 1);
    return;
  }
  if (is_long)
    nr_requests = 60;
  for (size_t i = 0; i < bed_nr_forms; ++i) {
    const struct form *form = &bed_forms[i];

    if (!is_long && (form->commands || form->is_like_others ||
                     (IS_SANITIZED && form->populated > MIB)))
      continue;
    if (bed_can_make (form))
      run (form, i + (is_long ? 100 : 1));
  }
  /* All of them happen. */
  for (enum record_op op = 0; op < RECORD_NR_OPS; ++op)
    CHECK (nr_struck[op] > 10);
}
