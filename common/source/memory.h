/* Bytes in memory as a source, for tests and fuzzers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_MEMORY_H
#define NDF_SOURCE_MEMORY_H

#include "source/source.h"

/* A writable source of 'len' zero bytes; it can grow up to 'limit' bytes
 * (limit == len: a device of fixed size).  Space is allocated in pages
 * when written, so that a large sparse source costs little.
 *
 * Returns a new reference or NULL with errno ENOMEM.
 */
extern struct source *source_memory (const char *name, uint64_t len,
                                     uint64_t limit);

/* The same, beginning with a copy of data[0..len-1]. */
extern struct source *source_memory_copy (const char *name, const void *data,
                                          uint64_t len, uint64_t limit);

/* Make it read-only (true) or writable (false). */
extern void source_memory_set_readonly (struct source *src, bool readonly);

#endif /* NDF_SOURCE_MEMORY_H */
