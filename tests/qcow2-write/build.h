/* Images made by hand, for the tests of writing.
 *
 * Written from the format's description and without the driver's own
 * formatters.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_QCOW2_BUILD_H
#define NDF_TEST_QCOW2_BUILD_H

#include <stdint.h>

#include "source/source.h"

enum shape_features {
  SHAPE_EXTENDED = 1,           /* L2 entries of 16 bytes */
  SHAPE_DATA_FILE = 2,          /* named "data" */
  SHAPE_RAW_DATA = 4,           /* which always reads as the disk */
  SHAPE_BACKING = 8,            /* named "base", raw */
};

struct shape {
  uint32_t version, cluster_bits, order; /* counts of 1 << order bits */
  unsigned features;
  uint64_t len;                 /* of the disk, bytes */
};

#define SHAPE(...) &(const struct shape) { __VA_ARGS__ }

/* What a form may ask for beyond its shape; added in this order. */
enum extras {
  EXTRA_SNAPSHOT = 1,           /* "one", of all that is there */
  EXTRA_AUTOCLEAR = 2,          /* unknown bits of it are set */
  EXTRA_DIRTY = 4,              /* left so by a lazy writer */
};

/* An empty image, in a new memory source that can grow. */
extern struct source *build_image (const struct shape *shape);

/* Give the image, which nobody has open, a snapshot of what it holds. */
extern void build_snapshot (struct source *src, const char *name);

/* Set unknown autoclear bits. */
extern void build_autoclear (struct source *src);

/* Make it one that a lazy writer left: marked dirty, the counts behind. */
extern void build_dirty (struct source *src);

/* Count everything anew, in new refcount structures behind everything, and
 * set the COPIED flags by that.
 */
extern void build_counts (struct source *src);

#endif /* NDF_TEST_QCOW2_BUILD_H */
