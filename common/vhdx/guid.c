/* GUIDs: libuuid knows the text, which has the first three fields in big
 * endian.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include <uuid/uuid.h>

#include "vhdx/guid.h"

/* From one order of bytes to the other. */
static void
swap_fields (const uint8_t *from, uint8_t *to)
{
  static const uint8_t order[GUID_LEN] = {
    3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15
  };

  for (unsigned i = 0; i < GUID_LEN; ++i)
    to[i] = from[order[i]];
}

bool
guid_is_zero (const struct guid *g)
{
  static const struct guid zero;

  return guid_is_equal (g, &zero);
}

bool
guid_is_equal (const struct guid *a, const struct guid *b)
{
  return memcmp (a->bytes, b->bytes, GUID_LEN) == 0;
}

struct guid
guid_load (const uint8_t *bytes)
{
  struct guid g;

  memcpy (g.bytes, bytes, GUID_LEN);
  return g;
}

void
guid_format (const struct guid *g, char text[GUID_TEXT_LEN])
{
  uuid_t uuid;

  swap_fields (g->bytes, uuid);
  uuid_unparse_lower (uuid, text);
}

bool
guid_parse (const char *text, size_t len, struct guid *g)
{
  char copy[GUID_TEXT_LEN];
  uuid_t uuid;

  if (len == GUID_TEXT_LEN + 1 && text[0] == '{' && text[len - 1] == '}') {
    text++;
    len -= 2;
  }
  if (len != GUID_TEXT_LEN - 1)
    return false;
  memcpy (copy, text, len);
  copy[len] = '\0';
  if (uuid_parse (copy, uuid) == -1)
    return false;
  swap_fields (uuid, g->bytes);
  return true;
}
