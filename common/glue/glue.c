/* nbdkit's callbacks: the door between the server and an image.
 *
 * The image is one for all connections; a handle says which export of it a
 * client has, and whether it was promised to change nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "chain/life.h"
#include "glue/export.h"
#include "glue/glue.h"
#include "glue/orders.h"
#include "glue/parameters.h"
#include "image/codec.h"

static const struct glue_plugin *about;
static struct chain_settings settings;
static struct orders orders;
static struct life *life;

/* ---- the server's life */

void
glue_load (const struct glue_plugin *plugin)
{
  about = plugin;
}

void
glue_unload (void)
{
  export_close_all ();
  life_free (life);
  life = NULL;
  parameters_free ();
  if (about->unload)
    about->unload ();
}

int
glue_config (const char *key, const char *value)
{
  return parameters_set (about, key, value);
}

int
glue_config_complete (void)
{
  return parameters_complete (about, &settings, &orders);
}

void
glue_dump_plugin (void)
{
  const char *name = about->name;

  printf ("%s_deflate=%s\n", name,
          codec_is_supported (CODEC_DEFLATE) ? "yes" : "no");
  printf ("%s_zstd=%s\n", name,
          codec_is_supported (CODEC_ZSTD) ? "yes" : "no");
  printf ("%s_write=%s\n", name, about->format->reserve ? "yes" : "no");
  printf ("%s_locks=ofd\n", name);
  printf ("%s_threads=parallel\n", name);
  printf ("%s_backing_formats=", name);
  for (size_t i = 0; about->formats[i]; i++)
    printf ("%s%s", i > 0 ? "," : "", about->formats[i]->name);
  printf ("\n");
  if (about->dump)
    about->dump ();
}

int
glue_get_ready (void)
{
  if (orders_run (about, &settings, &orders) == -1)
    return -1;
  life = life_start (&settings);
  return life ? 0 : -1;
}

/* With a client connected, .close is not called for it. */
void
glue_cleanup (void)
{
  if (life)
    life_end (life);
}

/* ---- exports */

int
glue_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) readonly;
  (void) is_tls;
  return export_list (life, about->name, exports);
}

const char *
glue_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  return "";
}

const char *
glue_export_description (void *handle)
{
  char description[128];

  export_describe (life, handle, about->name, description,
                   sizeof description);
  return nbdkit_strdup_intern (description);
}

/* ---- connections */

void *
glue_open (int readonly)
{
  return export_open (life, nbdkit_export_name (), readonly);
}

void
glue_close (void *handle)
{
  export_close (life, handle);
}

int64_t
glue_get_size (void *handle)
{
  struct life_visit visit;
  uint64_t len = export_enter (life, handle, false, &visit)->len;

  life_leave (&visit);
  return (int64_t) len;
}

int
glue_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                 uint32_t *maximum)
{
  struct life_visit visit;
  struct image *img = export_enter (life, handle, false, &visit);

  *minimum = 1;
  *preferred = image_preferred_block (img);
  *maximum = UINT32_MAX;
  life_leave (&visit);
  return 0;
}

int
glue_can_write (void *handle)
{
  return export_can_write (life, handle);
}

int
glue_is_rotational (void *handle)
{
  const struct layer *top = &life_chain (life)->layers[0];

  (void) handle;
  return source_file_is_rotational (top->data ? top->data : top->source);
}

int
glue_yes (void *handle)
{
  (void) handle;
  return 1;
}

int
glue_fua_native (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

int
glue_cache_native (void *handle)
{
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
}

/* ---- requests */

int
glue_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, false, &visit);

  (void) flags;
  return image_read (img, buf, count, offset);
}

/* After a change that succeeded. */
static int
flush_for_fua (struct image *img, uint32_t flags)
{
  return flags & NBDKIT_FLAG_FUA ? image_flush (img) : 0;
}

int
glue_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, true, &visit);

  if (img == NULL || image_write (img, buf, count, offset) == -1)
    return -1;
  return flush_for_fua (img, flags);
}

int
glue_flush (void *handle, uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, true, &visit);

  (void) flags;
  return img ? image_flush (img) : -1;
}

int
glue_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, true, &visit);

  if (img == NULL || image_trim (img, count, offset) == -1)
    return -1;
  return flush_for_fua (img, flags);
}

int
glue_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, true, &visit);

  if (img == NULL ||
      image_zero (img, count, offset, flags & NBDKIT_FLAG_MAY_TRIM,
                  flags & NBDKIT_FLAG_FAST_ZERO) == -1)
    return -1;
  return flush_for_fua (img, flags);
}

static int
add_extent (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  uint32_t type = 0;

  if (flags & STATUS_HOLE)
    type |= NBDKIT_EXTENT_HOLE;
  if (flags & STATUS_ZERO)
    type |= NBDKIT_EXTENT_ZERO;
  if (about->debug_extents && *about->debug_extents)
    nbdkit_debug ("extents: run offset=%" PRIu64 " length=%" PRIu64
                  " type=%" PRIu32, guest, len, type);
  return nbdkit_add_extent (opaque, guest, len, type);
}

int
glue_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, false, &visit);

  return image_status (img, count, offset, flags & NBDKIT_FLAG_REQ_ONE,
                       add_extent, extents);
}

int
glue_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = export_enter (life, handle, false, &visit);

  (void) flags;
  image_prefetch (img, count, offset);
  return 0;
}
