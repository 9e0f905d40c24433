/* Sources that take their time, by chance: what can happen between two of
 * their calls, or while one is under way, does happen.
 *
 * The linker puts these in the place of the functions (Makefile.am).  No
 * test waits for this time or measures it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdatomic.h>
#include <time.h>

#include "source/source.h"
#include "chance.h"
#include "jitter.h"

static _Atomic bool is_on;
static _Atomic uint64_t counter;

void
jitter_set (bool on)
{
  is_on = on;
}

static void
pause_by_chance (void)
{
  uint64_t state = counter++;

  if (is_on) {
    const struct timespec t = { 0, chance_below (&state, 150) * 1000 };

    if (chance_below (&state, 3) == 0)
      nanosleep (&t, NULL);
  }
}

extern int __real_source_pwrite (struct source *src, const void *buf,
                                 size_t len, uint64_t host);
extern int __wrap_source_pwrite (struct source *src, const void *buf,
                                 size_t len, uint64_t host);
extern int __real_source_sync (struct source *src);
extern int __wrap_source_sync (struct source *src);

int
__wrap_source_pwrite (struct source *src, const void *buf, size_t len,
                      uint64_t host)
{
  pause_by_chance ();
  return __real_source_pwrite (src, buf, len, host);
}

int
__wrap_source_sync (struct source *src)
{
  int r;

  pause_by_chance ();
  r = __real_source_sync (src);
  pause_by_chance ();
  return r;
}
