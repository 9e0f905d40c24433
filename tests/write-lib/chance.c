/* Numbers by chance that a seed repeats.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/checked.h"
#include "chance.h"

uint64_t
chance (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
chance_fill (uint64_t *state, uint8_t *buf, uint64_t len)
{
  const unsigned step = chance_below (state, 3) == 0 ? 8 : 64;
  uint64_t v = 0;

  for (uint64_t i = 0; i < len; ++i) {
    if (i % step == 0)
      v = chance (state);
    buf[i] = (v >> (i % 8 * 8)) | 1;
  }
}

void
chance_range (uint64_t *state, uint64_t start, uint64_t end, uint64_t max,
              uint64_t *guest, uint64_t *len)
{
  static const uint64_t grains[] = { 1, 512, 512, 4096, 65536 };
  const uint64_t sizes[] = { 512, 4096, max / 4 + 1, max };
  const uint64_t grain = grains[chance_below (state, 5)];
  uint64_t n = 1 + chance_below (state, sizes[chance_below (state, 4)]);
  uint64_t at = start + chance_below (state, end - start);

  at = MAX (round_down (at, grain), start);
  n = MIN (round_up (n, MIN (grain, max)), end - at);
  *guest = at;
  *len = n;
}
