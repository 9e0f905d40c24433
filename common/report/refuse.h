/* Saying no while something is opened.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_REFUSE_H
#define NDF_REFUSE_H

#include <errno.h>

#include "report/report.h"

/* Report, set errno to 'err' and be -1: "return REFUSE (EINVAL, ...)". */
#define REFUSE(err, ...)                                                \
  ({ report_error (__VA_ARGS__); errno = (err); -1; })

#endif /* NDF_REFUSE_H */
