/* What unit tests need: checks that cannot be compiled out.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TESTING_H
#define NDF_TESTING_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* End the test program, red, unless 'condition' holds. */
#define CHECK(condition)                                                \
  do {                                                                  \
    if (!(condition)) {                                                 \
      fprintf (stderr, "%s:%d: not true: %s (errno: %s)\n",             \
               __FILE__, __LINE__, #condition, strerror (errno));       \
      exit (EXIT_FAILURE);                                              \
    }                                                                   \
  } while (0)

/* The expression fails, with this errno. */
#define CHECK_FAILS(expression, err)                                    \
  do {                                                                  \
    errno = 0;                                                          \
    CHECK ((expression) == -1);                                         \
    CHECK (errno == (err));                                             \
  } while (0)

#endif /* NDF_TESTING_H */
