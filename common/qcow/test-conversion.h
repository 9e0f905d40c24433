/* What the tests of conversion share: images of every kind, what is to
 * become of them, runs as a driver does them, and power cuts.
 *
 * What is expected is made by hand from the image as it was, so that every
 * byte that is not to change is compared too.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_TEST_CONVERSION_H
#define NDF_QCOW_TEST_CONVERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/testing.h"
#include "qcow/convert.h"
#include "qcow/test-image.h"
#include "source/record.h"

#define SPAN (32 * UINT64_C (1024))     /* with SMALL and LONG */
#define LIMIT INT64_MAX                 /* of a file that can grow */

/* Clusters of 512 bytes, tables of one sector; every 7th of 150 spans.  The
 * table has three sectors, or it is a long one.
 */
#define SMALL                                                           \
  .cluster_bits = 9, .l2_bits = 6, .disk_len = 150 * SPAN,              \
  .every_nth = 7, .nr_data = 1
#define LONG                                                            \
  .cluster_bits = 9, .l2_bits = 6, .disk_len = 9000 * SPAN,             \
  .every_nth = 500, .nr_data = 1
#define TAPDISK .disk_len = UINT64_C (300) << 20, .every_nth = 20, .nr_data = 1
#define OVERLAY                                                         \
  .disk_len = UINT64_C (300) << 20, .every_nth = 20, .nr_data = 3,      \
  .backing = "/var/base.img"

struct form {
  const char *name;
  struct test_qcow_spec spec;
  void (*edit) (struct test_qcow *t);

  /* What comes out. */
  bool is_nothing;              /* nothing is to be done */
  uint32_t flags;               /* 0: there are none */
  bool new_cksum;
  uint32_t min_cluster_alloc;   /* 0: as before */
  bool stays_longer;            /* after a power cut, by a copy */
};

extern const struct form all_forms[];
extern const size_t nr_forms;

/* The form of that name. */
extern const struct form *form_named (const char *name);

/* An edit: every sector of the gap holds something. */
extern void full_gap (struct test_qcow *t);

/* ---- an image, and what it is to become */

struct bed {
  const struct form *form;
  struct test_qcow image;
  struct source *wanted;
};
extern void bed_make (struct bed *bed, const struct form *form);
extern void bed_free (struct bed *bed);

/* Where two sources differ first below 'end', or 'end'. */
extern uint64_t first_difference (struct source *a, struct source *b,
                                  uint64_t end);
extern struct source *copy_of (struct source *src, uint64_t limit);

/* ---- one run, as a driver does it */

enum way { GROWING, FIXED };

struct run {
  struct qcow_header h;
  struct qcow_verdict v;        /* to be freed */
  struct qcow_plan plan;
};
extern int run_begin (struct run *run, struct source *src);
extern int run_carry_out (struct run *run, struct source *src,
                          enum way way);
extern int convert (struct source *src, enum way way);

/* Are readers shown what will be there, whatever the pieces? */
extern bool same_view (struct bed *bed, struct run *run,
                       struct source *src);

/* Is the image finished: the bytes, and if 'exact' the length too? */
extern bool is_wanted (struct bed *bed, struct source *src, bool exact);

/* The power was cut (or a call failed): it means what it meant, and another
 * run finishes it?
 */
extern bool goes_on (struct bed *bed, struct source *src, enum way way,
                     bool exact);

/* ---- recorded */

struct tape {
  struct record *record;
  struct source *src;
};
extern void tape_begin (struct tape *tape, struct source *initial,
                        bool can_grow);
extern void tape_end (struct tape *tape);
extern size_t nr_changes (const struct tape *tape);
extern struct source *cut (struct tape *tape, size_t position,
                           uint64_t seed, enum record_mode mode);

/* Cut the power at every position; the image goes on each time. */
extern void check_cuts (struct bed *bed, struct tape *tape,
                        enum way second, unsigned seeds);

/* How it is converted at first, and after that. */
struct ways {
  enum way first, second;
  bool can_grow;
};
#define NR_WAYS 4
extern const struct ways all_ways[NR_WAYS];

#endif /* NDF_QCOW_TEST_CONVERSION_H */
