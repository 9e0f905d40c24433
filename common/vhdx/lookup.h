/* format.h, 'lookup'.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_LOOKUP_H
#define NDF_VHDX_LOOKUP_H

#include "image/image.h"

extern ssize_t vhdx_lookup (struct image *img, uint64_t guest, uint64_t len,
                            struct extent *ext, size_t max);

#endif /* NDF_VHDX_LOOKUP_H */
