/* The filter qcow-fixup: parameters and callbacks.
 *
 * Over our own plugins it only asks for fixup=write and then lets
 * everything through: what they serve is a disk, where nothing is to be
 * fixed.  Over others it works on the bytes of the image that they serve:
 * export.h for qcow version 1, preserve.h for qcow2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "below.h"
#include "export.h"
#include "include/checked.h"
#include "include/lock.h"
#include "preserve.h"
#include "source/next.h"

enum image_bytes {
  IMAGE_BYTES_AUTO,             /* as the plugin is known */
  IMAGE_BYTES_TRUE,
  IMAGE_BYTES_FALSE,
};

/* What was given. */
static struct {
  enum image_bytes image_bytes;
  enum preserve_mode preserve;
  bool repairs_stray;
} given;

static const struct ndf_fixup_door *door; /* NULL: not over our plugins */
static char *plugin_name;                 /* NULL: unknown */
static struct export_settings settings;

/* One for each connection.  They are kept in a list, because with a client
 * connected when the server ends .close is not called for it.
 */
struct handle {
  struct handle *before, *after; /* in the list */
  struct export *export;
  bool has_entered;
  enum export_mode mode;
  struct preserve *preserve;    /* NULL: nothing to keep; borrowed */
  struct source *src;           /* of this connection, for that */
};

static struct lock handles_lock = LOCK_INITIALIZER;
static struct handle *handles;  /* guarded by handles_lock */

/* ---- parameters */

static int
set_image_bytes (const char *value)
{
  const int r = nbdkit_parse_bool (value);

  given.image_bytes = r ? IMAGE_BYTES_TRUE : IMAGE_BYTES_FALSE;
  return r == -1 ? -1 : 0;
}

static int
set_preserve (const char *value)
{
  if (strcmp (value, "warn") == 0)
    given.preserve = PRESERVE_WARN;
  else if (strcmp (value, "strict") == 0)
    given.preserve = PRESERVE_STRICT;
  else if (strcmp (value, "off") == 0)
    given.preserve = PRESERVE_OFF;
  else {
    nbdkit_error ("preserve=%s: must be warn, strict or off", value);
    return -1;
  }
  return 0;
}

static int
set_stray_header (const char *value)
{
  if (strcmp (value, "report") != 0 && strcmp (value, "repair") != 0) {
    nbdkit_error ("stray-header=%s: must be report or repair", value);
    return -1;
  }
  given.repairs_stray = strcmp (value, "repair") == 0;
  return 0;
}

static const struct parameter {
  const char *key;
  int (*set) (const char *value);
} parameters[] = {
  { "image-bytes", set_image_bytes },
  { "preserve", set_preserve },
  { "stray-header", set_stray_header },
};

#define NR_PARAMETERS (sizeof parameters / sizeof parameters[0])
static bool was_given[NR_PARAMETERS];

static int
fixup_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
              const char *key, const char *value)
{
  for (size_t i = 0; i < NR_PARAMETERS; i++) {
    if (strcmp (key, parameters[i].key) != 0)
      continue;
    if (was_given[i]) {
      nbdkit_error ("parameter '%s' was given twice", key);
      return -1;
    }
    was_given[i] = true;
    return parameters[i].set (value);
  }
  return next (nxdata, key, value);
}

/* Our plugin does it all, and knows its own parameters. */
static int
ask (void)
{
  for (size_t i = 0; i < NR_PARAMETERS; i++) {
    if (was_given[i]) {
      nbdkit_error ("%s=: has no meaning over the %s plugin, which reads the "
                    "image itself", parameters[i].key,
                    plugin_name ?: "(unnamed)");
      return -1;
    }
  }
  return door->ask ();
}

static int
fixup_config_complete (nbdkit_next_config_complete *next,
                       nbdkit_backend *nxdata)
{
  plugin_name = below_plugin ();
  door = below_door ();
  if (door && ask () == -1)
    return -1;
  settings = (struct export_settings) {
    .plugin = plugin_name ?: "unknown",
    .serves_bytes = given.image_bytes == IMAGE_BYTES_TRUE ||
      (given.image_bytes == IMAGE_BYTES_AUTO &&
       below_serves_bytes (plugin_name)),
    .is_left_alone = given.image_bytes == IMAGE_BYTES_FALSE,
    .repairs_stray = given.repairs_stray,
    .preserve = given.preserve,
  };
  nbdkit_debug ("qcow-fixup: plugin=%s ours=%d bytes=%d", settings.plugin,
                door != NULL, settings.serves_bytes);
  return next (nxdata);
}

/* ---- connections */

static void
list_add (struct handle *h)
{
  LOCK_SCOPE (&handles_lock);

  h->after = handles;
  if (handles)
    handles->before = h;
  handles = h;
}

static void
list_remove (struct handle *h)
{
  LOCK_SCOPE (&handles_lock);

  if (h->before)
    h->before->after = h->after;
  else
    handles = h->after;
  if (h->after)
    h->after->before = h->before;
}

static void *
fixup_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
            const char *exportname, int is_tls)
{
  struct handle *h;

  (void) is_tls;
  if (next (context, readonly, exportname) == -1)
    return NULL;
  if (door)
    return NBDKIT_HANDLE_NOT_NEEDED;
  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  h->export = export_get (exportname, &settings);
  if (h->export == NULL) {
    free (h);
    return NULL;
  }
  list_add (h);
  return h;
}

static void
fixup_close (void *handle)
{
  struct handle *h = handle;

  if (door)
    return;
  list_remove (h);
  source_put (h->src);
  if (h->has_entered)
    export_leave (h->export);
  export_put (h->export);
  free (h);
}

static int
fixup_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;
  int mode;

  if (door)
    return 0;
  mode = export_enter (h->export, next, readonly);
  if (mode == -1)
    return -1;
  h->has_entered = true;
  h->mode = (enum export_mode) mode;
  h->preserve = export_preserve (h->export);
  if (h->preserve == NULL)
    return 0;
  h->src = source_next (next, export_label (h->export), readonly);
  return h->src ? 0 : -1;
}

/* Who got a view may not write, whatever comes later. */
static int
fixup_can_write (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  if (!door && h->mode == EXPORT_VIEW)
    return 0;
  return next->can_write (next);
}

/* ---- requests */

/* Does a request that begins there touch a header that is kept alive? */
static bool
is_guarded (const struct handle *h, uint64_t offset)
{
  return !door && h->preserve && offset < preserve_guarded_len (h->preserve);
}

/* What a call gave that reports, and sets errno. */
static int
answer (int r, int *err)
{
  if (r == -1)
    *err = errno;
  return r;
}

static int
fixup_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
             uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;

  if (door)
    return next->pread (next, buf, count, offset, flags, err);
  if (is_guarded (h, offset))
    preserve_note_read (h->preserve);
  return export_pread (h->export, next, buf, count, offset, flags, err);
}

static int
fixup_pwrite (nbdkit_next *next, void *handle, const void *buf,
              uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;

  if (is_guarded (h, offset)) {
    const struct preserve_below below = export_preserve_below (h->src);

    return answer (preserve_pwrite (h->preserve, &below, buf, count, offset,
                                    flags & NBDKIT_FLAG_FUA), err);
  }
  return next->pwrite (next, buf, count, offset, flags, err);
}

/* What is below may take whole blocks only, and the guarded bytes need not
 * end with one: how far is it to the end of the block?
 */
static uint64_t
len_to_block_end (const struct handle *h, uint64_t len, uint64_t offset)
{
  return MIN (len, round_up (offset, h->src->alignment) - offset);
}

/* Zero the guarded bytes, and the rest of their last block; how many bytes
 * that is, or -1.
 */
static int64_t
zero_guarded (struct handle *h, uint64_t len, uint64_t offset, bool fua)
{
  const struct preserve_below below = export_preserve_below (h->src);
  uint64_t done = 0, rest;

  if (preserve_zero (h->preserve, &below, len, offset, fua, &done) == -1)
    return -1;
  rest = len_to_block_end (h, len - done, offset + done);
  if (source_zero (h->src, rest, offset + done, SOURCE_ZERO_KEEP) == -1 ||
      (fua && rest > 0 && below.flush (below.handle) == -1))
    return -1;
  return (int64_t) (done + rest);
}

static int
fixup_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
            uint32_t flags, int *err)
{
  struct handle *h = handle;

  if (is_guarded (h, offset)) {
    const int64_t done = zero_guarded (h, count, offset,
                                       flags & NBDKIT_FLAG_FUA);

    if (done == -1)
      return answer (-1, err);
    count -= (uint32_t) done;
    offset += done;
    if (count == 0)
      return 0;
  }
  return next->zero (next, count, offset, flags, err);
}

static int
fixup_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
            uint32_t flags, int *err)
{
  struct handle *h = handle;

  if (is_guarded (h, offset)) {
    uint64_t skip = preserve_trim_skip (h->preserve, count, offset);

    skip += len_to_block_end (h, count - skip, offset + skip);
    count -= (uint32_t) skip;
    offset += skip;
    if (count == 0)
      return 0;
  }
  return next->trim (next, count, offset, flags, err);
}

static int
fixup_extents (nbdkit_next *next, void *handle, uint32_t count,
               uint64_t offset, uint32_t flags,
               struct nbdkit_extents *extents, int *err)
{
  struct handle *h = handle;

  if (door)
    return next->extents (next, count, offset, flags, extents, err);
  return export_extents (h->export, next, count, offset, flags, extents,
                         err);
}

/* ---- the end */

static void
fixup_unload (void)
{
  while (handles) {
    struct handle *h = handles;

    handles = h->after;
    source_put (h->src);
    free (h);
  }
  export_forget_all ();
  free (plugin_name);
}

static struct nbdkit_filter filter = {
  .name = "qcow-fixup",
  .longname = "nbdkit qcow-fixup filter",
  .description = "Convert tapdisk's qcow images in place when they are first "
    "written, and keep what is in qcow2 headers alive",
  .config_help =
    "image-bytes=<BOOL>     Whether the plugin serves an image's bytes.\n"
    "preserve=warn|strict|off  When a qcow2 header would lose something.\n"
    "stray-header=report|repair  What to do about stray headers.",
  .unload = fixup_unload,
  .config = fixup_config,
  .config_complete = fixup_config_complete,
  .open = fixup_open,
  .close = fixup_close,
  .prepare = fixup_prepare,
  .can_write = fixup_can_write,
  .pread = fixup_pread,
  .pwrite = fixup_pwrite,
  .zero = fixup_zero,
  .trim = fixup_trim,
  .extents = fixup_extents,
};

NBDKIT_REGISTER_FILTER (filter)
