/* Saying no while an image is opened.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_REFUSE_H
#define NDF_QCOW2_REFUSE_H

#include <errno.h>

#include "report/report.h"

/* Report, set errno to 'err' and be -1: "return REFUSE (EINVAL, ...)". */
#define REFUSE(err, ...)                                                \
  ({ report_error (__VA_ARGS__); errno = (err); -1; })

/* How messages about damaged structures end. */
#define CHECK_A_COPY "check a copy of the image with qemu-img check"

#endif /* NDF_QCOW2_REFUSE_H */
