/* Small valid qcow2 images for the fuzzer to begin with.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CORPUS_QCOW2_H
#define NDF_CORPUS_QCOW2_H

#include <stdbool.h>

#include "qcow2/test-image.h"

#define CORPUS_QCOW2_NR 9

/* Make image number 'i', less than CORPUS_QCOW2_NR, and say what it is.
 * test_image_free frees it.
 */
extern const char *corpus_qcow2_make (unsigned i, struct test_image *t);

#endif /* NDF_CORPUS_QCOW2_H */
