/* The log of a record: shared by what writes it and what replays it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_RECORD_LOG_H
#define NDF_RECORD_LOG_H

#include "include/lock.h"
#include "source/record.h"

/* A change or a sync that has begun, or a mark. */
struct change {
  enum record_op op;            /* not for marks */
  bool is_mark;
  bool is_barrier;              /* a sync that succeeded and was not
                                   skipped */
  unsigned source;              /* index in the record */
  uint64_t host;                /* a mark: its id */
  uint64_t len;                 /* a truncate: the new length */
  enum source_zero_mode mode;   /* a zero */
  uint8_t *data;                /* a write; owned */
  size_t begin;                 /* the log entry of its beginning */
  size_t end;                   /* of its end; NOT_ENDED */
};

#define NOT_ENDED SIZE_MAX

struct recorded {
  struct source src;            /* must be first */
  struct record *record;
  unsigned index;
  uint64_t limit;
  struct source *now;           /* what readers see; never fails but by
                                   ENOMEM */
};

struct fault {
  size_t at;                    /* the call's number, 0: none */
  int err;
  bool sticky;
};

struct record {
  struct lock lock;             /* guards everything; a leaf */

  struct change *changes;       /* in order of their beginning */
  size_t nr_changes;
  size_t max_changes;
  size_t position;              /* log entries so far */

  struct source **initials;     /* what each recorded source began with */
  uint64_t *limits;
  unsigned nr_sources;

  size_t counts[RECORD_NR_OPS];
  struct fault faults[RECORD_NR_OPS];
  size_t skip_from;             /* the number of the last sync that is not
                                   concerned */
  size_t skip_nth;              /* 0: none */
  bool skip_every;
};

/* As record_crash_image; the caller holds the record's lock. */
extern struct source *crash_image_locked (struct record *r, unsigned source,
                                          size_t position, uint64_t seed,
                                          enum record_mode mode);

/* A memory source with the content of another. */
extern struct source *crash_image_copy (const char *name, struct source *from,
                                        uint64_t limit);

#endif /* NDF_RECORD_LOG_H */
