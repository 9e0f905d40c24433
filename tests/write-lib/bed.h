/* What the tests of writing stand on, whatever the format: images of many
 * forms, made by ourselves or by qemu-img, in memory; opened, given to
 * qemu-img and to a judge of our own.
 *
 * The format's own part (struct kind, the forms, struct shape) is in the
 * directory of its tests.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_BED_H
#define NDF_TEST_BED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "image/image.h"
#include "source/source.h"

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
  const struct shape *shape;    /* made by ourselves... */
  const char *commands;         /* ...or by these, in the work directory,
                                   as the file "image" */
  bool has_data;                /* a data file, "data" */
  uint64_t backing_len;         /* of the raw file "base"; 0: none */
  uint64_t populated;           /* bytes written before the test begins */
  unsigned extras;              /* then added; the format's own bits */
  uint64_t room;                /* of a device of fixed size, behind what is
                                   in use at first, bytes; 0: it grows */
  uint64_t cache_limit;
  struct image_wishes wishes;
  uint64_t max_request;         /* bytes; 0: some clusters */
  bool is_like_others;          /* faults are left to long runs */
};

struct bed {
  const struct form *form;
  uint64_t limit;               /* that the sources may grow to */
  uint64_t len;                 /* of the disk */
  struct source *src, *data;    /* data: NULL, or the data file */
  struct source *base;          /* NULL, or the raw base */
  struct source *first;         /* a copy of the image as it was made */
  struct image *img;            /* NULL while closed */
};

/* What a judge finds. */
struct report {
  bool is_image;                /* the rest means something */
  bool is_dirty;                /* it is repaired when it is written to */
  bool gives_up;                /* when it is changed, it loses its use of
                                   what then counts as leaked */
  uint64_t nr_errors;
  uint64_t nr_leaks;            /* clusters */
  uint64_t nr_beyond;           /* likewise, behind the end of the file,
                                   where QEMU does not look */
};

/* What a format's directory gives to this library. */
struct kind {
  const struct format *format;
  bool can_qemu_check;          /* qemu-img check knows it */
  bool counts_leaks;            /* unused space is lost, unless a flush or
                                   two make it free */

  /* The image of bed->form: puts bed->src, and bed->data. */
  void (*build) (struct bed *bed);

  /* Add what form->extras asks for; NULL if nothing ever does. */
  void (*add_extras) (struct bed *bed);

  /* Look through the whole structure of the image as it lies there; what
   * is wrong is printed to 'fp' unless that is NULL.
   */
  void (*check) (const struct bed *bed, FILE *fp, struct report *report);

  /* Clusters leaked at first, in case the image is changed, and those
   * that a few requests may leak whatever their length.
   */
  void (*measure_leaks) (const struct bed *bed, uint64_t *first,
                         uint64_t *overhead);

  /* Length of a cluster, bytes. */
  uint64_t (*cluster_len) (const struct bed *bed);

  /* May the image have become this, beginning as bed->first?  is_same: its
   * disk reads as at first.  Prints what may not be, as above.
   */
  bool (*may_become) (const struct bed *bed, bool is_same, FILE *fp);

  /* Read all of the disk without the driver; NULL if nobody can. */
  void (*read) (const struct bed *bed, uint8_t *buf);
};
extern const struct kind kind;

/* The forms, and how many. */
extern const struct form bed_forms[];
extern const size_t bed_nr_forms;
extern const struct form *bed_form (const char *name);

/* Make a directory of our own the working directory; it is removed at the
 * end of the program.
 */
extern void bed_use_work_directory (void);

/* Is there a qemu-img to make and judge images? */
extern bool bed_has_qemu (void);

/* Can the form be made here? */
extern bool bed_can_make (const struct form *form);

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

/* Read the exported image's disk with qemu-img: bytes, to be freed.  The
 * options choose a snapshot, say; "" for none.
 */
extern uint8_t *bed_qemu_read (const char *options, uint64_t len);

/* Do qemu-img and whoever else reads this kind without the driver find
 * buf[0..bed->len-1] on the disk?  What is wrong is told, unless fp is NULL.
 */
extern bool bed_reads_as (const struct bed *bed, bool ask_qemu,
                          const uint8_t *buf, FILE *fp);

/* The bytes of a source, to be freed. */
extern uint8_t *bed_bytes (struct source *src);

/* What the base holds at 'guest'. */
extern uint8_t bed_base_byte (const struct form *form, uint64_t guest);

#endif /* NDF_TEST_BED_H */
