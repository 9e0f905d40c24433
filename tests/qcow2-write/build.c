/* Images made by hand.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/memory.h"
#include "build.h"
#include "check.h"

#define COPIED (UINT64_C (1) << 63)
#define PACKED (UINT64_C (1) << 62)
#define HOST_BITS UINT64_C (0x00fffffffffffe00)

#define LIMIT (UINT64_C (1) << 40)

static uint64_t
peek (struct source *src, uint64_t host, unsigned width)
{
  uint8_t bytes[8];

  CHECK (source_pread_padded (src, bytes, width, host) == 0);
  switch (width) {
  case 1: return bytes[0];
  case 2: return load_be16 (bytes);
  case 4: return load_be32 (bytes);
  default: return load_be64 (bytes);
  }
}

static void
poke (struct source *src, uint64_t host, unsigned width, uint64_t value)
{
  uint8_t bytes[8];

  switch (width) {
  case 1: bytes[0] = value; break;
  case 2: store_be16 (bytes, value); break;
  case 4: store_be32 (bytes, value); break;
  default: store_be64 (bytes, value); break;
  }
  CHECK (source_pwrite (src, bytes, width, host) == 0);
}

static uint64_t
cluster_len (struct source *src)
{
  return UINT64_C (1) << peek (src, 20, 4);
}

/* Where new clusters go; they are zero. */
static uint64_t
append (struct source *src, uint64_t len)
{
  const uint64_t host = round_up (source_len (src), cluster_len (src));

  CHECK (source_grow (src, host + round_up (len, cluster_len (src))) == 0);
  return host;
}

/* ---- an empty image */

static uint64_t
put_extension (struct source *src, uint64_t at, uint32_t type,
               const char *text)
{
  poke (src, at, 4, type);
  poke (src, at + 4, 4, strlen (text));
  CHECK (source_pwrite (src, text, strlen (text), at + 8) == 0);
  return at + 8 + round_up (strlen (text), 8);
}

static void
put_names (struct source *src, const struct shape *s)
{
  uint64_t at = s->version >= 3 ? 112 : 72;

  if (s->features & SHAPE_BACKING)
    at = put_extension (src, at, 0xe2792aca, "raw");
  if (s->features & SHAPE_DATA_FILE)
    at = put_extension (src, at, 0x44415441, "data");
  if (s->features & SHAPE_BACKING) {
    at += 8;                    /* the end of the extensions */
    CHECK (source_pwrite (src, "base", 4, at) == 0);
    poke (src, 8, 8, at);
    poke (src, 16, 4, 4);
  }
}

static void
put_features (struct source *src, const struct shape *s)
{
  uint64_t incompatible = 0, autoclear = 0;

  if (s->features & SHAPE_DATA_FILE)
    incompatible |= 4;
  if (s->features & SHAPE_EXTENDED)
    incompatible |= 16;
  if (s->features & SHAPE_RAW_DATA)
    autoclear |= 2;
  poke (src, 72, 8, incompatible);
  poke (src, 88, 8, autoclear);
  poke (src, 96, 4, s->order);
  poke (src, 100, 4, 112);
}

/* A raw data file needs every cluster mapped. */
static void
map_everything (struct source *src, const struct shape *s)
{
  const uint64_t c = cluster_len (src);
  const unsigned step = s->features & SHAPE_EXTENDED ? 16 : 8;
  uint64_t guest;

  for (guest = 0; guest < s->len; guest += c) {
    const uint64_t index = guest / c;
    const uint64_t l1_at = peek (src, 40, 8) + index / (c / step) * 8;
    uint64_t l2 = peek (src, l1_at, 8) & HOST_BITS;

    if (l2 == 0) {
      l2 = append (src, c);
      poke (src, l1_at, 8, l2 | COPIED);
    }
    poke (src, l2 + index % (c / step) * step, 8, guest | COPIED);
    if (step == 16)
      poke (src, l2 + index % (c / step) * step + 8, 8, UINT32_MAX);
  }
}

struct source *
build_image (const struct shape *s)
{
  const uint64_t c = UINT64_C (1) << s->cluster_bits;
  const uint64_t span = c / (s->features & SHAPE_EXTENDED ? 16 : 8) * c;
  const uint64_t l1_size = div_round_up (s->len, span);
  struct source *src = source_memory ("image", 0, LIMIT);

  CHECK (src != NULL);
  CHECK (source_grow (src, 3 * c) == 0);
  poke (src, 0, 4, 0x514649fb);
  poke (src, 4, 4, s->version);
  poke (src, 20, 4, s->cluster_bits);
  poke (src, 24, 8, s->len);
  poke (src, 36, 4, l1_size);
  if (s->version >= 3)
    put_features (src, s);
  put_names (src, s);
  poke (src, 40, 8, append (src, l1_size * 8));
  if (s->features & SHAPE_RAW_DATA)
    map_everything (src, s);
  build_counts (src);
  return src;
}

/* ---- a snapshot */

void
build_snapshot (struct source *src, const char *name)
{
  const uint64_t l1_len = peek (src, 36, 4) * 8;
  const uint64_t nr = peek (src, 60, 4);
  const uint64_t l1 = append (src, l1_len);
  CLEANUP_FREE uint8_t *bytes = malloc (l1_len);
  uint64_t table, at;

  CHECK (bytes != NULL);
  /* One is enough: more would have the others' entries copied. */
  CHECK (nr == 0);
  CHECK (source_pread_padded (src, bytes, l1_len, peek (src, 40, 8)) == 0);
  CHECK (source_pwrite (src, bytes, l1_len, l1) == 0);

  at = table = append (src, 64 + 1 + strlen (name));
  poke (src, at, 8, l1);
  poke (src, at + 8, 4, l1_len / 8);
  poke (src, at + 12, 2, 1);
  poke (src, at + 14, 2, strlen (name));
  poke (src, at + 36, 4, 24);
  poke (src, at + 48, 8, peek (src, 24, 8));
  CHECK (source_pwrite (src, "1", 1, at + 64) == 0);
  CHECK (source_pwrite (src, name, strlen (name), at + 65) == 0);
  poke (src, 60, 4, 1);
  poke (src, 64, 8, table);
  build_counts (src);
}

/* ---- refcounts */

static void
put_count (uint8_t *block, uint64_t i, unsigned order, uint64_t count)
{
  const unsigned width = 1u << order;

  CHECK (width == 64 || count >> width == 0);
  if (width < 8)
    block[i * width / 8] |= count << i * width % 8;
  else if (width == 8)
    block[i] = count;
  else if (width == 16)
    store_be16 (block + 2 * i, count);
  else if (width == 32)
    store_be32 (block + 4 * i, count);
  else
    store_be64 (block + 8 * i, count);
}

static void
set_copied (struct source *src, uint64_t at, const uint64_t *refs)
{
  const uint64_t entry = peek (src, at, 8);
  const uint64_t host = entry & HOST_BITS;

  if (host == 0 || (entry & PACKED))
    return;
  poke (src, at, 8, (entry & ~COPIED) |
        (refs[host / cluster_len (src)] == 1 ? COPIED : 0));
}

static void
set_copied_all (struct source *src, const uint64_t *refs)
{
  const uint64_t c = cluster_len (src);
  const uint64_t l1 = peek (src, 40, 8), l1_end = l1 + peek (src, 36, 4) * 8;
  const uint64_t incompatible =
    peek (src, 4, 4) >= 3 ? peek (src, 72, 8) : 0;
  const unsigned step = incompatible & 16 ? 16 : 8;
  uint64_t l1_at, at;

  for (l1_at = l1; l1_at < l1_end; l1_at += 8) {
    const uint64_t l2 = peek (src, l1_at, 8) & HOST_BITS;

    if (l2 == 0)
      continue;
    set_copied (src, l1_at, refs);
    for (at = l2; at < l2 + c && !(incompatible & 4); at += step)
      set_copied (src, at, refs);
  }
}

void
build_counts (struct source *src)
{
  const uint64_t c = cluster_len (src);
  const unsigned order = peek (src, 4, 4) >= 3 ? peek (src, 96, 4) : 4;
  const uint64_t per_block = c * 8 >> order;
  uint64_t nr, nr_blocks = 0, nr_table, total, first, i;
  CLEANUP_FREE uint64_t *refs = NULL;
  CLEANUP_FREE uint8_t *blocks = NULL;

  /* What must not be counted must not be there. */
  poke (src, 48, 8, 2 * c);
  poke (src, 56, 4, 1);
  CHECK (source_zero (src, c, 2 * c, SOURCE_ZERO_KEEP) == 0);
  first = append (src, 0) / c;
  do {
    nr_blocks++;
    nr_table = div_round_up (nr_blocks * 8, c);
    total = first + nr_table + nr_blocks;
  } while (nr_blocks * per_block < total);
  CHECK (append (src, (nr_table + nr_blocks) * c) == first * c);

  refs = check_references (src, &nr);
  CHECK (nr == total);
  for (i = first; i < total; ++i)
    refs[i] = 1;
  blocks = calloc (nr_blocks, c);
  CHECK (blocks != NULL);
  for (i = 0; i < total; ++i)
    put_count (blocks + i / per_block * c, i % per_block, order, refs[i]);
  CHECK (source_pwrite (src, blocks, nr_blocks * c, (first + nr_table) * c)
         == 0);
  for (i = 0; i < nr_blocks; ++i)
    poke (src, first * c + i * 8, 8, (first + nr_table + i) * c);
  poke (src, 48, 8, first * c);
  poke (src, 56, 4, nr_table);
  set_copied_all (src, refs);
}

void
build_autoclear (struct source *src)
{
  poke (src, 88, 8, peek (src, 88, 8) | UINT64_C (0x8000000000000100));
}

void
build_dirty (struct source *src)
{
  const uint64_t c = cluster_len (src);
  const uint64_t table = peek (src, 48, 8);
  uint64_t i;

  for (i = 0; i < c / 8; ++i) {
    const uint64_t block = peek (src, table + i * 8, 8);

    /* Half of each block was not written. */
    if (block != 0)
      CHECK (source_zero (src, c / 2, block, SOURCE_ZERO_KEEP) == 0);
  }
  poke (src, 72, 8, peek (src, 72, 8) | 1);
}
