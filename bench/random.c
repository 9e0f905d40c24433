/* Numbers and content that depend on a seed only, so that every server and
 * every run sees the same.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "bench.h"

#define GOLDEN UINT64_C (0x9e3779b97f4a7c15)

uint64_t
random_mix (uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

uint64_t
random_next (uint64_t *state)
{
  *state += GOLDEN;
  return random_mix (*state);
}

/* Eight bytes out of a small vocabulary, as unevenly used as words are. */
static uint64_t
text_word (uint64_t x)
{
  static const char words[16][9] = {
    "        ", "the     ", "of data ", "cluster ", "table at",
    "offset 0", "x0000000", "\n  block", " refers ", "to disk;",
    "image is", " not yet", " written", "reads as", " zeroes\n", "01234567",
  };
  const unsigned a = x & 15, b = (x >> 4) & 15;
  uint64_t w;

  if ((x >> 8 & 7) == 0)
    return x;                   /* now and then something new */
  memcpy (&w, words[a < b ? a : b], sizeof w);
  return w;
}

void
content_fill (void *buf, size_t len, uint64_t guest, uint64_t seed,
              bool noise)
{
  unsigned char *p = buf;
  uint64_t state = random_mix (seed ^ random_mix (guest));
  size_t i;

  for (i = 0; i + 8 <= len; i += 8) {
    uint64_t w = random_next (&state);

    if (!noise)
      w = text_word (w);
    memcpy (p + i, &w, sizeof w);
  }
}

void
content_stamp (void *buf, size_t len, uint64_t guest, uint64_t seed)
{
  unsigned char *p = buf;
  size_t i;

  for (i = 0; i + sizeof (uint64_t) <= len; i += PAGE_LEN) {
    const uint64_t w = random_mix (seed ^ (guest + i + 1));

    memcpy (p + i, &w, sizeof w);
  }
}

static uint64_t
digest_page (const unsigned char *p, uint64_t guest)
{
  uint64_t h = GOLDEN ^ guest, any = 0;
  size_t i;

  for (i = 0; i < PAGE_LEN; i += 8) {
    uint64_t w;

    memcpy (&w, p + i, sizeof w);
    any |= w;
    h = (h ^ w) * UINT64_C (0x2127599bf4325c37);
    h ^= h >> 29;
  }
  return any == 0 ? 0 : random_mix (h);
}

uint64_t
content_digest (const void *buf, size_t len, uint64_t guest)
{
  const unsigned char *p = buf;
  uint64_t sum = 0;
  size_t i;

  for (i = 0; i + PAGE_LEN <= len; i += PAGE_LEN)
    sum += digest_page (p + i, guest + i);
  return sum;
}
