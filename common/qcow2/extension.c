/* Header extensions: the list between the header and the backing name.
 *
 * An entry is a type, a length, the data, and padding to a multiple of 8
 * from the start of the list.  The list ends with an END entry, or simply
 * where its room ends.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Header extensions".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/extension.h"
#include "qcow2/refuse.h"

#define ENTRY_HEADER_LEN 8

/* ---- the walk */

void
extension_walk_start (struct extension_walk *walk, const uint8_t *cluster,
                      const struct qcow2_header *h)
{
  walk->bytes = cluster;
  walk->next = h->header_len;
  walk->limit = h->backing_host != 0 ? h->backing_host
    : UINT64_C (1) << h->cluster_bits;
}

int
extension_walk_next (struct extension_walk *walk, struct extension *ext)
{
  const uint8_t *entry;
  uint64_t room;

  if (walk->next >= walk->limit)
    return 0;
  room = walk->limit - walk->next;
  if (room < ENTRY_HEADER_LEN)
    return -1;
  entry = walk->bytes + walk->next;
  ext->type = load_be32 (entry);
  ext->len = load_be32 (entry + 4);
  ext->data = entry + ENTRY_HEADER_LEN;
  /* QEMU looks at the length before the type: END's counts too. */
  if (ext->len > room - ENTRY_HEADER_LEN)
    return -1;
  if (ext->type == EXTENSION_END)
    return 0;
  walk->next += ENTRY_HEADER_LEN + round_up (ext->len, 8);
  return 1;
}

bool
extension_list_is_within (const uint8_t *cluster,
                          const struct qcow2_header *h, uint64_t len)
{
  struct extension_walk walk;
  struct extension ext;

  extension_walk_start (&walk, cluster, h);
  do {
    if (walk.next >= walk.limit)
      return walk.next <= len;
    if (walk.next + ENTRY_HEADER_LEN > len)
      return false;
  } while (extension_walk_next (&walk, &ext) == 1);
  return true;
}

/* ---- checks */

static int
check_len (const char *name, const struct extension *ext, const char *what,
           uint64_t min_len, uint64_t max_len)
{
  if (ext->len >= min_len && ext->len <= max_len)
    return 0;
  return REFUSE (EINVAL, "%s: header extension 0x%08" PRIx32 " (%s) has "
                 "%" PRIu32 " bytes, expected %s%" PRIu64 "; " CHECK_A_COPY,
                 name, ext->type, what, ext->len,
                 min_len == max_len ? "" : "at most ", max_len);
}

static int
check_extension (const char *name, const struct qcow2_header *h,
                 const struct extension *ext)
{
  switch (ext->type) {
  case EXTENSION_BACKING_FORMAT:
    return check_len (name, ext, "backing format", 0,
                      EXTENSION_MAX_BACKING_FORMAT);
  case EXTENSION_BITMAPS:
    return check_len (name, ext, "bitmaps", EXTENSION_BITMAPS_LEN,
                      EXTENSION_BITMAPS_LEN);
  case EXTENSION_DATA_FILE:
    return check_len (name, ext, "external data file name", 0, PATH_MAX - 1);
  case EXTENSION_CRYPTO:
    if (h->crypt_method != QCOW2_CRYPT_LUKS)
      return REFUSE (EINVAL, "%s: there is a header extension 0x%08" PRIx32
                     " (encryption) although the encryption method (header "
                     "byte 32) is %" PRIu32 ", not 2; " CHECK_A_COPY,
                     name, ext->type, h->crypt_method);
    return check_len (name, ext, "encryption", EXTENSION_CRYPTO_LEN,
                      EXTENSION_CRYPTO_LEN);
  default:
    return 0;
  }
}

/* ---- the list in memory */

/* Room for one more; the array doubles. */
static int
make_room (const char *name, struct extension_list *list)
{
  size_t nr = list->nr_extensions;
  struct extension *p;

  if (nr != 0 && !is_power_of_2 (nr))
    return 0;
  p = realloc (list->extensions, MAX (nr * 2, (size_t) 1) * sizeof *p);
  if (p == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header extensions", name);
  list->extensions = p;
  return 0;
}

/* Let the list have its own copy of cluster bytes [start, end). */
static int
copy_bytes (const char *name, const uint8_t *cluster, uint64_t start,
            uint64_t end, struct extension_list *list)
{
  size_t i;

  if (list->nr_extensions == 0)
    return 0;
  list->bytes = malloc (end - start);
  if (list->bytes == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header extensions", name);
  memcpy (list->bytes, cluster + start, end - start);
  for (i = 0; i < list->nr_extensions; ++i) {
    struct extension *ext = &list->extensions[i];

    ext->data = list->bytes + (ext->data - (cluster + start));
  }
  return 0;
}

int
extension_list_parse (const char *name, const uint8_t *cluster,
                      const struct qcow2_header *h,
                      struct extension_list *list)
{
  struct extension_walk walk;
  struct extension ext;
  int r;

  memset (list, 0, sizeof *list);
  extension_walk_start (&walk, cluster, h);
  while ((r = extension_walk_next (&walk, &ext)) == 1) {
    if (check_extension (name, h, &ext) == -1 ||
        make_room (name, list) == -1)
      return -1;
    list->extensions[list->nr_extensions++] = ext;
  }
  if (r == -1)
    return REFUSE (EINVAL, "%s: the header extension at byte %" PRIu64
                   " is too large: header extensions must end before byte "
                   "%" PRIu64 "; " CHECK_A_COPY,
                   name, walk.next, walk.limit);
  return copy_bytes (name, cluster, h->header_len,
                     MIN (walk.next, walk.limit), list);
}

void
extension_list_free (struct extension_list *list)
{
  free (list->extensions);
  free (list->bytes);
  memset (list, 0, sizeof *list);
}

const struct extension *
extension_list_find (const struct extension_list *list, uint32_t type)
{
  size_t i;

  for (i = list->nr_extensions; i > 0; --i)
    if (list->extensions[i - 1].type == type)
      return &list->extensions[i - 1];
  return NULL;
}

int
extension_list_string (const char *name, const struct extension_list *list,
                       uint32_t type, char **s)
{
  const struct extension *ext = extension_list_find (list, type);

  *s = NULL;
  if (ext == NULL || ext->len == 0 || ext->data[0] == '\0')
    return 0;
  *s = strndup ((const char *) ext->data, ext->len);
  if (*s == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the header extensions", name);
  return 0;
}

uint64_t
extension_list_len (const struct extension_list *list)
{
  uint64_t len = ENTRY_HEADER_LEN;
  size_t i;

  for (i = 0; i < list->nr_extensions; ++i)
    len += ENTRY_HEADER_LEN + round_up (list->extensions[i].len, 8);
  return len;
}

void
extension_list_format (const struct extension_list *list, uint8_t *bytes)
{
  uint8_t *p = bytes;
  size_t i;

  memset (bytes, 0, extension_list_len (list));
  for (i = 0; i < list->nr_extensions; ++i) {
    const struct extension *ext = &list->extensions[i];

    store_be32 (p, ext->type);
    store_be32 (p + 4, ext->len);
    memcpy (p + ENTRY_HEADER_LEN, ext->data, ext->len);
    p += ENTRY_HEADER_LEN + round_up (ext->len, 8);
  }
}
