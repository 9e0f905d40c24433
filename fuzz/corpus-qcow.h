/* Small qcow images for the fuzzer to begin with: as QEMU makes them, and
 * as every tapdisk did.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CORPUS_QCOW_H
#define NDF_CORPUS_QCOW_H

#include <stddef.h>
#include <stdint.h>

#define CORPUS_QCOW_NR 16

/* Make input number 'i', less than CORPUS_QCOW_NR, for the fuzzer (see
 * input-qcow.h) and say what it is.  The caller frees *bytes.
 */
extern const char *corpus_qcow_make (unsigned i, uint8_t **bytes,
                                     size_t *len);

#endif /* NDF_CORPUS_QCOW_H */
