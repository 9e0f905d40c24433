/* Changing the size of a disk: see image/resize.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_RESIZE_H
#define NDF_QCOW_RESIZE_H

#include <stdint.h>

#include "image/image.h"

/* format.h, 'resize'. */
extern int qcow_resize (struct image *img, uint64_t len);

#endif /* NDF_QCOW_RESIZE_H */
