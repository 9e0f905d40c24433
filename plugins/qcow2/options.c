/* The parameters of the qcow2 plugin alone: what new images are like.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stddef.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "options.h"
#include "qcow2/create.h"

static struct qcow2_create_options options = QCOW2_CREATE_DEFAULTS;

/* ---- parameters */

static int
set_cluster_size (const char *key, const char *value)
{
  int64_t size = nbdkit_parse_size (value);

  (void) key;
  options.cluster_len = size;
  return size == -1 ? -1 : 0;
}

static int
set_compat (const char *key, const char *value)
{
  if (strcmp (value, "0.10") == 0)
    options.version = 2;
  else if (strcmp (value, "1.1") == 0)
    options.version = 3;
  else {
    nbdkit_error ("%s=%s: must be 0.10 or 1.1", key, value);
    return -1;
  }
  return 0;
}

static int
set_compression_type (const char *key, const char *value)
{
  if (strcmp (value, "zlib") != 0 && strcmp (value, "zstd") != 0) {
    nbdkit_error ("%s=%s: must be zlib or zstd", key, value);
    return -1;
  }
  options.wants_zstd = strcmp (value, "zstd") == 0;
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
set_data_file_raw (const char *key, const char *value)
{
  (void) key;
  return set_bool (&options.data_file_raw, value);
}

static int
set_extended_l2 (const char *key, const char *value)
{
  (void) key;
  return set_bool (&options.is_extended, value);
}

static int
set_preallocation (const char *key, const char *value)
{
  static const char names[][9] = {
    [QCOW2_PREALLOCATE_OFF] = "off",
    [QCOW2_PREALLOCATE_METADATA] = "metadata",
    [QCOW2_PREALLOCATE_FALLOC] = "falloc",
    [QCOW2_PREALLOCATE_FULL] = "full",
  };

  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (strcmp (value, names[i]) == 0) {
      options.preallocation = i;
      return 0;
    }
  }
  nbdkit_error ("%s=%s: must be off, metadata, falloc or full", key, value);
  return -1;
}

static int
set_refcount_bits (const char *key, const char *value)
{
  unsigned bits;

  if (nbdkit_parse_unsigned (key, value, &bits) == -1)
    return -1;
  options.refcount_bits = bits;
  return 0;
}

/* Its id, or else its name; the server keeps the string. */
static const char *snapshot;

static int
set_snapshot (const char *key, const char *value)
{
  if (value[0] == '\0') {
    nbdkit_error ("%s=: a snapshot's id or name is missing", key);
    return -1;
  }
  snapshot = value;
  return 0;
}

void
qcow2_options_wishes (struct image_wishes *wishes)
{
  wishes->snapshot = snapshot;
}

const struct glue_parameter qcow2_parameters[] = {
  { "cluster-size", set_cluster_size, .for_create = true },
  { "compat", set_compat, .for_create = true },
  { "compression-type", set_compression_type, .for_create = true },
  { "data-file-raw", set_data_file_raw, .for_create = true },
  { "extended-l2", set_extended_l2, .for_create = true },
  { "preallocation", set_preallocation, .for_create = true },
  { "refcount-bits", set_refcount_bits, .for_create = true },
  { "snapshot", set_snapshot },
  { NULL },
};

/* ---- making an image */

static void
add_common (const struct glue_create *what)
{
  options.len = what->len;
  options.overwrite = what->overwrite;
  options.backing_name = what->backing_name;
  options.backing_format = what->backing_format;
  options.data_file_name = what->data_file_name;
}

int
qcow2_options_check (const struct glue_create *what)
{
  if (snapshot) {
    nbdkit_error ("create=true and snapshot= exclude each other: a new image "
                  "has no snapshots");
    return -1;
  }
  add_common (what);
  return qcow2_create_check (what->name, &options);
}

int
qcow2_options_create (const struct glue_create *what)
{
  add_common (what);
  return qcow2_create (what->src, what->data, &options);
}
