/* The set of metadata clusters: open addressing with linear probing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "include/lock.h"
#include "qcow2/guard.h"

#define MIN_SLOTS 64

static size_t
place (const struct qcow2_guard *guard, uint64_t cluster)
{
  uint64_t h = (cluster + 1) * guard->secret;

  return (h >> 32 ^ h) & (guard->nr_slots - 1);
}

static size_t
next_place (const struct qcow2_guard *guard, size_t i)
{
  return (i + 1) & (guard->nr_slots - 1);
}

/* The slot that holds the cluster, or the empty one where it would go. */
static size_t
find (const struct qcow2_guard *guard, uint64_t cluster)
{
  size_t i = place (guard, cluster);

  while (guard->slots[i] != 0 && guard->slots[i] != cluster + 1)
    i = next_place (guard, i);
  return i;
}

int
qcow2_guard_init (struct qcow2_guard *guard)
{
  uint64_t secret;

  if (getrandom (&secret, sizeof secret, 0) != sizeof secret)
    secret = (uintptr_t) guard * UINT64_C (0x9e3779b97f4a7c15);
  guard->slots = calloc (MIN_SLOTS, sizeof *guard->slots);
  if (guard->slots == NULL)
    return -1;
  guard->nr_slots = MIN_SLOTS;
  guard->nr_used = 0;
  guard->secret = secret | 1;
  lock_must (pthread_rwlock_init (&guard->lock, NULL));
  return 0;
}

void
qcow2_guard_destroy (struct qcow2_guard *guard)
{
  if (guard->slots == NULL)
    return;
  free (guard->slots);
  guard->slots = NULL;
  lock_must (pthread_rwlock_destroy (&guard->lock));
}

static int
grow (struct qcow2_guard *guard, size_t nr_slots)
{
  struct qcow2_guard bigger = *guard;
  size_t i;

  bigger.nr_slots = nr_slots;
  bigger.slots = calloc (nr_slots, sizeof *bigger.slots);
  if (bigger.slots == NULL)
    return -1;
  for (i = 0; i < guard->nr_slots; ++i)
    if (guard->slots[i] != 0)
      bigger.slots[find (&bigger, guard->slots[i] - 1)] = guard->slots[i];
  free (guard->slots);
  guard->slots = bigger.slots;
  guard->nr_slots = nr_slots;
  return 0;
}

int
qcow2_guard_reserve (struct qcow2_guard *guard, size_t n)
{
  size_t nr_slots = guard->nr_slots;
  int r = 0;

  while (nr_slots / 2 < guard->nr_used + n)
    nr_slots *= 2;
  if (nr_slots == guard->nr_slots)
    return 0;
  lock_must (pthread_rwlock_wrlock (&guard->lock));
  r = grow (guard, nr_slots);
  lock_must (pthread_rwlock_unlock (&guard->lock));
  return r;
}

bool
qcow2_guard_add (struct qcow2_guard *guard, uint64_t cluster)
{
  bool is_new;
  size_t i;

  lock_must (pthread_rwlock_wrlock (&guard->lock));
  i = find (guard, cluster);
  is_new = guard->slots[i] == 0;
  if (is_new) {
    guard->slots[i] = cluster + 1;
    guard->nr_used++;
    assert (guard->nr_used < guard->nr_slots);
  }
  lock_must (pthread_rwlock_unlock (&guard->lock));
  return is_new;
}

void
qcow2_guard_remove (struct qcow2_guard *guard, uint64_t cluster)
{
  size_t i, j;

  lock_must (pthread_rwlock_wrlock (&guard->lock));
  i = find (guard, cluster);
  if (guard->slots[i] != 0) {
    guard->nr_used--;
    guard->slots[i] = 0;
    /* Move up whatever probing would no longer find past the gap. */
    for (j = next_place (guard, i); guard->slots[j] != 0;
         j = next_place (guard, j)) {
      uint64_t slot = guard->slots[j];

      guard->slots[j] = 0;
      guard->slots[find (guard, slot - 1)] = slot;
    }
  }
  lock_must (pthread_rwlock_unlock (&guard->lock));
}

bool
qcow2_guard_has (struct qcow2_guard *guard, uint64_t cluster)
{
  bool has;

  lock_must (pthread_rwlock_rdlock (&guard->lock));
  has = guard->slots[find (guard, cluster)] != 0;
  lock_must (pthread_rwlock_unlock (&guard->lock));
  return has;
}
