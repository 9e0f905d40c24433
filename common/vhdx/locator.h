/* The parent locator: where the disk below is, and which it must be.
 *
 * Paths are those of Windows.  Of each, what can be looked for here is
 * made: a relative one becomes one with slashes, of an absolute one only
 * what follows the volume can be known.
 *
 * Format: MS-VHDX 2.6.2.6.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_LOCATOR_H
#define NDF_VHDX_LOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "vhdx/guid.h"

#define VHDX_LOCATOR_MAX_KEYS 256

struct vhdx_locator {
  struct guid linkage;          /* the parent's data_write */
  bool has_linkage2;
  struct guid linkage2;         /* or this one, while it is merged */

  /* As recorded, in UTF-8; NULL: not there; owned. */
  char *relative_path;
  char *volume_path;
  char *absolute_path;
};

/* Parse the item.  0; -1, reported, errno EINVAL, ENOTSUP (unknown type),
 * ENOMEM.  To be freed in any case.
 */
extern int vhdx_locator_parse (const char *name, const uint8_t *item,
                               size_t len, struct vhdx_locator *l);
extern void vhdx_locator_free (struct vhdx_locator *l);

/* The names under which to look for the parent, in order, relative to the
 * child's directory unless they begin with a slash: the relative path; the
 * path by volume and the absolute one, where the user mapped that volume or
 * drive; at last the file's name alone, that of each path in this order.
 * No name is there twice.  The list is empty if no path is recorded.  It
 * ends with NULL, and is owned by the caller, with the strings.  NULL with
 * errno ENOMEM, reported.
 */
extern char **vhdx_locator_candidates (const char *name,
                                       const struct vhdx_locator *l,
                                       const struct image_path_map *maps,
                                       size_t nr_maps);

/* For messages: all paths that are recorded, in quotes, in this order.
 * Owned by the caller.  NULL with errno ENOMEM, reported.
 */
extern char *vhdx_locator_text (const char *name,
                                const struct vhdx_locator *l);

#endif /* NDF_VHDX_LOCATOR_H */
