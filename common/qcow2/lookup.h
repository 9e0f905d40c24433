/* Where a guest range lives: the answer to format.h's lookup.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_LOOKUP_H
#define NDF_QCOW2_LOOKUP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/extent.h"
#include "image/image.h"

/* See format.h.  The image is connected. */
extern ssize_t qcow2_lookup (struct image *img, uint64_t guest, uint64_t len,
                             struct extent *ext, size_t max);

#endif /* NDF_QCOW2_LOOKUP_H */
