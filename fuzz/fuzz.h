/* What a fuzz target, libFuzzer and our own drivers of it agree on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_H
#define NDF_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The target: must return 0 and not crash, whatever the bytes. */
extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t len);

/* The target's own way to change an input in place: data[0..len-1] of
 * max_len; returns the new length.
 */
extern size_t LLVMFuzzerCustomMutator (uint8_t *data, size_t len,
                                       size_t max_len, unsigned seed);

/* The general way: libFuzzer's, or that of test-fuzz-*.c. */
extern size_t LLVMFuzzerMutate (uint8_t *data, size_t len, size_t max_len);

#endif /* NDF_FUZZ_H */
