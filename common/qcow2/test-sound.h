/* Is an image sound?  For unit tests.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_TEST_SOUND_H
#define NDF_QCOW2_TEST_SOUND_H

#include <stdint.h>

#include "source/source.h"

/* Compare what the image's tables name with what its refcounts say.
 *
 * Returns the number of clusters that are counted too often (they leak);
 * -1, printed, when one is counted too seldom, is marked as used once and
 * is not, or when the image cannot be opened.
 */
extern int64_t test_sound (struct source *src);

#endif /* NDF_QCOW2_TEST_SOUND_H */
