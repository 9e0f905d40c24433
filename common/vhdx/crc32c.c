/* CRC-32C, eight bytes a step: by the processor's instruction, or from eight
 * tables, which are made once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>
#include <stdbool.h>

#include "include/byte-order.h"
#include "vhdx/crc32c.h"

/* The polynomial 0x1edc6f41, bits reversed. */
#define POLYNOMIAL UINT32_C (0x82f63b78)

/* table[k][b]: what byte b does to the remainder k bytes later.  Constant
 * after 'once'.
 */
static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
make_tables (void)
{
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t r = b;

    for (unsigned bit = 0; bit < 8; ++bit)
      r = r >> 1 ^ (r & 1 ? POLYNOMIAL : 0);
    table[0][b] = r;
  }
  for (unsigned k = 1; k < 8; ++k)
    for (uint32_t b = 0; b < 256; ++b)
      table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xff];
}

uint32_t
crc32c_by_tables (uint32_t crc, const void *bytes, size_t len)
{
  const uint8_t *p = bytes;

  pthread_once (&once, make_tables);
  crc = ~crc;
  for (; len >= 8; p += 8, len -= 8) {
    const uint32_t low = load_le32 (p) ^ crc;
    const uint32_t high = load_le32 (p + 4);

    crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^
      table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^
      table[3][high & 0xff] ^ table[2][high >> 8 & 0xff] ^
      table[1][high >> 16 & 0xff] ^ table[0][high >> 24];
  }
  for (; len > 0; ++p, --len)
    crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
  return ~crc;
}

#ifdef __x86_64__

static bool
has_instruction (void)
{
  return __builtin_cpu_supports ("sse4.2");
}

__attribute__ ((target ("sse4.2")))
static uint32_t
by_instruction (uint32_t crc, const void *bytes, size_t len)
{
  const uint8_t *p = bytes;
  uint64_t r = ~crc;

  for (; len >= 8; p += 8, len -= 8)
    r = __builtin_ia32_crc32di (r, load_le64 (p));
  for (; len > 0; ++p, --len)
    r = __builtin_ia32_crc32qi (r, *p);
  return ~(uint32_t) r;
}

#else /* !__x86_64__ */

static bool
has_instruction (void)
{
  return false;
}

#define by_instruction crc32c_by_tables

#endif /* !__x86_64__ */

uint32_t
crc32c (uint32_t crc, const void *bytes, size_t len)
{
  return has_instruction () ? by_instruction (crc, bytes, len)
    : crc32c_by_tables (crc, bytes, len);
}

uint32_t
crc32c_of_structure (const void *bytes, size_t len)
{
  static const uint8_t zero[4];
  const uint8_t *p = bytes;
  uint32_t crc = crc32c (0, p, 4);

  crc = crc32c (crc, zero, sizeof zero);
  return crc32c (crc, p + 8, len - 8);
}
