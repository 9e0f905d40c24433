/* Looking at everything that an open image tells, and what it may be over.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_LOOK_H
#define NDF_FUZZ_LOOK_H

#include <stdio.h>
#include <stdlib.h>

#include "image/image.h"

/* What is promised must hold for any image. */
#define PROMISE(condition)                                              \
  do {                                                                  \
    if (!(condition)) {                                                 \
      fprintf (stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, \
               #condition);                                             \
      abort ();                                                         \
    }                                                                   \
  } while (0)

/* Look up, ask for the status, read and prefetch here and there on a disk
 * that is not empty.  What fails may fail, but what is answered must make
 * sense.
 */
extern void look_all_over (struct image *img);

/* A raw disk to connect as the backing image, with bytes at 70000. */
extern struct image *look_base (void);

#endif /* NDF_FUZZ_LOOK_H */
