/* Small VHDX images for the fuzzer to begin with.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CORPUS_VHDX_H
#define NDF_CORPUS_VHDX_H

#include <stddef.h>
#include <stdint.h>

#define CORPUS_VHDX_NR 12

/* Make input number 'i', less than CORPUS_VHDX_NR, for the fuzzer (see
 * input-vhdx.h) and say what it is.  The caller frees *bytes.
 */
extern const char *corpus_vhdx_make (unsigned i, uint8_t **bytes,
                                     size_t *len);

#endif /* NDF_CORPUS_VHDX_H */
