/* Writing of compressed units.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_PACK_H
#define NDF_PACK_H

#include <stdint.h>

struct image;

/* Store the unit at 'guest' compressed if the wishes are so, if all of it
 * is in buf[0..len-1] (the disk's end ends it, too), and if it gets small
 * enough.  No byte of it may be mapped for writing in place; the range lock
 * is held exclusively.
 *
 * Returns how much of 'buf' that was; 0: nothing was done, write it as it
 * is; -1, reported, errno EIO, ENOSPC, ENOMEM, EFBIG.
 */
extern int64_t image_write_packed (struct image *img, const uint8_t *buf,
                                   uint64_t len, uint64_t guest);

#endif /* NDF_PACK_H */
