/* The parameters of the qcow plugin alone: what new images are like, how
 * data is stored, and what is done with images of Xen's tapdisk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_OPTIONS_H
#define NDF_QCOW_OPTIONS_H

#include "glue/glue.h"

extern const struct glue_parameter qcow_parameters[];

#define QCOW_OPTIONS_HELP                                               \
  "cluster-size=<SIZE>   Clusters of a new image, default 4K.\n"        \
  "compress=none|zlib[:<LEVEL>]  How to store what is written.\n"       \
  "fixup=memory|off|write  What to do with images of Xen's tapdisk.\n"  \
  "l2-bits=<N>           Size of its L2 tables, 6 to 13."

/* struct glue_plugin's check_create and create. */
extern int qcow_options_check (const struct glue_create *what);
extern int qcow_options_create (const struct glue_create *what);

/* Its add_wishes. */
extern void qcow_options_add_wishes (struct image_wishes *wishes);

#endif /* NDF_QCOW_OPTIONS_H */
