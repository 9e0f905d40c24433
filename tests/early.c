/* What the server needs to run with a sanitizer's run time preloaded: a
 * start before any library of its own, and modules that keep their names.
 *
 * wrapper/nbdkit preloads this with the run time, which otherwise starts at
 * the first malloc of whichever library's constructor runs first.  That is
 * p11-kit's, inside newlocale, with the locale lock of the C library held;
 * the run time then looks for an optional symbol, and translating the error
 * that it is missing takes and releases the same lock.  The lock is broken
 * from there on, and nbdkit hangs when it ends after an error.
 *
 * nbdkit leaks a connection that is open when it ends, with what its filters
 * hang on that.  To tell such leaks from ours, the judge of reports
 * (functions.sh) must know whose code allocated, but nbdkit closes its
 * modules before the report is made.  So those that the system installed
 * stay open.
 *
 * Linked with -z initfirst.  Only in sanitized builds; never installed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__ ((constructor))
start_run_time (void)
{
  void *volatile p = malloc (1);

  free (p);
}

int
dlclose (void *handle)
{
  int (*next) (void *) = (int (*) (void *)) dlsym (RTLD_NEXT, "dlclose");
  struct link_map *map;

  if (dlinfo (handle, RTLD_DI_LINKMAP, &map) == 0 &&
      strncmp (map->l_name, "/usr/", 5) == 0)
    return 0;
  return next (handle);
}
