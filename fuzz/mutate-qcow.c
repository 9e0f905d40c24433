/* The qcow fuzzer's mutator: it knows where the fields of the header, with
 * Xen's, and the entries of the tables are, since blind changes seldom get
 * past the header.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "fuzz.h"
#include "image/digest.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "input-qcow.h"
#include "mutate.h"
#include "qcow/header.h"

static void
change_header (uint8_t *data, size_t len, uint64_t *state)
{
  static const struct { uint8_t at, width; } fields[] = {
    { 4, 4 }, { 8, 8 }, { 16, 4 }, { 20, 4 }, { 24, 8 }, { 32, 1 },
    { 33, 1 }, { INPUT_AT_FAR, 1 }, { INPUT_AT_CUT, 1 }, { 36, 4 },
    { 40, 8 }, { 48, 4 }, { 52, 4 }, { 56, 4 }, { 60, 4 }, { 63, 1 },
    { 64, 1 },
  };
  unsigned i = mutate_random (state) % (sizeof fields / sizeof fields[0]);

  mutate_number (data + fields[i].at, fields[i].width, state, len);
}

/* What tapdisks disagree about. */
static void
change_xen (uint8_t *data, uint64_t *state)
{
  switch (mutate_random (state) % 5) {
  case 0: store_be32 (data + 48, QCOW_XEN_MAGIC); break;
  case 1: store_be32 (data + 48, QCOW_XEN_MAGIC_REVERSED); break;
  case 2: data[63] ^= QCOW_XEN_BIG_ENDIAN; break;
  case 3: data[63] ^= QCOW_XEN_SPARSE; break;
  case 4: store_be32 (data + 56, 1 << data[33] % 16); break;
  }
}

static uint64_t
nr_l1 (const uint8_t *data)
{
  unsigned bits = (data[32] + data[33]) % 64;

  return (load_be64 (data + 24) >> bits) + 1;
}

/* The checksum of the table as it lies there. */
static void
renew_cksum (uint8_t *data, size_t len)
{
  uint64_t table = load_be64 (data + 40);
  uint64_t nr = nr_l1 (data);
  uint8_t digest[DIGEST_MD5_LEN];
  struct digest_md5 md5;

  if (nr > len || table > len || nr * 8 > len - table)
    return;
  digest_md5_begin (&md5);
  digest_md5_add (&md5, data + table, nr * 8);
  digest_md5_end (&md5, digest);
  store_be32 (data + 52, load_le32 (digest));
}

static uint64_t
random_place (uint64_t *state, size_t len)
{
  return mutate_random (state) % len & ~UINT64_C (511);
}

/* An entry of the L1 table. */
static void
change_l1 (uint8_t *data, size_t len, uint64_t *state)
{
  uint64_t table = load_be64 (data + 40), at;

  if (table >= len)
    return;
  at = table + mutate_random (state) % MIN (nr_l1 (data), UINT64_C (512)) * 8;
  if (!range_is_inside (at, 8, len))
    return;
  switch (mutate_random (state) % 7) {
  case 0: case 1:
    store_be64 (data + at, load_le64 (data + at)); break;
  case 2: store_be64 (data + at, random_place (state, len)); break;
  case 3: store_le64 (data + at, random_place (state, len)); break;
  case 4: mutate_number (data + at, 8, state, len); break;
  case 5: memmove (data + at, data + table, 8); break;
  case 6: memset (data + at, 0, 8); break;
  }
}

/* An entry of an L2 table. */
static void
change_l2 (uint8_t *data, size_t len, uint64_t *state)
{
  uint64_t l1 = load_be64 (data + 40), table, at;
  unsigned bits = 63 - data[32] % 32;

  if (l1 >= len || !range_is_inside (l1, 64, len))
    return;
  table = load_be64 (data + l1 + mutate_random (state) % 8 * 8);
  if (table >= len)
    table = __builtin_bswap64 (table);
  at = table + mutate_random (state) % 64 * 8;
  if (table >= len || !range_is_inside (at, 8, len))
    return;
  switch (mutate_random (state) % 4) {
  case 0: mutate_number (data + at, 8, state, len); break;
  case 1: store_be64 (data + at, random_place (state, len)); break;
  case 2: memmove (data + at, data + table, 8); break;
  case 3:
    store_be64 (data + at, UINT64_C (1) << 63 |
                (uint64_t) (mutate_random (state) % 64) << bits |
                mutate_random (state) % len);
    break;
  }
}

/* Copy a page, whatever it is, to another place. */
static void
copy_page (uint8_t *data, size_t len, uint64_t *state)
{
  uint64_t from = random_place (state, len);
  uint64_t to = random_place (state, len);

  memmove (data + to, data + from, MIN (len - MAX (from, to), (size_t) 512));
}

size_t
LLVMFuzzerCustomMutator (uint8_t *data, size_t len, size_t max_len,
                         unsigned seed)
{
  uint64_t state = seed;
  unsigned nr = 1 + mutate_random (&state) % 4;

  if (len < 512 || mutate_random (&state) % 6 == 0)
    return LLVMFuzzerMutate (data, len, max_len);
  while (nr-- > 0) {
    switch (mutate_random (&state) % 8) {
    case 0: change_header (data, len, &state); break;
    case 1: change_xen (data, &state); break;
    case 2: renew_cksum (data, len); break;
    case 3: copy_page (data, len, &state); break;
    case 4: case 5: change_l1 (data, len, &state); break;
    default: change_l2 (data, len, &state); break;
    }
  }
  return len;
}
