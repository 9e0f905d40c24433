/* Making new, empty images.
 *
 * They are laid out as qemu-img does it: header, name of the backing file,
 * L1 table.  The format cannot record what the backing file is.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_CREATE_H
#define NDF_QCOW_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "source/source.h"

/* What an image is to be like.  The string is borrowed. */
struct qcow_create_options {
  uint64_t len;                 /* of the disk, bytes; rounded up to 512 */
  uint64_t cluster_len;         /* bytes */
  uint64_t l2_bits;             /* log2 of the entries of an L2 table */
  const char *backing_name;     /* to be recorded; NULL: no backing file */
  bool overwrite;               /* whatever is there may be lost */
};

/* What images are like when nothing is said: as those of qemu-img.  Over a
 * backing file QEMU copies nothing when it writes a part of a cluster, so
 * clusters are sectors there.
 */
#define QCOW_CREATE_CLUSTER_LEN 4096
#define QCOW_CREATE_L2_BITS 9
#define QCOW_CREATE_OVERLAY_CLUSTER_LEN 512
#define QCOW_CREATE_OVERLAY_L2_BITS 12

/* Can there be such an image?  Looks at no file.  'name' is for messages.
 * 0; -1, reported, errno EINVAL or EFBIG.
 */
extern int qcow_create_check (const char *name,
                              const struct qcow_create_options *o);

/* Make an image in 'src', which is writable and nobody else's.  It must be
 * empty, or if it has a fixed length begin with 1 MiB of zeroes, unless
 * o->overwrite.
 *
 * 0, durably; -1, reported, errno EINVAL, EFBIG, EEXIST, ENOSPC, EIO,
 * ENOMEM.  Whatever happens before the end, the power failing included,
 * there is no image in 'src'; before the first change everything that can
 * be known has been checked.
 */
extern int qcow_create (struct source *src,
                        const struct qcow_create_options *o);

#endif /* NDF_QCOW_CREATE_H */
