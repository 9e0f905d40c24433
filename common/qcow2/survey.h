/* Every host range that an image's structures name.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_SURVEY_H
#define NDF_QCOW2_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

/* One reference to the clusters that [host, host+len) of the image's file
 * touches.  'copied': the entry says that it is the only one.  -1 stops the
 * survey.
 */
typedef int (*survey_add) (void *opaque, uint64_t host, uint64_t len,
                           bool copied);

/* Name everything in use but the refcount table and its blocks: header, L1
 * and L2 tables and clusters of the disk and of every snapshot, the
 * snapshot table, bitmaps.  Reads the tables from the source, so no change
 * may be pending in the cache.
 *
 * 0; or -1, reported, errno EIO (damage included) or ENOMEM, or what 'add'
 * failed with.  Takes as long as the image has tables.
 */
extern int qcow2_survey (struct image *img, survey_add add, void *opaque);

#endif /* NDF_QCOW2_SURVEY_H */
