/* Sources that take their time, by chance.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_JITTER_H
#define NDF_TEST_JITTER_H

#include <stdbool.h>

/* From now on, or no longer. */
extern void jitter_set (bool on);

#endif /* NDF_TEST_JITTER_H */
