/* qcow2, versions 2 and 3, as a format.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_H
#define NDF_QCOW2_H

#include "image/format.h"

/* Reading, writing and changing the size; see format.h. */
extern const struct format qcow2_format;

#endif /* NDF_QCOW2_H */
