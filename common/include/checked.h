/* Arithmetic on numbers that did not come from us.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CHECKED_H
#define NDF_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* True when the result does not fit; *r is then meaningless. */
#define ADD_OVERFLOW(a, b, r) __builtin_add_overflow (a, b, r)
#define MUL_OVERFLOW(a, b, r) __builtin_mul_overflow (a, b, r)

/* Each use names its variables anew, so that uses can nest. */
#define CHECKED_PASTE_(a, b) a##b
#define CHECKED_NAME_(a, b) CHECKED_PASTE_ (a, b)
#define PICK_(op, a, b, x, y)                                           \
  ({ __typeof__ (a) x = (a); __typeof__ (b) y = (b); x op y ? x : y; })
#define MIN(a, b)                                                       \
  PICK_ (<, a, b, CHECKED_NAME_ (x_, __COUNTER__),                      \
         CHECKED_NAME_ (y_, __COUNTER__))
#define MAX(a, b)                                                       \
  PICK_ (>, a, b, CHECKED_NAME_ (x_, __COUNTER__),                      \
         CHECKED_NAME_ (y_, __COUNTER__))

/* 'unit' is a power of two.  round_up wraps when v is within 'unit' of
 * 2^64: check before.
 */
static inline uint64_t
round_down (uint64_t v, uint64_t unit)
{
  return v & ~(unit - 1);
}

static inline uint64_t
round_up (uint64_t v, uint64_t unit)
{
  return (v + unit - 1) & ~(unit - 1);
}

/* How many units cover v; any unit but 0, any v. */
static inline uint64_t
div_round_up (uint64_t v, uint64_t unit)
{
  return v / unit + (v % unit != 0);
}

static inline bool
is_power_of_2 (uint64_t v)
{
  return v != 0 && (v & (v - 1)) == 0;
}

/* Does [start, start+len) lie inside [0, limit), without wrapping? */
static inline bool
range_is_inside (uint64_t start, uint64_t len, uint64_t limit)
{
  return start <= limit && len <= limit - start;
}

#endif /* NDF_CHECKED_H */
