/* A toy image on recorded sources, whose power may be cut at any position
 * of the log: what every crash and fault test does.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_TEST_CUT_H
#define NDF_TOY_TEST_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/record.h"
#include "toy/test-bed.h"
#include "toy/test-history.h"

struct crash {
  struct bed bed;               /* open, on recorded sources */
  struct record *record;
  struct history *history;
  size_t finish_position;       /* of the log when finish began */
  _Atomic size_t nr_failures;   /* requests that failed */
  void (*arm) (bool on);        /* called round each request; may be NULL */
};

/* Make an image of this form that holds some data already, a part of them
 * shared, and open it recorded.
 */
extern void crash_begin (struct crash *c, const struct bed_form *form,
                         uint64_t seed);
extern void crash_end (struct crash *c);

/* Requests; they return what the image did, and keep the history. */
extern int crash_write (struct crash *c, uint64_t *state, uint64_t len,
                        uint64_t guest);
extern int crash_zero (struct crash *c, uint64_t len, uint64_t guest,
                       bool may_trim);
extern int crash_trim (struct crash *c, uint64_t len, uint64_t guest);
extern int crash_flush (struct crash *c);
extern int crash_finish (struct crash *c);

/* One of these by chance, within [start, end), with a flush now and then;
 * failures are passed over.
 */
extern void crash_request (struct crash *c, uint64_t *state, uint64_t start,
                           uint64_t end);

/* Several threads do so at once, each 'nr' times; each has sectors of its
 * own, but shares units and table pages with its neighbours.
 */
extern void crash_parallel (struct crash *c, uint64_t seed, unsigned nr);

/* Cut the power.  Is the image sound, does each sector hold what it may,
 * and does the image work on?  Says what is wrong if 'loud'.
 */
struct crash_cut {
  size_t position;
  uint64_t seed;
  enum record_mode mode;
  bool loud;
  bool go_on;                   /* write to it, too */
};
extern bool crash_check (struct crash *c, const struct crash_cut *cut);

/* Do all cuts at positions [from, to], every 'step'th, with 'seeds' random
 * ones at each, find all well?
 */
extern bool crash_check_range (struct crash *c, size_t from, size_t to,
                               size_t step, unsigned seeds, bool loud);

/* Read the disk and compare it with the history, which adopts it. */
extern void crash_check_running (struct crash *c);

/* Read the disk, which was closed without a last pass and opened again:
 * it is as after a power cut now.
 */
extern void crash_check_reopened (struct crash *c);

#endif /* NDF_TOY_TEST_CUT_H */
