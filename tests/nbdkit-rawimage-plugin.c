/* Raw disks through the whole path of an image: chain, locks, life, data
 * path.  Test-only; never installed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stddef.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/fixup-door.h"
#include "glue/glue.h"
#include "raw/raw.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

NBDKIT_DLL_PUBLIC int rawimage_debug_chain;
NBDKIT_DLL_PUBLIC int rawimage_debug_extents;

static const struct format *const formats[] = { &raw_format, NULL };

static const struct glue_plugin about = {
  .name = "rawimage",
  .format = &raw_format,
  .formats = formats,
  .can_change = true,
  .has_data_files = true,
  .debug_chain = &rawimage_debug_chain,
  .debug_extents = &rawimage_debug_extents,
};

FIXUP_DOOR (fixup_door_ask_nothing);

static void
load (void)
{
  glue_load (&about);
}

static struct nbdkit_plugin plugin = {
  .name = "rawimage",
  .version = PACKAGE_VERSION,
  .config_help = GLUE_CONFIG_HELP "\n" GLUE_CHANGE_HELP "\n"
    GLUE_DATA_FILE_HELP,
  .load = load,
  GLUE_CALLBACKS
};

NBDKIT_REGISTER_PLUGIN (plugin)
