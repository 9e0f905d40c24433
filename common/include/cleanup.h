/* Ownership in scopes: what a scope owns is released when it is left.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CLEANUP_H
#define NDF_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void
cleanup_free (void *p)
{
  free (*(void **) p);
}

static inline void
cleanup_close (int *fd)
{
  if (*fd >= 0)
    close (*fd);
}

#define CLEANUP_FREE __attribute__ ((cleanup (cleanup_free)))
#define CLEANUP_CLOSE __attribute__ ((cleanup (cleanup_close)))

/* Take the value out of a variable that would release it: whoever gets the
 * result owns it.
 */
#define STEAL(p)                                                        \
  ({ __typeof__ (p) stolen_ = (p); (p) = NULL; stolen_; })
#define STEAL_FD(fd)                                                    \
  ({ int stolen_ = (fd); (fd) = -1; stolen_; })

#endif /* NDF_CLEANUP_H */
