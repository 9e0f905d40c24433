/* Locks on ranges of the virtual disk.
 *
 * Outermost of all locks.  Shared: reads, status, in-place writes.
 * Exclusive: whatever changes a mapping, and every read-modify-write; the
 * caller rounds the range out to the unit.  Granted in the order of asking,
 * so nobody starves.  A thread holds one range at a time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_RANGE_LOCK_H
#define NDF_RANGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "include/lock.h"

struct range_hold {
  struct range_hold *prev, *next;       /* in order of asking */
  uint64_t start, end;                  /* bytes, end excluded */
  bool exclusive;
  struct range_locks *locks;            /* NULL: nothing is held */
};

struct range_locks {
  struct lock lock;                     /* a leaf */
  struct condition released;
  struct range_hold *first, *last;      /* guarded by lock */
  unsigned nr_waiting;                  /* guarded by lock */
};

extern void range_locks_init (struct range_locks *locks);
extern void range_locks_destroy (struct range_locks *locks);

/* Take [start, end); 'hold' belongs to the caller and lives until
 * range_lock_drop.  Waits as long as it takes.  Threads: any.
 */
extern void range_lock_take (struct range_locks *locks,
                             struct range_hold *hold,
                             uint64_t start, uint64_t end, bool exclusive);

/* Give it back; nothing happens when nothing is held. */
extern void range_lock_drop (struct range_hold *hold);

#define CLEANUP_RANGE __attribute__ ((cleanup (range_lock_drop)))

#endif /* NDF_RANGE_LOCK_H */
