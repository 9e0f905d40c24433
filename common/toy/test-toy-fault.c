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

#include "include/testing.h"
#include "source/memory.h"
#include "toy/test-cut.h"

#define KIB UINT64_C (1024)
#define LEN (256 * KIB)

static const struct bed_form forms[] = {
  { .name = "plain", .len = LEN, .host_len = 2048 * KIB,
    .cache_limit = 1024 * KIB },
  { .name = "backing, pressed", .len = LEN, .host_len = 2048 * KIB,
    .features = TOY_BACKING, .backing_len = LEN * 3 / 4 },
  { .name = "data file", .len = LEN, .host_len = 2048 * KIB,
    .features = TOY_DATA_FILE, .cache_limit = 64 * KIB },
  { .name = "fixed", .len = LEN, .host_len = 512 * KIB,
    .cache_limit = 64 * KIB, .is_fixed = true },
};
#define NR_FORMS (sizeof forms / sizeof forms[0])

#define NR_REQUESTS 24

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

#if defined (__SANITIZE_ADDRESS__) || defined (__SANITIZE_THREAD__)
#define CAN_FAIL_MEMORY false
#elif defined (__has_feature)
#if __has_feature (address_sanitizer) || __has_feature (thread_sanitizer)
#define CAN_FAIL_MEMORY false
#endif
#endif

#ifndef CAN_FAIL_MEMORY
#define CAN_FAIL_MEMORY true

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

/* ---- the scenario, and what must hold after it */

static bool
sync_has_failed (const struct crash *c)
{
  return c->bed.src->sync_failed || c->bed.data->sync_failed;
}

static void
play (struct crash *c, uint64_t seed)
{
  uint64_t state = seed;

  /* This much needs a second group, so the file grows. */
  crash_write (c, &state, LEN / 2, LEN / 2);
  crash_write (c, &state, LEN / 2, 0);
  for (unsigned i = 0; i < NR_REQUESTS; ++i)
    crash_request (c, &state, 0, c->bed.form.len);
}

/* The image as it lies there is sound, and holds what it should, after a
 * power cut, too.
 */
static void
check_power_cuts (struct crash *c)
{
  const size_t end = record_position (c->record);

  CHECK (crash_check_range (c, end, end, 1, 3, true));
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
  bed_close (&c->bed);
  bed_open (&c->bed);
  crash_check_reopened (c);
  CHECK_FAILS (image_flush (c->bed.img), EIO);
  image_write (c->bed.img, "new", 3, 4096);
  CHECK_FAILS (image_flush (c->bed.img), EIO);
}

/* Once the fault is over, all can be saved. */
static void
check_recovered (struct crash *c)
{
  struct toy_report report;

  if (crash_flush (c) == -1) {
    if (sync_has_failed (c)) {
      check_failed_sync (c);
      return;
    }
    CHECK (crash_flush (c) == 0);
  }
  crash_check_running (c);
  check_power_cuts (c);
  if (crash_finish (c) == -1) {
    if (sync_has_failed (c)) {
      check_failed_sync (c);
      return;
    }
    CHECK (crash_finish (c) == 0);
  }
  check_power_cuts (c);

  /* The tester's own reads are not to fail. */
  for (enum record_op op = 0; op < RECORD_NR_OPS; ++op)
    record_fail_at (c->record, op, 0, 0, false);
  bed_close (&c->bed);
  report = toy_check (c->bed.src, c->bed.data, true);
  CHECK (report.nr_errors == 0);
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
fail_once (const struct bed_form *form, uint64_t seed, enum record_op op,
           size_t nth, int err)
{
  struct crash c;
  size_t before;
  bool struck;

  crash_begin (&c, form, seed);
  before = record_count (c.record, op);
  record_fail_at (c.record, op, nth, err, false);
  play (&c, seed);
  if (sync_has_failed (&c))
    check_failed_sync (&c);
  else
    check_recovered (&c);
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
fail_sources (const struct bed_form *form, uint64_t seed)
{
  for (enum record_op op = 0; op < RECORD_NR_OPS; ++op) {
    size_t nth = 1;

    while (fail_once (form, seed, op, nth, EIO))
      nth++;
    /* The scenario does each of them. */
    CHECK (nth > 1 || (op == RECORD_TRUNCATE && form->is_fixed));
  }
  for (size_t nth = 1; fail_once (form, seed, RECORD_WRITE, nth, ENOSPC); )
    nth++;
}

/* One fault among requests that run at once: where it strikes differs from
 * run to run, what must hold does not.
 */
static void
fail_in_parallel (const struct bed_form *form, uint64_t seed)
{
  static const enum record_op ops[] = {
    RECORD_READ, RECORD_WRITE, RECORD_WRITE, RECORD_ZERO, RECORD_SYNC,
  };

  for (unsigned i = 0; i < 40; ++i) {
    struct crash c;

    crash_begin (&c, form, seed);
    record_fail_at (c.record, ops[i % 5], 1 + chance_below (&seed, 60),
                    i % 3 ? EIO : ENOSPC, false);
    crash_parallel (&c, seed, 12);
    if (sync_has_failed (&c))
      check_failed_sync (&c);
    else
      check_recovered (&c);
    crash_end (&c);
  }
}

/* ---- opening */

static void
fail_opening (const struct bed_form *form)
{
  struct crash c;
  size_t nth = 1;

  crash_begin (&c, form, 4);
  bed_close (&c.bed);
  for (;; ++nth) {
    size_t before = record_count (c.record, RECORD_READ);

    record_fail_at (c.record, RECORD_READ, nth, EIO, false);
    if (bed_try_open (&c.bed) == 0) {
      CHECK (record_count (c.record, RECORD_READ) - before < nth);
      break;
    }
    CHECK (errno == EIO);
  }
  CHECK (nth > 1);
  record_fail_at (c.record, RECORD_READ, 0, 0, false);
  bed_close (&c.bed);

  memory.fail_at = CAN_FAIL_MEMORY;
  for (;; ++memory.fail_at) {
    int r;

    memory.nr = 0;
    arm_memory (true);
    r = bed_try_open (&c.bed);
    arm_memory (false);
    if (r == 0)
      break;
    CHECK (errno == ENOMEM);
  }
  CHECK (memory.fail_at == CAN_FAIL_MEMORY * (memory.nr + 1));
  memory.fail_at = 0;
  crash_check_running (&c);
  crash_end (&c);
}

/* ---- no memory */

static bool
fail_allocation (const struct bed_form *form, uint64_t seed, size_t nth)
{
  struct crash c;

  crash_begin (&c, form, seed);
  c.arm = arm_memory;
  memory.nr = 0;
  memory.fail_at = nth;
  play (&c, seed);
  if (sync_has_failed (&c))
    check_failed_sync (&c);
  else
    check_recovered (&c);
  memory.fail_at = 0;
  crash_end (&c);
  return memory.nr >= nth;
}

/* ---- no space */

/* A full device refuses without harm, and what is freed can be used. */
static void
test_no_space (void)
{
  const struct bed_form form = {
    .name = "full", .len = 512 * KIB, .host_len = 512 * KIB,
    .is_fixed = true, .cache_limit = 64 * KIB,
  };
  uint64_t state = 8, full, nr_full = 0;
  bool is_settled;
  struct toy_report report;
  struct crash c;

  crash_begin (&c, &form, 8);
  do {
    full = 0;
    for (uint64_t guest = 0; guest < form.len; guest += TOY_UNIT)
      if (crash_write (&c, &state, TOY_UNIT, guest) == -1) {
        CHECK (errno == ENOSPC);
        full++;
      }
    CHECK (crash_flush (&c) == 0);
    is_settled = full == nr_full;       /* all that was freed is taken */
    nr_full = full;
  } while (!is_settled);
  CHECK (full > 0);
  crash_check_running (&c);

  /* Without a flush between: the write itself makes the room usable. */
  CHECK (crash_trim (&c, 16 * TOY_UNIT, 0) == 0);
  CHECK (crash_write (&c, &state, 4 * TOY_UNIT, form.len - 4 * TOY_UNIT)
         == 0);
  crash_check_running (&c);
  CHECK (crash_check_range (&c, 0, record_position (c.record), 7, 1, true));
  CHECK (crash_finish (&c) == 0);
  bed_close (&c.bed);
  report = toy_check (c.bed.src, c.bed.data, true);
  CHECK (report.nr_errors == 0 && !report.is_dirty);
  crash_end (&c);
}

int
main (void)
{
  test_no_space ();
  for (size_t i = 0; i < NR_FORMS; ++i) {
    fail_opening (&forms[i]);
    fail_sources (&forms[i], i + 1);
    fail_in_parallel (&forms[i], i + 1);
    if (CAN_FAIL_MEMORY)
      for (size_t nth = 1; fail_allocation (&forms[i], i + 1, nth); )
        nth++;
  }
  return EXIT_SUCCESS;
}
