/* The parameters of the vhdx plugin alone: how strict to be, and where
 * paths of Windows are.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "options.h"

static struct image_wishes wishes;

/* Owned; wishes.nr_maps of them. */
static struct image_path_map *maps;

/* One of two words: is it the second? */
static int
set_choice (bool *choice, const char *key, const char *value,
            const char *first, const char *second)
{
  if (strcmp (value, first) != 0 && strcmp (value, second) != 0) {
    nbdkit_error ("%s=%s: must be %s or %s", key, value, first, second);
    return -1;
  }
  *choice = strcmp (value, second) == 0;
  return 0;
}

static int
set_check (const char *key, const char *value)
{
  return set_choice (&wishes.check_all, key, value, "none", "open");
}

static int
set_log (const char *key, const char *value)
{
  return set_choice (&wishes.strict_log, key, value, "lenient", "strict");
}

static int
set_parent_mismatch (const char *key, const char *value)
{
  return set_choice (&wishes.any_parent, key, value, "refuse", "allow");
}

static int
add_map (char *prefix, char *dir)
{
  struct image_path_map *more =
    realloc (maps, (wishes.nr_maps + 1) * sizeof *maps);

  if (more == NULL) {
    nbdkit_error ("no memory for path-map=");
    return -1;
  }
  maps = more;
  maps[wishes.nr_maps++] = (struct image_path_map) {
    .prefix = prefix, .dir = dir
  };
  wishes.maps = maps;
  return glue_allow_path (dir);
}

/* "d:=/mnt/d": what is there may be opened. */
static int
set_path_map (const char *key, const char *value)
{
  const char *equals = strchr (value, '=');
  char *prefix, *dir;

  if (equals == NULL || equals == value || equals[1] == '\0') {
    nbdkit_error ("%s=%s: must be PREFIX=DIRECTORY, as d:=/mnt/d", key,
                  value);
    return -1;
  }
  dir = nbdkit_realpath (equals + 1);
  if (dir == NULL)
    return -1;
  prefix = strndup (value, equals - value);
  if (prefix == NULL) {
    nbdkit_error ("no memory for path-map=");
    free (dir);
    return -1;
  }
  return add_map (prefix, dir);
}

const struct glue_parameter vhdx_parameters[] = {
  { "check", set_check },
  { "log", set_log },
  { "parent-mismatch", set_parent_mismatch },
  { "path-map", set_path_map, .is_repeatable = true },
  { NULL },
};

void
vhdx_options_wishes (struct image_wishes *w)
{
  w->strict_log = wishes.strict_log;
  w->any_parent = wishes.any_parent;
  w->check_all = wishes.check_all;
  w->maps = wishes.maps;
  w->nr_maps = wishes.nr_maps;
}

void
vhdx_options_free (void)
{
  for (size_t i = 0; i < wishes.nr_maps; ++i) {
    free ((char *) maps[i].prefix);
    free ((char *) maps[i].dir);
  }
  free (maps);
  maps = NULL;
  wishes.nr_maps = 0;
}
