/* What the tests of writing qcow2 stand on: images of many forms, made by
 * ourselves or by qemu-img, in memory; opened, given to qemu-img to judge;
 * and numbers by chance that a seed repeats.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_QCOW2_BED_H
#define NDF_TEST_QCOW2_BED_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "source/source.h"
#include "build.h"

/* Sanitized programs are slow: they do less. */
#if defined (__SANITIZE_ADDRESS__) || defined (__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined (__has_feature)
#if __has_feature (address_sanitizer) || __has_feature (thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)

struct form {
  const char *name;
  struct shape shape;           /* made by ourselves... */
  const char *commands;         /* ...or by these, in the work directory,
                                   as the file "image" */
  bool has_data;                /* a data file, "data" */
  uint64_t backing_len;         /* of the raw file "base"; 0: none */
  uint64_t populated;           /* bytes written before the test begins */
  bool has_snapshot;            /* then taken, with holes in between */
  bool has_autoclear;           /* unknown bits of it are set */
  bool is_dirty;                /* and left so by a lazy writer */
  uint64_t room;                /* of a device of fixed size, behind what is
                                   in use at first, bytes; 0: it grows */
  uint64_t cache_limit;
  uint64_t max_request;         /* bytes; 0: some clusters */
};

struct bed {
  const struct form *form;
  uint64_t limit;               /* that the sources may grow to */
  uint64_t len;                 /* of the disk */
  struct source *src, *data;    /* data: NULL, or the data file */
  struct source *base;          /* NULL, or the raw base */
  struct image *img;            /* NULL while closed */
};

/* Make a directory of our own the working directory; it is removed at the
 * end of the program.
 */
extern void bed_use_work_directory (void);

/* Is there a qemu-img to make and judge images? */
extern bool bed_has_qemu (void);

/* Run a command, all of which must work. */
extern void bed_run (const char *command);

/* The image of the form, closed. */
extern void bed_make (struct bed *bed, const struct form *form);
extern void bed_free (struct bed *bed);

/* Open what is in bed->src and bed->data for writing.  -1: errno. */
extern int bed_try_open (struct bed *bed);
extern void bed_open (struct bed *bed);

/* Close without a last pass. */
extern void bed_close (struct bed *bed);

/* Put the image and what belongs to it into the working directory. */
extern void bed_export (const struct bed *bed);

/* What qemu-img check says of the exported image: its exit status; its words
 * are in the file "said".
 */
extern int bed_qemu_check (void);

/* Read the exported image's disk with qemu-img: bytes, to be freed. */
extern uint8_t *bed_qemu_read (uint64_t len);

/* Likewise of its snapshot. */
extern uint8_t *bed_qemu_read_snapshot (const char *name, uint64_t len);

/* The bytes of a source, to be freed. */
extern uint8_t *bed_bytes (struct source *src);

/* What the base holds at 'guest'. */
extern uint8_t bed_base_byte (const struct form *form, uint64_t guest);

/* The forms, and how many. */
extern const struct form bed_forms[];
extern const size_t bed_nr_forms;
extern const struct form *bed_form (const char *name);

/* The next number of a sequence; any *state will do. */
extern uint64_t chance (uint64_t *state);

static inline uint64_t
chance_below (uint64_t *state, uint64_t bound)
{
  return chance (state) % bound;
}

/* Bytes that tell where and when they were written, never zero. */
extern void chance_fill (uint64_t *state, uint8_t *buf, uint64_t len);

/* A request within [start, end): often small or on a boundary, sometimes
 * 'max' long.
 */
extern void chance_range (uint64_t *state, uint64_t start, uint64_t end,
                          uint64_t max, uint64_t *guest, uint64_t *len);

#endif /* NDF_TEST_QCOW2_BED_H */
