/* What is below the filter: one of our plugins, one that serves the bytes
 * of an image, or another.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_BELOW_H
#define NDF_QCOW_FIXUP_BELOW_H

#include <stdbool.h>

#include "glue/fixup-door.h"

/* Our plugin's door, or NULL when the plugin is not one of ours. */
extern const struct ndf_fixup_door *below_door (void);

/* The plugin's short name, from its file's, or NULL when that has another
 * form than nbdkit's own.  The caller frees it.
 */
extern char *below_plugin (void);

/* Is this, by name, a plugin that serves bytes as they are in a file (or
 * behind another server), rather than a disk that it makes?
 */
extern bool below_serves_bytes (const char *plugin);

#endif /* NDF_QCOW_FIXUP_BELOW_H */
