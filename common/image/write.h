/* Changing, for the parts of the data path that hold the range lock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_WRITE_H
#define NDF_WRITE_H

#include "image/image.h"

/* Before a request changes anything, and before it takes a lock: may it,
 * is the driver prepared, is there room for more dirty metadata?  0, or
 * -1, reported, errno EROFS, EIO, ENOSPC, ENOMEM.
 */
extern int image_begin_change (struct image *img);

/* As image_write, the caller holding the range lock exclusively, rounded
 * out to the unit.
 */
extern int image_write_exclusive (struct image *img, const void *buf,
                                  uint64_t len, uint64_t guest);

/* The lock of a change: [guest, guest+len) rounded out to the unit. */
extern void image_lock_units (struct image *img, struct range_hold *hold,
                              uint64_t len, uint64_t guest);

#endif /* NDF_WRITE_H */
