/* Hand-made VHDX images in memory, for unit tests and fuzzers.
 *
 * The image is a source from the start, so that it may be far longer than
 * memory.  Everything that does not fit ends the test program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_TEST_IMAGE_H
#define NDF_VHDX_TEST_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/source.h"

#define TEST_MIB UINT64_C (1048576)
#define TEST_VHDX_PAGE 4096

/* A key of the parent locator and its value; in Latin-1. */
struct test_vhdx_key {
  const char *key, *value;
};

/* What to make.  Zeroes everywhere but in disk_len are a sound choice. */
struct test_vhdx_spec {
  uint64_t disk_len;            /* bytes */
  uint32_t block_len;           /* 0: 1 MiB */
  uint32_t sector_len;          /* 0: 512 */
  bool is_fixed;                /* all blocks are there, empty */
  bool has_parent;
  const struct test_vhdx_key *keys;     /* of the parent locator, to one */
  unsigned nr_keys;                     /* without a name; 0: a sound one */

  /* Bytes; 0: log, metadata and BAT lie in this order from 1 MiB on, each
   * as long as it must be.
   */
  uint64_t log_host, log_len;
  uint64_t metadata_host, metadata_len;
  uint64_t bat_host, bat_len;
};

struct test_vhdx {
  struct source *src;           /* owned; writable, can grow */
  struct test_vhdx_spec spec;   /* with the choices made */
  uint64_t nr_blocks;
  uint64_t chunk_ratio;
  unsigned nr_items;            /* of the metadata */
  uint64_t items_end;           /* in the metadata region, bytes */
};

extern void test_vhdx_make (struct test_vhdx *t,
                            const struct test_vhdx_spec *spec);
extern void test_vhdx_free (struct test_vhdx *t);

extern uint32_t test_vhdx_crc (const void *bytes, size_t len);

/* Store a number of 'width' bytes, little endian, or read it; store bytes;
 * fill a range with one byte.
 */
extern void test_vhdx_poke (struct test_vhdx *t, uint64_t host,
                            unsigned width, uint64_t value);
extern uint64_t test_vhdx_peek (const struct test_vhdx *t, uint64_t host,
                                unsigned width);
extern void test_vhdx_put (struct test_vhdx *t, const void *bytes,
                           size_t len, uint64_t host);
extern void test_vhdx_fill (struct test_vhdx *t, uint64_t host, uint64_t len,
                            uint8_t byte);

/* Where header or region table 'i', 0 or 1, lies; renew its checksum. */
extern uint64_t test_vhdx_header_host (unsigned i);
extern uint64_t test_vhdx_regions_host (unsigned i);
extern void test_vhdx_seal_header (struct test_vhdx *t, unsigned i);
extern void test_vhdx_seal_regions (struct test_vhdx *t, unsigned i);

/* Store a number in both headers, or both region tables, and renew the
 * checksums.
 */
extern void test_vhdx_poke_headers (struct test_vhdx *t, unsigned at,
                                    unsigned width, uint64_t value);
extern void test_vhdx_poke_regions (struct test_vhdx *t, unsigned at,
                                    unsigned width, uint64_t value);

/* Have the log in use under the GUID that is 16 times 'byte'. */
extern void test_vhdx_use_log (struct test_vhdx *t, uint8_t byte);

/* Add a region at the end of the table; its GUID is 16 times 'byte'. */
extern void test_vhdx_add_region (struct test_vhdx *t, uint8_t byte,
                                  uint64_t host, uint32_t len,
                                  uint32_t flags);

/* Add an item of metadata; where its entry lies in the file. */
extern uint64_t test_vhdx_add_item (struct test_vhdx *t,
                                    const uint8_t guid[16], uint32_t flags,
                                    const void *bytes, uint32_t len);

/* The entry of the metadata table, and the item, of one of the items that
 * every image has, in this order.
 */
enum test_vhdx_item {
  TEST_VHDX_PARAMETERS, TEST_VHDX_DISK_LEN, TEST_VHDX_SECTOR_LEN,
  TEST_VHDX_PHYSICAL_SECTOR_LEN, TEST_VHDX_DISK_ID, TEST_VHDX_LOCATOR,
};
extern uint64_t test_vhdx_item_entry (const struct test_vhdx *t, unsigned i);
extern uint64_t test_vhdx_item_host (const struct test_vhdx *t, unsigned i);

/* Make a parent locator of these keys; its length.  'bytes' has room for
 * 64 KiB.
 */
extern size_t test_vhdx_locator (uint8_t *bytes,
                                 const struct test_vhdx_key *keys,
                                 unsigned nr);

/* Where the entry of a block, or of a chunk's bitmap, lies; store it. */
extern uint64_t test_vhdx_block_place (const struct test_vhdx *t,
                                       uint64_t block);
extern uint64_t test_vhdx_bitmap_place (const struct test_vhdx *t,
                                        uint64_t chunk);
extern void test_vhdx_set_block (struct test_vhdx *t, uint64_t block,
                                 uint64_t entry);
extern void test_vhdx_set_bitmap (struct test_vhdx *t, uint64_t chunk,
                                  uint64_t entry);

/* Room at the end of the file, in units of 1 MiB; where it is. */
extern uint64_t test_vhdx_add_room (struct test_vhdx *t, uint64_t len);

/* Add a block in 'state', or an empty bitmap; where it lies. */
extern uint64_t test_vhdx_add_block (struct test_vhdx *t, uint64_t block,
                                     unsigned state);
extern uint64_t test_vhdx_add_bitmap (struct test_vhdx *t, uint64_t chunk);

/* Set the bit of the sector of the disk in a bitmap that is there. */
extern void test_vhdx_set_bit (struct test_vhdx *t, uint64_t sector);

/* ---- log entries */

#define TEST_LOG_MAX_DESCRIPTORS 600

/* An entry while it is made: what test_log_begin chose may be changed. */
struct test_log {
  uint64_t sequence, tail;
  uint64_t flushed_len, last_len;
  uint8_t guid[16];
  unsigned nr, nr_data;
  uint8_t descriptors[TEST_LOG_MAX_DESCRIPTORS][32];
  uint8_t (*pages)[TEST_VHDX_PAGE];     /* owned */
};

/* The image's log GUID and length are taken over. */
extern void test_log_begin (struct test_log *e, const struct test_vhdx *t,
                            uint64_t sequence, uint64_t tail);
extern void test_log_free (struct test_log *e);

/* A page for 'host': of one byte, or as given. */
extern void test_log_data (struct test_log *e, uint64_t host, uint8_t byte);
extern void test_log_page (struct test_log *e, uint64_t host,
                           const uint8_t page[TEST_VHDX_PAGE]);
extern void test_log_zero (struct test_log *e, uint64_t host, uint64_t len);

/* Its bytes; the caller frees them. */
extern uint8_t *test_log_bytes (const struct test_log *e, size_t *len);

/* Put it into the ring at 'at', around the end if need be, and free it;
 * where the next one begins.
 */
extern uint64_t test_log_put (struct test_log *e, struct test_vhdx *t,
                              uint64_t at);

/* Bytes into the ring; renew the checksum of the entry of 'len' bytes. */
extern void test_log_put_bytes (struct test_vhdx *t, uint64_t at,
                                const uint8_t *bytes, size_t len);
extern void test_log_seal (struct test_vhdx *t, uint64_t at, size_t len);

#endif /* NDF_VHDX_TEST_IMAGE_H */
