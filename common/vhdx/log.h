/* The log: changes of metadata that were announced, and may not have
 * reached their places.
 *
 * A log that is not empty is judged whole, and replayed into memory: a
 * source of its own that reads as the file would after the replay, while
 * the file is untouched.
 *
 * Format: MS-VHDX 2.3.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_LOG_H
#define NDF_VHDX_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "source/source.h"
#include "vhdx/header.h"

/* What to do when the header names a log without a valid entry: a writer
 * that was killed between the two, or a log that was lost.
 */
enum vhdx_log_mode {
  VHDX_LOG_LENIENT,             /* take it as empty where nothing speaks
                                   against it, with a warning */
  VHDX_LOG_STRICT,              /* refuse */
};

/* If the log of the file 'src' is not empty, judge it, and have in *view a
 * source that reads as the file after the replay (owned by the caller; it
 * holds a reference of 'src'); else NULL.  Work and memory are bounded by
 * the length of the log, whatever it says.
 *
 * 0; -1, reported, errno EINVAL (no valid sequence, file cut short, a
 * target where nothing may be logged), EIO, ENOMEM.  Nothing is changed.
 */
extern int vhdx_log_open (struct source *src, const char *name,
                          const struct vhdx_header *h,
                          enum vhdx_log_mode mode, struct source **view);

#endif /* NDF_VHDX_LOG_H */
