/* One reference count in the bytes of a refcount block.
 *
 * A count has 1 << order bits; those of less than a byte begin at the least
 * significant bit.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Refcount block".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_COUNT_H
#define NDF_QCOW2_COUNT_H

#include <stdint.h>

#include "include/byte-order.h"

/* Count number 'i'. */
static inline uint64_t
qcow2_count_load (const uint8_t *bytes, uint64_t i, unsigned order)
{
  switch (order) {
  case 0: return bytes[i / 8] >> (i % 8) & 1;
  case 1: return bytes[i / 4] >> 2 * (i % 4) & 3;
  case 2: return bytes[i / 2] >> 4 * (i % 2) & 15;
  case 3: return bytes[i];
  case 4: return load_be16 (bytes + 2 * i);
  case 5: return load_be32 (bytes + 4 * i);
  default: return load_be64 (bytes + 8 * i);
  }
}

static inline void
qcow2_count_store_bits (uint8_t *byte, unsigned shift, unsigned mask,
                        uint64_t v)
{
  *byte = (*byte & ~(mask << shift)) | v << shift;
}

/* The same, to be changed. */
static inline void
qcow2_count_store (uint8_t *bytes, uint64_t i, unsigned order, uint64_t v)
{
  switch (order) {
  case 0: qcow2_count_store_bits (&bytes[i / 8], i % 8, 1, v); break;
  case 1: qcow2_count_store_bits (&bytes[i / 4], 2 * (i % 4), 3, v); break;
  case 2: qcow2_count_store_bits (&bytes[i / 2], 4 * (i % 2), 15, v); break;
  case 3: bytes[i] = v; break;
  case 4: store_be16 (bytes + 2 * i, v); break;
  case 5: store_be32 (bytes + 4 * i, v); break;
  default: store_be64 (bytes + 8 * i, v); break;
  }
}

#endif /* NDF_QCOW2_COUNT_H */
