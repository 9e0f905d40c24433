/* Making new, empty images.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_CREATE_H
#define NDF_QCOW2_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "source/source.h"

enum qcow2_preallocation {
  QCOW2_PREALLOCATE_OFF,
  QCOW2_PREALLOCATE_METADATA,   /* tables, and sparse room for the data */
  QCOW2_PREALLOCATE_FALLOC,     /* the room's blocks are allocated, too */
  QCOW2_PREALLOCATE_FULL,       /* and written with zeroes */
};

/* What an image is to be like.  Strings are borrowed. */
struct qcow2_create_options {
  uint64_t len;                 /* of the disk, bytes; rounded up to 512 */
  uint32_t version;             /* 2 or 3 */
  uint64_t cluster_len;         /* bytes */
  uint64_t refcount_bits;       /* of a count */
  bool is_extended;             /* extended L2 entries */
  bool wants_zstd;              /* as the compression type */
  enum qcow2_preallocation preallocation;
  bool data_file_raw;           /* keep the data file a raw image */
  const char *data_file_name;   /* to be recorded; NULL: no data file */
  const char *backing_name;     /* likewise; NULL: no backing file */
  const char *backing_format;
  bool overwrite;               /* whatever is there may be lost */
};

/* What images are like when nothing is said. */
#define QCOW2_CREATE_DEFAULTS                                           \
  { .version = 3, .cluster_len = 65536, .refcount_bits = 16 }

/* Can there be such an image?  Looks at no file.  'name' is for messages.
 * 0; -1, reported, errno EINVAL or EFBIG.
 */
extern int qcow2_create_check (const char *name,
                               const struct qcow2_create_options *o);

/* Make an image in 'src', with its data in 'data' if a data file is named
 * (else NULL).  Both are writable and nobody else's.  They must be empty,
 * or if they have a fixed length begin with 1 MiB of zeroes, unless
 * o->overwrite.
 *
 * 0, durably; -1, reported, errno EINVAL, EFBIG, EEXIST, ENOSPC, EIO,
 * ENOMEM.  Whatever happens before the end, the power failing included,
 * there is no image in 'src'; before the first change everything that can
 * be known has been checked.
 */
extern int qcow2_create (struct source *src, struct source *data,
                         const struct qcow2_create_options *o);

#endif /* NDF_QCOW2_CREATE_H */
