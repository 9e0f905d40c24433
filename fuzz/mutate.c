/* Changing numbers in images, for mutators that know a format.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "mutate.h"

uint32_t
mutate_random (uint64_t *state)
{
  *state = *state * UINT64_C (6364136223846793005) + 1442695040888963407;
  return *state >> 33;
}

static uint64_t
edge_number (uint64_t *state, uint64_t old, size_t len)
{
  static const uint64_t edges[] = {
    0, 1, 2, 3, 7, 8, 16, 31, 32, 63, 64, 72, 104, 112, 511, 512, 1023,
    1024, 4096, 65535, 65536, 65537, 1 << 20, 4194304, 4194305,
    INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,
    UINT64_C (1) << 63, UINT64_C (1) << 62, UINT64_C (1) << 56,
    UINT64_C (0x00fffffffffffe00),
  };
  uint64_t edge = edges[mutate_random (state)
                        % (sizeof edges / sizeof edges[0])];

  switch (mutate_random (state) % 8) {
  case 0: return old + 1;
  case 1: return old - 1;
  case 2: return old ^ UINT64_C (1) << mutate_random (state) % 64;
  case 3: return old + edge;
  case 4: return len;
  case 5: return mutate_random (state) % (len + 512) & ~UINT64_C (511);
  default: return edge;
  }
}

void
mutate_number (uint8_t *p, unsigned width, uint64_t *state, size_t len)
{
  switch (width) {
  case 1: *p = edge_number (state, *p, len); break;
  case 4: store_be32 (p, edge_number (state, load_be32 (p), len)); break;
  default: store_be64 (p, edge_number (state, load_be64 (p), len)); break;
  }
}
