/* Start the sanitizers' run time before any library of the server's.
 *
 * wrapper/nbdkit preloads this with the run time, which otherwise starts at
 * the first malloc of whichever library's constructor runs first.  That is
 * p11-kit's, inside newlocale, with the locale lock of the C library held;
 * the run time then looks for an optional symbol, and translating the error
 * that it is missing takes and releases the same lock.  The lock is broken
 * from there on, and nbdkit hangs when it ends after an error.
 *
 * Linked with -z initfirst.  Only in sanitized builds; never installed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

static void __attribute__ ((constructor))
start_run_time (void)
{
  void *volatile p = malloc (1);

  free (p);
}
