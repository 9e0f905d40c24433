/* The parent locator: keys and values in UTF-16, and paths of Windows.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/refuse.h"
#include "vhdx/locator.h"

#define HEADER_LEN 20
#define ENTRY_LEN 12

/* Before a path that Windows is not to interpret. */
#define VERBATIM "\\\\?\\"

static const struct guid vhdx_type = { {
  0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a,
  0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13
} };

/* ---- strings */

/* One character of in[0..len-1], len > 0; how many bytes it has; 0: it is
 * none, or NUL.
 */
static size_t
decode_utf16 (const uint8_t *in, size_t len, uint32_t *c)
{
  uint32_t low;

  *c = load_le16 (in);
  if (*c < 0xd800 || *c > 0xdfff)
    return *c == 0 ? 0 : 2;
  if (*c > 0xdbff || len < 4)
    return 0;
  low = load_le16 (in + 2);
  if (low < 0xdc00 || low > 0xdfff)
    return 0;
  *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
  return 4;
}

static size_t
encode_utf8 (uint32_t c, char *out)
{
  size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

  for (size_t i = n; i-- > 1; c >>= 6)
    out[i] = 0x80 | (c & 0x3f);
  out[0] = lead[n] | c;
  return n;
}

/* in[0..len-1], len even, in UTF-8; owned by the caller.  NULL with errno
 * EINVAL or ENOMEM, unreported.
 */
static char *
convert (const uint8_t *in, size_t len)
{
  char *out = malloc (len / 2 * 3 + 1), *p = out;

  if (out == NULL)
    return NULL;
  while (len > 0) {
    uint32_t c;
    const size_t n = decode_utf16 (in, len, &c);

    if (n == 0) {
      free (out);
      errno = EINVAL;
      return NULL;
    }
    p += encode_utf8 (c, p);
    in += n;
    len -= n;
  }
  *p = '\0';
  return out;
}

/* ---- keys and values */

struct item {
  const char *name;             /* for messages */
  const uint8_t *bytes;
  size_t len;
  char **keys;                  /* of those read; owned */
  unsigned nr;
};

static char *
read_string (const struct item *item, unsigned i, const char *what,
             uint32_t at, uint16_t len)
{
  char *s;

  if (at == 0 || len == 0 || len % 2 != 0 ||
      !range_is_inside (at, len, item->len)) {
    report_error ("%s: parent locator, entry %u: the %s at byte %" PRIu32
                  ", %" PRIu16 " bytes long, is not within the %zu bytes of "
                  "the item, or of odd length", item->name, i, what, at, len,
                  item->len);
    errno = EINVAL;
    return NULL;
  }
  s = convert (item->bytes + at, len);
  if (s == NULL && errno == EINVAL) {
    report_error ("%s: parent locator, entry %u: the %s is no text in "
                  "UTF-16", item->name, i, what);
    errno = EINVAL;
  }
  else if (s == NULL) {
    report_error ("%s: no memory for the parent locator", item->name);
    errno = ENOMEM;
  }
  return s;
}

static int
parse_linkage (const char *name, const char *key, const char *value,
               struct guid *g)
{
  if (guid_parse (value, strlen (value), g))
    return 0;
  return REFUSE (EINVAL, "%s: parent locator: the value of %s is no GUID",
                 name, key);
}

/* Keep the value of a key that we know. */
static int
keep (const char *name, struct vhdx_locator *l, const char *key,
      char **value)
{
  if (strcmp (key, "parent_linkage") == 0)
    return parse_linkage (name, key, *value, &l->linkage);
  if (strcmp (key, "parent_linkage2") == 0) {
    l->has_linkage2 = true;
    return parse_linkage (name, key, *value, &l->linkage2);
  }
  if (strcmp (key, "relative_path") == 0)
    l->relative_path = STEAL (*value);
  else if (strcmp (key, "volume_path") == 0)
    l->volume_path = STEAL (*value);
  else if (strcmp (key, "absolute_win32_path") == 0)
    l->absolute_path = STEAL (*value);
  return 0;
}

static int
read_entry (struct item *item, unsigned i, struct vhdx_locator *l)
{
  const uint8_t *e = item->bytes + HEADER_LEN + ENTRY_LEN * i;
  CLEANUP_FREE char *value = NULL;
  char *key = read_string (item, i, "key", load_le32 (e),
                           load_le16 (e + 8));

  if (key == NULL)
    return -1;
  item->keys[item->nr++] = key;
  for (unsigned j = 0; j < i; ++j)
    if (strcmp (item->keys[j], key) == 0)
      return REFUSE (EINVAL, "%s: parent locator: entries %u and %u have the "
                     "same key", item->name, j, i);
  value = read_string (item, i, "value", load_le32 (e + 4),
                       load_le16 (e + 10));
  if (value == NULL)
    return -1;
  report_debug ("vhdx: locator file=%s %s=%s", item->name, key, value);
  return keep (item->name, l, key, &value);
}

static int
read_entries (struct item *item, struct vhdx_locator *l)
{
  const unsigned nr = load_le16 (item->bytes + 18);

  if (nr == 0 || nr > VHDX_LOCATOR_MAX_KEYS)
    return REFUSE (EINVAL, "%s: the parent locator has %u entries: must be 1 "
                   "to %d", item->name, nr, VHDX_LOCATOR_MAX_KEYS);
  if (HEADER_LEN + ENTRY_LEN * nr > item->len)
    return REFUSE (EINVAL, "%s: the parent locator has %u entries, but only "
                   "%zu bytes", item->name, nr, item->len);
  item->keys = calloc (nr, sizeof *item->keys);
  if (item->keys == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the parent locator",
                   item->name);
  for (unsigned i = 0; i < nr; ++i)
    if (read_entry (item, i, l) == -1)
      return -1;
  if (guid_is_zero (&l->linkage))
    return REFUSE (EINVAL, "%s: the parent locator does not say which parent "
                   "it means: there is no parent_linkage", item->name);
  return 0;
}

int
vhdx_locator_parse (const char *name, const uint8_t *bytes, size_t len,
                    struct vhdx_locator *l)
{
  struct item item = { .name = name, .bytes = bytes, .len = len };
  struct guid type;
  char text[GUID_TEXT_LEN];
  int r;

  *l = (struct vhdx_locator) { .has_linkage2 = false };
  if (len < HEADER_LEN)
    return REFUSE (EINVAL, "%s: the parent locator has only %zu bytes", name,
                   len);
  type = guid_load (bytes);
  if (!guid_is_equal (&type, &vhdx_type)) {
    guid_format (&type, text);
    return REFUSE (ENOTSUP, "%s: the parent locator is of type %s, which is "
                   "not known", name, text);
  }
  r = read_entries (&item, l);
  for (unsigned i = 0; i < item.nr; ++i)
    free (item.keys[i]);
  free (item.keys);
  return r;
}

void
vhdx_locator_free (struct vhdx_locator *l)
{
  free (l->relative_path);
  free (l->volume_path);
  free (l->absolute_path);
  *l = (struct vhdx_locator) { .has_linkage2 = false };
}

/* ---- where to look */

static void
turn_slashes (char *path)
{
  for (; *path; ++path)
    if (*path == '\\')
      *path = '/';
}

/* "..\a\b" or ".\b" as a name relative to the child. */
static char *
relative_name (const char *path)
{
  char *name = strdup (path), *start = name;

  if (name == NULL)
    return NULL;
  turn_slashes (name);
  while (*start == '/' || strncmp (start, "./", 2) == 0)
    start += *start == '/' ? 1 : 2;
  memmove (name, start, strlen (start) + 1);
  return name;
}

/* The file's own name at the end of a path. */
static const char *
last_part (const char *path)
{
  const char *end = path;

  for (; *path; ++path)
    if (*path == '\\' || *path == '/')
      end = path + 1;
  return end;
}

/* What follows 'prefix' in 'path', in either case; NULL: another one. */
static const char *
behind_prefix (const char *path, const char *prefix)
{
  const size_t len = strlen (prefix);

  if (strncasecmp (path, prefix, len) != 0)
    return NULL;
  path += len;
  return *path == '\\' || *path == '/' ? path + 1 : NULL;
}

/* The path below the directory that the user mapped its volume to; *mapped
 * stays NULL for none.  -1: no memory.
 */
static int
map_path (const char *path, const struct image_path_map *maps,
          size_t nr_maps, char **mapped)
{
  const char *rest = NULL;
  size_t i;

  if (strncmp (path, VERBATIM, strlen (VERBATIM)) == 0)
    path += strlen (VERBATIM);
  for (i = 0; i < nr_maps; ++i) {
    rest = behind_prefix (path, maps[i].prefix);
    if (rest == NULL && strncasecmp (path, "Volume", 6) == 0)
      rest = behind_prefix (path + 6, maps[i].prefix);
    if (rest)
      break;
  }
  if (rest == NULL)
    return 0;
  *mapped = malloc (strlen (maps[i].dir) + 1 + strlen (rest) + 1);
  if (*mapped == NULL)
    return -1;
  strcpy (stpcpy (stpcpy (*mapped, maps[i].dir), "/"), rest);
  turn_slashes (*mapped + strlen (maps[i].dir));
  return 0;
}

#define NR_PATHS 3

/* Each path may be tried in full, and by its last part. */
#define MAX_CANDIDATES (2 * NR_PATHS)

/* Those that are recorded, in the order of the specification; the others
 * are NULL.
 */
static void
list_paths (const struct vhdx_locator *l, const char *paths[NR_PATHS])
{
  paths[0] = l->relative_path;
  paths[1] = l->volume_path;
  paths[2] = l->absolute_path;
}

static bool
is_listed (char *const *list, const char *name)
{
  for (; *list; ++list)
    if (strcmp (*list, name) == 0)
      return true;
  return false;
}

static int
fill_candidates (char **list, const struct vhdx_locator *l,
                 const struct image_path_map *maps, size_t nr_maps)
{
  const char *paths[NR_PATHS];
  size_t n = 0;

  list_paths (l, paths);
  if (l->relative_path) {
    list[n] = relative_name (l->relative_path);
    if (list[n++] == NULL)
      return -1;
  }
  for (size_t i = 1; i < NR_PATHS; ++i) {
    if (paths[i] && map_path (paths[i], maps, nr_maps, &list[n]) == -1)
      return -1;
    n += list[n] != NULL;
  }
  for (size_t i = 0; i < NR_PATHS; ++i) {
    if (paths[i] == NULL || is_listed (list, last_part (paths[i])))
      continue;
    list[n] = strdup (last_part (paths[i]));
    if (list[n++] == NULL)
      return -1;
  }
  return 0;
}

char **
vhdx_locator_candidates (const char *name, const struct vhdx_locator *l,
                         const struct image_path_map *maps, size_t nr_maps)
{
  char **list = calloc (MAX_CANDIDATES + 1, sizeof *list);

  if (list && fill_candidates (list, l, maps, nr_maps) == 0)
    return list;
  for (size_t i = 0; list && i < MAX_CANDIDATES; ++i)
    free (list[i]);
  free (list);
  report_error ("%s: no memory for the names of the parent", name);
  errno = ENOMEM;
  return NULL;
}

char *
vhdx_locator_text (const char *name, const struct vhdx_locator *l)
{
  const char *paths[NR_PATHS];
  char *text = NULL;
  size_t len;
  FILE *fp = open_memstream (&text, &len);

  list_paths (l, paths);
  for (size_t i = 0; fp && i < NR_PATHS; ++i)
    if (paths[i])
      fprintf (fp, "%s\"%s\"", ftell (fp) > 0 ? ", " : "", paths[i]);
  if (fp && fclose (fp) == 0)
    return text;
  free (text);
  report_error ("%s: no memory for the names of the parent", name);
  errno = ENOMEM;
  return NULL;
}
