/* The vhdx plugin: what it is; all it does is in glue.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stddef.h>
#include <stdio.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/fixup-door.h"
#include "glue/glue.h"
#include "options.h"
#include "qcow/qcow.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"
#include "vhdx/vhdx.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* -D vhdx.chain=1: every decision about the files that images refer to.
 * -D vhdx.extents=1: every run that block status answers with.
 */
NBDKIT_DLL_PUBLIC int vhdx_debug_chain;
NBDKIT_DLL_PUBLIC int vhdx_debug_extents;

static void
dump (void)
{
  printf ("vhdx_differencing=yes\n");
  printf ("vhdx_log_replay=memory\n");
}

static const struct format *const formats[] = {
  &raw_format, &qcow_format, &qcow2_format, &vhdx_format, NULL
};

static const struct glue_plugin about = {
  .name = "vhdx",
  .format = &vhdx_format,
  .formats = formats,
  .parameters = vhdx_parameters,
  .add_wishes = vhdx_options_wishes,
  .unload = vhdx_options_free,
  .dump = dump,
  .debug_chain = &vhdx_debug_chain,
  .debug_extents = &vhdx_debug_extents,
};

FIXUP_DOOR (fixup_door_ask_nothing);

static void
load (void)
{
  glue_load (&about);
}

static struct nbdkit_plugin plugin = {
  .name = "vhdx",
  .longname = "nbdkit vhdx plugin",
  .version = PACKAGE_VERSION,
  .description = "Serve disk images in Hyper-V's VHDX format, with their "
    "parents",
  .config_help = GLUE_CONFIG_HELP "\n" VHDX_OPTIONS_HELP,
  .load = load,
  GLUE_CALLBACKS
};

NBDKIT_REGISTER_PLUGIN (plugin)
