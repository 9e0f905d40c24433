/* Orders: which of them, and the one to make an image.
 *
 * To make an image, everything that it refers to is opened and checked
 * first, then its files are opened or made, and locked; the plugin does
 * the rest.  Files made here are removed again when it fails.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain/probe.h"
#include "glue/orders.h"
#include "include/cleanup.h"
#include "report/report.h"

/* ---- files */

/* A file of the new image. */
struct target {
  const char *path;             /* NULL: by descriptor, or none */
  struct source *src;           /* locked for writing; owned */
  bool is_new;                  /* made here: removed on failure */
};

static int
refuse (int err)
{
  errno = err;
  return -1;
}

/* Open the file for writing; make it if it does not exist. */
static int
open_target (struct target *t, enum source_lock_mode lock)
{
  int fd = open (t->path, O_RDWR | O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC,
                 0666);

  if (fd >= 0) {
    t->is_new = true;
    close (fd);
  }
  else if (errno != EEXIST) {
    report_error ("%s: cannot be made: %m", t->path);
    return -1;
  }
  t->src = source_file_open (t->path, true);
  if (t->src == NULL)
    return -1;
  return source_file_lock (t->src, SOURCE_LOCK_WRITE, lock);
}

/* The directory that a path names a file in; NULL with errno ENOMEM. */
static char *
directory_of (const char *path)
{
  const char *slash = strrchr (path, '/');

  if (slash == NULL)
    return strdup (".");
  return strndup (path, slash == path ? 1 : (size_t) (slash - path));
}

/* Have the new name survive the power's failing. */
static int
sync_directory (const struct target *t)
{
  CLEANUP_FREE char *name = NULL;
  CLEANUP_CLOSE int fd = -1;

  if (!t->is_new)
    return 0;
  name = directory_of (t->path);
  if (name)
    fd = open (name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  /* Some file systems cannot, and need not. */
  if (fd >= 0 && (fsync (fd) == 0 || errno == EINVAL))
    return 0;
  report_error ("%s: its directory cannot be flushed to stable storage: %m",
                t->path);
  return -1;
}

static void
remove_target (const struct target *t)
{
  const int err = errno;

  if (t->is_new)
    unlink (t->path);
  errno = err;
}

static void
cleanup_target (struct target *t)
{
  source_put (t->src);
}

#define CLEANUP_TARGET __attribute__ ((cleanup (cleanup_target)))

/* ---- what the image refers to */

/* The base that the user names, with all that it stands on. */
static struct chain *
open_base (const struct chain_settings *settings,
           struct chain_settings *base)
{
  *base = (struct chain_settings) {
    .format = probe_find (settings->formats, settings->backing_format),
    .formats = settings->formats,
    .file = settings->backing_path,
    .fd = -1,
    .policy = settings->policy,
    .lock = settings->lock,
    .cache_size = settings->cache_size,
    .trace = settings->trace,
  };
  if (base->format == NULL) {
    report_error ("backing-format=%s: is not known",
                  settings->backing_format);
    errno = EINVAL;
    return NULL;
  }
  return chain_open (base);
}

static void
cleanup_chain (struct chain **chain)
{
  chain_close (*chain);
}

#define CLEANUP_CHAIN __attribute__ ((cleanup (cleanup_chain)))

/* The name of the backing file to be recorded: a bare one where it lies
 * beside the image, so that both can be moved together.  A colon in it
 * must not make it look like a protocol.  The caller frees it.
 */
static char *
name_to_record (const char *image, const char *path)
{
  const char *slash = strrchr (path, '/');
  CLEANUP_FREE char *ours = image ? directory_of (image) : NULL;
  CLEANUP_FREE char *its = directory_of (path);
  char *name;

  if (slash == NULL || ours == NULL || its == NULL ||
      strcmp (ours, its) != 0)
    return strdup (path);
  if (asprintf (&name, "%s%s", strchr (slash, ':') ? "./" : "",
                slash + 1) == -1)
    return NULL;
  return name;
}

/* ---- making an image */

static bool
is_in_chain (const struct target *t, const struct chain *chain)
{
  for (size_t i = 0; chain && t->src && i < chain->nr_layers; i++) {
    const struct layer *layer = &chain->layers[i];

    if (source_file_same (t->src, layer->source) ||
        (layer->data && source_file_same (t->src, layer->data)))
      return true;
  }
  return false;
}

/* No two of the files are the same. */
static int
check_different (const struct target *image, const struct target *data,
                 const struct chain *base)
{
  const struct target *same = NULL;

  if (is_in_chain (image, base))
    same = image;
  else if (is_in_chain (data, base))
    same = data;
  else if (data->src && source_file_same (image->src, data->src))
    same = data;
  if (same == NULL)
    return 0;
  report_error ("%s: the new image would have this file in two places",
                same->src->name);
  return refuse (EINVAL);
}

static int
open_targets (const struct chain_settings *settings, struct target *image,
              struct target *data)
{
  char name[64];

  if (image->path) {
    if (open_target (image, settings->lock) == -1)
      return -1;
  }
  else {
    snprintf (name, sizeof name, "file descriptor %d", settings->fd);
    image->src = source_file_fd (settings->fd, name, true);
    if (image->src == NULL ||
        source_file_lock (image->src, SOURCE_LOCK_WRITE,
                          settings->lock) == -1)
      return -1;
  }
  return data->path ? open_target (data, settings->lock) : 0;
}

/* With everything that it stands on open and locked. */
static int
make_image (const struct glue_plugin *about,
            const struct chain_settings *settings, const struct chain *base,
            struct glue_create *what)
{
  CLEANUP_TARGET struct target image = { .path = settings->file };
  CLEANUP_TARGET struct target data = { .path = settings->data_file };

  if (open_targets (settings, &image, &data) == 0 &&
      check_different (&image, &data, base) == 0) {
    what->src = image.src;
    what->data = data.src;
    if (about->create (what) == 0 &&
        sync_directory (&image) == 0 && sync_directory (&data) == 0)
      return 0;
  }
  remove_target (&image);
  remove_target (&data);
  return -1;
}

static int
check_settings (const struct glue_plugin *about,
                const struct chain_settings *settings,
                const struct orders *orders)
{
  if (about->create == NULL) {
    report_error ("create=true: the %s plugin cannot make images",
                  about->name);
    return refuse (ENOTSUP);
  }
  if (settings->force_share) {
    report_error ("create=true and force-share=true exclude each other");
    return refuse (EINVAL);
  }
  if (orders->size == -1 && settings->backing_path == NULL) {
    report_error ("create=true: you must supply the size= parameter: how "
                  "large the disk is to be");
    return refuse (EINVAL);
  }
  if (settings->backing_path && settings->backing_format == NULL) {
    report_error ("create=true: you must supply the backing-format= "
                  "parameter with backing=, so that nobody has to guess "
                  "what the backing file is");
    return refuse (EINVAL);
  }
  if (settings->backing_path == NULL && settings->backing_format) {
    report_error ("backing-format=%s: the new image has no backing file",
                  settings->backing_format);
    return refuse (EINVAL);
  }
  return 0;
}

int
create_run (const struct glue_plugin *about,
            const struct chain_settings *settings,
            const struct orders *orders)
{
  struct chain_settings base_settings;
  CLEANUP_CHAIN struct chain *base = NULL;
  CLEANUP_FREE char *backing_name = NULL;
  struct glue_create what = {
    .name = settings->file ? settings->file : "the new image",
    .len = orders->size == -1 ? 0 : (uint64_t) orders->size,
    .overwrite = orders->overwrite,
    .backing_format = settings->backing_format,
    .data_file_name = settings->data_file,
  };

  if (check_settings (about, settings, orders) == -1)
    return -1;
  if (settings->backing_path) {
    base = open_base (settings, &base_settings);
    if (base == NULL)
      return -1;
    if (orders->size == -1)
      what.len = chain_top (base)->len;
    backing_name = name_to_record (settings->file, settings->backing_path);
    if (backing_name == NULL) {
      report_error ("no memory for the backing file's name");
      return refuse (ENOMEM);
    }
    what.backing_name = backing_name;
  }
  if (about->check_create (&what) == -1)
    return -1;
  return make_image (about, settings, base, &what);
}

/* ---- all */

int
orders_run (const struct glue_plugin *about,
            const struct chain_settings *settings,
            const struct orders *orders)
{
  if (orders->create && create_run (about, settings, orders) == -1)
    return -1;
  if (orders->resize != -1 && resize_run (settings, orders) == -1)
    return -1;
  return 0;
}
