/* The parameters of the qcow plugin alone: what new images are like, how
 * data is stored, and what is done with images of Xen's tapdisk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stddef.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "image/codec.h"
#include "options.h"
#include "qcow/create.h"

/* As given; -1: not given. */
static int64_t cluster_len = -1;
static int l2_bits = -1;

static int compress_level;      /* 0: not at all */

/* ---- parameters */

static int
set_cluster_size (const char *key, const char *value)
{
  (void) key;
  cluster_len = nbdkit_parse_size (value);
  return cluster_len == -1 ? -1 : 0;
}

static int
set_l2_bits (const char *key, const char *value)
{
  unsigned bits;

  if (nbdkit_parse_unsigned (key, value, &bits) == -1)
    return -1;
  if (bits > 63) {
    nbdkit_error ("%s=%s: must be 6 to 13", key, value);
    return -1;
  }
  l2_bits = bits;
  return 0;
}

static int
set_level (const char *key, const char *value)
{
  static const char codec[] = "zlib:";
  unsigned n = 0;

  if (strncmp (value, codec, strlen (codec)) == 0 &&
      nbdkit_parse_unsigned (key, value + strlen (codec), &n) == -1)
    return -1;
  if (n < CODEC_DEFLATE_MIN_LEVEL || n > CODEC_DEFLATE_MAX_LEVEL) {
    nbdkit_error ("%s=%s: must be none, zlib, or zlib: and a level from %d "
                  "to %d", key, value, CODEC_DEFLATE_MIN_LEVEL,
                  CODEC_DEFLATE_MAX_LEVEL);
    return -1;
  }
  compress_level = n;
  return 0;
}

static int
set_compress (const char *key, const char *value)
{
  if (strcmp (value, "none") == 0)
    compress_level = 0;
  else if (strcmp (value, "zlib") == 0)
    compress_level = CODEC_DEFLATE_LEVEL;
  else
    return set_level (key, value);
  return 0;
}

static int
set_fixup (const char *key, const char *value)
{
  if (strcmp (value, "memory") == 0)
    return glue_set_fixup (IMAGE_FIXUP_MEMORY, "fixup=memory");
  if (strcmp (value, "off") == 0)
    return glue_set_fixup (IMAGE_FIXUP_OFF, "fixup=off");
  if (strcmp (value, "write") == 0)
    return glue_set_fixup (IMAGE_FIXUP_WRITE, "fixup=write");
  nbdkit_error ("%s=%s: must be memory, off or write", key, value);
  return -1;
}

const struct glue_parameter qcow_parameters[] = {
  { "cluster-size", set_cluster_size, .for_create = true },
  { "compress", set_compress },
  { "fixup", set_fixup },
  { "l2-bits", set_l2_bits, .for_create = true },
  { NULL },
};

void
qcow_options_add_wishes (struct image_wishes *wishes)
{
  wishes->compress_level = compress_level;
}

/* ---- making an image */

/* What is not said is as qemu-img has it.  backing_format was needed to
 * look at the backing file; it cannot be recorded.
 */
static void
set_options (const struct glue_create *what, struct qcow_create_options *o)
{
  const bool is_overlay = what->backing_name != NULL;

  *o = (struct qcow_create_options) {
    .len = what->len,
    .overwrite = what->overwrite,
    .backing_name = what->backing_name,
    .cluster_len = is_overlay ? QCOW_CREATE_OVERLAY_CLUSTER_LEN
      : QCOW_CREATE_CLUSTER_LEN,
    .l2_bits = is_overlay ? QCOW_CREATE_OVERLAY_L2_BITS
      : QCOW_CREATE_L2_BITS,
  };
  if (cluster_len != -1)
    o->cluster_len = (uint64_t) cluster_len;
  if (l2_bits != -1)
    o->l2_bits = (uint64_t) l2_bits;
}

int
qcow_options_check (const struct glue_create *what)
{
  struct qcow_create_options o;

  set_options (what, &o);
  if (compress_level > 0 && o.cluster_len == QCOW_CREATE_OVERLAY_CLUSTER_LEN) {
    nbdkit_error ("compress=zlib: clusters of %d bytes, which overlays have "
                  "unless cluster-size= says otherwise, do not get smaller by "
                  "compression; see nbdkit-qcow-plugin(1) for what larger "
                  "ones mean to QEMU", QCOW_CREATE_OVERLAY_CLUSTER_LEN);
    return -1;
  }
  return qcow_create_check (what->name, &o);
}

int
qcow_options_create (const struct glue_create *what)
{
  struct qcow_create_options o;

  set_options (what, &o);
  return qcow_create (what->src, &o);
}
