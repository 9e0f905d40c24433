/* What our plugins answer the filter qcow-fixup.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/fixup-door.h"
#include "glue/glue.h"

int
fixup_door_ask_nothing (void)
{
  nbdkit_debug ("the filter qcow-fixup has nothing to do here");
  return 0;
}

int
fixup_door_ask_write (void)
{
  return glue_set_fixup (IMAGE_FIXUP_WRITE, "the filter qcow-fixup");
}
