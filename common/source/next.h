/* nbdkit's next layer as a source, for filters.
 *
 * In a library of its own (libnext.la): what it calls exists in a server
 * only, and for filters only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_NEXT_H
#define NDF_SOURCE_NEXT_H

#include <stdbool.h>

#include <nbdkit-filter.h>

#include "source/source.h"

/* The bytes of 'next' (borrowed; it must have been prepared, so .prepare
 * of a filter is the earliest), as long as they are now: the source cannot
 * grow.  It is writable when the next layer is, and not 'readonly'; where
 * that cannot flush every sync fails with ENOTSUP.  Requests keep to the
 * next layer's block sizes, so that any range may be asked for.
 *
 * A failed sync sticks to this source only; the caller must remember it
 * for the bytes.
 *
 * Returns a new reference; NULL, reported.
 */
extern struct source *source_next (nbdkit_next *next, const char *name,
                                   bool readonly);

/* Can it be synced at all? */
extern bool source_next_can_flush (struct source *src);

#endif /* NDF_SOURCE_NEXT_H */
