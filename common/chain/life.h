/* The life of a chain in a server: looked at, read, written, closed.
 *
 * When the server starts nobody knows yet whether it may write.  The chain
 * is opened and checked for reading; an image that could be written is
 * then held with lock byte 100 only.  The first client decides: a reader
 * gets read locks, a writer write locks and the file opened for writing;
 * in both cases the top image is parsed anew, because others may have
 * changed it meanwhile.  Images that can never be written are held with
 * read locks from the start.
 *
 * Requests run between life_enter and life_leave.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_LIFE_H
#define NDF_LIFE_H

#include <stdbool.h>

#include "chain/chain.h"

struct life;

/* Open and check the chain.  No threads are started.  NULL, reported. */
extern struct life *life_start (const struct chain_settings *settings);

/* A client arrives, who may write unless 'readonly'.  -1, reported, when
 * it cannot be served.  That it cannot write is no failure: see
 * life_can_write.  Threads: any; waits for requests in flight when
 * something has to change.
 */
extern int life_connect (struct life *life, bool readonly);
extern void life_disconnect (struct life *life);

/* May connected writers write?  Constant once life_connect has answered
 * for a writer.
 */
extern bool life_can_write (const struct life *life);

/* Around every request.  life_enter gives the top image, valid until
 * life_leave; NULL with errno ESHUTDOWN, reported, for changes when the
 * end has begun.  Reading costs nothing once the image will not change
 * under it.
 */
struct life_visit {
  struct image *image;
  pthread_rwlock_t *held;       /* NULL: nothing is held */
};
extern struct image *life_enter (struct life *life, bool for_change,
                                 struct life_visit *visit);
extern void life_leave (struct life_visit *visit);

#define CLEANUP_VISIT __attribute__ ((cleanup (life_leave)))

/* Open a snapshot as chain_open_snapshot, at a moment when nothing changes.
 * Its requests run between life_enter and life_leave, too.  To be closed
 * with image_close before life_free.  NULL, reported.
 */
extern struct image *life_open_snapshot (struct life *life,
                                         const char *snapshot);

/* The end: everything is made durable and the locks are released, however
 * many clients there are.  -1, reported.
 */
extern int life_end (struct life *life);

/* Free it all; after life_end.  NULL is fine. */
extern void life_free (struct life *life);

/* How many images the chain has, and its top layer. */
extern const struct chain *life_chain (const struct life *life);

#endif /* NDF_LIFE_H */
