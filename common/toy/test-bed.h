/* What the tests of the data path stand on: toy images in several forms,
 * and numbers by chance that a seed repeats.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_TEST_BED_H
#define NDF_TOY_TEST_BED_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "source/source.h"
#include "toy/toy.h"

struct bed_form {
  const char *name;
  uint64_t len;                 /* of the disk, bytes */
  uint64_t host_len;            /* whole groups of units */
  unsigned features;            /* enum toy_features */
  uint64_t backing_len;         /* with TOY_BACKING: of the raw base */
  uint64_t cache_limit;
  bool is_fixed;                /* sources cannot grow */
  bool yields;                  /* threads change places at each I/O */
};

struct bed {
  struct bed_form form;
  struct source *src, *data;    /* data == src, or the data file */
  struct source *base;          /* NULL, or the raw base */
  struct image *img;            /* NULL while closed */
};

/* An empty image in memory, closed. */
extern void bed_make (struct bed *bed, const struct bed_form *form);

/* Open the image in bed->src and bed->data for writing.  -1: errno. */
extern int bed_try_open (struct bed *bed);

/* The same, which must work; and closing without a last pass. */
extern void bed_open (struct bed *bed);
extern void bed_close (struct bed *bed);

/* Let go of everything. */
extern void bed_free (struct bed *bed);

/* What the base holds at 'guest' (zero past its end or without one). */
extern uint8_t bed_base_byte (const struct bed_form *form, uint64_t guest);

/* The next number of a sequence; any *state will do. */
extern uint64_t chance (uint64_t *state);

/* Below 'bound'. */
static inline uint64_t
chance_below (uint64_t *state, uint64_t bound)
{
  return chance (state) % bound;
}

/* Bytes that tell where and when they were written, never zero. */
extern void chance_fill (uint64_t *state, uint8_t *buf, uint64_t len);

/* A request within [start, end), end > start: often small or on a
 * boundary, sometimes large (but on a very small disk).
 */
extern void chance_range (uint64_t *state, uint64_t start, uint64_t end,
                          uint64_t *guest, uint64_t *len);

#endif /* NDF_TOY_TEST_BED_H */
