/* GUIDs as they lie on disk: le32, le16, le16, 8 bytes.
 *
 * They are compared as bytes; text is for messages and parent locators.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_GUID_H
#define NDF_VHDX_GUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUID_LEN 16

/* Text without braces, with the NUL. */
#define GUID_TEXT_LEN 37

struct guid {
  uint8_t bytes[GUID_LEN];
};

extern bool guid_is_zero (const struct guid *g);
extern bool guid_is_equal (const struct guid *a, const struct guid *b);
extern struct guid guid_load (const uint8_t *bytes);

/* Lower case, without braces. */
extern void guid_format (const struct guid *g, char text[GUID_TEXT_LEN]);

/* text[0..len-1], with or without braces, in either case.  False: it is
 * none.
 */
extern bool guid_parse (const char *text, size_t len, struct guid *g);

#endif /* NDF_VHDX_GUID_H */
