/* Bytes on disk to numbers in memory and back.
 *
 * Every multi-byte field of an image is read and written through these,
 * from a byte pointer of any alignment; a value in a variable is always in
 * host order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_BYTE_ORDER_H
#define NDF_BYTE_ORDER_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Define load_NAME and store_NAME for unsigned numbers of 'bits' bits. */
#define DEFINE_BYTE_ORDER(bits, name, from_disk, to_disk)               \
  static inline uint##bits##_t                                          \
  load_##name (const void *p)                                           \
  {                                                                     \
    uint##bits##_t v;                                                   \
                                                                        \
    memcpy (&v, p, sizeof v);                                           \
    return from_disk (v);                                               \
  }                                                                     \
                                                                        \
  static inline void                                                    \
  store_##name (void *p, uint##bits##_t v)                              \
  {                                                                     \
    v = to_disk (v);                                                    \
    memcpy (p, &v, sizeof v);                                           \
  }

DEFINE_BYTE_ORDER (16, be16, be16toh, htobe16)
DEFINE_BYTE_ORDER (32, be32, be32toh, htobe32)
DEFINE_BYTE_ORDER (64, be64, be64toh, htobe64)
DEFINE_BYTE_ORDER (16, le16, le16toh, htole16)
DEFINE_BYTE_ORDER (32, le32, le32toh, htole32)
DEFINE_BYTE_ORDER (64, le64, le64toh, htole64)

/* One 8-byte table entry in a page that others read without a lock.
 * 'p' is 8-aligned.  Release and acquire: what was written before an entry
 * became visible is seen by whoever sees the entry.
 */
static inline uint64_t
load_entry_be64 (const void *p)
{
  return be64toh (__atomic_load_n ((const uint64_t *) p, __ATOMIC_ACQUIRE));
}

static inline void
store_entry_be64 (void *p, uint64_t v)
{
  __atomic_store_n ((uint64_t *) p, htobe64 (v), __ATOMIC_RELEASE);
}

/* The same for formats in little endian. */
static inline uint64_t
load_entry_le64 (const void *p)
{
  return le64toh (__atomic_load_n ((const uint64_t *) p, __ATOMIC_ACQUIRE));
}

static inline void
store_entry_le64 (void *p, uint64_t v)
{
  __atomic_store_n ((uint64_t *) p, htole64 (v), __ATOMIC_RELEASE);
}

/* How many of the 'nr' entries from 'p' on, 8-aligned, are zero, before the
 * first that is not?
 */
static inline uint64_t
count_zero_words (const void *p, uint64_t nr)
{
  const uint8_t *bytes = p;
  uint64_t i = 0, j;

  for (; i + 8 <= nr; i += 8) {
    uint64_t any = 0;

    for (j = 0; j < 8; ++j)
      any |= load_entry_be64 (bytes + (i + j) * 8);
    if (any != 0)
      break;
  }
  while (i < nr && load_entry_be64 (bytes + i * 8) == 0)
    i++;
  return i;
}

#endif /* NDF_BYTE_ORDER_H */
