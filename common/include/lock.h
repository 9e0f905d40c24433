/* Mutexes and conditions that cannot fail, and that know their owner.
 *
 * pthread's calls fail only by misuse of a plain mutex; misuse is our own
 * mistake, so it ends the process.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_LOCK_H
#define NDF_LOCK_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct lock {
  pthread_mutex_t mutex;
  pthread_t owner;              /* meaningful while held */
  bool held;                    /* written by the owner only */
};

#define LOCK_INITIALIZER { .mutex = PTHREAD_MUTEX_INITIALIZER }

struct condition {
  pthread_cond_t cond;
};

static inline void
lock_must (int r)
{
  if (r != 0)
    abort ();
}

static inline void
lock_init (struct lock *m)
{
  lock_must (pthread_mutex_init (&m->mutex, NULL));
  m->held = false;
}

static inline void
lock_destroy (struct lock *m)
{
  lock_must (pthread_mutex_destroy (&m->mutex));
}

static inline void
lock_take (struct lock *m)
{
  lock_must (pthread_mutex_lock (&m->mutex));
  m->owner = pthread_self ();
  m->held = true;
}

static inline void
lock_drop (struct lock *m)
{
  m->held = false;
  lock_must (pthread_mutex_unlock (&m->mutex));
}

/* Opens every function whose name ends in _locked. */
#define assert_held(m)                                                  \
  assert ((m)->held && pthread_equal ((m)->owner, pthread_self ()))

static inline void
lock_scope_leave (struct lock **m)
{
  lock_drop (*m);
}

/* Hold 'm' from here to the end of the enclosing block. */
#define LOCK_SCOPE_PASTE(m, line)                                       \
  __attribute__ ((cleanup (lock_scope_leave), unused))                  \
  struct lock *lock_scope_##line = ({ lock_take (m); (m); })
#define LOCK_SCOPE_LINE(m, line) LOCK_SCOPE_PASTE (m, line)
#define LOCK_SCOPE(m) LOCK_SCOPE_LINE (m, __LINE__)

static inline void
condition_init (struct condition *c)
{
  pthread_condattr_t attr;

  lock_must (pthread_condattr_init (&attr));
  lock_must (pthread_condattr_setclock (&attr, CLOCK_MONOTONIC));
  lock_must (pthread_cond_init (&c->cond, &attr));
  lock_must (pthread_condattr_destroy (&attr));
}

static inline void
condition_destroy (struct condition *c)
{
  lock_must (pthread_cond_destroy (&c->cond));
}

/* Wait for a wake-up; the caller holds 'm' and tests its condition again. */
static inline void
condition_wait (struct condition *c, struct lock *m)
{
  assert_held (m);
  m->held = false;
  lock_must (pthread_cond_wait (&c->cond, &m->mutex));
  m->owner = pthread_self ();
  m->held = true;
}

/* As condition_wait, but no longer than until 'deadline' (monotonic
 * clock).  Returns false when that has passed.
 */
static inline bool
condition_wait_until (struct condition *c, struct lock *m,
                      const struct timespec *deadline)
{
  int r;

  assert_held (m);
  m->held = false;
  r = pthread_cond_timedwait (&c->cond, &m->mutex, deadline);
  m->owner = pthread_self ();
  m->held = true;
  if (r != ETIMEDOUT)
    lock_must (r);
  return r == 0;
}

static inline void
condition_wake_all (struct condition *c)
{
  lock_must (pthread_cond_broadcast (&c->cond));
}

#endif /* NDF_LOCK_H */
