/* Gathering the answer of a lookup.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "image/extent.h"

/* Does 'b', which follows 'a' on the disk, continue it? */
static bool
continues (const struct extent *a, const struct extent *b)
{
  if (a->type != b->type || a->allocated != b->allocated)
    return false;
  switch (a->type) {
  case EXTENT_BACKING:
  case EXTENT_DAMAGED:
    return true;
  case EXTENT_ZERO:
    if (!a->allocated)
      return true;
    /* fall through */
  case EXTENT_DATA:
    return a->src == b->src && a->writable == b->writable &&
      a->host + a->len == b->host;
  case EXTENT_PACKED:
    break;
  }
  return false;
}

bool
extent_list_add (struct extent_list *list, const struct extent *next)
{
  if (list->is_full)
    return false;
  if (list->nr > 0 && continues (&list->ext[list->nr - 1], next))
    list->ext[list->nr - 1].len += next->len;
  else if (list->nr < list->max)
    list->ext[list->nr++] = *next;
  else
    list->is_full = true;
  return !list->is_full;
}
