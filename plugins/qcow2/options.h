/* The parameters of the qcow2 plugin alone: what new images are like.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_OPTIONS_H
#define NDF_QCOW2_OPTIONS_H

#include "glue/glue.h"

extern const struct glue_parameter qcow2_parameters[];

#define QCOW2_OPTIONS_HELP                                              \
  "cluster-size=<SIZE>   Clusters of a new image, default 64K.\n"       \
  "compat=0.10|1.1       Version of a new image, default 1.1.\n"        \
  "compression-type=zlib|zstd  How its clusters may be compressed.\n"   \
  "data-file-raw=<BOOL>  Keep its data file a raw image.\n"             \
  "extended-l2=<BOOL>    Give it subclusters.\n"                        \
  "preallocation=off|metadata|falloc|full  Space for a new image.\n"    \
  "refcount-bits=<N>     Width of its refcounts, default 16.\n"         \
  "snapshot=<ID|NAME>    Serve this snapshot, read-only."

/* struct glue_plugin's add_wishes. */
extern void qcow2_options_wishes (struct image_wishes *wishes);

/* struct glue_plugin's check_create and create. */
extern int qcow2_options_check (const struct glue_create *what);
extern int qcow2_options_create (const struct glue_create *what);

#endif /* NDF_QCOW2_OPTIONS_H */
