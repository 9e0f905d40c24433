/* The parameters of the vhdx plugin alone.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_OPTIONS_H
#define NDF_VHDX_OPTIONS_H

#include "glue/glue.h"

extern const struct glue_parameter vhdx_parameters[];

#define VHDX_OPTIONS_HELP                                               \
  "check=none|open       Look through all tables first.\n"              \
  "log=lenient|strict    What to do with a log without entries.\n"      \
  "parent-mismatch=refuse|allow  Whether a parent may have changed.\n"  \
  "path-map=<PREFIX>=<DIR>  Where a drive or volume is (repeatable)."

/* struct glue_plugin's add_wishes. */
extern void vhdx_options_wishes (struct image_wishes *wishes);
extern void vhdx_options_free (void);

#endif /* NDF_VHDX_OPTIONS_H */
