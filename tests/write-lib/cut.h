/* An image on recorded sources, whose power may be cut at any position of
 * the log: what every crash, fault and sync test does.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_CUT_H
#define NDF_TEST_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/record.h"
#include "toy/test-history.h"
#include "bed.h"
#include "chance.h"

struct work;

struct crash {
  struct bed bed;               /* open, on recorded sources */
  struct record *record;
  struct history *history;
  struct work *work;            /* what may be leaked, and when */
  size_t finish_position;       /* of the log when finish began */
  _Atomic size_t nr_failures;   /* requests that failed */
  void (*arm) (bool on);        /* called round each request; may be NULL */
};

/* Make an image of this form and open it recorded. */
extern void crash_begin (struct crash *c, const struct form *form);
extern void crash_end (struct crash *c);

/* Close it without a last pass, and open it again.  -1: errno. */
extern int crash_try_reopen (struct crash *c);

/* Requests; they return what the image did, and keep the history.  Those
 * of different threads touch different sectors.
 */
extern int crash_write (struct crash *c, uint64_t *state, uint64_t len,
                        uint64_t guest);
extern int crash_zero (struct crash *c, uint64_t len, uint64_t guest,
                       bool may_trim, bool fast);
extern int crash_trim (struct crash *c, uint64_t len, uint64_t guest);
extern int crash_flush (struct crash *c);
extern int crash_finish (struct crash *c);

/* One of these by chance, within [start, end), with a flush now and then;
 * failures are passed over.
 */
extern void crash_request (struct crash *c, uint64_t *state, uint64_t start,
                           uint64_t end);

/* Cut the power.  Is the image sound, are no more clusters leaked than the
 * requests since the flush before the last can account for, does each
 * sector hold what it may, and does the image work on: with everything that
 * is not written to as it was?
 */
struct crash_cut {
  size_t position;
  uint64_t seed;
  enum record_mode mode;
  bool loud;                    /* say what is wrong */
  bool go_on;                   /* write to it, too */
  bool ask_qemu;                /* let qemu-img judge, too */
};
extern bool crash_check (struct crash *c, const struct crash_cut *cut);

/* Do all cuts at positions [from, to], every 'step'th, with 'seeds' random
 * ones at each, find all well?  Every 'nr_qemu'th asks qemu-img; 0: none.
 */
struct crash_range {
  size_t from, to, step;
  unsigned seeds;
  unsigned nr_qemu;
  bool loud;
};
extern bool crash_check_range (struct crash *c,
                               const struct crash_range *range);

/* Read the disk and compare it with the history, which adopts it. */
extern void crash_check_running (struct crash *c);

/* Read the disk, which was closed without a last pass and opened again:
 * it is as after a power cut now.
 */
extern void crash_check_reopened (struct crash *c);

/* The image was closed cleanly: it is sound, and has no leaks but those
 * 'allowed'; by qemu-img as well.
 */
extern void crash_check_sound (struct crash *c, uint64_t allowed);
extern void crash_check_closed (struct crash *c, uint64_t allowed);

/* Leaks of the image at first, with what a change gives up. */
extern uint64_t crash_first_leaks (const struct crash *c);

#endif /* NDF_TEST_CUT_H */
