/* An open image: one layer of a chain, and the data path through it.
 *
 * One open image per file and process, shared by all connections.  All
 * offsets and lengths are bytes.  Requests are checked against the disk's
 * length by the caller (nbdkit does).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_IMAGE_H
#define NDF_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/format.h"
#include "image/pass.h"
#include "image/packed.h"
#include "image/range-lock.h"
#include "include/lock.h"
#include "source/source.h"

/* What to do with an image that other programs left in need of a change
 * in place before it can be written (qcow version 1 as tapdisk wrote it).
 */
enum image_fixup {
  IMAGE_FIXUP_MEMORY,           /* read it right; refuse to write */
  IMAGE_FIXUP_OFF,              /* take it at its word */
  IMAGE_FIXUP_WRITE,            /* change it when it is going to be written */
};

/* Where paths of another machine are here: those that begin with 'prefix',
 * a drive, volume or share, lie below 'dir', which is absolute.
 */
struct image_path_map {
  const char *prefix;
  const char *dir;
};

/* What the user wants of a driver; all zero is the default.  Borrowed. */
struct image_wishes {
  int compress_level;           /* of what is written whole units at a
                                   time; 0: it is stored as it is */
  enum image_fixup fixup;
  bool strict_log;              /* refuse a log that may have been lost */
  bool any_parent;              /* take a parent of another identity */
  bool check_all;               /* look through all tables at open */
  const char *snapshot;         /* show this one; NULL: the active disk */
  const struct image_path_map *maps;
  size_t nr_maps;
};

struct image {
  const struct format *format;
  char *name;                   /* the file's, for messages; owned */
  struct source *source;        /* the image's file; owned */
  struct source *data_source;   /* where guest data lies: 'source', or an
                                   external data file; a reference each */
  struct image *backing;        /* NULL or owned... */
  bool borrows_backing;         /* ...by another image on top of it */
  bool is_writable;             /* see image_begin_writing */

  /* Set by the driver's open, constant since. */
  uint64_t len;                 /* of the disk, bytes */
  uint32_t unit;                /* of allocation, a power of two */
  uint32_t zero_unit;           /* of unmap, a power of two, <= unit */
  bool wants_backing;           /* a base is recorded */
  char *backing_name;           /* as recorded; NULL; owned; if there are
                                   candidates, all that was, in quotes */
  char *backing_format;         /* as recorded; NULL: not recorded; owned */
  char **backing_candidates;    /* instead of backing_name: names of which
                                   the first that exists counts; ends with
                                   NULL; owned */
  bool backing_ignores_case;    /* ... on a file system that knew no case */
  bool wants_data_file;         /* an external data file is needed */
  char *data_file_name;         /* as recorded; NULL: not recorded; owned */
  const char *why_read_only;    /* NULL, or why nothing may be changed, a
                                   part sentence: "it is marked corrupt" */
  void *state;                  /* the driver's */

  /* Set before the driver's open. */
  uint64_t cache_limit;         /* bytes; see image_set_cache_limit */
  struct image_wishes wishes;

  struct cache *cache;          /* of 'source'; NULL until the driver asks */
  struct packed *packed;        /* NULL until the driver asks */

  struct range_locks ranges;
  struct lock format_lock;
  struct passes *passes;
  struct lock prepare_lock;     /* between range and format lock */
  _Atomic bool is_prepared;     /* set under prepare_lock */
  _Atomic bool is_damaged;      /* met structural damage: no more changes */
};

/* Open the image in 'src' (a reference is taken) as 'format', read-only so
 * far; 'name' is for messages, 'cache_limit' bounds the metadata cache.
 * What it refers to is not opened: see image_connect.
 *
 * NULL, reported, errno from the driver.
 */
extern struct image *image_open (const struct format *format,
                                 struct source *src, const char *name,
                                 uint64_t cache_limit);

/* The same, with wishes; or with one only. */
extern struct image *image_open_wishes (const struct format *format,
                                        struct source *src, const char *name,
                                        uint64_t cache_limit,
                                        const struct image_wishes *wishes);
extern struct image *image_open_fixup (const struct format *format,
                                       struct source *src, const char *name,
                                       uint64_t cache_limit,
                                       enum image_fixup fixup);

/* Another bound for the metadata cache, before others use the image. */
extern void image_set_cache_limit (struct image *img, uint64_t limit);

/* Give it what it refers to; NULL for what it does not have.  Takes over
 * both.  -1, reported, when that does not fit what the image says; both
 * are owned by the image even so.
 */
extern int image_connect (struct image *img, struct image *backing,
                          struct source *data_source);

/* Close the image and its backing chain, without a last pass.  NULL is
 * fine.  No request may be in flight.
 */
extern void image_close (struct image *img);

static inline void
cleanup_image (struct image **img)
{
  image_close (*img);
}
#define CLEANUP_IMAGE __attribute__ ((cleanup (cleanup_image)))

/* For drivers, in open: make img->cache with pages of 'page_len' bytes. */
extern int image_make_cache (struct image *img, uint32_t page_len);
extern int image_make_packed (struct image *img);

/* Can this layer be written at all, and if not, why?  NULL: it can; else a
 * part sentence for a message.
 */
extern const char *image_why_read_only (const struct image *img);

/* From now on requests may change this layer; its sources are writable.
 * No request may be in flight.  0; -1, reported, when the driver cannot:
 * it is then readable as before.
 */
extern int image_begin_writing (struct image *img);

/* Clean end of writing: the driver's finish and the last pass.  0, or -1,
 * reported.
 */
extern int image_finish (struct image *img);

/* Structural damage was met: changes fail with EROFS from now on, reads
 * and flushes go on.
 */
extern void image_set_damaged (struct image *img);

/* The data path; -1, reported once at the place that knows, errno EIO,
 * ENOSPC, EROFS, ENOMEM, ENOTSUP.  Threads: any number at once.
 */
extern int image_read (struct image *img, void *buf, uint64_t len,
                       uint64_t guest);
extern int image_write (struct image *img, const void *buf, uint64_t len,
                        uint64_t guest);

/* Make the range read as zeroes.  may_trim: its space may be freed.  fast:
 * fail with ENOTSUP, nothing changed, if zeroes would have to be written.
 */
extern int image_zero (struct image *img, uint64_t len, uint64_t guest,
                       bool may_trim, bool fast);

/* The range's contents no longer matter; whole units are freed. */
extern int image_trim (struct image *img, uint64_t len, uint64_t guest);

/* Everything answered before is durable when this returns 0. */
extern int image_flush (struct image *img);

/* Have the range's tables, and its data as far as the host will, in
 * memory.  Never fails.
 */
extern void image_prefetch (struct image *img, uint64_t len, uint64_t guest);

/* What the disk is, from 'guest' on: calls 'add' with neighbouring,
 * differing runs in order, until the range is covered, 'one' run is
 * complete, or a bound on the work is reached (at least one run is always
 * given).  'add' returns -1 to stop with failure, 1 to stop.
 */
enum status_flags {
  STATUS_HOLE = 1,              /* no space is allocated */
  STATUS_ZERO = 2,              /* reads as zeroes */
};
typedef int (*status_add) (void *opaque, uint64_t guest, uint64_t len,
                           unsigned flags);
extern int image_status (struct image *img, uint64_t len, uint64_t guest,
                         bool one, status_add add, void *opaque);

/* How a reader should size its requests: a power of two from 512 to 64
 * KiB.
 */
extern uint32_t image_preferred_block (const struct image *img);

#endif /* NDF_IMAGE_H */
