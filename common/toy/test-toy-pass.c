/* Requests that come while a pass is under way: the pass is held at its
 * first sync, after its cut, and what comes then belongs to the next.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "include/lock.h"
#include "include/testing.h"
#include "toy/test-cut.h"
#include "toy/test-hook.h"

#define KIB UINT64_C (1024)

/* ---- a gate before each sync */

struct gate {
  struct lock lock;
  struct condition changed;
  bool is_closed;               /* guarded by lock, as the next */
  bool is_reached;              /* somebody stands before it */
};

static void
gate_hook (void *opaque, enum record_op op)
{
  struct gate *gate = opaque;

  if (op != RECORD_SYNC)
    return;

  LOCK_SCOPE (&gate->lock);
  while (gate->is_closed) {
    gate->is_reached = true;
    condition_wake_all (&gate->changed);
    condition_wait (&gate->changed, &gate->lock);
  }
}

static void
gate_set (struct gate *gate, bool is_closed)
{
  LOCK_SCOPE (&gate->lock);
  gate->is_closed = is_closed;
  gate->is_reached = false;
  condition_wake_all (&gate->changed);
}

static void
gate_await (struct gate *gate)
{
  LOCK_SCOPE (&gate->lock);
  while (!gate->is_reached)
    condition_wait (&gate->changed, &gate->lock);
}

/* ---- flushes in threads of their own */

struct flusher {
  struct crash *crash;
  pthread_t thread;
  _Atomic pid_t tid;            /* 0 until it runs */
  int result;
};

static void *
flush (void *opaque)
{
  struct flusher *f = opaque;

  f->tid = syscall (SYS_gettid);
  f->result = crash_flush (f->crash);
  return NULL;
}

static void
flusher_start (struct flusher *f, struct crash *c)
{
  f->crash = c;
  f->tid = 0;
  CHECK (pthread_create (&f->thread, NULL, flush, f) == 0);
}

static void
flusher_join (struct flusher *f)
{
  CHECK (pthread_join (f->thread, NULL) == 0);
  CHECK (f->result == 0);
}

/* Is the thread asleep?  It runs on until it waits for the pass. */
static bool
is_asleep (pid_t tid)
{
  char path[64], state = 0;
  FILE *fp;

  snprintf (path, sizeof path, "/proc/self/task/%d/stat", (int) tid);
  fp = fopen (path, "r");
  if (fp == NULL)
    return true;                /* it has ended */
  if (fscanf (fp, "%*d (%*[^)]) %c", &state) != 1)
    state = 0;
  fclose (fp);
  return state == 'S';
}

/* Bounded: what follows holds in any case, but proves less then. */
static void
flusher_await_sleep (struct flusher *f)
{
  const struct timespec pause = { .tv_nsec = 1000000 };

  for (unsigned i = 0; i < 60000; ++i) {
    if (f->tid != 0 && is_asleep (f->tid))
      return;
    nanosleep (&pause, NULL);
  }
}

/* ---- the image over the gate */

static void
begin (struct crash *c, struct gate *gate, const struct bed_form *form)
{
  struct source *recorded, *hooked;

  lock_init (&gate->lock);
  condition_init (&gate->changed);
  gate->is_closed = gate->is_reached = false;

  crash_begin (c, form, 5);
  bed_close (&c->bed);
  recorded = c->bed.src;
  hooked = hook_source (recorded, gate_hook, gate);
  c->bed.src = c->bed.data = hooked;
  bed_open (&c->bed);
  source_put (hooked);          /* the image has its own */
  c->bed.src = c->bed.data = recorded;
}

static void
end (struct crash *c, struct gate *gate)
{
  crash_end (c);
  condition_destroy (&gate->changed);
  lock_destroy (&gate->lock);
}

/* A flush that joins must not take the pass whose cut was before it. */
static void
test_late_flush (void)
{
  const struct bed_form form = {
    .name = "late flush", .len = 256 * KIB, .host_len = 2048 * KIB,
    .cache_limit = 1024 * KIB,
  };
  struct flusher early, late[3];
  uint64_t state = 1;
  struct gate gate;
  struct crash c;
  size_t from, nr_syncs;

  begin (&c, &gate, &form);
  CHECK (crash_write (&c, &state, 1000, TOY_UNIT) == 0);
  CHECK (crash_flush (&c) == 0);
  from = record_position (c.record);

  CHECK (crash_write (&c, &state, 3000, 5 * TOY_UNIT) == 0);
  gate_set (&gate, true);
  flusher_start (&early, &c);
  gate_await (&gate);
  CHECK (crash_write (&c, &state, 3000, 6 * TOY_UNIT) == 0);
  CHECK (crash_write (&c, &state, 3 * TOY_UNIT, 40 * TOY_UNIT) == 0);
  nr_syncs = record_count (c.record, RECORD_SYNC);
  for (unsigned i = 0; i < 3; ++i)
    flusher_start (&late[i], &c);
  for (unsigned i = 0; i < 3; ++i)
    flusher_await_sleep (&late[i]);
  gate_set (&gate, false);
  flusher_join (&early);
  for (unsigned i = 0; i < 3; ++i)
    flusher_join (&late[i]);

  /* The early one is data only; the late ones share one pass. */
  nr_syncs = record_count (c.record, RECORD_SYNC) - nr_syncs;
  CHECK (nr_syncs >= 3);
  CHECK (crash_check_range (&c, from, record_position (c.record), 1, 4,
                            true));
  end (&c, &gate);
}

/* Fill the disk until nothing is free; returns how many units of it found
 * no place.
 */
static uint64_t
fill_up (struct crash *c, uint64_t *state)
{
  uint64_t nr_refused = 0, before;

  do {
    before = nr_refused;
    nr_refused = 0;
    for (uint64_t guest = 0; guest < c->bed.form.len; guest += TOY_UNIT)
      if (crash_write (c, state, TOY_UNIT, guest) == -1) {
        CHECK (errno == ENOSPC);
        nr_refused++;
      }
    CHECK (crash_flush (c) == 0);
  } while (nr_refused != before);
  return nr_refused;
}

/* What is dropped after the cut is not free when that pass is over: its
 * entry on disk still names the place.
 */
static void
test_late_drop (void)
{
  const struct bed_form form = {
    .name = "late drop", .len = 512 * KIB, .host_len = 512 * KIB,
    .cache_limit = 1024 * KIB, .is_fixed = true,
  };
  struct flusher early;
  uint64_t state = 1;
  struct gate gate;
  struct crash c;
  size_t from;

  begin (&c, &gate, &form);
  CHECK (fill_up (&c, &state) >= 2);
  from = record_position (c.record);

  CHECK (crash_write (&c, &state, 512, 20 * TOY_UNIT) == 0);
  gate_set (&gate, true);
  flusher_start (&early, &c);
  gate_await (&gate);
  CHECK (crash_trim (&c, 16 * TOY_UNIT, 0) == 0);
  gate_set (&gate, false);
  flusher_join (&early);
  CHECK (crash_write (&c, &state, 2 * TOY_UNIT, form.len - 2 * TOY_UNIT)
         == 0);
  CHECK (crash_write (&c, &state, 8 * TOY_UNIT, 4 * TOY_UNIT) == 0);
  CHECK (crash_flush (&c) == 0);
  CHECK (crash_check_range (&c, from, record_position (c.record), 1, 6,
                            true));
  end (&c, &gate);
}

int
main (void)
{
  test_late_flush ();
  test_late_drop ();
  return EXIT_SUCCESS;
}
