/* Making the refcounts of an image anew.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_REPAIR_H
#define NDF_QCOW2_REPAIR_H

#include "image/image.h"

/* Count everything in use, write new refcounts behind the end of the file,
 * and let the header name them and be no longer dirty, in one sector.
 * Nothing of cluster 0 and of refcounts may be in the cache, nobody else
 * may change the image.
 *
 * 0; or -1, reported, errno EIO, EFBIG, ENOSPC or ENOMEM, and the image is
 * as it was.
 */
extern int qcow2_repair_counts (struct image *img);

#endif /* NDF_QCOW2_REPAIR_H */
