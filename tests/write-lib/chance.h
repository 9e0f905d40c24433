/* Numbers by chance that a seed repeats.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_CHANCE_H
#define NDF_TEST_CHANCE_H

#include <stdint.h>

/* The next number of a sequence; any *state will do. */
extern uint64_t chance (uint64_t *state);

static inline uint64_t
chance_below (uint64_t *state, uint64_t bound)
{
  return chance (state) % bound;
}

/* Bytes that tell where and when they were written, never zero; two times of
 * three such that they can be compressed.
 */
extern void chance_fill (uint64_t *state, uint8_t *buf, uint64_t len);

/* A request within [start, end): often small or on a boundary, sometimes
 * 'max' long.
 */
extern void chance_range (uint64_t *state, uint64_t start, uint64_t end,
                          uint64_t max, uint64_t *guest, uint64_t *len);

#endif /* NDF_TEST_CHANCE_H */
