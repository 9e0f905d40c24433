/* A small format of our own that uses all of the driver contract: the
 * tests of the data path open it.  It is part of no plugin.
 *
 * Everything is in units of 4096 bytes, numbers are big-endian:
 *
 *   unit 0          header
 *   then            the directory: one 8-byte entry for each group of 64
 *                   host units: 0, or where the group's count block lies
 *   then            the table: one 8-byte entry for each guest unit
 *   then            guest data and count blocks
 *
 * A count block is the last unit of its group; its first 64 bytes say how
 * often each unit of the group is used.  Guest data may lie in a file of
 * their own, at the places that the counts know.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_H
#define NDF_TOY_H

#include <stdbool.h>
#include <stdint.h>

#include "image/format.h"
#include "source/source.h"

#define TOY_UNIT UINT64_C (4096)
#define TOY_GROUP UINT64_C (64) /* host units that one block counts */

enum toy_features {
  TOY_BACKING = 1,              /* unmapped units read as the backing */
  TOY_NO_ZERO_FLAG = 2,         /* entries cannot say "zero" */
  TOY_DATA_FILE = 4,            /* guest data lie in another source */
};

extern const struct format toy_format;

/* Make an empty image of 'len' bytes in 'src', which it may fill up to
 * 'host_len' bytes.  0, or -1 with errno, reported.
 */
extern int toy_create (struct source *src, uint64_t len, uint64_t host_len,
                       unsigned features);

/* Have two guest units share one place, as snapshots would: the mapping of
 * unit 'from' is given to unit 'to', which has none.  For images that
 * nobody has open.  0, or -1 with errno, reported.
 */
extern int toy_share (struct source *src, uint64_t from, uint64_t to);

/* What toy_check found. */
struct toy_report {
  unsigned nr_errors;
  uint64_t nr_leaks;            /* counted more often than used */
  uint64_t nr_mapped;           /* guest units with a place */
  bool is_dirty;                /* written to and not closed */
};

/* Look through the image in 'src', with its data in 'data' (the same, or
 * the data file).  Errors, printed if 'loud', are: entries out of bounds
 * or with unknown bits, places used more often than counted or used twice
 * in spite of "used once", counts that are off in an image that was closed
 * cleanly.
 */
extern struct toy_report toy_check (struct source *src, struct source *data,
                                    bool loud);

#endif /* NDF_TOY_H */
