/* Where a stretch of the virtual disk lives: the answer of a lookup.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_EXTENT_H
#define NDF_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/codec.h"
#include "source/source.h"

enum extent_type {
  EXTENT_DATA,          /* bytes at [host, host+len) of src; what lies past
                           the end of src reads as zeroes */
  EXTENT_ZERO,          /* reads as zeroes */
  EXTENT_BACKING,       /* the backing image's bytes at the same guest
                           offset; zeroes past its end or without one */
  EXTENT_PACKED,        /* part of a compressed unit */
  EXTENT_DAMAGED,       /* reported; reads fail with EIO, writes too */
};

struct extent {
  enum extent_type type;
  uint64_t len;                 /* bytes, > 0 */

  /* EXTENT_DATA; for EXTENT_ZERO with 'allocated', the space in reserve. */
  struct source *src;           /* borrowed */
  uint64_t host;                /* bytes */
  bool writable;                /* may be overwritten in place */
  bool allocated;               /* EXTENT_ZERO, EXTENT_BACKING: host space
                                   is held (so it is no hole) */

  /* EXTENT_PACKED: the stream lies in [host, host+packed_len) of src and
   * decodes to exactly one unit; the extent is its part from 'within' on.
   */
  enum codec codec;
  uint64_t packed_len;          /* bytes, an upper bound */
  uint64_t within;              /* bytes from the start of the unit */
};

/* The answer of a lookup while it grows. */
struct extent_list {
  struct extent *ext;           /* room for 'max' */
  size_t nr, max;
  bool is_full;                 /* nothing fits any more */
};

/* Add what follows on the disk: to the last extent if it continues that,
 * across clusters, pages and tables.  False: it does not fit; the list is
 * full from then on.
 */
extern bool extent_list_add (struct extent_list *list,
                             const struct extent *next);

#endif /* NDF_EXTENT_H */
