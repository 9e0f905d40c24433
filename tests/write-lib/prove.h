/* What is proved of writing, whatever the format: the tests in a format's
 * directory call these with what is its own.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_PROVE_H
#define NDF_TEST_PROVE_H

#include <stddef.h>
#include <stdint.h>

#include "bed.h"
#include "cut.h"

/* ---- power cuts.  Arguments: [PART NR_PARTS | long | FORM] */

extern void prove_crashes (int argc, char **argv);

/* A file must not end within a sector: what is written over that sector
 * later could lose its part behind the old end.
 */
extern void prove_end_of_file (const char *form);

/* ---- faults: I/O and allocations.  Arguments: [long | FORM] */

extern void prove_faults (int argc, char **argv);

/* A full device refuses without harm, and what is freed can be used. */
extern void prove_no_space (const char *form);

/* ---- parallel load.  Arguments: [PART NR_PARTS | long | FORM] */

struct load {
  const struct form *forms;     /* beside bed_forms: larger ones */
  size_t nr_forms;

  /* What the format adds; may be NULL.  'before' notes what must not
   * change, 'after' looks at the closed image, whose disk is to read
   * disk[0..bed->len-1], and frees what was noted.
   */
  void *(*before) (const struct bed *bed);
  void (*after) (const struct bed *bed, const uint8_t *disk, void *noted);
};
extern void prove_load (const struct load *load, int argc, char **argv);

/* ---- syncs */

/* A kind of change, by what its pass has to do. */
struct sync_scenario {
  const char *name;
  const char *form;
  /* Done, and flushed, before; may be NULL. */
  void (*before) (struct crash *c);
  /* What is measured; it does not flush. */
  void (*change) (struct crash *c);
  size_t nr_syncs;              /* of the change and the flush after it */
  size_t nr_later;              /* of one more flush: counts go down */
  /* One bit for each sync that may be missing with nothing lost, 1 for the
   * first, because a later one does its work before anything depends on
   * it.
   */
  unsigned harmless;
};

/* Are the numbers right, and is each of the syncs needed? */
extern void prove_syncs (const struct sync_scenario *scenarios, size_t nr);

/* One cluster (every 'step' bytes) and one flush at a time: growing tables
 * add next to nothing.
 */
extern void prove_growth_syncs (const struct form *form, uint64_t step);

/* For changes: these must work. */
extern void syncs_write (struct crash *c, uint64_t guest, uint64_t len);
extern void syncs_flush (struct crash *c);

/* How many there were. */
extern size_t syncs_so_far (const struct crash *c);

#endif /* NDF_TEST_PROVE_H */
