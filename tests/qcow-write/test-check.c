/* The judge and the reader of the crash tests agree with what was built,
 * and with qemu-img; and each fault, planted, turns the judge red.
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
#include "build.h"
#include "check.h"

#define PACKED (UINT64_C (1) << 63)

/* Everything in one: clusters of 4 KiB, tables of 64 entries, five of them
 * used, and a sixth L1 entry that is not.
 */
static const struct form subject = {
  .name = "subject",
  .shape = SHAPE (12, 6, SHAPE_PLAIN | SHAPE_PACKED | SHAPE_JUNK
                  | SHAPE_XEN | SHAPE_BACKING, 7 * 64 * 4 * KIB),
  .backing_len = MIB,
};

/* ---- sound images */

static struct source *
make_base (const struct form *form)
{
  struct source *base = source_memory ("base", form->backing_len,
                                       form->backing_len);

  CHECK (base != NULL);
  for (uint64_t i = 0; i < form->backing_len; ++i) {
    const uint8_t byte = bed_base_byte (form, i);

    CHECK (source_pwrite (base, &byte, 1, i) == 0);
  }
  return base;
}

static void
check_sound (const struct form *form)
{
  CLEANUP_SOURCE struct source *src = build_image (form->shape);
  CLEANUP_SOURCE struct source *base = NULL;
  CLEANUP_FREE uint8_t *expected = malloc (form->shape->len);
  struct bed bed = { .form = form, .len = form->shape->len, .src = src };
  struct report report;

  fprintf (stderr, "%s\n", form->name);
  CHECK (expected != NULL);
  if (form->backing_len)
    bed.base = base = make_base (form);
  check_image (src, src, stderr, &report);
  CHECK (report.is_image && report.nr_errors == 0);
  CHECK (report.nr_leaks >= 3 || !(form->shape->features & SHAPE_JUNK));
  CHECK (check_kept (src, src, stderr));
  build_expect (form, expected);
  CHECK (bed_reads_as (&bed, true, expected, stderr));
}

/* ---- faults, planted one by one */

struct subject {
  struct source *src;           /* the image; 'then' is the same, sound */
  struct source *then;
  uint64_t l1;
};

static uint64_t
get (const struct subject *s, uint64_t host)
{
  uint8_t bytes[8];

  CHECK (source_pread (s->src, bytes, sizeof bytes, host) == 0);
  return load_be64 (bytes);
}

static void
put (const struct subject *s, uint64_t host, uint64_t value)
{
  uint8_t bytes[8];

  store_be64 (bytes, value);
  CHECK (source_pwrite (s->src, bytes, sizeof bytes, host) == 0);
}

/* Where the entry for the disk's cluster 'i' lies. */
static uint64_t
at (const struct subject *s, uint64_t i)
{
  return get (s, s->l1 + i / 64 * 8) + i % 64 * 8;
}

/* By what content in build.c makes of the numbers: */
#define PLAIN 8
#define OTHER_PLAIN 14
#define NOTHING 10
#define STREAM 11
#define SHARED 12
#define SPARE_L1 6

#define OFFSET_BITS ((UINT64_C (1) << 51) - 1)
#define STREAM_LEN(n) (UINT64_C (n) << 51)

/* Each replaces one number: where, and by what; the judge is to say so,
 * when it knows what the image was at first or, if is_alone, when it does
 * not.
 */
struct fault {
  const char *name, *words;
  uint64_t host, value;
  bool is_alone;
};

static void
check_fault (const struct subject *s, const struct fault *fault)
{
  const uint64_t old = get (s, fault->host);
  struct report report;
  char *said = NULL;
  size_t len;
  FILE *fp = open_memstream (&said, &len);

  CHECK (fp != NULL);
  put (s, fault->host, fault->value);
  check_image (s->src, fault->is_alone ? NULL : s->then, fp, &report);
  CHECK (fclose (fp) == 0);
  if (!report.is_image || report.nr_errors == 0 ||
      strstr (said, fault->words) == NULL) {
    fprintf (stderr, "%s is not noticed: %" PRIu64 " errors\n%s",
             fault->name, report.nr_errors, said);
    exit (EXIT_FAILURE);
  }
  free (said);
  put (s, fault->host, old);
  check_image (s->src, s->then, stderr, &report);
  CHECK (report.nr_errors == 0);
}

static void
check_faults (const struct subject *s)
{
  const uint64_t plain = get (s, at (s, PLAIN));
  const uint64_t stream = get (s, at (s, STREAM));
  const uint64_t shared = get (s, at (s, SHARED));
  const uint64_t table = get (s, s->l1 + 8);
  const uint64_t spare = s->l1 + SPARE_L1 * 8;
  const uint64_t eof = source_len (s->src);
  const struct fault faults[] = {
    { "a cluster used twice", "meets a cluster",
      at (s, OTHER_PLAIN), plain },
    { "a cluster used in two spans", "meets a cluster",
      at (s, 64 + NOTHING), plain },
    { "a cluster on a table", "meets an L2 table", at (s, NOTHING), table },
    { "a cluster on the L1 table", "meets the L1 table",
      at (s, NOTHING), s->l1 },
    { "a stream on the rest of the L1 table's page", "meets the L1 table",
      at (s, STREAM), PACKED | STREAM_LEN (9) | (s->l1 + 4000) },
    { "a cluster on a stream", "meets a cluster",
      at (s, NOTHING), stream & OFFSET_BITS & ~UINT64_C (4095) },
    { "a cluster out of line", "out of line", at (s, PLAIN), plain + 512 },
    { "a cluster off its sector", "out of line", at (s, PLAIN), plain + 8 },
    { "a cluster at the end", "not in the file",
      at (s, NOTHING), round_up (eof, 4096) },
    { "a cluster that is cut short", "not in the file",
      at (s, NOTHING), round_down (eof, 4096) },
    { "a cluster far away", "not in the file",
      at (s, NOTHING), UINT64_C (1) << 50 },
    { "a cluster nowhere", "lies nowhere",
      at (s, NOTHING), UINT64_C (1) << 62 },

    { "a stream without bytes", "has no bytes",
      at (s, STREAM), PACKED | (stream & OFFSET_BITS) },
    { "a stream that ends early", "does not decode",
      at (s, STREAM), stream - STREAM_LEN (2) },
    { "a stream that begins elsewhere", "does not decode",
      at (s, STREAM), stream + 1 },
    { "a stream behind the end", "not in the file",
      at (s, STREAM), PACKED | STREAM_LEN (9) | eof },
    { "a stream on its neighbour", "meets a stream",
      at (s, SHARED), shared + STREAM_LEN (4000) },
    { "a stream on the header", "meets the header",
      at (s, STREAM), PACKED | STREAM_LEN (40) },
    { "a stream on the name", "meets the name",
      at (s, STREAM), PACKED | STREAM_LEN (4) | 64 },
    { "a stream that is broken", "does not decode",
      stream & OFFSET_BITS, 0 },

    { "an entry behind the disk's end", "behind the disk's end",
      24, (4 * 64 + 52) * 4096, true },
    { "a table used twice", "meets an L2 table", s->l1, table },
    { "a table for the spare span, too", "meets an L2 table", spare, table },
    { "a table on the L1 table", "meets the L1 table", spare, s->l1 },
    { "a table on data", "meets an L2 table", spare, plain },
    { "a table out of line", "out of line", s->l1 + 8, table + 512 },
    { "a table at the end", "not in the file", spare, round_up (eof, 4096) },
    { "a table in the wrong order", "not in the file",
      s->l1 + 8, __builtin_bswap64 (table) },
    { "an L1 table out of line", "L1 table is out of line", 40, s->l1 + 4 },
  };

  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; ++i)
    check_fault (s, &faults[i]);
}

static void
begin (struct subject *s, const struct form *form)
{
  s->src = build_image (form->shape);
  s->then = build_image (form->shape);
  s->l1 = get (s, 40);
}

static void
end (struct subject *s)
{
  source_put (s->src);
  source_put (s->then);
}

static void
test_faults (void)
{
  struct report report;
  struct subject s;

  begin (&s, &subject);
  CHECK (get (&s, s.l1 + SPARE_L1 * 8) == 0);
  CHECK (get (&s, at (&s, NOTHING)) == 0);
  CHECK (get (&s, at (&s, STREAM)) & PACKED);
  check_faults (&s);
  put (&s, 32, get (&s, 32) | UINT64_C (0xff) << 56);
  check_image (s.src, s.then, stderr, &report);
  CHECK (!report.is_image);
  end (&s);
}

/* Leaks are what nothing refers to. */
static void
test_leaks (void)
{
  struct report before, after;
  struct subject s;

  begin (&s, &subject);
  check_image (s.src, s.then, stderr, &before);
  put (&s, at (&s, PLAIN), 0);
  put (&s, at (&s, OTHER_PLAIN), 0);
  check_image (s.src, s.then, stderr, &after);
  CHECK (after.nr_errors == 0 && after.nr_leaks == before.nr_leaks + 2);
  /* Other entries name it, too. */
  put (&s, at (&s, SHARED), 0);
  check_image (s.src, s.then, stderr, &before);
  CHECK (before.nr_errors == 0 && before.nr_leaks == after.nr_leaks);
  end (&s);
}

/* ---- what must be kept */

static void
poke (const struct subject *s, uint64_t host, uint8_t byte)
{
  CHECK (source_pwrite (s->src, &byte, 1, host) == 0);
}

/* A byte that changes, and nothing else. */
static void
check_lost (const struct form *form, uint64_t host)
{
  struct subject s;

  begin (&s, form);
  CHECK (check_kept (s.src, s.then, stderr));
  poke (&s, host, get (&s, host) >> 56 ^ 0x55);
  if (check_kept (s.src, s.then, NULL)) {
    fprintf (stderr, "%s: byte %" PRIu64 " is lost, and nobody says so\n",
             form->name, host);
    exit (EXIT_FAILURE);
  }
  end (&s);
}

static void
test_kept (void)
{
  static const uint64_t hosts[] = {
    0, 8, 20, 30, 32, 34, 39, 47, 48, 52, 55, 56, 59, 60, 63, 64, 67, 100,
    4095,
  };
  const struct form *xen = bed_form ("xen");
  struct subject s;

  for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; ++i) {
    check_lost (&subject, hosts[i]);
    check_lost (xen, hosts[i]);
  }
  /* Nothing may change while min_cluster_alloc is not 1... */
  check_lost (xen, 4096 + 8 + 7);
  check_lost (xen, 4096 + 4096 + 6);
  check_lost (xen, 5 * 4096 + 1);

  /* ...anything but the header then. */
  begin (&s, xen);
  poke (&s, 58, 0);
  poke (&s, 59, 1);
  CHECK (check_kept (s.src, s.then, stderr));
  poke (&s, 4096 + 8 + 7, 1);
  poke (&s, 5 * 4096 + 1, 1);
  CHECK (check_kept (s.src, s.then, stderr));
  poke (&s, 20, 1);
  CHECK (!check_kept (s.src, s.then, NULL));
  end (&s);
}

int
main (void)
{
  bed_use_work_directory ();
  check_sound (&subject);
  for (size_t i = 0; i < bed_nr_forms; ++i)
    if (bed_forms[i].shape)
      check_sound (&bed_forms[i]);
  test_faults ();
  test_leaks ();
  test_kept ();
  return EXIT_SUCCESS;
}
