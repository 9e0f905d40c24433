/* The VHDX fuzzer's mutator: it changes numbers where the records of the
 * input have some, and renews the checksums, without which no change gets
 * far.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "input-vhdx.h"
#include "mutate.h"
#include "vhdx/crc32c.h"

#define MIB UINT64_C (1048576)

/* Pages of the file. */
#define HEADER_PAGE(i) (16u << (i))
#define REGIONS_PAGE(i) (48u + 16 * (i))
#define REGIONS_PAGES 16

/* Longer entries of the log are left with a bad checksum. */
#define MAX_ENTRY_PAGES UINT64_C (64)

struct input {
  uint8_t *data;
  size_t nr;                    /* records */
  uint64_t *state;
};

static uint32_t
pick (struct input *in, uint32_t n)
{
  return mutate_random (in->state) % n;
}

/* ---- records */

static uint8_t *
record (const struct input *in, size_t i)
{
  return in->data + INPUT_HEAD + i * INPUT_RECORD;
}

/* The page's bytes; NULL: there is no record of it. */
static uint8_t *
find_page (const struct input *in, uint64_t page)
{
  for (size_t i = in->nr; i-- > 0; )
    if (load_le32 (record (in, i)) == page)
      return record (in, i) + 4;
  return NULL;
}

/* ---- checksums */

static uint32_t
crc_pages (const struct input *in, uint64_t first, uint64_t page,
           uint64_t nr, uint64_t wrap_first, uint64_t wrap_end)
{
  uint32_t crc = 0;

  for (uint64_t i = 0; i < nr; ++i, ++page) {
    uint8_t copy[INPUT_PAGE] = { 0 };
    const uint8_t *bytes;

    if (page == wrap_end)
      page = wrap_first;
    bytes = find_page (in, page);
    if (bytes)
      memcpy (copy, bytes, sizeof copy);
    if (page == first)
      memset (copy + 4, 0, 4);
    crc = crc32c (crc, copy, sizeof copy);
  }
  return crc;
}

static void
seal (struct input *in, uint64_t page, uint64_t nr)
{
  uint8_t *bytes = find_page (in, page);

  if (bytes)
    store_le32 (bytes + 4, crc_pages (in, page, page, nr, 0, UINT64_MAX));
}

/* Entries of the log that the header says. */
static void
seal_log (struct input *in, const uint8_t *header)
{
  const uint64_t first = load_le64 (header + 72) / INPUT_PAGE;
  const uint64_t nr = load_le32 (header + 68) / INPUT_PAGE;

  for (size_t i = 0; i < in->nr; ++i) {
    const uint64_t page = load_le32 (record (in, i));
    uint8_t *bytes = record (in, i) + 4;
    const uint64_t len = load_le32 (bytes + 8);

    if (page < first || page - first >= nr ||
        memcmp (bytes, "loge", 4) != 0 || len % INPUT_PAGE != 0 ||
        len == 0 || len / INPUT_PAGE > MIN (nr, MAX_ENTRY_PAGES))
      continue;
    store_le32 (bytes + 4, crc_pages (in, page, page, len / INPUT_PAGE,
                                      first, first + nr));
  }
}

static void
seal_all (struct input *in)
{
  for (unsigned i = 0; i < 2; ++i) {
    const uint8_t *header = find_page (in, HEADER_PAGE (i));

    if (header)
      seal_log (in, header);
    seal (in, HEADER_PAGE (i), 1);
    seal (in, REGIONS_PAGE (i), REGIONS_PAGES);
  }
}

/* ---- changes */

static uint64_t
random_place (struct input *in)
{
  const uint64_t nr = load_le64 (in->data) / MIB;
  const uint64_t host = nr ? mutate_random (in->state) % (nr + 1) * MIB : 0;

  return pick (in, 3) ? host : host + pick (in, 256) * INPUT_PAGE;
}

/* A little endian number. */
static void
change_number (struct input *in, uint8_t *p, unsigned width)
{
  uint8_t bytes[8];

  if (width == 4) {
    store_be32 (bytes, load_le32 (p));
    mutate_number (bytes, 4, in->state, INPUT_PAGE);
    store_le32 (p, load_be32 (bytes));
  }
  else {
    store_be64 (bytes, load_le64 (p));
    mutate_number (bytes, 8, in->state, load_le64 (in->data) % INT32_MAX);
    store_le64 (p, load_be64 (bytes));
  }
}

/* Where numbers are: near the beginning, mostly. */
static void
change_page (struct input *in, uint8_t *bytes)
{
  static const uint32_t extents[] = { 64, 128, 256, 1024, INPUT_PAGE };
  uint8_t *p = bytes + pick (in, extents[pick (in, 5)] / 8) * 8;

  switch (pick (in, 8)) {
  case 0: *p = pick (in, 256); break;
  case 1: change_number (in, p + pick (in, 2) * 4, 4); break;
  case 2: change_number (in, p, 8); break;
  case 3: store_le64 (p, random_place (in)); break;
  case 4: store_le64 (p, random_place (in) | pick (in, 8)); break;
  case 5: *p = (*p & ~7) | pick (in, 8); break;
  case 6: memmove (p, bytes + pick (in, INPUT_PAGE / 8) * 8, 8); break;
  case 7: memset (p, pick (in, 2) ? 0 : 0xff, 8); break;
  }
}

static void
change_records (struct input *in)
{
  uint8_t *a = record (in, pick (in, in->nr));
  uint8_t *b = record (in, pick (in, in->nr));

  switch (pick (in, 5)) {
  case 0: memmove (a, b, INPUT_RECORD); break;
  case 1: memmove (a + 4, b + 4, INPUT_PAGE); break;
  case 2: store_le32 (a, load_le32 (b) + 1); break;
  case 3: store_le32 (a, random_place (in) / INPUT_PAGE); break;
  case 4: change_number (in, in->data, 8); break;
  }
}

size_t
LLVMFuzzerCustomMutator (uint8_t *data, size_t len, size_t max_len,
                         unsigned seed)
{
  uint64_t state = seed;
  struct input in = { .data = data, .state = &state };
  unsigned nr = 1 + mutate_random (&state) % 4;

  if (len >= INPUT_HEAD)
    in.nr = (len - INPUT_HEAD) / INPUT_RECORD;
  if (in.nr == 0)
    return LLVMFuzzerMutate (data, len, max_len);
  if (pick (&in, 10) == 0) {
    len = LLVMFuzzerMutate (data, len, max_len);
    in.nr = len >= INPUT_HEAD ? (len - INPUT_HEAD) / INPUT_RECORD : 0;
    nr = 0;
  }
  while (nr-- > 0)
    if (pick (&in, 12) == 0)
      change_records (&in);
    else
      change_page (&in, record (&in, pick (&in, in.nr)) + 4);
  if (in.nr > 0 && pick (&in, 16) != 0)
    seal_all (&in);
  return len;
}
