/* nbdkit's callbacks and the parameters common to all plugins, once.
 *
 * A plugin says what it is (struct glue_plugin), registers the callbacks
 * below with nbdkit, and is done:
 *
 *   #define NBDKIT_API_VERSION 2
 *   #include <nbdkit-plugin.h>
 *   #include "glue/glue.h"
 *   #define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
 *
 *   static void qcow2_load (void) { glue_load (&about_qcow2); }
 *
 *   static struct nbdkit_plugin plugin = {
 *     .name = "qcow2", ..., .load = qcow2_load, GLUE_CALLBACKS
 *   };
 *   NBDKIT_REGISTER_PLUGIN (plugin)
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_GLUE_H
#define NDF_GLUE_H

#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-plugin.h>

#include "image/format.h"
#include "image/image.h"
#include "source/source.h"

/* A parameter of one plugin only.  'set' reports what is wrong, as
 * .config.
 */
struct glue_parameter {
  const char *key;
  int (*set) (const char *key, const char *value);
  bool for_create;              /* makes sense with create=true only */
  bool for_change;              /* for plugins with can_change only */
  bool is_repeatable;
};

/* A new image, as far as all formats have it in common.  Borrowed. */
struct glue_create {
  const char *name;             /* for messages */
  uint64_t len;                 /* of the disk, bytes */
  bool overwrite;
  const char *backing_name;     /* to be recorded; or NULL */
  const char *backing_format;
  const char *data_file_name;   /* likewise */
  struct source *src;           /* locked, writable */
  struct source *data;          /* likewise; or NULL */
};

struct glue_plugin {
  const char *name;             /* nbdkit's short name */
  const struct format *format;  /* of the top image */
  const struct format *const *formats; /* for backing files; NULL ends it */
  const struct glue_parameter *parameters; /* a NULL key ends it; or NULL */
  bool has_data_files;          /* data-file= makes sense */

  /* Make an image; and find out, from what was said alone ('src' and
   * 'data' are not set yet), whether that is possible.  0; -1, reported.
   * NULL, both: this plugin cannot.
   */
  int (*check_create) (const struct glue_create *what);
  int (*create) (const struct glue_create *what);

  bool can_change;              /* create= and resize= are known */

  /* Add what this plugin's parameters say; or NULL. */
  void (*add_wishes) (struct image_wishes *wishes);

  void (*unload) (void);        /* free what these hold; or NULL */

  void (*dump) (void);          /* further lines of --dump-plugin; or NULL */
  const int *debug_chain;       /* debug flags of the plugin; or NULL */
  const int *debug_extents;
};

/* What is wanted of images that need a change in place before they can be
 * written; before .config_complete only.  'who' asks, for messages, as
 * "fixup=write".  -1, reported: somebody asked for something else before.
 */
extern int glue_set_fixup (enum image_fixup fixup, const char *who);

/* Let images refer to 'path', as allow-path= does.  -1, reported. */
extern int glue_allow_path (const char *path);

/* First of all calls. */
extern void glue_load (const struct glue_plugin *about);

/* The common parameters, for .config_help. */
#define GLUE_CONFIG_HELP                                                \
  "[file=]<FILENAME>     (required unless fd) The image.\n"             \
  "fd=<N>                The image, as an inherited file descriptor.\n" \
  "backing=auto|none|<FILENAME>  What to use as the backing file.\n"    \
  "backing-format=<FORMAT>  Format of the backing file.\n"              \
  "allow-path=<PATH>     Let images refer to this (repeatable).\n"      \
  "cache-size=<SIZE>     Memory for metadata, default 128M.\n"          \
  "lock=auto|on|off      Lock files against other programs.\n"          \
  "force-share=<BOOL>    Read even while another program writes."

/* The same for plugins that write: can_change. */
#define GLUE_CHANGE_HELP                                                \
  "create=<BOOL>         Make the image first.\n"                         \
  "size=<SIZE>           How large its disk is to be.\n"                  \
  "overwrite=<BOOL>      Make it even where something is there.\n"        \
  "resize=<SIZE>         Change the size of the disk first.\n"            \
  "shrink=<BOOL>         Allow it to become smaller."

/* The same for plugins with has_data_files. */
#define GLUE_DATA_FILE_HELP                                             \
  "data-file=<FILENAME>  The external data file."

extern void glue_unload (void);
extern int glue_config (const char *key, const char *value);
extern int glue_config_complete (void);
extern void glue_dump_plugin (void);
extern int glue_get_ready (void);
extern void glue_cleanup (void);
extern int glue_list_exports (int readonly, int is_tls,
                              struct nbdkit_exports *exports);
extern const char *glue_default_export (int readonly, int is_tls);
extern void *glue_open (int readonly);
extern void glue_close (void *handle);
extern const char *glue_export_description (void *handle);
extern int64_t glue_get_size (void *handle);
extern int glue_block_size (void *handle, uint32_t *minimum,
                            uint32_t *preferred, uint32_t *maximum);
extern int glue_can_write (void *handle);
extern int glue_is_rotational (void *handle);
extern int glue_yes (void *handle);
extern int glue_fua_native (void *handle);
extern int glue_cache_native (void *handle);
extern int glue_pread (void *handle, void *buf, uint32_t count,
                       uint64_t offset, uint32_t flags);
extern int glue_pwrite (void *handle, const void *buf, uint32_t count,
                        uint64_t offset, uint32_t flags);
extern int glue_flush (void *handle, uint32_t flags);
extern int glue_trim (void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags);
extern int glue_zero (void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags);
extern int glue_extents (void *handle, uint32_t count, uint64_t offset,
                         uint32_t flags, struct nbdkit_extents *extents);
extern int glue_cache (void *handle, uint32_t count, uint64_t offset,
                       uint32_t flags);

#define GLUE_CALLBACKS                                                  \
  .unload = glue_unload,                                                \
  .magic_config_key = "file",                                           \
  .config = glue_config,                                                \
  .config_complete = glue_config_complete,                              \
  .dump_plugin = glue_dump_plugin,                                      \
  .get_ready = glue_get_ready,                                          \
  .cleanup = glue_cleanup,                                              \
  .list_exports = glue_list_exports,                                    \
  .default_export = glue_default_export,                                \
  .open = glue_open,                                                    \
  .close = glue_close,                                                  \
  .export_description = glue_export_description,                        \
  .get_size = glue_get_size,                                            \
  .block_size = glue_block_size,                                        \
  .can_write = glue_can_write,                                          \
  .is_rotational = glue_is_rotational,                                  \
  .can_multi_conn = glue_yes,                                           \
  .can_flush = glue_yes,                                                \
  .can_trim = glue_yes,                                                 \
  .can_zero = glue_yes,                                                 \
  .can_fast_zero = glue_yes,                                            \
  .can_extents = glue_yes,                                              \
  .can_fua = glue_fua_native,                                           \
  .can_cache = glue_cache_native,                                       \
  .pread = glue_pread,                                                  \
  .pwrite = glue_pwrite,                                                \
  .flush = glue_flush,                                                  \
  .trim = glue_trim,                                                    \
  .zero = glue_zero,                                                    \
  .extents = glue_extents,                                              \
  .cache = glue_cache,                                                  \
  .errno_is_preserved = 1

#endif /* NDF_GLUE_H */
