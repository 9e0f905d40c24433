/* Header extensions: the list between the header and the backing name.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header extensions".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_EXTENSION_H
#define NDF_QCOW2_EXTENSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcow2/header.h"

/* Types of extensions. */
#define EXTENSION_END            UINT32_C (0x00000000)
#define EXTENSION_BACKING_FORMAT UINT32_C (0xe2792aca)
#define EXTENSION_FEATURE_NAMES  UINT32_C (0x6803f857)
#define EXTENSION_BITMAPS        UINT32_C (0x23852875)
#define EXTENSION_CRYPTO         UINT32_C (0x0537be77)
#define EXTENSION_DATA_FILE      UINT32_C (0x44415441)

/* Lengths that the format fixes or QEMU limits. */
#define EXTENSION_MAX_BACKING_FORMAT 15
#define EXTENSION_BITMAPS_LEN 24
#define EXTENSION_CRYPTO_LEN 16

struct extension {
  uint32_t type;
  uint32_t len;                 /* of data, without padding */
  const uint8_t *data;
};

/* Every extension in the order of the file, duplicates and unknown types
 * included, byte-exact.  END is not in it.
 */
struct extension_list {
  struct extension *extensions; /* owned */
  size_t nr_extensions;
  uint8_t *bytes;               /* what their data point into; owned */
};

/* A walk over the list as it is on disk.  'bytes' are those of cluster 0;
 * entries lie in [next, limit).
 */
struct extension_walk {
  const uint8_t *bytes;
  uint64_t next;
  uint64_t limit;
};

extern void extension_walk_start (struct extension_walk *walk,
                                  const uint8_t *cluster,
                                  const struct qcow2_header *h);

/* The next extension: 1 and *ext, whose data point into the bytes; 0 at the
 * end; -1, unreported, when it does not fit before the limit (walk->next
 * is where it begins).
 */
extern int extension_walk_next (struct extension_walk *walk,
                                struct extension *ext);

/* Are header and list, its END too, in the first 'len' bytes of cluster 0?
 * No others are looked at.
 */
extern bool extension_list_is_within (const uint8_t *cluster,
                                      const struct qcow2_header *h,
                                      uint64_t len);

/* Parse and check the whole list; 'cluster' is cluster 0, as far as header
 * and list are.
 * Returns 0; -1, reported, errno EINVAL or ENOMEM.  'list' may be passed to
 * extension_list_free either way.
 */
extern int extension_list_parse (const char *name, const uint8_t *cluster,
                                 const struct qcow2_header *h,
                                 struct extension_list *list);

extern void extension_list_free (struct extension_list *list);

/* The last one of the type, which is the one that counts; or NULL. */
extern const struct extension *
extension_list_find (const struct extension_list *list, uint32_t type);

/* The extension's data as a string, cut at a NUL; NULL in *s when it is
 * absent or empty.  The caller frees *s.  -1, reported, errno ENOMEM.
 */
extern int extension_list_string (const char *name,
                                  const struct extension_list *list,
                                  uint32_t type, char **s);

/* Bytes of the list on disk, END included; and the list itself. */
extern uint64_t extension_list_len (const struct extension_list *list);
extern void extension_list_format (const struct extension_list *list,
                                   uint8_t *bytes);

#endif /* NDF_QCOW2_EXTENSION_H */
