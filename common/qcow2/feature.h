/* Incompatible features: those we know, and names for those we do not.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_FEATURE_H
#define NDF_QCOW2_FEATURE_H

#include <stdint.h>

#include "qcow2/header.h"

/* Refuse an image that has incompatible features that we do not know,
 * naming them by the image's own table of feature names if it has one.
 * 'cluster' is cluster 0; the header's shape has been checked.
 *
 * Returns 0; -1, reported, errno ENOTSUP.
 */
extern int qcow2_features_check (const char *name, const uint8_t *cluster,
                                 const struct qcow2_header *h);

#endif /* NDF_QCOW2_FEATURE_H */
