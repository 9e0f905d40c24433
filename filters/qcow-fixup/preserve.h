/* Keep alive what clients would lose when they rewrite a qcow2 header.
 *
 * A program that rewrites the header of a qcow2 image writes what it knows.
 * Header extensions of other programs, and header fields added after it was
 * made, are gone then.  This module stands between such a client and the
 * bytes of the image: it remembers what the header held that belongs to
 * nobody, and puts it back where a write loses it.
 *
 * Use: preserve_new; preserve_load before the first request; then for each
 * request whose range begins below preserve_guarded_len (which is 0, one
 * load, for an image without anything to keep):
 *
 *   read    preserve_note_read, then read as ever
 *   write   preserve_pwrite instead of the write
 *   zero    preserve_zero, then zero as ever what it did not do
 *   trim    do not trim the first preserve_trim_skip bytes
 *
 * One struct preserve serves all connections of one image.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_PRESERVE_H
#define NDF_QCOW_FIXUP_PRESERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum preserve_mode {
  PRESERVE_WARN,                /* what does not fit is lost, with a line
                                   in the log */
  PRESERVE_STRICT,              /* a write that loses what does not fit
                                   fails with EPERM, unwritten */
  PRESERVE_OFF,                 /* nothing is remembered */
};

/* The bytes below, as the calling connection reaches them.  Each call does
 * all of it and returns 0, or -1 with errno.  Ranges lie inside the length
 * given to preserve_load.
 */
struct preserve_below {
  void *handle;                 /* first argument of each */
  int (*pread) (void *handle, void *buf, size_t len, uint64_t host);

  /* 'fua': durable when it returns. */
  int (*pwrite) (void *handle, const void *buf, size_t len, uint64_t host,
                 bool fua);

  /* What was written before is durable.  Returns 0 without doing anything
   * where nothing below can flush.
   */
  int (*flush) (void *handle);
};

struct preserve;

/* 'name' is for messages.  NULL, reported, errno ENOMEM. */
extern struct preserve *preserve_new (const char *name,
                                      enum preserve_mode mode);

/* NULL is fine.  No request may be in flight. */
extern void preserve_free (struct preserve *p);

/* Look for something to keep; 'len' is that of the bytes below.  May be
 * called by every connection: after the first that returned 0 it does
 * nothing.  Bytes that are not a qcow2 image, or one whose header is
 * damaged, have nothing to keep.
 *
 * Errors: -1, with errno: ENOMEM, reported, or what pread gave.
 * Threads: any.
 */
extern int preserve_load (struct preserve *p,
                          const struct preserve_below *below, uint64_t len);

/* Requests that begin at or beyond this byte are none of ours.  It is the
 * end of cluster 0 while there is something to keep, else 0; it falls to 0
 * when a client puts another image in place of the old one.
 * Threads: any, without a lock.
 */
extern uint64_t preserve_guarded_len (const struct preserve *p);

/* A client is about to read a range that begins below the guarded length:
 * from now on it knows what we put back, and where.  Cheap unless something
 * was put back since the last call.  Threads: any.
 */
extern void preserve_note_read (struct preserve *p);

/* Do the client's write, all of it, with what it would lose.
 *
 * Errors: -1, with errno: EPERM, reported, when it would lose something
 * that does not fit, and the mode is strict: nothing was written then;
 * ENOMEM, reported; or what 'below' gave: the range then holds anything,
 * as after every failed write.
 * Threads: any; those that touch the header wait for each other.
 */
extern int preserve_pwrite (struct preserve *p,
                            const struct preserve_below *below,
                            const void *buf, size_t len, uint64_t host,
                            bool fua);

/* The same for zeroes, for as much of the range as lies below the guarded
 * length: *done bytes (maybe none), by writing them.  The rest is the
 * caller's.
 */
extern int preserve_zero (struct preserve *p,
                          const struct preserve_below *below,
                          uint64_t len, uint64_t host, bool fua,
                          uint64_t *done);

/* How many bytes at the beginning of the range not to trim: a trim of the
 * header has no use, and what it leaves is not defined.  Threads: any.
 */
extern uint64_t preserve_trim_skip (const struct preserve *p, uint64_t len,
                                    uint64_t host);

#endif /* NDF_QCOW_FIXUP_PRESERVE_H */
