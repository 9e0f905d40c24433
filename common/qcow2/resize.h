/* Changing the length of the disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_RESIZE_H
#define NDF_QCOW2_RESIZE_H

#include <stdint.h>

#include "image/image.h"

/* format.h: resize. */
extern int qcow2_resize (struct image *img, uint64_t len);

#endif /* NDF_QCOW2_RESIZE_H */
