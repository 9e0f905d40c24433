/* Range locks: a list in the order of asking.
 *
 * A range is granted when no earlier one in the list, granted or waiting,
 * conflicts with it.  The list is as long as requests are in flight, so
 * walking it is cheap, and nobody is overtaken by somebody he excludes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "image/range-lock.h"

void
range_locks_init (struct range_locks *locks)
{
  lock_init (&locks->lock);
  condition_init (&locks->released);
  locks->first = locks->last = NULL;
  locks->nr_waiting = 0;
}

void
range_locks_destroy (struct range_locks *locks)
{
  assert (locks->first == NULL);
  condition_destroy (&locks->released);
  lock_destroy (&locks->lock);
}

/* Does anything that came before 'hold' keep it waiting? */
static bool
must_wait_locked (struct range_locks *locks, const struct range_hold *hold)
{
  const struct range_hold *h;

  assert_held (&locks->lock);
  for (h = hold->prev; h != NULL; h = h->prev) {
    if ((h->exclusive || hold->exclusive) &&
        h->start < hold->end && hold->start < h->end)
      return true;
  }
  return false;
}

void
range_lock_take (struct range_locks *locks, struct range_hold *hold,
                 uint64_t start, uint64_t end, bool exclusive)
{
  LOCK_SCOPE (&locks->lock);

  assert (start < end);
  *hold = (struct range_hold) {
    .prev = locks->last,
    .start = start,
    .end = end,
    .exclusive = exclusive,
    .locks = locks,
  };
  if (locks->last)
    locks->last->next = hold;
  else
    locks->first = hold;
  locks->last = hold;

  while (must_wait_locked (locks, hold)) {
    locks->nr_waiting++;
    condition_wait (&locks->released, &locks->lock);
    locks->nr_waiting--;
  }
}

void
range_lock_drop (struct range_hold *hold)
{
  struct range_locks *locks = hold->locks;

  if (locks == NULL)
    return;

  LOCK_SCOPE (&locks->lock);
  if (hold->prev)
    hold->prev->next = hold->next;
  else
    locks->first = hold->next;
  if (hold->next)
    hold->next->prev = hold->prev;
  else
    locks->last = hold->prev;
  hold->locks = NULL;
  if (locks->nr_waiting > 0)
    condition_wake_all (&locks->released);
}
