/* CRC-32C (Castagnoli), as RFC 3720 has it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_CRC32C_H
#define NDF_VHDX_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Go on from 'crc', which is 0 at the start; any pieces give the same. */
extern uint32_t crc32c (uint32_t crc, const void *bytes, size_t len);

/* The same without the processor's instruction for it. */
extern uint32_t crc32c_by_tables (uint32_t crc, const void *bytes,
                                  size_t len);

/* Of a structure whose own checksum, four bytes at offset 4, counts as
 * zero; len >= 8.
 */
extern uint32_t crc32c_of_structure (const void *bytes, size_t len);

#endif /* NDF_VHDX_CRC32C_H */
