/* The checksum in Xen's extended header.
 *
 * The first four bytes of the MD5 of the L1 table as it lay on disk, taken
 * as a number in the order of the host, stored big endian: on a little
 * endian host the digest's bytes appear reversed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "image/digest.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/judge.h"
#include "qcow/resolve.h"

#define PIECE_ENTRIES 512

static void
digest_of (const uint64_t *table, uint64_t nr, bool big,
           uint8_t digest[DIGEST_MD5_LEN])
{
  uint64_t piece[PIECE_ENTRIES];
  struct digest_md5 md5;

  digest_md5_begin (&md5);
  while (nr > 0) {
    uint64_t nr_now = MIN (nr, (uint64_t) PIECE_ENTRIES), i;

    for (i = 0; i < nr_now; ++i)
      piece[i] = big ? htobe64 (table[i]) : htole64 (table[i]);
    digest_md5_add (&md5, piece, nr_now * 8);
    table += nr_now;
    nr -= nr_now;
  }
  digest_md5_end (&md5, digest);
}

static uint32_t
word_of (const uint8_t digest[DIGEST_MD5_LEN], bool reversed)
{
  uint32_t word = load_be32 (digest);

  return reversed ? __builtin_bswap32 (word) : word;
}

uint32_t
qcow_cksum_of (const uint64_t *table, uint64_t nr, bool big, bool reversed)
{
  uint8_t digest[DIGEST_MD5_LEN];

  digest_of (table, nr, big, digest);
  return word_of (digest, reversed);
}

/* Little endian hosts are the likely ones: first. */
static bool
is_word_of (const struct qcow_header *h,
            const uint8_t digest[DIGEST_MD5_LEN], bool *is_reversed)
{
  *is_reversed = word_of (digest, true) == h->cksum;
  return *is_reversed || word_of (digest, false) == h->cksum;
}

/* A table of zeroes (and of numbers that read the same either way) has one
 * form only: nothing follows from its checksum.
 */
static bool
has_two_forms (const uint64_t *table, uint64_t nr)
{
  uint64_t i;

  for (i = 0; i < nr; ++i)
    if (table[i] != __builtin_bswap64 (table[i]))
      return true;
  return false;
}

enum qcow_cksum
qcow_cksum_find (const struct qcow_header *h, const uint64_t *table,
                 bool *is_reversed)
{
  uint8_t digest[DIGEST_MD5_LEN];

  *is_reversed = false;
  if (!has_two_forms (table, h->nr_l1))
    return QCOW_CKSUM_NONE;
  digest_of (table, h->nr_l1, false, digest);
  if (is_word_of (h, digest, is_reversed))
    return QCOW_CKSUM_LITTLE;
  digest_of (table, h->nr_l1, true, digest);
  if (is_word_of (h, digest, is_reversed))
    return QCOW_CKSUM_BIG;
  return QCOW_CKSUM_NONE;
}
