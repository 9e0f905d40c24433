/* The driver contract: what a format answers, and when it is asked.
 *
 * A driver says where bytes live; it never moves guest data and never
 * opens files by name.  Everything unaligned, copy on write, backing
 * images, decoding and waiting is done once, by this room.
 *
 * Lock order, outermost first: range lock, format lock (img->format_lock,
 * may be held during I/O), change section, the driver's own leaf locks,
 * passes, metadata cache, source.  Nobody who holds the format lock waits
 * for a pass.
 *
 * A format without reserve and link is read-only; no flag is needed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FORMAT_H
#define NDF_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/cache.h"
#include "image/extent.h"

struct image;

/* Bytes that a probe is given: the head of the image, up to this many. */
#define FORMAT_PROBE_LEN 1024

/* Room made for a write: guest range [guest, guest+len) goes to
 * [host, host+len) of 'src'.  When it is linked, all of [fill_start,
 * fill_end), which encloses the range, becomes visible at the same
 * distance; the data path fills the parts before and after with what the
 * disk read there.
 */
struct claim {
  uint64_t guest;               /* bytes; as asked */
  uint64_t len;                 /* bytes granted, > 0, <= asked */
  struct source *src;           /* borrowed */
  uint64_t host;                /* of 'guest' */
  uint64_t fill_start;          /* guest bytes, <= guest */
  uint64_t fill_end;            /* guest bytes, >= guest+len */
  bool reads_zero;              /* the space already reads as zeroes */
  uint32_t packed_len;          /* bytes, > 0: of the stream that goes to
                                   'host', see reserve_packed; 0: plain */
  uint64_t cookie[2];           /* the driver's own */
};

/* What is wanted of an unmapped range. */
enum unmap_wish {
  UNMAP_ZERO_KEEP,              /* must read as zeroes; keep its space */
  UNMAP_ZERO_FREE,              /* must read as zeroes; space may go */
  UNMAP_TRIM,                   /* contents do not matter; free space */
};

/* A state of the disk that an image keeps besides the active one. */
struct snapshot_info {
  const char *id, *name;        /* borrowed for the call */
  uint64_t len;                 /* of the disk then, bytes */
  uint64_t seconds;             /* when it was taken, since the epoch */
};
typedef int (*snapshot_add) (void *opaque, const struct snapshot_info *info);

struct format {
  const char *name;             /* "qcow2": as users write it */

  /* Its images have no place for img->backing_format, so that their base
   * may be what it looks like (see chain/probe.h for why others may not).
   */
  bool cannot_record_backing_format;

  /* Could bytes head[0..head_len-1] of a source of 'len' bytes begin an
   * image of this format?  NULL for raw, which is never probed for.
   */
  bool (*probe) (const uint8_t *head, size_t head_len, uint64_t len);

  /* Parse and check everything that opening needs.  img->source and
   * img->name are set; the driver sets img->len, img->unit,
   * img->zero_unit, img->state, and what the image refers to
   * (img->backing_name ...).  Never trusts a number; reads no more than
   * bounded memory; changes nothing on disk.
   *
   * Returns 0; or -1, reported, errno EINVAL, ENOTSUP, EIO, ENOMEM: the
   * caller then calls close.
   */
  int (*open) (struct image *img);

  /* Call 'add' for every snapshot; it returns 1 to stop, -1 to fail.  With
   * img->wishes.snapshot, an id or else a name, open shows that one instead
   * of the active disk.  -1, reported.  NULL: there are none.
   */
  int (*snapshots) (struct image *img, snapshot_add add, void *opaque);

  /* All that the image refers to is there (img->backing,
   * img->data_source): check it against what the image says.  May be
   * NULL.
   */
  int (*connected) (struct image *img);

  /* Where do guest bytes [guest, guest+len) live?  Inside the disk, len >
   * 0, max > 0.  Fills ext[0..n-1], in guest order without gaps from
   * 'guest' on, neighbouring host-contiguous runs merged, and returns n >=
   * 1; they may stop short when 'max' is too small or when the answer
   * would take long (a bounded number of table pages for each call).
   *
   * -1, reported, errno EIO or ENOMEM when the tables cannot be read.
   * Structural damage is an EXTENT_DAMAGED, not a failure.
   * Threads: any; range lock held, shared is enough, on writable images.
   */
  ssize_t (*lookup) (struct image *img, uint64_t guest, uint64_t len,
                     struct extent *ext, size_t max);

  /* The image is going to be written: its sources are writable, nothing
   * has changed yet.  Gather what changing needs.  0; -1, reported, errno
   * EINVAL, EIO, ENOMEM: the image stays as it is, readable.  May be NULL.
   */
  int (*begin_writing) (struct image *img);

  /* The first change is about to happen: make what must be durable before
   * it so.  Called by whoever changes first, one caller at a time, with no
   * lock of the driver held (it may run a pass); again after a failure.
   * May be NULL.
   */
  int (*prepare) (struct image *img);

  /* Make room for [guest, guest+len).  Does everything that can fail.
   * Range lock held exclusively.  May grant less than 'len', but whole
   * units unless the asked range ends first.
   *
   * -1, reported (but ENOSPC unreported: the caller may run a pass and try
   * again), errno ENOSPC, EIO, ENOMEM, EFBIG.
   */
  int (*reserve) (struct image *img, uint64_t guest, uint64_t len,
                  struct claim *claim);

  /* How many bytes may a compressed unit have at most, to be worth it?
   * Asked when wishes.compress_level says so, which open refuses where
   * units cannot be compressed.
   */
  uint32_t (*max_packed_len) (const struct image *img);

  /* Make room for a stream of 'packed_len' bytes, at most the above, that
   * decodes to the unit at 'guest'.  The claim is for all of that unit; the
   * data path writes the stream to its 'host', filled up with zeroes to
   * round_up (packed_len, 512).  Otherwise as reserve; and -1, ENOTSUP,
   * unreported: this unit is to be stored as it is.
   */
  int (*reserve_packed) (struct image *img, uint64_t guest,
                         uint32_t packed_len, struct claim *claim);

  /* Make a claim visible; metadata in the cache only; cannot fail.
   * Re-resolves from the top table.  What it replaces is dropped.
   */
  void (*link) (struct image *img, const struct claim *claim);

  /* Give a claim back that was not linked. */
  void (*abandon) (struct image *img, const struct claim *claim);

  /* Take the mapping of [guest, guest+len) away, both multiples of
   * img->zero_unit (or ending at the end of the disk).  Range lock held
   * exclusively.  Does as much as one step allows and returns the number
   * of bytes done (> 0, a multiple of the unit or to the end); UNMAP_TRIM
   * may leave what it cannot free as it was.  With 'fast', it finds out
   * for the whole range whether it can, before it changes anything.
   *
   * -1: errno ENOTSUP, unreported, where zeroes can only be written (the
   * caller writes them); or reported EIO, ENOMEM, or ENOSPC as in reserve.
   */
  ssize_t (*unmap) (struct image *img, uint64_t guest, uint64_t len,
                    enum unmap_wish wish, bool fast);

  /* Everything dropped before cut number 'cut' is durably so: free it.
   * No lock held.
   */
  void (*durable) (struct image *img, uint64_t cut);

  /* Last check of a pass: is [host, host+len) known to hold metadata, so
   * that a page of 'phase' may be written there?  False, reported, marks
   * the image damaged instead of writing.  May be NULL.
   */
  bool (*is_metadata) (struct image *img, uint64_t host, uint32_t len,
                       enum pass_phase phase);

  /* The image was found damaged while it is open for writing: have its
   * mark for that in the cache, to be written by the pass that begins.
   * No lock held.  0, or -1, reported.  May be NULL.
   */
  int (*mark_damaged) (struct image *img);

  /* Make the disk 'len' bytes long, a multiple of 512 that differs from
   * img->len, durably; see resize.h.  Prepared, nobody else uses the image.
   * 0, or -1, reported: the length is as before.  NULL: not possible.
   */
  int (*resize) (struct image *img, uint64_t len);

  /* A clean close, after everything else is durable: give reserves back,
   * trim the file.  What it changes in the cache is written by one more
   * pass.  0, or -1, reported.  May be NULL.
   */
  int (*finish) (struct image *img);

  /* Frees img->state; accepts a half-opened image. */
  void (*close) (struct image *img);
};

#endif /* NDF_FORMAT_H */
