/* The judge of the crash tests agrees with qemu-img check: on images made
 * by qemu-img and by ourselves, and on hundreds that were damaged.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/memory.h"
#include "check.h"
#include "bed.h"
#include "chance.h"

#define HOST_BITS UINT64_C (0x00fffffffffffe00)

/* Damage to one image. */
#define NR_DAMAGES 26

struct image_file {
  uint8_t *bytes;
  uint64_t len, cluster_len;
};

static uint64_t
get (const struct image_file *f, uint64_t at)
{
  return at + 8 <= f->len ? load_be64 (f->bytes + at) : 0;
}

static void
put (struct image_file *f, uint64_t at, uint64_t value)
{
  if (at + 8 <= f->len)
    store_be64 (f->bytes + at, value);
}

/* An 8-byte number somewhere in a table of 'len' bytes at 'host', rather
 * one that is not zero.
 */
static uint64_t
choose (const struct image_file *f, uint64_t *state, uint64_t host,
        uint64_t len)
{
  const uint64_t step = 8;
  uint64_t at = 0;

  for (unsigned i = 0; i < 20; ++i) {
    at = host + chance_below (state, MAX (len / step, UINT64_C (1))) * step;
    if (get (f, at) != 0)
      break;
  }
  return at;
}

/* Where the entry to be damaged lies, by what kind of table it is in. */
static uint64_t
choose_entry (const struct image_file *f, uint64_t *state)
{
  const uint64_t l1 = get (f, 40), l1_len = load_be32 (f->bytes + 36) * 8;
  const uint64_t table = get (f, 48);
  uint64_t at;

  switch (chance_below (state, 8)) {
  case 0:
    return choose (f, state, l1, l1_len);
  case 1:
    return table;
  case 2: case 3:
    at = choose (f, state, table, 8);
    return choose (f, state, get (f, at), f->cluster_len / 16);
  default:
    at = choose (f, state, l1, l1_len);
    return choose (f, state, get (f, at) & HOST_BITS, f->cluster_len);
  }
}

static void
damage (struct image_file *f, uint64_t *state)
{
  const uint64_t at = choose_entry (f, state);
  const uint64_t entry = get (f, at);

  switch (chance_below (state, 7)) {
  case 0:
    put (f, at, 0);
    break;
  case 1:                       /* COPIED, or a high count */
    put (f, at, entry ^ UINT64_C (1) << 63);
    break;
  case 2:                       /* the next cluster, or the next count */
    put (f, at, entry + f->cluster_len);
    break;
  case 3:                       /* out of line, or a count */
    put (f, at, entry ^ 512);
    break;
  case 4:                       /* far away */
    put (f, at, entry + (UINT64_C (1) << 40));
    break;
  case 5:                       /* a reserved bit, or a count */
    put (f, at, entry ^ UINT64_C (1) << (chance_below (state, 2) ? 4 : 57));
    break;
  default:
    put (f, at, get (f, choose_entry (f, state)));
  }
}

/* As the exit status of qemu-img check. */
static int
verdict (const struct image_file *f)
{
  CLEANUP_SOURCE struct source *src =
    source_memory_copy ("damaged", f->bytes, f->len, f->len);
  struct report report;

  CHECK (src != NULL);
  check_image (src, false, getenv ("WRITE_VERBOSE") ? stderr : NULL,
               &report);
  if (!report.is_image)
    return 1;
  return report.nr_errors > 0 ? 2 : report.nr_leaks > 0 ? 3 : 0;
}

static unsigned counts[4];      /* of verdicts */

static void
compare (struct bed *bed, const struct image_file *f, unsigned number)
{
  struct bed other = *bed;
  int ours, status;

  other.src = source_memory_copy ("damaged", f->bytes, f->len, f->len);
  CHECK (other.src != NULL);
  bed_export (&other);
  source_put (other.src);
  status = bed_qemu_check ();
  ours = verdict (f);
  /* What it cannot read, it calls an error of its own. */
  if (status == ours || (status == 1 && ours == 2)) {
    counts[ours]++;
    return;
  }
  fprintf (stderr, "%s, damage %u: we say %d, qemu-img check %d:\n",
           bed->form->name, number, ours, status);
  bed_run ("head -20 said >&2");
  exit (EXIT_FAILURE);
}

static void
run (const struct form *form)
{
  struct bed bed;
  struct image_file f;
  uint64_t state = 7;

  bed_make (&bed, form);
  fprintf (stderr, "%s\n", form->name);
  f.len = source_len (bed.src);
  for (unsigned i = 0; i < NR_DAMAGES; ++i) {
    CLEANUP_FREE uint8_t *bytes = bed_bytes (bed.src);

    f.bytes = bytes;
    f.cluster_len = UINT64_C (1) << load_be32 (bytes + 20);
    /* First, as it is. */
    for (unsigned j = 0; j < i; j += 10)
      damage (&f, &state);
    compare (&bed, &f, i);
  }
  bed_free (&bed);
}

int
main (void)
{
  static const char *const forms[] = {
    "usual", "full", "version 2", "snapshot", "width 2", "width 8",
    "width 16", "width 32", "fixed, small clusters", "base",
    "qemu: snapshots", "qemu: compressed", "qemu: extended",
    "qemu: bitmaps", "qemu: base", "extended, base",
  };

  bed_use_work_directory ();
  if (!bed_has_qemu ())
    return 77;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; ++i)
    run (bed_form (forms[i]));
  fprintf (stderr, "sound %u, unreadable %u, corrupt %u, leaks %u\n",
           counts[0], counts[1], counts[2], counts[3]);
  /* All verdicts were put to the test. */
  CHECK (counts[0] > 10 && counts[2] > 50 && counts[3] > 10);
  return EXIT_SUCCESS;
}
