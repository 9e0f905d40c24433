/* Changing numbers in images, for mutators that know a format.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_MUTATE_H
#define NDF_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* The next of a row of 31-bit numbers that depends on *state only. */
extern uint32_t mutate_random (uint64_t *state);

/* Replace the big endian number of 'width' (1, 4, 8) bytes at 'p', in an
 * image of 'len' bytes, by one that sits on some edge.
 */
extern void mutate_number (uint8_t *p, unsigned width, uint64_t *state,
                           size_t len);

#endif /* NDF_FUZZ_MUTATE_H */
