/* Changing the length of a disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_RESIZE_H
#define NDF_RESIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

/* Make the disk 'len' bytes long, rounded up to 512; what is added reads
 * as zeroes.  The image is open for writing and nobody else uses it.
 *
 * 0, durably; -1, reported, errno EINVAL where it is shorter than now and
 * 'may_shrink' is false, ENOTSUP, EFBIG, ENOSPC, EROFS, EIO, ENOMEM: the
 * disk has its old length then.  At any moment before, too, it has the old
 * length or the new one.
 */
extern int image_resize (struct image *img, uint64_t len, bool may_shrink);

/* For drivers: img->len has grown from 'from'; have what is new read as
 * zeroes, whatever the tables, the last unit or the backing image hold.
 */
extern int image_zero_new_part (struct image *img, uint64_t from);

#endif /* NDF_RESIZE_H */
