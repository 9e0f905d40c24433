/* A file as it will be when a log has been replayed: the file, with pages
 * of other content laid over it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_REPLAY_H
#define NDF_VHDX_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "source/source.h"

#define VHDX_PAGE_LEN UINT64_C (4096)

/* One descriptor of the log.  Of several that touch a place the last in
 * the array counts.
 */
struct replay_patch {
  uint64_t host;                /* bytes, a multiple of VHDX_PAGE_LEN */
  uint64_t len;                 /* likewise, > 0 */
  uint64_t sector;              /* where the page's content lies in the
                                   file; 0: zeroes; else len is one page */
  uint8_t leading[8];           /* its first bytes */
  uint8_t trailing[4];          /* and last */
};

/* A read-only source of 'len' bytes at least (more if the file or a patch
 * ends later).  Reads the pages that count, and no more; keeps a reference
 * of 'file'.
 *
 * NULL, reported, errno EIO or ENOMEM.
 */
extern struct source *replay_new (struct source *file, const char *name,
                                  const struct replay_patch *patches,
                                  size_t nr_patches, uint64_t len);

#endif /* NDF_VHDX_REPLAY_H */
