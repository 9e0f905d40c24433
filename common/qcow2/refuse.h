/* How messages about damaged structures end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_REFUSE_H
#define NDF_QCOW2_REFUSE_H

#include "report/refuse.h"

#define CHECK_A_COPY "check a copy of the image with qemu-img check"

#endif /* NDF_QCOW2_REFUSE_H */
