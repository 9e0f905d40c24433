/* A regular file, a block device or an inherited descriptor as a source,
 * with the locks that QEMU and we respect.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_FILE_H
#define NDF_SOURCE_FILE_H

#include "source/source.h"

enum source_lock_mode {
  SOURCE_LOCK_AUTO,             /* warn where locking is unavailable */
  SOURCE_LOCK_ON,               /* refuse there */
  SOURCE_LOCK_OFF,              /* neither take nor test */
};

/* What a lock asks for; byte ranges as QEMU's file-posix driver uses them
 * (formats sheet: 100+n "I use it", 200+n "others must not").
 */
enum source_lock_want {
  SOURCE_LOCK_PROBE,            /* hold 100; test 200 */
  SOURCE_LOCK_READ,             /* hold 100 201 203; test 200 101 103 */
  SOURCE_LOCK_SHARED,           /* hold 100; test 200: a reader that lets
                                   others write (force-share) */
  SOURCE_LOCK_WRITE,            /* hold 100 101 103 201 203;
                                   test 200 201 203 101 103 */
};

/* Open the file at 'path' (as given; used in messages).  Follows symbolic
 * links, refuses anything but a regular file or a block device, without
 * ever blocking on a FIFO.  O_RDONLY unless 'writable'.
 *
 * Returns a new reference, or NULL, reported; errno as open(2), EINVAL for
 * a wrong file type.
 */
extern struct source *source_file_open (const char *path, bool writable);

/* The same for a descriptor, which is duplicated; whether it is writable
 * is asked of it, and 'writable' false never writes.
 */
extern struct source *source_file_fd (int fd, const char *name,
                                      bool writable);

/* Take the locks 'want', trading those held by this source; on conflict
 * everything held before is still held.  A refusal says which file, which
 * permission, by whom if /proc/locks tells, and how to read anyway.
 *
 * Locks are open-file-description locks, released by source_unlock or by
 * the last source_put, explicitly (a forked parent may share the
 * description).  Other sources of this process on the same file never
 * conflict with it: the file's locks are counted per file.
 *
 * Returns 0; -1, reported, errno EAGAIN for a conflict, ENOTSUP where
 * SOURCE_LOCK_ON finds no locking, else what the system says.
 */
extern int source_file_lock (struct source *src, enum source_lock_want want,
                             enum source_lock_mode mode);
extern void source_file_unlock (struct source *src);

/* Reopen read-write in place (through /proc/self/fd, so that it is the
 * same file whatever its name is now); offsets held by others stay valid.
 * No request may be in flight.  Returns 0, or -1 with errno, unreported
 * (EACCES, EROFS, ...), and the source is as before.
 */
extern int source_file_upgrade (struct source *src);

/* Ask for the file's length again: another program may have changed it
 * while our locks let it.  No request may be in flight.  -1, reported.
 */
extern int source_file_refresh (struct source *src);

/* Is 'src' a file source, and the same file as 'other'? */
extern bool source_is_file (const struct source *src);
extern bool source_file_same (const struct source *src,
                              const struct source *other);

/* The descriptor, for fstat and the like; still owned by the source. */
extern int source_file_descriptor (const struct source *src);

/* Is the host device rotational? */
extern bool source_file_is_rotational (const struct source *src);

#endif /* NDF_SOURCE_FILE_H */
