/* Reading of compressed units, with a small cache of decoded ones.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_PACKED_H
#define NDF_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "image/extent.h"

struct image;
struct packed;

/* A cache of decoded units for one image of 'unit' bytes a unit.  Bounded:
 * a few MiB, but never fewer than a handful of units.  NULL with errno
 * ENOMEM.
 */
extern struct packed *packed_new (uint32_t unit);
extern void packed_free (struct packed *packed);

/* Read bytes [skip, skip+len) of the extent 'ext', of type EXTENT_PACKED,
 * into 'buf'.  Decoding runs in the calling thread; of several threads that
 * want the same unit one decodes and the others wait for it.
 *
 * 'img' and 'guest' (of the extent's start) are for messages.
 * Returns 0, or -1, reported, errno EIO or ENOMEM.
 * Threads: any; the caller holds the range lock, shared is enough.
 */
extern int packed_read (struct packed *packed, const struct image *img,
                        uint64_t guest, const struct extent *ext,
                        uint64_t skip, void *buf, size_t len);

/* Forget what was read and decoded from streams that touch [host,
 * host+len): called before that space is given to other content, and by
 * whoever writes streams when their bytes are written, before they are
 * linked (a neighbour's reader may have fetched the space meanwhile).
 */
extern void packed_forget (struct packed *packed, uint64_t host,
                           uint64_t len);

#endif /* NDF_PACKED_H */
