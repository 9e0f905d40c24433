/* An image with everything that it stands on: opened, checked, locked.
 *
 * The top image is of the format that the user chose and is never probed.
 * Its backing images may be of any format known; what an image may make us
 * open is for policy.h to say.  Everything is opened before serving.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CHAIN_H
#define NDF_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chain/policy.h"
#include "image/image.h"
#include "source/file.h"

/* Images in a chain, the top one included. */
#define CHAIN_MAX_DEPTH 200

enum chain_backing {
  CHAIN_BACKING_AUTO,           /* what the top image says */
  CHAIN_BACKING_NONE,           /* nothing */
  CHAIN_BACKING_PATH,           /* what the user says */
};

/* What the user wants.  Paths are absolute.  Everything is borrowed and
 * outlives the chain.
 */
struct chain_settings {
  const struct format *format;  /* of the top image */
  const struct format *const *formats; /* all known; ends with NULL */
  const char *file;             /* the image, or NULL: */
  int fd;                       /* ... by descriptor */
  enum chain_backing backing;
  const char *backing_path;     /* for CHAIN_BACKING_PATH */
  const char *backing_format;   /* of the top image's base; may be NULL */
  const char *data_file;        /* of the top image; may be NULL */
  struct policy policy;
  enum source_lock_mode lock;
  bool force_share;             /* read although others write */
  uint64_t cache_size;          /* bytes, over all layers */
  struct image_wishes wishes;
  bool trace;                   /* debug lines on every decision */
};

struct layer {
  char *path;                   /* absolute, as named; NULL: by descriptor */
  char *name;                   /* for messages */
  const struct format *format;
  bool was_probed;              /* nobody said that it is of this format */
  struct source *source;        /* a reference of our own */
  struct source *data;          /* of a data file; NULL or our reference */
  struct image *image;          /* owned until connected, then by the image
                                   above it */
  bool shares_data;             /* the data file is in use elsewhere, too */
};

struct chain {
  const struct chain_settings *settings;
  struct layer layers[CHAIN_MAX_DEPTH];
  size_t nr_layers;
};

/* Open the chain for reading, with read locks on every file (byte 100 only
 * for force_share).
 *
 * NULL, reported, errno of what was in the way.
 */
extern struct chain *chain_open (const struct chain_settings *settings);

/* Close everything without a last pass.  NULL is fine. */
extern void chain_close (struct chain *chain);

/* Parse the top image again, on the same sources, whose length is asked for
 * again, and over the same backing images.  No request may be in flight.
 *
 * 0; -1, reported, and the old image stays: when it cannot be opened any
 * more, or (errno ESTALE) refers to other files than it did or, for
 * 'same_len', has another length.
 */
extern int chain_reopen_top (struct chain *chain, bool same_len);

/* Open a snapshot of the top image by its id or name, read-only, over the
 * chain's backing images: it must be closed before the chain.  Nobody may be
 * changing the top image.  NULL, reported, errno ENOENT, EINVAL, EIO,
 * ENOMEM.
 */
extern struct image *chain_open_snapshot (struct chain *chain,
                                          const char *snapshot);

/* The same locks on all that a writer of the top image writes.  As
 * source_file_lock; after a failure everything is as before.
 */
extern int chain_lock_top (struct chain *chain, enum source_lock_want want,
                           enum source_lock_want held);

/* Release every lock. */
extern void chain_unlock (struct chain *chain);

static inline struct image *
chain_top (const struct chain *chain)
{
  return chain->layers[0].image;
}

#endif /* NDF_CHAIN_H */
