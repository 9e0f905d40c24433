/* Hand-made VHDX images in memory, for unit tests and fuzzers.
 *
 * Written from the format's description and without the driver's own
 * parts, so that both are tested against each other.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/memory.h"
#include "vhdx/test-image.h"

#define KIB UINT64_C (1024)
#define HEADER_LEN 4096
#define REGIONS_LEN (64 * KIB)
#define METADATA_TABLE_LEN (64 * KIB)

static const uint8_t bat_guid[16] =
  "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
static const uint8_t metadata_guid[16] =
  "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";

static const struct {
  uint8_t guid[16];
  uint32_t flags;
} items[] = {
  { "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 4 },
  { "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", 6 },
  { "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", 6 },
  { "\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56", 6 },
  { "\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46", 6 },
  { "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c", 4 },
};

static const uint8_t locator_type[16] =
  "\xb7\xef\x4a\xb0\x9e\xd1\x81\x4a\xb7\x89\x25\xb8\xe9\x44\x59\x13";

static const struct test_vhdx_key default_keys[] = {
  { "parent_linkage", "{33333333-3333-3333-3333-333333333333}" },
  { "relative_path", ".\\parent.vhdx" },
};

/* ---- bytes */

/* Through a table of one byte, made at the first call. */
uint32_t
test_vhdx_crc (const void *bytes, size_t len)
{
  static uint32_t table[256];
  const uint8_t *p = bytes;
  uint32_t crc = UINT32_MAX;

  for (uint32_t i = 0; table[255] == 0; ++i) {
    table[i] = i;
    for (unsigned bit = 0; bit < 8; ++bit)
      table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);
  }
  for (; len > 0; ++p, --len)
    crc = crc >> 8 ^ table[(crc ^ *p) & 0xff];
  return ~crc;
}

void
test_vhdx_put (struct test_vhdx *t, const void *bytes, size_t len,
               uint64_t host)
{
  CHECK (source_pwrite (t->src, bytes, len, host) == 0);
}

void
test_vhdx_poke (struct test_vhdx *t, uint64_t host, unsigned width,
                uint64_t value)
{
  uint8_t bytes[8];

  CHECK (width <= 8);
  store_le64 (bytes, value);
  test_vhdx_put (t, bytes, width, host);
}

uint64_t
test_vhdx_peek (const struct test_vhdx *t, uint64_t host, unsigned width)
{
  uint8_t bytes[8] = { 0 };

  CHECK (width <= 8);
  CHECK (source_pread_padded (t->src, bytes, width, host) == 0);
  return load_le64 (bytes);
}

void
test_vhdx_fill (struct test_vhdx *t, uint64_t host, uint64_t len,
                uint8_t byte)
{
  uint8_t page[TEST_VHDX_PAGE];

  memset (page, byte, sizeof page);
  for (; len > 0; len -= MIN (len, (uint64_t) sizeof page)) {
    const size_t n = MIN (len, (uint64_t) sizeof page);

    test_vhdx_put (t, page, n, host);
    host += n;
  }
}

/* ---- headers and region tables */

uint64_t
test_vhdx_header_host (unsigned i)
{
  return i == 0 ? 64 * KIB : 128 * KIB;
}

uint64_t
test_vhdx_regions_host (unsigned i)
{
  return i == 0 ? 192 * KIB : 256 * KIB;
}

static void
seal (struct test_vhdx *t, uint64_t host, size_t len)
{
  CLEANUP_FREE uint8_t *bytes = malloc (len);

  CHECK (bytes != NULL);
  CHECK (source_pread_padded (t->src, bytes, len, host) == 0);
  store_le32 (bytes + 4, 0);
  test_vhdx_poke (t, host + 4, 4, test_vhdx_crc (bytes, len));
}

void
test_vhdx_seal_header (struct test_vhdx *t, unsigned i)
{
  seal (t, test_vhdx_header_host (i), HEADER_LEN);
}

void
test_vhdx_seal_regions (struct test_vhdx *t, unsigned i)
{
  seal (t, test_vhdx_regions_host (i), REGIONS_LEN);
}

void
test_vhdx_poke_headers (struct test_vhdx *t, unsigned at, unsigned width,
                        uint64_t value)
{
  for (unsigned i = 0; i < 2; ++i) {
    test_vhdx_poke (t, test_vhdx_header_host (i) + at, width, value);
    test_vhdx_seal_header (t, i);
  }
}

void
test_vhdx_poke_regions (struct test_vhdx *t, unsigned at, unsigned width,
                        uint64_t value)
{
  for (unsigned i = 0; i < 2; ++i) {
    test_vhdx_poke (t, test_vhdx_regions_host (i) + at, width, value);
    test_vhdx_seal_regions (t, i);
  }
}

void
test_vhdx_use_log (struct test_vhdx *t, uint8_t byte)
{
  for (unsigned i = 0; i < 2; ++i) {
    test_vhdx_fill (t, test_vhdx_header_host (i) + 48, 16, byte);
    test_vhdx_seal_header (t, i);
  }
}

static void
put_headers (struct test_vhdx *t)
{
  for (unsigned i = 0; i < 2; ++i) {
    const uint64_t host = test_vhdx_header_host (i);

    test_vhdx_put (t, "head", 4, host);
    test_vhdx_poke (t, host + 8, 8, 7 + i);
    test_vhdx_fill (t, host + 16, 16, 0x11);
    test_vhdx_fill (t, host + 32, 16, 0x22);
    test_vhdx_poke (t, host + 66, 2, 1);
    test_vhdx_poke (t, host + 68, 4, t->spec.log_len);
    test_vhdx_poke (t, host + 72, 8, t->spec.log_host);
    test_vhdx_seal_header (t, i);
  }
}

static void
add_region (struct test_vhdx *t, const uint8_t guid[16], uint64_t host,
            uint32_t len, uint32_t flags)
{
  for (unsigned i = 0; i < 2; ++i) {
    const uint64_t table = test_vhdx_regions_host (i);
    const uint64_t nr = test_vhdx_peek (t, table + 8, 4);
    const uint64_t at = table + 16 + 32 * nr;

    test_vhdx_put (t, guid, 16, at);
    test_vhdx_poke (t, at + 16, 8, host);
    test_vhdx_poke (t, at + 24, 4, len);
    test_vhdx_poke (t, at + 28, 4, flags);
    test_vhdx_poke (t, table + 8, 4, nr + 1);
    test_vhdx_seal_regions (t, i);
  }
}

void
test_vhdx_add_region (struct test_vhdx *t, uint8_t byte, uint64_t host,
                      uint32_t len, uint32_t flags)
{
  uint8_t guid[16];

  memset (guid, byte, sizeof guid);
  add_region (t, guid, host, len, flags);
}

static void
put_regions (struct test_vhdx *t)
{
  for (unsigned i = 0; i < 2; ++i)
    test_vhdx_put (t, "regi", 4, test_vhdx_regions_host (i));
  add_region (t, bat_guid, t->spec.bat_host, t->spec.bat_len, 1);
  add_region (t, metadata_guid, t->spec.metadata_host, t->spec.metadata_len,
              1);
}

/* ---- metadata */

uint64_t
test_vhdx_item_entry (const struct test_vhdx *t, unsigned i)
{
  return t->spec.metadata_host + 32 * (i + 1);
}

uint64_t
test_vhdx_item_host (const struct test_vhdx *t, unsigned i)
{
  return t->spec.metadata_host +
    test_vhdx_peek (t, test_vhdx_item_entry (t, i) + 16, 4);
}

uint64_t
test_vhdx_add_item (struct test_vhdx *t, const uint8_t guid[16],
                    uint32_t flags, const void *bytes, uint32_t len)
{
  const uint64_t at = test_vhdx_item_entry (t, t->nr_items++);

  test_vhdx_put (t, guid, 16, at);
  test_vhdx_poke (t, at + 16, 4, len ? t->items_end : 0);
  test_vhdx_poke (t, at + 20, 4, len);
  test_vhdx_poke (t, at + 24, 4, flags);
  test_vhdx_poke (t, t->spec.metadata_host + 10, 2, t->nr_items);
  if (len > 0)
    test_vhdx_put (t, bytes, len, t->spec.metadata_host + t->items_end);
  t->items_end += len;
  return at;
}

static void
add_known_item (struct test_vhdx *t, enum test_vhdx_item i,
                const void *bytes, uint32_t len)
{
  test_vhdx_add_item (t, items[i].guid, items[i].flags, bytes, len);
}

static void
add_number (struct test_vhdx *t, enum test_vhdx_item i, unsigned width,
            uint64_t value)
{
  uint8_t bytes[8];

  store_le64 (bytes, value);
  add_known_item (t, i, bytes, width);
}

/* A string in UTF-16; how many bytes. */
static size_t
put_text (uint8_t *at, const char *text)
{
  size_t len = 0;

  for (; *text; ++text, len += 2)
    store_le16 (at + len, (uint8_t) *text);
  return len;
}

size_t
test_vhdx_locator (uint8_t *bytes, const struct test_vhdx_key *keys,
                   unsigned nr)
{
  size_t at = 20 + 12 * nr;

  memset (bytes, 0, at);
  memcpy (bytes, locator_type, 16);
  store_le16 (bytes + 18, nr);
  for (unsigned i = 0; i < nr; ++i) {
    uint8_t *const e = bytes + 20 + 12 * i;
    size_t len = put_text (bytes + at, keys[i].key);

    store_le32 (e, at);
    store_le16 (e + 8, len);
    at += len;
    len = put_text (bytes + at, keys[i].value);
    store_le32 (e + 4, at);
    store_le16 (e + 10, len);
    at += len;
  }
  return at;
}

static void
put_metadata (struct test_vhdx *t)
{
  const struct test_vhdx_spec *s = &t->spec;
  static uint8_t locator[65536];

  test_vhdx_put (t, "metadata", 8, s->metadata_host);
  t->items_end = METADATA_TABLE_LEN;
  add_number (t, TEST_VHDX_PARAMETERS, 8, s->block_len |
              (uint64_t) (s->is_fixed | s->has_parent << 1) << 32);
  add_number (t, TEST_VHDX_DISK_LEN, 8, s->disk_len);
  add_number (t, TEST_VHDX_SECTOR_LEN, 4, s->sector_len);
  add_number (t, TEST_VHDX_PHYSICAL_SECTOR_LEN, 4, 4096);
  add_known_item (t, TEST_VHDX_DISK_ID, "0123456789abcdef", 16);
  if (s->has_parent)
    add_known_item (t, TEST_VHDX_LOCATOR, locator,
                    test_vhdx_locator (locator, s->keys, s->nr_keys));
}

/* ---- the BAT */

uint64_t
test_vhdx_block_place (const struct test_vhdx *t, uint64_t block)
{
  return t->spec.bat_host + 8 * (block + block / t->chunk_ratio);
}

uint64_t
test_vhdx_bitmap_place (const struct test_vhdx *t, uint64_t chunk)
{
  return t->spec.bat_host +
    8 * (chunk * (t->chunk_ratio + 1) + t->chunk_ratio);
}

void
test_vhdx_set_block (struct test_vhdx *t, uint64_t block, uint64_t entry)
{
  test_vhdx_poke (t, test_vhdx_block_place (t, block), 8, entry);
}

void
test_vhdx_set_bitmap (struct test_vhdx *t, uint64_t chunk, uint64_t entry)
{
  test_vhdx_poke (t, test_vhdx_bitmap_place (t, chunk), 8, entry);
}

uint64_t
test_vhdx_add_room (struct test_vhdx *t, uint64_t len)
{
  const uint64_t host = round_up (source_len (t->src), TEST_MIB);

  CHECK (source_grow (t->src, host + round_up (len, TEST_MIB)) == 0);
  return host;
}

uint64_t
test_vhdx_add_block (struct test_vhdx *t, uint64_t block, unsigned state)
{
  const uint64_t host = test_vhdx_add_room (t, t->spec.block_len);

  test_vhdx_set_block (t, block, host | state);
  return host;
}

uint64_t
test_vhdx_add_bitmap (struct test_vhdx *t, uint64_t chunk)
{
  const uint64_t host = test_vhdx_add_room (t, TEST_MIB);

  test_vhdx_set_bitmap (t, chunk, host | 6);
  return host;
}

void
test_vhdx_set_bit (struct test_vhdx *t, uint64_t sector)
{
  const uint64_t chunk = sector >> 23, bit = sector & 0x7fffff;
  const uint64_t host = round_down (
    test_vhdx_peek (t, test_vhdx_bitmap_place (t, chunk), 8), TEST_MIB) +
    bit / 8;

  test_vhdx_poke (t, host, 1, test_vhdx_peek (t, host, 1) | 1 << bit % 8);
}

/* ---- the image */

static void
choose (struct test_vhdx *t)
{
  struct test_vhdx_spec *s = &t->spec;
  uint64_t nr_entries;

  if (s->block_len == 0)
    s->block_len = TEST_MIB;
  if (s->sector_len == 0)
    s->sector_len = 512;
  if (s->log_len == 0)
    s->log_len = TEST_MIB;
  if (s->metadata_len == 0)
    s->metadata_len = TEST_MIB;
  if (s->nr_keys == 0) {
    s->keys = default_keys;
    s->nr_keys = 2;
  }
  t->nr_blocks = (s->disk_len + s->block_len - 1) / s->block_len;
  t->chunk_ratio = (UINT64_C (1) << 23) * s->sector_len / s->block_len;
  nr_entries = (t->nr_blocks / t->chunk_ratio + 1) * (t->chunk_ratio + 1);
  if (s->bat_len == 0)
    s->bat_len = round_up (nr_entries * 8, TEST_MIB);
  if (s->log_host == 0)
    s->log_host = TEST_MIB;
  if (s->metadata_host == 0)
    s->metadata_host = s->log_host + s->log_len;
  if (s->bat_host == 0)
    s->bat_host = s->metadata_host + s->metadata_len;
}

static uint64_t
file_end (const struct test_vhdx_spec *s)
{
  const uint64_t end = MAX (s->log_host + s->log_len,
                            s->metadata_host + s->metadata_len);

  return MAX (end, s->bat_host + s->bat_len);
}

void
test_vhdx_make (struct test_vhdx *t, const struct test_vhdx_spec *spec)
{
  *t = (struct test_vhdx) { .spec = *spec };
  t->src = source_memory ("image", 0, INT64_MAX);
  CHECK (t->src != NULL);
  choose (t);
  CHECK (source_grow (t->src, file_end (&t->spec)) == 0);
  test_vhdx_put (t, "vhdxfile", 8, 0);
  put_headers (t);
  put_regions (t);
  put_metadata (t);
  for (uint64_t i = 0; t->spec.is_fixed && i < t->nr_blocks; ++i)
    test_vhdx_add_block (t, i, 6);
}

void
test_vhdx_free (struct test_vhdx *t)
{
  source_put (t->src);
  *t = (struct test_vhdx) { .src = NULL };
}

/* ---- log entries */

void
test_log_begin (struct test_log *e, const struct test_vhdx *t,
                uint64_t sequence, uint64_t tail)
{
  *e = (struct test_log) {
    .sequence = sequence, .tail = tail,
    .flushed_len = source_len (t->src), .last_len = source_len (t->src),
  };
  CHECK (source_pread (t->src, e->guid, 16,
                       test_vhdx_header_host (1) + 48) == 0);
  e->pages = calloc (TEST_LOG_MAX_DESCRIPTORS, TEST_VHDX_PAGE);
  CHECK (e->pages != NULL);
}

void
test_log_free (struct test_log *e)
{
  free (e->pages);
  e->pages = NULL;
}

void
test_log_page (struct test_log *e, uint64_t host,
               const uint8_t page[TEST_VHDX_PAGE])
{
  uint8_t *const d = e->descriptors[e->nr];

  CHECK (e->nr++ < TEST_LOG_MAX_DESCRIPTORS);
  memcpy (d, "desc", 4);
  memcpy (d + 4, page + TEST_VHDX_PAGE - 4, 4);
  memcpy (d + 8, page, 8);
  store_le64 (d + 16, host);
  memcpy (e->pages[e->nr_data++], page, TEST_VHDX_PAGE);
}

void
test_log_data (struct test_log *e, uint64_t host, uint8_t byte)
{
  uint8_t page[TEST_VHDX_PAGE];

  memset (page, byte, sizeof page);
  test_log_page (e, host, page);
}

void
test_log_zero (struct test_log *e, uint64_t host, uint64_t len)
{
  uint8_t *const d = e->descriptors[e->nr];

  CHECK (e->nr++ < TEST_LOG_MAX_DESCRIPTORS);
  memcpy (d, "zero", 4);
  store_le64 (d + 8, len);
  store_le64 (d + 16, host);
}

uint8_t *
test_log_bytes (const struct test_log *e, size_t *len)
{
  const size_t data_at = round_up (64 + 32 * e->nr, TEST_VHDX_PAGE);
  uint8_t *bytes;

  *len = data_at + (size_t) e->nr_data * TEST_VHDX_PAGE;
  bytes = calloc (1, *len);
  CHECK (bytes != NULL);
  memcpy (bytes, "loge", 4);
  store_le32 (bytes + 8, *len);
  store_le32 (bytes + 12, e->tail);
  store_le64 (bytes + 16, e->sequence);
  store_le32 (bytes + 24, e->nr);
  memcpy (bytes + 32, e->guid, 16);
  store_le64 (bytes + 48, e->flushed_len);
  store_le64 (bytes + 56, e->last_len);
  for (unsigned i = 0; i < e->nr; ++i) {
    memcpy (bytes + 64 + 32 * i, e->descriptors[i], 32);
    store_le64 (bytes + 64 + 32 * i + 24, e->sequence);
  }
  for (unsigned i = 0; i < e->nr_data; ++i) {
    uint8_t *const page = bytes + data_at + (size_t) i * TEST_VHDX_PAGE;

    memcpy (page, e->pages[i], TEST_VHDX_PAGE);
    memcpy (page, "data", 4);
    store_le32 (page + 4, e->sequence >> 32);
    store_le32 (page + TEST_VHDX_PAGE - 4, e->sequence);
  }
  store_le32 (bytes + 4, test_vhdx_crc (bytes, *len));
  return bytes;
}

void
test_log_put_bytes (struct test_vhdx *t, uint64_t at, const uint8_t *bytes,
                    size_t len)
{
  const uint64_t ring_len = t->spec.log_len;

  for (size_t done = 0; done < len; ) {
    const uint64_t place = (at + done) % ring_len;
    const size_t n = MIN (ring_len - place, len - done);

    test_vhdx_put (t, bytes + done, n, t->spec.log_host + place);
    done += n;
  }
}

uint64_t
test_log_put (struct test_log *e, struct test_vhdx *t, uint64_t at)
{
  size_t len;
  CLEANUP_FREE uint8_t *bytes = test_log_bytes (e, &len);

  test_log_put_bytes (t, at, bytes, len);
  test_log_free (e);
  return (at + len) % t->spec.log_len;
}

void
test_log_seal (struct test_vhdx *t, uint64_t at, size_t len)
{
  const uint64_t ring_len = t->spec.log_len;
  CLEANUP_FREE uint8_t *bytes = malloc (len);
  uint8_t crc[4];

  CHECK (bytes != NULL);
  for (size_t i = 0; i < len; i += TEST_VHDX_PAGE)
    CHECK (source_pread (t->src, bytes + i, TEST_VHDX_PAGE,
                         t->spec.log_host + (at + i) % ring_len) == 0);
  store_le32 (bytes + 4, 0);
  store_le32 (crc, test_vhdx_crc (bytes, len));
  test_log_put_bytes (t, at + 4, crc, 4);
}
