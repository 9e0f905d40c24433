/* The qcow2 plugin: what it is; all it does is in glue.
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

/* -D qcow2.chain=1: every decision about the files that images refer to.
 * -D qcow2.extents=1: every run that block status answers with.
 */
NBDKIT_DLL_PUBLIC int qcow2_debug_chain;
NBDKIT_DLL_PUBLIC int qcow2_debug_extents;

static void
dump (void)
{
  printf ("qcow2_luks=no\n");
  printf ("qcow2_aes=no\n");
}

static const struct format *const formats[] = {
  &raw_format, &qcow2_format, &qcow_format, &vhdx_format, NULL
};

static const struct glue_plugin about = {
  .name = "qcow2",
  .format = &qcow2_format,
  .formats = formats,
  .can_change = true,
  .parameters = qcow2_parameters,
  .add_wishes = qcow2_options_wishes,
  .has_data_files = true,
  .check_create = qcow2_options_check,
  .create = qcow2_options_create,
  .dump = dump,
  .debug_chain = &qcow2_debug_chain,
  .debug_extents = &qcow2_debug_extents,
};

FIXUP_DOOR (fixup_door_ask_nothing);

static void
load (void)
{
  glue_load (&about);
}

static struct nbdkit_plugin plugin = {
  .name = "qcow2",
  .longname = "nbdkit qcow2 plugin",
  .version = PACKAGE_VERSION,
  .description = "Serve disk images in QEMU's qcow2 format, with their "
    "backing files",
  .config_help = GLUE_CONFIG_HELP "\n" GLUE_CHANGE_HELP "\n"
    GLUE_DATA_FILE_HELP "\n"
    QCOW2_OPTIONS_HELP,
  .load = load,
  GLUE_CALLBACKS
};

NBDKIT_REGISTER_PLUGIN (plugin)
