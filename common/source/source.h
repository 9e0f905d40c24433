/* Sources: the bytes of one image file, wherever they are.
 *
 * Everything above (drivers, data path, chain) moves bytes through this
 * interface only.  A source retries EINTR and short transfers itself: a
 * call either did all that was asked or failed.  Offsets and lengths are
 * bytes.  A source is shared by reference counting because several layers
 * may stand on one file.
 *
 * Failure: when a sync failed the kernel may have dropped the data; the
 * file is then marked for the life of the process (also across close and
 * open of the same file) and every later sync fails with EIO.
 *
 * Threads: any number at once in every call but source_put of the last
 * reference and source_lock/source_upgrade, which one thread calls.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_H
#define NDF_SOURCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct source;
struct hole_map;

/* What a host range is, as far as the source's owner knows. */
struct source_extent {
  uint64_t len;                 /* bytes, > 0 */
  bool hole;                    /* no space allocated; reads as zeroes */
};

enum source_zero_mode {
  SOURCE_ZERO_KEEP,             /* reads as zeroes, space stays */
  SOURCE_ZERO_PUNCH,            /* reads as zeroes, space may be freed */
};

struct source_ops {
  const char *kind;             /* "file", "memory", ... */

  /* All of [host, host+len) lies inside the length. */
  int (*pread) (struct source *src, void *buf, size_t len, uint64_t host);

  /* A write past the end lengthens a source that can_grow. */
  int (*pwrite) (struct source *src, const void *buf, size_t len,
                 uint64_t host);

  /* Make a range inside the length read as zeroes without moving bytes;
   * ENOTSUP when that is not possible: the caller then writes zeroes.
   */
  int (*zero) (struct source *src, uint64_t len, uint64_t host,
               enum source_zero_mode mode);

  /* Everything completed before this call is durable when it returns 0. */
  int (*sync) (struct source *src);

  /* Set the length; what is added reads as zeroes. */
  int (*truncate) (struct source *src, uint64_t len);

  /* What begins at 'host' (inside the length)?  Never fails: a source
   * that does not know says data to the end.
   */
  struct source_extent (*extent) (struct source *src, uint64_t host,
                                  uint64_t len);

  /* A hint that the range will be read soon. */
  void (*prefetch) (struct source *src, uint64_t host, uint64_t len);

  void (*close) (struct source *src);
};

struct source {
  const struct source_ops *ops;
  char *name;                   /* for messages; owned */
  _Atomic unsigned references;
  _Atomic uint64_t len;         /* bytes */
  bool writable;                /* changes by source_file_upgrade only */
  bool can_grow;                /* a regular file, memory without a limit */
  uint32_t alignment;           /* what a writer should round to; 512.. */
  _Atomic bool sync_failed;     /* sticky */
  pthread_rwlock_t growth;      /* writes past the end share it, truncate
                                   excludes; outside every other lock */
  struct hole_map *holes;       /* owned */
};

/* The calls.  -1 with errno set for failure; I/O errors are reported by
 * the source, with name, offset and length.  A read that passes the end
 * of the source is the caller's mistake for source_pread; the _padded
 * form gives zeroes there.
 *
 * Errors: EIO and what the system says; EROFS for changing a source that
 * is not writable; ENOSPC for a write past the end of one that cannot
 * grow.
 */
extern int source_pread (struct source *src, void *buf, size_t len,
                         uint64_t host);
extern int source_pread_padded (struct source *src, void *buf, size_t len,
                                uint64_t host);
extern int source_pwrite (struct source *src, const void *buf, size_t len,
                          uint64_t host);

/* Zero [host, host+len), by the quick way if there is one, else by writing
 * zeroes (bounded buffer).  A part beyond the end of a source that can
 * grow lengthens it.
 */
extern int source_zero (struct source *src, uint64_t len, uint64_t host,
                        enum source_zero_mode mode);

/* As source_zero, but fails with ENOTSUP, unreported and with nothing
 * changed, where only writing zeroes would do.
 */
extern int source_zero_fast (struct source *src, uint64_t len, uint64_t host,
                             enum source_zero_mode mode);

/* Make everything completed before this call durable.  At once 0 for a
 * source that is not writable, at once EIO when an earlier one failed.
 */
extern int source_sync (struct source *src);

/* Set the length.  No write past the new end may be in flight.  A source
 * that cannot grow answers ENOSPC, or ENOTSUP for shortening.
 */
extern int source_truncate (struct source *src, uint64_t len);

/* Make the length at least 'len'; never shortens, so that it is safe
 * beside writes past the end and beside other callers.
 */
extern int source_grow (struct source *src, uint64_t len);

/* The same for one who comes back for more: where the length changes it
 * does so ahead of need, as far as it can, to a multiple of 'unit' (a power
 * of two).  A source that cannot grow is left as it is.
 *
 * -1, unreported, errno ENOSPC: its file system allows no such length (or a
 * limit of the process does); -1, reported, for any other reason.
 */
extern int source_grow_ahead (struct source *src, uint64_t len,
                              uint32_t unit);

/* What begins at 'host'?  At most 'len' (> 0) bytes, ending at the latest
 * where the source ends; beyond its end everything is a hole.
 */
extern struct source_extent source_extent (struct source *src, uint64_t host,
                                           uint64_t len);
extern void source_prefetch (struct source *src, uint64_t host, uint64_t len);

static inline uint64_t
source_len (const struct source *src)
{
  return src->len;
}

extern struct source *source_get (struct source *src);  /* one more owner */
extern void source_put (struct source *src);            /* NULL is fine */

static inline void
cleanup_source (struct source **src)
{
  source_put (*src);
}
#define CLEANUP_SOURCE __attribute__ ((cleanup (cleanup_source)))

/* For implementations: fill in what all sources share.  Returns -1 with
 * errno ENOMEM, unreported.
 */
extern int source_init (struct source *src, const struct source_ops *ops,
                        const char *name);
extern void source_destroy (struct source *src);

/* For implementations: the file is now at least 'end' bytes long.  The
 * shared calls do it after a write that succeeded; a pwrite that fails
 * after it lengthened the file must do it itself, or bytes that it wrote
 * would be taken for zeroes later.
 */
extern void source_note_length (struct source *src, uint64_t end);

#endif /* NDF_SOURCE_H */
