/* qcow (version 1) images made by hand, for the tests of writing: as QEMU
 * lays them out, as Xen's tapdisk did, and with what accidents leave.
 *
 * Written from the format's description and without the driver's own
 * formatters.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_QCOW_BUILD_H
#define NDF_TEST_QCOW_BUILD_H

#include <stdint.h>

#include "source/source.h"
#include "bed.h"

enum shape_features {
  SHAPE_BACKING = 1,            /* named "base", raw */
  SHAPE_LONG_NAME = 2,          /* by a longer way */
  SHAPE_L1_FAR = 4,             /* the L1 table lies at 4096 */
  SHAPE_XEN = 8,                /* likewise, and there is Xen's header */
  SHAPE_FORMULA = 16,           /* whole spans in the order of the disk */

  /* What else is there, by cluster; nothing in the last quarter. */
  SHAPE_PLAIN = 32,
  SHAPE_PACKED = 64,            /* streams byte by byte, some serve many */
  SHAPE_FULL = 128,             /* plain clusters in all of the disk */
  SHAPE_TWINS = 256,            /* two entries name one plain cluster */
  SHAPE_ODD = 512,              /* a plain cluster is out of line */
  SHAPE_BEYOND = 1024,          /* one lies behind the end of the file */

  SHAPE_TRAP = 2048,            /* the last L1 entry, of a span where there
                                   is nothing, names the end of the file */
  SHAPE_JUNK = 4096,            /* bytes that nothing refers to, in the
                                   middle and at the end */
};

struct shape {
  unsigned cluster_bits, l2_bits;
  unsigned features;
  uint64_t len;                 /* of the disk, bytes */
};
#define SHAPE(...) &(const struct shape) { __VA_ARGS__ }

/* The image, in a new memory source that can grow. */
extern struct source *build_image (const struct shape *shape);

/* What its disk is to read as: all of it. */
extern void build_expect (const struct form *form, uint8_t *buf);

/* A stream of a cluster of 'len' bytes; its length, less than that. */
extern uint64_t build_stream (const uint8_t *cluster, uint64_t len,
                              uint8_t *stream);

#endif /* NDF_TEST_QCOW_BUILD_H */
