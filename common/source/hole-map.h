/* A map of the holes of a source that nobody changes.
 *
 * Asking the host for the extent at one place may cost as much as asking
 * for the whole file (SEEK_HOLE walks to the next hole, wherever it is),
 * and status of a fragmented image asks for thousands of places.  So the
 * last answer is kept; and when a second question follows that it does not
 * answer, and nothing changed between them, the whole file is asked for
 * once; the map answers from then on, until something changes.  Where maps
 * are lost before they have saved what they cost, it takes more questions
 * to make the next.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_HOLE_MAP_H
#define NDF_SOURCE_HOLE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/lock.h"
#include "source/source.h"

struct hole {
  uint64_t start, end;          /* bytes */
};

struct hole_map {
  struct lock lock;             /* held while the host is asked */
  _Atomic uint64_t nr_changes;  /* grows when a change begins, and ends */
  uint64_t stamp;               /* of the map or of the last question */
  uint64_t nr_questions;        /* since then, or to the map */
  uint64_t patience;            /* questions asked one by one */
  bool is_built;                /* the map is true while nr_changes is
                                   'stamp' */
  bool is_hopeless;             /* too many holes, likewise */
  struct hole *holes;           /* in order, disjoint; owned */
  size_t nr_holes;
  struct hole last;             /* what the host said last, likewise, which
                                   is a hole or not; end 0: nothing */
  bool last_is_hole;
};

extern void hole_map_init (struct hole_map *map);
extern void hole_map_destroy (struct hole_map *map);

/* Around every change of the source. */
static inline void
hole_map_note_change (struct hole_map *map)
{
  map->nr_changes++;
}

/* What begins at 'host', inside the source's length; see source_extent.
 * src->ops->extent is not NULL.  Threads: any.
 */
extern struct source_extent hole_map_extent (struct hole_map *map,
                                             struct source *src,
                                             uint64_t host, uint64_t len);

#endif /* NDF_SOURCE_HOLE_MAP_H */
