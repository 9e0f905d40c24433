/* Sources that remember every change, for crash and fault tests.
 *
 * A record is one machine: it owns the log that several recorded sources
 * (an image and its data file, say) write into, in one order.  Afterwards
 * a tester asks what a source could hold if the power had failed at a
 * position of the log.  Linked into tests only.
 *
 * What a power cut leaves: a change is durable when it had completed
 * before a sync of the same source began that completed before the cut.
 * Of all later changes, each 512-byte sector holds, independently, what it
 * held after any one of them or before them all; so sectors tear, overtake
 * each other and go missing, but a sector is never a mixture that no
 * moment had.  The length is what it was after some number of those
 * changes; a shortening that is kept has emptied what lies beyond it, and
 * behind one that is not kept nothing written later is found.
 *
 * Threads: any, in every call but record_free.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_RECORD_H
#define NDF_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "source/source.h"

struct record;

enum record_op {
  RECORD_READ,
  RECORD_WRITE,
  RECORD_ZERO,
  RECORD_SYNC,
  RECORD_TRUNCATE,
};
#define RECORD_NR_OPS 5

enum record_mode {
  RECORD_ALL,                   /* everything that had begun is there */
  RECORD_NONE,                  /* only what a sync covered */
  RECORD_RANDOM,                /* as above, chosen by the seed */
};

/* A new machine, or NULL with errno ENOMEM. */
extern struct record *record_new (void);

/* Its recorded sources must have been put before; NULL is fine. */
extern void record_free (struct record *r);

/* Add a source that begins with a copy of 'initial' (any source; still the
 * caller's), which counts as durable, and that can grow up to 'limit'
 * bytes (its own length: a device of fixed size).  Reads, writes, zeroes
 * and syncs are those of a memory source.
 *
 * Returns a new reference, or NULL with errno.
 */
extern struct source *record_add (struct record *r, const char *name,
                                  struct source *initial, uint64_t limit);

/* How many log entries there are now.  Each change makes two, when it
 * begins and when it has completed; each sync and each mark likewise.
 * Position p means: the first p entries have happened.
 */
extern size_t record_position (struct record *r);

/* Put a mark into the log: "what the tester calls 'id' had completed". */
extern void record_mark (struct record *r, uint64_t id);

/* Had the mark been put before the position? */
extern bool record_is_marked (struct record *r, size_t position,
                              uint64_t id);

/* What 'src' (recorded by 'r') could hold after a power cut at 'position'
 * (at most record_position): a fresh, writable memory source with the same
 * limit.  The same arguments give the same bytes; 'seed' matters for
 * RECORD_RANDOM only.  NULL with errno ENOMEM.
 */
extern struct source *record_crash_image (struct record *r,
                                          struct source *src,
                                          size_t position, uint64_t seed,
                                          enum record_mode mode);

/* Calls of an operation so far, on all sources, failed ones included. */
extern size_t record_count (struct record *r, enum record_op op);

/* The nth call of 'op' from now (1: the next) fails with 'err', and has no
 * effect; if 'sticky' every later one, too.  Replaces what was asked
 * before for this operation; nth 0 takes it back.
 */
extern void record_fail_at (struct record *r, enum record_op op, size_t nth,
                            int err, bool sticky);

/* The nth sync from now succeeds without making anything durable; with
 * 'every', every nth one.  nth 0 takes it back.
 */
extern void record_skip_sync (struct record *r, size_t nth, bool every);

/* Print the log entries [from, to), one line each, to help a reader of a
 * failed test.
 */
extern void record_print (struct record *r, FILE *fp, size_t from,
                          size_t to);

#endif /* NDF_RECORD_H */
