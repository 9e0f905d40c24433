/* Hand-made qcow2 images in memory, for unit tests and fuzzers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_TEST_IMAGE_H
#define NDF_QCOW2_TEST_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "source/source.h"

/* Cluster 0 is the header, 1 the refcount table, 2 its first block, the L1
 * table begins at 3.  Everything that does not fit ends the test program.
 */
struct test_image {
  uint8_t *bytes;               /* the file; owned */
  size_t len;                   /* bytes, a multiple of the cluster size */
  uint32_t cluster_bits;
  uint32_t cluster_len;
  bool is_extended;
  uint64_t l1_host;
};

/* A valid, empty image. */
extern void test_image_init (struct test_image *t, uint32_t version,
                             uint32_t cluster_bits, uint64_t disk_len,
                             uint64_t incompatible);
extern void test_image_free (struct test_image *t);

/* Store a number of 'width' bytes, big-endian. */
extern void test_image_poke (struct test_image *t, uint64_t host,
                             unsigned width, uint64_t value);
extern uint64_t test_image_peek (const struct test_image *t, uint64_t host,
                                 unsigned width);

/* Add zeroed clusters; where the first begins. */
extern uint64_t test_image_add (struct test_image *t, uint64_t nr_clusters);

/* Set entries as they are on disk.  The L2 table is made when there is
 * none.
 */
extern void test_image_set_l1 (struct test_image *t, uint64_t guest,
                               uint64_t entry);
extern void test_image_set_l2 (struct test_image *t, uint64_t guest,
                               uint64_t entry);
extern void test_image_set_bitmap (struct test_image *t, uint64_t guest,
                                   uint64_t bitmap);

/* Where the L2 entry lies in the file. */
extern uint64_t test_image_l2_place (struct test_image *t, uint64_t guest);

/* Add a data cluster full of 'byte', in place at 'guest'; where it lies. */
extern uint64_t test_image_add_data (struct test_image *t, uint64_t guest,
                                     uint8_t byte);

/* The same, compressed (stored blocks of deflate). */
extern uint64_t test_image_add_packed (struct test_image *t, uint64_t guest,
                                       uint8_t byte);

/* Append a header extension behind those that are there. */
extern void test_image_add_extension (struct test_image *t, uint32_t type,
                                      const void *data, uint32_t len);

/* Put a backing name at the end of cluster 0. */
extern void test_image_set_backing (struct test_image *t, const char *name);

/* Add a snapshot table of 'nr' entries with 'extra_len' bytes of extra
 * data, whose L1 table is the active one.
 */
extern void test_image_add_snapshots (struct test_image *t, unsigned nr,
                                      uint32_t extra_len);

/* Set the refcounts: what the tables and snapshots say, at least 1; and
 * clear COPIED where they are more.  Called last.
 */
extern void test_image_count (struct test_image *t);

/* Open it: as format.h's open says; connected when that succeeded, with no
 * backing image and 'data_source' (taken over).  NULL with errno.
 */
extern struct image *test_image_open (const struct test_image *t,
                                      struct source *data_source);

#endif /* NDF_QCOW2_TEST_IMAGE_H */
