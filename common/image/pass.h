/* Passes: the only way metadata reaches a source.
 *
 * Between two cuts, changers make their changes inside change sections.  A
 * pass begins with the cut: no change section is open, every dirty page is
 * copied; later changes belong to the next pass.  Then, in order:
 *
 *   data that was written before the cut, PASS_FILL pages   -> sync
 *   PASS_COUNT pages                                         -> sync
 *   PASS_LINK pages                                          -> sync
 *   PASS_HEADER pages                                        -> sync
 *
 * each step only if there is something in it.  When the pass is durable,
 * the driver is told (format.h, 'durable'), so that what was dropped before
 * the cut may be reused.
 *
 * Failure: a failed write leaves the pass standing, and the next one asked
 * for first repeats it from the same copies; a failed sync fails the image
 * for good.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_PASS_H
#define NDF_PASS_H

#include <stdbool.h>
#include <stdint.h>

struct image;
struct passes;

extern struct passes *passes_new (void);
extern void passes_free (struct passes *passes);

/* Before closing: forget a pass that failed. */
extern void passes_discard (struct image *img);

/* Begin and end a change section.  Inside, no I/O and no waiting for
 * anything but leaf locks and the cache: the cut waits for it.  Not
 * recursive.
 */
extern void pass_begin_change (struct image *img);
extern void pass_end_change (struct image *img);

/* Bytes were written to a data place of 'img', outside of any pass; called
 * after the write is complete, before it is linked or answered.
 */
extern void pass_data_written (struct image *img);

/* Make everything durable that was answered before this call.  Joins a
 * pass whose cut is still to come, or runs one.
 *
 * Returns 0, or -1, reported where it happened, errno EIO, ENOSPC, ENOMEM.
 * Threads: any; holding neither format lock nor change section.
 */
extern int pass_run (struct image *img);

/* Is there anything a pass would do? */
extern bool pass_is_needed (struct image *img);

/* The number of the next cut; what is dropped now is durable once
 * pass_last_durable is at least this.  Called in a change section.
 */
extern uint64_t pass_next_cut (struct image *img);
extern uint64_t pass_last_durable (struct image *img);

#endif /* NDF_PASS_H */
