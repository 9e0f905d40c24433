/* The qcow plugin: what it is; all it does is in glue.
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

/* -D qcow.chain=1: every decision about the files that images refer to.
 * -D qcow.extents=1: every run that block status answers with.
 */
NBDKIT_DLL_PUBLIC int qcow_debug_chain;
NBDKIT_DLL_PUBLIC int qcow_debug_extents;

static void
dump (void)
{
  printf ("qcow_aes=no\n");
  printf ("qcow_tapdisk=yes\n");
}

static const struct format *const formats[] = {
  &raw_format, &qcow_format, &qcow2_format, &vhdx_format, NULL
};

static const struct glue_plugin about = {
  .name = "qcow",
  .format = &qcow_format,
  .formats = formats,
  .can_change = true,
  .parameters = qcow_parameters,
  .check_create = qcow_options_check,
  .create = qcow_options_create,
  .add_wishes = qcow_options_add_wishes,
  .dump = dump,
  .debug_chain = &qcow_debug_chain,
  .debug_extents = &qcow_debug_extents,
};

FIXUP_DOOR (fixup_door_ask_write);

static void
load (void)
{
  glue_load (&about);
}

static struct nbdkit_plugin plugin = {
  .name = "qcow",
  .longname = "nbdkit qcow plugin",
  .version = PACKAGE_VERSION,
  .description = "Serve disk images in the qcow format, version 1, also "
    "those of Xen's tapdisk",
  .config_help = GLUE_CONFIG_HELP "\n" GLUE_CHANGE_HELP "\n"
    QCOW_OPTIONS_HELP,
  .load = load,
  GLUE_CALLBACKS
};

NBDKIT_REGISTER_PLUGIN (plugin)
