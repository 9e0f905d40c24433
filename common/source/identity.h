/* What this process knows of a file beyond any one source on it.
 *
 * Sources on the same file share one identity: the descriptor that carries
 * the file's locks, how often each lock byte is wanted, and whether a sync
 * ever failed.  The last survives every close, until the process ends.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_IDENTITY_H
#define NDF_SOURCE_IDENTITY_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "include/lock.h"

/* Lock bytes that exist: 100..103 and 200..203. */
#define IDENTITY_LOCK_BYTES 8

struct identity {
  struct identity *next;        /* guarded by the registry's lock */
  dev_t dev;                    /* dev, ino: the inode; fixed */
  ino_t ino;
  dev_t device;                 /* the block device, or 0; fixed */
  unsigned references;          /* guarded by the registry's lock */
  int pin;                      /* keeps the inode number from being used
                                   again after a failed sync, or -1 */

  /* Guarded by the registry's lock; used by lock.c. */
  int lock_fd;                  /* holds every lock byte, or -1 */
  unsigned wanted[IDENTITY_LOCK_BYTES]; /* sources that want the byte */
  bool warned;                  /* "no locks here" has been said */

  /* One sync at a time: the kernel tells a failure to one caller only, so
   * that one beside it could believe in success.
   */
  struct lock sync_lock;
  _Atomic bool sync_failed;     /* set under the registry's lock */
};

/* Guards every identity and the list of them. */
extern struct lock identity_registry_lock;

/* The identity of an open file; one more reference.  NULL: ENOMEM.
 * Threads: any.
 */
extern struct identity *identity_get (const struct stat *st);

/* Give the reference back, while 'fd' is still open on the file. */
extern void identity_put (struct identity *id, int fd);

/* A sync of the file failed: every source on it fails from now on. */
extern void identity_fail (struct identity *id);

#endif /* NDF_SOURCE_IDENTITY_H */
