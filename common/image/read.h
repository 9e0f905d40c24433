/* Reading, for the parts of the data path that hold the range lock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_READ_H
#define NDF_READ_H

#include "image/image.h"

/* Extents that the data path asks for at once. */
#define NR_EXTENTS 16

/* The same for status, whose answers are long. */
#define NR_STATUS_EXTENTS 64

/* As image_read, the caller holding the range lock of 'img' (of its
 * backing images nobody needs one: they do not change).
 */
extern int image_read_locked (struct image *img, void *buf, uint64_t len,
                              uint64_t guest);

/* Does the range read as zeroes, as far as the tables tell?  A bounded
 * look: false when it would take long.  1, 0, or -1 as lookup.
 */
extern int image_is_zero_locked (struct image *img, uint64_t len,
                                 uint64_t guest);

/* Lookup with a check of what a driver owes its caller. */
extern ssize_t image_lookup (struct image *img, uint64_t guest, uint64_t len,
                             struct extent *ext, size_t max);

#endif /* NDF_READ_H */
