/* The clusters that hold metadata, so that nothing else is written there.
 *
 * A set of cluster numbers.  It is filled when an image is opened for
 * writing and kept up by whoever makes or frees a table; every write of
 * metadata and every writable mapping is checked against it.  This catches
 * the damage that destroys images: a table cluster that the refcounts call
 * free, and a data entry that points into a table.
 *
 * Threads: adding and removing under the format lock; qcow2_guard_has from
 * any thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_GUARD_H
#define NDF_QCOW2_GUARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2_guard {
  pthread_rwlock_t lock;        /* a leaf */
  uint64_t *slots;              /* cluster + 1; 0: empty */
  size_t nr_slots;              /* a power of two */
  size_t nr_used;
  uint64_t secret;              /* odd; so that an image cannot be made to
                                   fill one place of the table */
};

/* -1 with errno ENOMEM, unreported. */
extern int qcow2_guard_init (struct qcow2_guard *guard);
extern void qcow2_guard_destroy (struct qcow2_guard *guard);

/* Make room for n more, so that adding those cannot fail.  -1, ENOMEM. */
extern int qcow2_guard_reserve (struct qcow2_guard *guard, size_t n);

/* Add a cluster; false when it is there already.  Room was made. */
extern bool qcow2_guard_add (struct qcow2_guard *guard, uint64_t cluster);
extern void qcow2_guard_remove (struct qcow2_guard *guard, uint64_t cluster);
extern bool qcow2_guard_has (struct qcow2_guard *guard, uint64_t cluster);

#endif /* NDF_QCOW2_GUARD_H */
