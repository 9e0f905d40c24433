/* QEMU's image locks on a file: which bytes, when they conflict.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_LOCK_H
#define NDF_SOURCE_LOCK_H

#include "source/file.h"
#include "source/identity.h"

/* Trade the lock bytes in *held (of one source on the file) for those that
 * 'want' needs.  'fd' is open for reading on the file, 'name' is for
 * messages.  As source_file_lock; on failure *held is as before.
 */
extern int image_lock_trade (struct identity *id, int fd, const char *name,
                             unsigned *held, enum source_lock_want want,
                             enum source_lock_mode mode);

/* Release what a source holds; *held becomes 0. */
extern void image_lock_release (struct identity *id, unsigned *held);

/* Write " (process PID, COMMAND)" into 'text' if some other process can be
 * found that has a lock on the byte, else "".  'skip_parent': the parent
 * may share our own locks, so it proves nothing.
 */
extern void image_lock_holder (const struct identity *id, unsigned byte,
                               bool skip_parent, char *text, size_t size);

/* The same for a process that is known. */
extern void image_lock_holder_pid (long pid, char *text, size_t size);

#endif /* NDF_SOURCE_LOCK_H */
