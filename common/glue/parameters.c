/* The parameters common to all plugins.
 *
 * Paths become absolute at once, because the server changes directory
 * later.  A parameter given twice is a mistake, but for allow-path=.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/parameters.h"

#define CACHE_SIZE_DEFAULT (INT64_C (128) << 20)
#define CACHE_SIZE_MIN (INT64_C (1) << 20)

/* What was given; owned. */
static struct {
  char *file;
  int fd;
  enum chain_backing backing;
  char *backing_path;
  char *backing_format;
  char *data_file;
  struct policy policy;
  enum source_lock_mode lock;
  bool force_share;
  int64_t cache_size;
  enum image_fixup fixup;
  const char *fixup_by;         /* who asked for it; NULL: nobody */
  struct orders orders;
} given = {
  .fd = -1,
  .orders = { .size = -1, .resize = -1 },
  .cache_size = CACHE_SIZE_DEFAULT,
};

static int
set_path (char **path, const char *key, const char *value)
{
  if (value[0] == '\0') {
    nbdkit_error ("%s=: a file name is missing", key);
    return -1;
  }
  *path = nbdkit_absolute_path (value);
  return *path ? 0 : -1;
}

static int
set_file (const char *key, const char *value)
{
  return set_path (&given.file, key, value);
}

static int
set_data_file (const char *key, const char *value)
{
  return set_path (&given.data_file, key, value);
}

/* Descriptors 0 to 2 belong to the server. */
static int
set_fd (const char *key, const char *value)
{
  if (nbdkit_parse_int (key, value, &given.fd) == -1)
    return -1;
  if (given.fd <= STDERR_FILENO) {
    nbdkit_error ("fd=%d: must be greater than %d, those before are "
                  "nbdkit's own", given.fd, STDERR_FILENO);
    return -1;
  }
  if (fcntl (given.fd, F_GETFD) == -1) {
    nbdkit_error ("fd=%d: %m", given.fd);
    return -1;
  }
  return 0;
}

static int
set_backing (const char *key, const char *value)
{
  if (strcmp (value, "auto") == 0) {
    given.backing = CHAIN_BACKING_AUTO;
    return 0;
  }
  if (strcmp (value, "none") == 0) {
    given.backing = CHAIN_BACKING_NONE;
    return 0;
  }
  if (policy_is_protocol (value)) {
    nbdkit_error ("backing=%s: only files can be backing files so far; for a "
                  "file of that name put ./ before it", value);
    return -1;
  }
  given.backing = CHAIN_BACKING_PATH;
  return set_path (&given.backing_path, key, value);
}

static int
set_backing_format (const char *key, const char *value)
{
  (void) key;
  given.backing_format = strdup (value);
  if (given.backing_format == NULL) {
    nbdkit_error ("strdup: %m");
    return -1;
  }
  return 0;
}

static int
set_allow_path (const char *key, const char *value)
{
  char *path;
  int r;

  if (set_path (&path, key, value) == -1)
    return -1;
  r = policy_allow (&given.policy, path);
  free (path);
  return r;
}

static int
set_lock (const char *key, const char *value)
{
  (void) key;
  if (strcmp (value, "auto") == 0)
    given.lock = SOURCE_LOCK_AUTO;
  else if (strcmp (value, "on") == 0)
    given.lock = SOURCE_LOCK_ON;
  else if (strcmp (value, "off") == 0)
    given.lock = SOURCE_LOCK_OFF;
  else {
    nbdkit_error ("lock=%s: must be auto, on or off", value);
    return -1;
  }
  return 0;
}

static int
set_bool (bool *b, const char *value)
{
  int r = nbdkit_parse_bool (value);

  *b = r == 1;
  return r == -1 ? -1 : 0;
}

static int
set_force_share (const char *key, const char *value)
{
  (void) key;
  return set_bool (&given.force_share, value);
}

int
glue_allow_path (const char *path)
{
  return policy_allow (&given.policy, path);
}

int
glue_set_fixup (enum image_fixup fixup, const char *who)
{
  if (given.fixup_by && given.fixup != fixup) {
    nbdkit_error ("%s and %s exclude each other", given.fixup_by, who);
    return -1;
  }
  given.fixup = fixup;
  given.fixup_by = who;
  return 0;
}

static int
set_create (const char *key, const char *value)
{
  (void) key;
  return set_bool (&given.orders.create, value);
}

static int
set_overwrite (const char *key, const char *value)
{
  (void) key;
  return set_bool (&given.orders.overwrite, value);
}

static int
set_shrink (const char *key, const char *value)
{
  (void) key;
  return set_bool (&given.orders.shrink, value);
}

static int
set_size (const char *key, const char *value)
{
  (void) key;
  given.orders.size = nbdkit_parse_size (value);
  return given.orders.size == -1 ? -1 : 0;
}

static int
set_resize (const char *key, const char *value)
{
  (void) key;
  given.orders.resize = nbdkit_parse_size (value);
  return given.orders.resize == -1 ? -1 : 0;
}

static int
set_cache_size (const char *key, const char *value)
{
  given.cache_size = nbdkit_parse_size (value);
  if (given.cache_size == -1)
    return -1;
  if (given.cache_size < CACHE_SIZE_MIN) {
    nbdkit_error ("%s=%s: must be at least 1M", key, value);
    return -1;
  }
  return 0;
}

static const struct glue_parameter common_parameters[] = {
  { "file", set_file },
  { "fd", set_fd },
  { "backing", set_backing },
  { "backing-format", set_backing_format },
  { "data-file", set_data_file },
  { "lock", set_lock },
  { "force-share", set_force_share },
  { "cache-size", set_cache_size },
  { "create", set_create, .for_change = true },
  { "size", set_size, .for_change = true },
  { "overwrite", set_overwrite, .for_change = true },
  { "resize", set_resize, .for_change = true },
  { "shrink", set_shrink, .for_change = true },
  { "allow-path", set_allow_path, .is_repeatable = true },
};

#define NR_COMMON (sizeof common_parameters / sizeof common_parameters[0])
static bool was_given[NR_COMMON];

/* The same for the plugin's own. */
#define MAX_OWN 32
static bool own_was_given[MAX_OWN];

static int
refuse_twice (const char *key)
{
  nbdkit_error ("parameter '%s' was given twice", key);
  return -1;
}

int
parameters_set (const struct glue_plugin *about, const char *key,
                const char *value)
{
  for (size_t i = 0; i < NR_COMMON; i++) {
    if (strcmp (key, common_parameters[i].key) != 0)
      continue;
    if (common_parameters[i].set == set_data_file && !about->has_data_files)
      continue;
    if (common_parameters[i].for_change && !about->can_change)
      continue;
    if (was_given[i] && !common_parameters[i].is_repeatable)
      return refuse_twice (key);
    was_given[i] = true;
    return common_parameters[i].set (key, value);
  }
  for (size_t i = 0; about->parameters && about->parameters[i].key; i++) {
    const struct glue_parameter *p = &about->parameters[i];

    if (strcmp (key, p->key) != 0)
      continue;
    assert (i < MAX_OWN);
    if (own_was_given[i] && !p->is_repeatable)
      return refuse_twice (key);
    own_was_given[i] = true;
    return p->set (key, value);
  }
  nbdkit_error ("unknown parameter '%s'", key);
  return -1;
}

/* What is for new images only makes no sense without one. */
static int
check_orders (const struct glue_plugin *about)
{
  const struct orders *o = &given.orders;
  const char *key = NULL;

  if (o->shrink && o->resize == -1) {
    nbdkit_error ("shrink=true: makes sense with resize= only");
    return -1;
  }
  if (o->create && o->resize != -1) {
    nbdkit_error ("create=true and resize= exclude each other; a new image "
                  "has the size that size= says");
    return -1;
  }
  if (o->create)
    return 0;
  if (o->size != -1)
    key = "size";
  else if (o->overwrite)
    key = "overwrite";
  for (size_t i = 0; about->parameters && about->parameters[i].key; i++)
    if (about->parameters[i].for_create && own_was_given[i])
      key = about->parameters[i].key;
  if (key == NULL)
    return 0;
  nbdkit_error ("%s=: is for new images, with create=true only%s", key,
                o->size != -1 ? "; use resize= to change the size of one that "
                "is there" : "");
  return -1;
}

int
parameters_complete (const struct glue_plugin *about,
                     struct chain_settings *set, struct orders *orders)
{
  if (check_orders (about) == -1)
    return -1;
  if (given.file == NULL && given.fd == -1) {
    nbdkit_error ("you must supply the file= or the fd= parameter: the image "
                  "to serve");
    return -1;
  }
  if (given.file && given.fd != -1) {
    nbdkit_error ("file= and fd= exclude each other");
    return -1;
  }
  if (given.backing == CHAIN_BACKING_NONE && given.backing_format) {
    nbdkit_error ("backing=none and backing-format= exclude each other");
    return -1;
  }
  *orders = given.orders;
  *set = (struct chain_settings) {
    .format = about->format,
    .formats = about->formats,
    .file = given.file,
    .fd = given.fd,
    .backing = given.backing,
    .backing_path = given.backing_path,
    .backing_format = given.backing_format,
    .data_file = given.data_file,
    .policy = given.policy,
    .lock = given.lock,
    .force_share = given.force_share,
    .cache_size = (uint64_t) given.cache_size,
    .wishes = { .fixup = given.fixup },
    .trace = about->debug_chain && *about->debug_chain,
  };
  if (about->add_wishes)
    about->add_wishes (&set->wishes);
  return 0;
}

void
parameters_free (void)
{
  free (given.file);
  free (given.backing_path);
  free (given.backing_format);
  free (given.data_file);
  policy_free (&given.policy);
  given.file = given.backing_path = NULL;
  given.backing_format = given.data_file = NULL;
}
