/* qcow version 1 as a format: see image/format.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_H
#define NDF_QCOW_H

#include "image/format.h"

extern const struct format qcow_format;

#endif /* NDF_QCOW_H */
