/* The map of holes: made when it pays, believed while nothing changes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "include/checked.h"
#include "source/hole-map.h"

/* Questions without a change between them that are asked one by one: at
 * first, and when no map has paid.
 */
#define MIN_PATIENCE 1
#define MAX_PATIENCE 64

/* A file with more holes than this is asked place by place. */
#define MAX_HOLES 16384

void
hole_map_init (struct hole_map *map)
{
  lock_init (&map->lock);
  map->nr_changes = 0;
  map->stamp = 0;
  map->nr_questions = 0;
  map->patience = MIN_PATIENCE;
  map->is_built = map->is_hopeless = false;
  map->holes = NULL;
  map->nr_holes = 0;
  map->last = (struct hole) { 0, 0 };
}

void
hole_map_destroy (struct hole_map *map)
{
  free (map->holes);
  lock_destroy (&map->lock);
}

/* Ask for the whole file, from its beginning to its end. */
static void
build_locked (struct hole_map *map, struct source *src)
{
  const uint64_t end = source_len (src);
  uint64_t at = 0;

  assert_held (&map->lock);
  map->nr_holes = 0;
  if (map->holes == NULL)
    map->holes = malloc (MAX_HOLES * sizeof *map->holes);
  map->is_hopeless = map->holes == NULL;
  while (at < end && !map->is_hopeless) {
    struct source_extent ext = src->ops->extent (src, at, end - at);

    if (ext.hole && map->nr_holes == MAX_HOLES)
      map->is_hopeless = true;
    else if (ext.hole)
      map->holes[map->nr_holes++] = (struct hole) { at, at + ext.len };
    at += ext.len;
  }
  map->is_built = !map->is_hopeless;
}

/* Something has changed. */
static void
forget_locked (struct hole_map *map, uint64_t now)
{
  if (map->is_built && map->nr_questions < map->nr_holes)
    map->patience = MIN (map->patience * 2, MAX_PATIENCE);
  else if (map->is_built)
    map->patience = MIN_PATIENCE;
  map->stamp = now;
  map->nr_questions = 0;
  map->is_built = map->is_hopeless = false;
  map->last.end = 0;
}

static struct source_extent
look_up_locked (const struct hole_map *map, uint64_t host, uint64_t len)
{
  size_t low = 0, high = map->nr_holes;
  uint64_t next = host + len;

  /* The first hole that ends behind 'host'. */
  while (low < high) {
    const size_t middle = low + (high - low) / 2;

    if (map->holes[middle].end <= host)
      low = middle + 1;
    else
      high = middle;
  }
  if (low < map->nr_holes) {
    const struct hole *hole = &map->holes[low];

    if (hole->start <= host)
      return (struct source_extent) {
        .len = MIN (hole->end - host, len), .hole = true
      };
    next = MIN (next, hole->start);
  }
  return (struct source_extent) { .len = next - host, .hole = false };
}

/* Ask for one place, and keep what is said. */
static struct source_extent
ask (struct hole_map *map, struct source *src, uint64_t host, uint64_t len,
     uint64_t now)
{
  struct source_extent ext =
    src->ops->extent (src, host, MAX (source_len (src), host + len) - host);

  {
    LOCK_SCOPE (&map->lock);
    if (map->stamp == now && map->nr_changes == now) {
      map->last = (struct hole) { host, host + ext.len };
      map->last_is_hole = ext.hole;
    }
  }
  ext.len = MIN (ext.len, len);
  return ext;
}

struct source_extent
hole_map_extent (struct hole_map *map, struct source *src, uint64_t host,
                 uint64_t len)
{
  const uint64_t now = map->nr_changes;

  {
    LOCK_SCOPE (&map->lock);
    if (map->stamp != now)
      forget_locked (map, now);
    if (map->last.start <= host && host < map->last.end)
      return (struct source_extent) {
        .len = MIN (len, map->last.end - host), .hole = map->last_is_hole
      };
    map->nr_questions++;
    if (!map->is_built && !map->is_hopeless &&
        map->nr_questions > map->patience)
      build_locked (map, src);
    /* What changed while it was made may be in it or not. */
    if (map->is_built && map->nr_changes == now)
      return look_up_locked (map, host, len);
  }
  return ask (map, src, host, len, now);
}
