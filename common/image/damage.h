/* Damage met while an image is in use: told, but not without end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_DAMAGE_H
#define NDF_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "include/lock.h"

/* So many places are told of each image. */
#define DAMAGE_MAX_PLACES 16

struct damage_log {
  struct lock lock;             /* a leaf */
  uint64_t places[DAMAGE_MAX_PLACES];   /* guarded by lock */
  unsigned nr_places;                   /* guarded by lock */
  bool has_said_more;                   /* guarded by lock */
};

extern void damage_log_init (struct damage_log *log);
extern void damage_log_destroy (struct damage_log *log);

/* Tell of damage at byte 'host' of the image 'name', once for each place;
 * when there are too many, that there are.  Threads: any.
 */
extern void damage_log_report (struct damage_log *log, const char *name,
                               uint64_t host, const char *fmt, ...)
  __attribute__ ((format (printf, 4, 5)));

#endif /* NDF_DAMAGE_H */
