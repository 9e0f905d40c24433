/* Tables for clusters whose places are known: what making an image and
 * converting one in place have in common.
 *
 * The caller says which guest ranges lie where, and from which place in the
 * file on there is room; the builder lays out there, one behind the other,
 *
 *   refcount table, refcount blocks, L1 table, L2 tables, room for data
 *
 * and writes them, streaming.  Only when all of it is durable, one sector
 * makes an image of the file: before that it is what it was, as far as the
 * first sector tells.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_BUILD_H
#define NDF_QCOW2_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "qcow2/extension.h"
#include "qcow2/header.h"
#include "source/source.h"

/* The only part of the header that is written in one go. */
#define BUILD_SECTOR_LEN 512

enum build_kind {
  BUILD_DATA,                   /* neighbouring clusters of data */
  BUILD_RESERVED,               /* the same, without contents so far
                                   (extended L2 entries only) */
  BUILD_ZERO,                   /* reads as zeroes (version 3 only) */
  BUILD_PACKED,                 /* one compressed cluster */
};

/* A run of clusters. */
struct build_run {
  enum build_kind kind;
  uint64_t guest;               /* bytes, a multiple of the cluster size */
  uint64_t len;                 /* bytes, likewise; > 0 */
  uint64_t host;                /* bytes; of the stream if packed */
  uint64_t packed_len;          /* bytes; BUILD_PACKED */
  bool is_shared;               /* its clusters are counted more than once */
};

struct qcow2_build {
  struct source *src;

  /* Everything but the fields of the tables and of the backing name. */
  struct qcow2_header header;
  const struct extension_list *extensions;
  const char *backing_name;     /* NULL: none */

  /* The first run that ends after 'guest'; guest order, no overlaps.  1, or
   * 0 when there is none, or -1, reported.  Called for the whole disk once
   * by the plan, which needs only guest and len, and again for writing.
   */
  int (*next) (void *opaque, uint64_t guest, struct build_run *run);

  /* How often is a cluster before 'host' used?  Not asked of cluster 0.
   * NULL: never.
   */
  uint64_t (*count) (void *opaque, uint64_t cluster);
  void *opaque;

  uint64_t host;                /* room begins here; a multiple of the
                                   cluster size, > 0 */
  uint64_t data_len;            /* bytes of room to be counted for data */
  bool only_sector;             /* bytes behind the first sector must not
                                   change: the header has to fit into it */
};

/* Where everything goes, in bytes. */
struct build_plan {
  uint64_t table_host;
  uint64_t table_clusters;
  uint64_t blocks_host;
  uint64_t nr_blocks;
  uint64_t l1_host;
  uint64_t nr_l1;               /* entries */
  uint64_t l2_host;
  uint64_t nr_l2;               /* tables */
  uint64_t data_host;
  uint64_t end;
  bool reads_zero;              /* the room does, as yet */
};

/* Lay it out and find out whether it is possible: within the limits of the
 * format, in the room that the source has, the header in its cluster.
 * Changes nothing.
 *
 * 0; -1, reported, errno EFBIG, ENOSPC, EINVAL, or what b->next said.
 */
extern int qcow2_build_plan (const struct qcow2_build *b,
                             struct build_plan *plan);

/* Write everything but the first sector, and make it durable, with what
 * the caller has written to the source before.
 *
 * 0; -1, reported, errno EIO, ENOSPC, ENOMEM, or what b->next said.
 */
extern int qcow2_build_write (const struct qcow2_build *b,
                              const struct build_plan *plan);

/* Write the first sector, durably.  -1, reported, errno EIO, ENOMEM: it is
 * then uncertain whether there is an image.
 */
extern int qcow2_build_commit (const struct qcow2_build *b,
                               const struct build_plan *plan);

#endif /* NDF_QCOW2_BUILD_H */
