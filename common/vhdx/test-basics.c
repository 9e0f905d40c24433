/* Test checksums and GUIDs, against values from elsewhere.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "include/byte-order.h"
#include "include/testing.h"
#include "vhdx/crc32c.h"
#include "vhdx/guid.h"

/* The first two from RFC 3720, B.4, and the usual check value. */
static void
test_crc32c (uint32_t (*sum) (uint32_t crc, const void *bytes, size_t len))
{
  uint8_t bytes[4096] = { 0 };

  CHECK (sum (0, "123456789", 9) == 0xe3069283);
  CHECK (sum (0, bytes, 32) == 0x8a9136aa);
  CHECK (sum (0, bytes, 4096) == 0x98f94189);
  CHECK (sum (0, bytes, 0) == 0);
  for (unsigned i = 0; i < sizeof bytes; ++i)
    bytes[i] = i * 7;
  for (unsigned i = 0; i < 40; ++i)
    CHECK (sum (sum (0, bytes, i), bytes + i, 100) ==
           sum (0, bytes, i + 100));
}

/* A header with sequence number 1, GUIDs 00.. and 10.., a log of 1 MiB at 1
 * MiB: what other programs store there.
 */
static void
test_structure (void)
{
  static uint8_t p[4096];

  memcpy (p, "head", 4);
  store_le64 (p + 8, 1);
  for (unsigned i = 0; i < 32; ++i)
    p[16 + i] = i;
  store_le16 (p + 66, 1);
  store_le32 (p + 68, 1 << 20);
  store_le64 (p + 72, 1 << 20);
  CHECK (crc32c_of_structure (p, sizeof p) == 0x7db9f1b9);
  store_le32 (p + 4, 12345);    /* does not count */
  CHECK (crc32c_of_structure (p, sizeof p) == 0x7db9f1b9);
}

static void
test_guid (void)
{
  static const uint8_t bat[GUID_LEN] = {
    0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
    0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08
  };
  static const char upper[] = "{2DC27766-F623-4200-9D64-115E9BFD4A08}";
  static const char lower[] = "2dc27766-f623-4200-9d64-115e9bfd4a08";
  const struct guid g = guid_load (bat);
  char text[GUID_TEXT_LEN];
  struct guid parsed;

  guid_format (&g, text);
  CHECK (strcmp (text, lower) == 0);
  CHECK (guid_parse (upper, strlen (upper), &parsed));
  CHECK (guid_is_equal (&g, &parsed) && !guid_is_zero (&g));
  CHECK (guid_parse (lower, strlen (lower), &parsed));
  CHECK (guid_is_equal (&g, &parsed));
  CHECK (!guid_parse (upper, strlen (upper) - 1, &parsed));
  CHECK (!guid_parse (upper + 1, strlen (upper) - 1, &parsed));
  CHECK (!guid_parse ("", 0, &parsed));
  CHECK (!guid_parse ("2dc27766-f623-4200-9d64-115e9bfd4a0g",
                      strlen (lower), &parsed));
  CHECK (!guid_parse ("2dc27766xf623-4200-9d64-115e9bfd4a08",
                      strlen (lower), &parsed));
  memset (&parsed, 0, sizeof parsed);
  CHECK (guid_is_zero (&parsed) && !guid_is_equal (&g, &parsed));
}

int
main (void)
{
  test_crc32c (crc32c);
  test_crc32c (crc32c_by_tables);
  test_structure ();
  test_guid ();
  return 0;
}
