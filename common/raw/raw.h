/* Raw disks: every byte of the file is the same byte of the disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_RAW_H
#define NDF_RAW_H

#include "image/format.h"

/* The disk is as long as the source, to the byte.  Never probed for.  It
 * keeps no metadata: no cache is made, and a pass only syncs.
 */
extern const struct format raw_format;

#endif /* NDF_RAW_H */
