/* Internal snapshots, seen as disks of their own.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_VIEW_H
#define NDF_QCOW2_VIEW_H

#include "image/format.h"
#include "qcow2/state.h"

/* format.h, 'snapshots'. */
extern int qcow2_snapshots (struct image *img, snapshot_add add,
                            void *opaque);

/* Have the header say what it would if the snapshot img->wishes.snapshot
 * were the active disk.  The table of snapshots has been checked.
 * 0; -1, reported, errno ENOENT, EIO, ENOMEM.
 */
extern int qcow2_choose_snapshot (struct image *img,
                                  struct qcow2_header *h);

#endif /* NDF_QCOW2_VIEW_H */
