/* How the filter qcow-fixup finds our plugins, and asks them.
 *
 * The filter works on the bytes of an image, and our plugins serve disks:
 * what looks like an image there was put there by a guest.  So each of our
 * plugins exports the marker below, by which the filter knows to leave the
 * bytes alone and to ask the plugin instead.
 *
 * Both sides may be of different versions of this project: the name tells
 * the layout, 'version' what was added behind it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_GLUE_FIXUP_DOOR_H
#define NDF_GLUE_FIXUP_DOOR_H

#include <stdint.h>

struct ndf_fixup_door {
  uint32_t version;             /* 1 */

  /* Bring an image that needs it into order, durably, when the first
   * client comes that may write.  Called after all parameters and before
   * .config_complete.  0, also where there is never anything to do; -1,
   * reported, when the user said otherwise.
   */
  int (*ask) (void);
};

#define NDF_FIXUP_DOOR_VERSION 1
#define NDF_FIXUP_DOOR_NAME "ndf_fixup_door_1"

/* In every plugin of ours, and in its version script. */
extern const struct ndf_fixup_door ndf_fixup_door_1;

/* What to put in: for formats that never need it, and for those with the
 * parameter fixup=, which is then as if the user had given fixup=write (an
 * error when something else was given).
 */
extern int fixup_door_ask_nothing (void);
extern int fixup_door_ask_write (void);

#define FIXUP_DOOR(how)                                                 \
  NBDKIT_DLL_PUBLIC const struct ndf_fixup_door ndf_fixup_door_1 = {    \
    .version = NDF_FIXUP_DOOR_VERSION,                                  \
    .ask = how,                                                         \
  }

#endif /* NDF_GLUE_FIXUP_DOOR_H */
