/* Range locks: who waits for whom, and that nobody is overtaken.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/range-lock.h"
#include "include/testing.h"

#define NR_THREADS 6
#define NR_ROUNDS 3000
#define NR_CELLS 64

static struct range_locks locks;

/* ---- one thread that asks, and another that looks whether it waits */

struct asker {
  pthread_t thread;
  uint64_t start, end;
  bool exclusive;
  _Atomic bool has_it, may_drop;
};

static void *
ask (void *opaque)
{
  struct asker *a = opaque;
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };

  range_lock_take (&locks, &hold, a->start, a->end, a->exclusive);
  a->has_it = true;
  while (!a->may_drop)
    sched_yield ();
  return NULL;
}

static void
start (struct asker *a, uint64_t from, uint64_t to, bool exclusive)
{
  *a = (struct asker) { .start = from, .end = to, .exclusive = exclusive };
  CHECK (pthread_create (&a->thread, NULL, ask, a) == 0);
}

static void
wait_until_waiting (unsigned nr)
{
  for (;;) {
    {
      LOCK_SCOPE (&locks.lock);
      if (locks.nr_waiting == nr)
        return;
    }
    sched_yield ();
  }
}

static void
wait_until_held (struct asker *a)
{
  while (!a->has_it)
    sched_yield ();
}

static void
finish (struct asker *a)
{
  a->may_drop = true;
  CHECK (pthread_join (a->thread, NULL) == 0);
}

static void
test_shared_and_exclusive (void)
{
  struct asker s1, s2, x, other;

  start (&s1, 0, 100, false);
  start (&s2, 50, 150, false);
  wait_until_held (&s1);
  wait_until_held (&s2);
  start (&other, 150, 200, true);       /* touches, does not overlap */
  wait_until_held (&other);
  start (&x, 99, 101, true);
  wait_until_waiting (1);
  finish (&s1);
  wait_until_waiting (1);               /* s2 still excludes it */
  CHECK (!x.has_it);
  finish (&s2);
  wait_until_held (&x);
  finish (&x);
  finish (&other);
}

/* A reader that comes after a waiting writer waits for it. */
static void
test_order_of_asking (void)
{
  struct asker s1, x, s2;

  start (&s1, 0, 10, false);
  wait_until_held (&s1);
  start (&x, 0, 10, true);
  wait_until_waiting (1);
  start (&s2, 5, 6, false);
  wait_until_waiting (2);
  CHECK (!s2.has_it && !x.has_it);
  finish (&s1);
  wait_until_held (&x);
  CHECK (!s2.has_it);
  finish (&x);
  wait_until_held (&s2);
  finish (&s2);
}

/* ---- many at once, on cells that only the lock protects */

static uint64_t cells[NR_CELLS];

static void *
work (void *opaque)
{
  uint64_t state = (uintptr_t) opaque + 1;
  int i;

  for (i = 0; i < NR_ROUNDS; ++i) {
    CLEANUP_RANGE struct range_hold hold = { .locks = NULL };
    uint64_t from, to, j, sum = 0;
    bool exclusive;

    state = state * UINT64_C (6364136223846793005) + 1442695040888963407;
    from = (state >> 33) % NR_CELLS;
    to = from + 1 + (state >> 48) % (NR_CELLS - from);
    exclusive = (state >> 60) % 2;
    range_lock_take (&locks, &hold, from, to, exclusive);
    for (j = from; j < to; ++j) {
      if (exclusive)
        cells[j]++;
      else
        sum += cells[j];
    }
    for (j = from; !exclusive && j < to; ++j)
      sum -= cells[j];
    CHECK (sum == 0);
  }
  return NULL;
}

static void
test_many (void)
{
  pthread_t threads[NR_THREADS];
  size_t i;

  for (i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_create (&threads[i], NULL, work, (void *) i) == 0);
  for (i = 0; i < NR_THREADS; ++i)
    CHECK (pthread_join (threads[i], NULL) == 0);
}

int
main (void)
{
  range_locks_init (&locks);
  test_shared_and_exclusive ();
  test_order_of_asking ();
  test_many ();
  range_locks_destroy (&locks);
  return 0;
}
