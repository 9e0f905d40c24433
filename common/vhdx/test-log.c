/* Test the log: which entries count, what they change, and what is refused.
 * The file is read-only all the time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "vhdx/log.h"
#include "vhdx/test-image.h"

#define PAGE ((uint64_t) TEST_VHDX_PAGE)
#define RING_PAGES 256

/* Where the BAT lies, whose pages are changed here; it is full of OLD. */
#define TARGET (3 * TEST_MIB)
#define OLD 0xee
#define LOG_BYTE 0x77

static struct test_vhdx image;

/* A fresh image with a log in use that has no entry. */
static void
make_image (void)
{
  static const struct test_vhdx_spec spec = { .disk_len = 8 * TEST_MIB };

  test_vhdx_free (&image);
  test_vhdx_make (&image, &spec);
  CHECK (image.spec.bat_host == TARGET);
  test_vhdx_fill (&image, TARGET, 16 * PAGE, OLD);
  test_vhdx_use_log (&image, LOG_BYTE);
}

/* 0 or errno. */
static int
open_view (enum vhdx_log_mode mode, struct source **view)
{
  struct vhdx_header h;
  int r;

  test_messages_forget ();
  source_memory_set_readonly (image.src, true);
  CHECK (vhdx_header_read (image.src, "image", &h) == 0);
  errno = 0;
  r = vhdx_log_open (image.src, "image", &h, mode, view);
  source_memory_set_readonly (image.src, false);
  if (r == 0)
    return 0;
  CHECK (errno != 0 && *view == NULL && test_messages.nr_errors == 1);
  return errno;
}

/* The view, in both modes the same. */
static struct source *
get_view (void)
{
  struct source *view, *strict;

  CHECK (open_view (VHDX_LOG_STRICT, &strict) == 0);
  CHECK (open_view (VHDX_LOG_LENIENT, &view) == 0);
  CHECK (view != NULL && strict != NULL);
  CHECK (test_messages.nr_warnings == 0);
  source_put (strict);
  return view;
}

static void
check_refused (enum vhdx_log_mode mode, int err, const char *message)
{
  struct source *view;

  CHECK (open_view (mode, &view) == err);
  CHECK (strstr (test_messages.error, message) != NULL);
}

static void
check_lost (void)
{
  check_refused (VHDX_LOG_STRICT, EINVAL, "no valid sequence");
  check_refused (VHDX_LOG_LENIENT, EINVAL, "no valid sequence");
}

/* Strict refuses, lenient takes it as empty and says so. */
static void
check_taken_as_empty (void)
{
  struct source *view;

  check_refused (VHDX_LOG_STRICT, EINVAL, "no valid sequence");
  CHECK (strstr (test_messages.error, "log=lenient") != NULL);
  CHECK (open_view (VHDX_LOG_LENIENT, &view) == 0);
  CHECK (view == NULL && test_messages.nr_warnings == 1);
  CHECK (test_messages.nr_errors == 0);
}

static void
check_page (struct source *view, uint64_t host, uint8_t byte)
{
  uint8_t page[TEST_VHDX_PAGE];

  CHECK (source_pread (view, page, sizeof page, host) == 0);
  for (size_t i = 0; i < sizeof page; ++i)
    CHECK (page[i] == byte);
}

/* The first pages of the target, a byte for each. */
static void
check_target_len (const char *bytes, size_t nr)
{
  struct source *view = get_view ();

  for (size_t i = 0; i < nr; ++i)
    check_page (view, TARGET + i * PAGE, (uint8_t) bytes[i]);
  source_put (view);
}
#define check_target(bytes) check_target_len (bytes, sizeof bytes - 1)

/* An entry that sets page 'i' of the target; where the next one goes. */
static uint64_t
put_simple (uint64_t at, uint64_t sequence, uint64_t tail, unsigned i,
            uint8_t byte)
{
  struct test_log e;

  test_log_begin (&e, &image, sequence, tail);
  test_log_data (&e, TARGET + i * PAGE, byte);
  return test_log_put (&e, &image, at);
}

/* ---- what the format's description has as examples */

static void
make_example (struct test_log *e, uint64_t sequence)
{
  test_log_begin (e, &image, sequence, 0);
  for (unsigned i = 0; i < 16; ++i)
    e->guid[i] = 0x20 + i;
  e->flushed_len = e->last_len = 4 * TEST_MIB;
}

static void
test_examples (void)
{
  uint8_t page[TEST_VHDX_PAGE], bytes[TEST_VHDX_PAGE], *entry;
  struct source *view;
  struct test_log e;
  size_t len;

  make_image ();
  make_example (&e, 1);
  entry = test_log_bytes (&e, &len);
  CHECK (len == 4096 && load_be32 (entry + 4) == 0x332d17c2);
  free (entry);
  test_log_free (&e);

  make_example (&e, 2);
  e.last_len = 5 * TEST_MIB;
  for (unsigned i = 0; i < sizeof page; ++i)
    page[i] = i;
  test_log_page (&e, TARGET, page);
  test_log_zero (&e, TARGET + PAGE, 2 * PAGE);
  entry = test_log_bytes (&e, &len);
  CHECK (len == 8192 && load_be32 (entry + 4) == 0x785fbd99);
  CHECK (load_be64 (entry + 64) == UINT64_C (0x64657363fcfdfeff));
  free (entry);

  for (unsigned i = 0; i < 2; ++i) {
    test_vhdx_put (&image, e.guid, 16, test_vhdx_header_host (i) + 48);
    test_vhdx_seal_header (&image, i);
  }
  test_log_put (&e, &image, 0);
  view = get_view ();
  CHECK (source_len (view) == 5 * TEST_MIB);
  CHECK (source_pread (view, bytes, sizeof bytes, TARGET) == 0);
  CHECK (memcmp (bytes, page, sizeof page) == 0);
  check_page (view, TARGET + PAGE, 0);
  check_page (view, TARGET + 2 * PAGE, 0);
  check_page (view, TARGET + 3 * PAGE, OLD);
  source_put (view);
}

/* ---- which entries count */

static void
test_unused (void)
{
  struct source *view;

  make_image ();
  put_simple (0, 1, 0, 0, 'a');
  test_vhdx_use_log (&image, 0);
  CHECK (open_view (VHDX_LOG_STRICT, &view) == 0);
  CHECK (view == NULL && test_messages.nr_warnings == 0);
}

/* One entry anywhere, also around the end. */
static void
test_positions (void)
{
  for (uint64_t i = 0; i < RING_PAGES; i += i == 4 ? RING_PAGES - 8 : 1) {
    struct test_log e;

    make_image ();
    test_log_begin (&e, &image, 1000 + i, i * PAGE);
    for (unsigned k = 0; k < 130; ++k)
      test_log_zero (&e, TARGET, PAGE);
    test_log_data (&e, TARGET, 'a');
    test_log_data (&e, TARGET + PAGE, 'b');
    CHECK (test_log_put (&e, &image, i * PAGE) ==
           (i + 4) % RING_PAGES * PAGE);
    check_target ("ab\xee");
  }
}

static void
test_order (void)
{
  uint64_t at;

  make_image ();
  at = put_simple (0, 1, 0, 0, 'a');
  at = put_simple (at, 2, 0, 1, 'b');
  put_simple (at, 3, 0, 0, 'c');
  check_target ("cb\xee");
}

/* The run begins near the end of the ring; its later part is met first.
 * It may fill the ring to the last sector.
 */
static void
test_wrapped (void)
{
  for (unsigned nr = 1; nr <= RING_PAGES / 2; nr += nr < 10 ? 1 : 59) {
    const uint64_t start = (RING_PAGES - 5) * PAGE;
    uint64_t at = start;

    make_image ();
    for (unsigned i = 0; i < nr; ++i)
      at = put_simple (at, UINT64_C (0xfffffffe) + i, start, i % 16, 'a' + i);
    if (nr == 1)
      check_target ("a\xee");
    if (nr == 9)
      check_target ("abcdefghi\xee");
    if (nr == 128)
      CHECK (at == start);
    source_put (get_view ());
  }
}

/* What lies behind the last entry does not count, however old it is. */
static void
test_stale (void)
{
  struct test_log e;
  uint64_t at;

  make_image ();                /* an earlier lap */
  at = put_simple (0, 100, 0, 0, 'a');
  put_simple (at, 37, at, 1, 'x');
  check_target ("a\xee");

  make_image ();                /* the same number again */
  at = put_simple (0, 100, 0, 0, 'a');
  put_simple (at, 100, 0, 1, 'x');
  check_target ("a\xee");

  make_image ();                /* another log */
  at = put_simple (0, 100, 0, 0, 'a');
  test_log_begin (&e, &image, 101, 0);
  memset (e.guid, 0x55, sizeof e.guid);
  test_log_data (&e, TARGET + PAGE, 'x');
  test_log_put (&e, &image, at);
  check_target ("a\xee");

  make_image ();                /* one is missing; the tail says so */
  at = put_simple (0, 100, 0, 0, 'a');
  put_simple (at, 102, 0, 1, 'x');
  check_target ("a\xee");

  make_image ();                /* before the run, older and of its own */
  put_simple (0, 5, 0, 1, 'x');
  put_simple (40 * PAGE, 100, 40 * PAGE, 0, 'a');
  check_target ("a\xee");

  make_image ();                /* behind it */
  put_simple (0, 100, 0, 0, 'a');
  put_simple (40 * PAGE, 5, 40 * PAGE, 1, 'x');
  check_target ("a\xee");
}

static void
test_tail (void)
{
  uint64_t second, third, at;

  make_image ();                /* entries before the tail do not count */
  second = put_simple (0, 1, 0, 0, 'a');
  third = put_simple (second, 2, 0, 1, 'b');
  at = put_simple (third, 3, second, 2, 'c');
  check_target ("\xee" "bc\xee");
  put_simple (at, 4, at, 3, 'd');
  check_target ("\xee\xee\xee" "d\xee");

  make_image ();                /* outside the run */
  put_simple (0, 1, 20 * PAGE, 0, 'a');
  check_lost ();

  make_image ();                /* in the ring, but no entry's beginning */
  at = put_simple (0, 1, 0, 0, 'a');
  put_simple (at, 2, PAGE, 1, 'b');
  check_lost ();

  make_image ();                /* a better run that is no good */
  put_simple (0, 1, 0, 0, 'a');
  put_simple (20 * PAGE, 50, 30 * PAGE, 1, 'x');
  check_target ("a\xee");
}

/* ---- what entries change */

static void
test_numbers (void)
{
  static const unsigned numbers[] = { 0, 1, 126, 127, 200, 254, 255, 500 };

  for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; ++k) {
    const unsigned nr = numbers[k];
    uint8_t expected[200] = { 0 };
    struct source *view;
    struct test_log e;
    uint64_t at;

    make_image ();
    at = put_simple (0, 1, 0, 0, 'a');
    test_log_begin (&e, &image, 2, 0);
    for (unsigned i = 0; i < nr; ++i) {
      expected[i % 200] = i % 3 == 2 && e.nr_data < 120 ? i : 0;
      if (i % 3 == 2 && e.nr_data < 120)
        test_log_data (&e, TARGET + (16 + i % 200) * PAGE, i);
      else
        test_log_zero (&e, TARGET + (16 + i % 200) * PAGE, PAGE);
    }
    at = test_log_put (&e, &image, at);
    put_simple (at, 3, 0, 1, 'b');
    check_target ("ab\xee");
    view = get_view ();
    for (unsigned i = 0; i < 200; ++i)
      check_page (view, TARGET + (16 + i) * PAGE, expected[i]);
    source_put (view);
  }
}

static void
test_overlaps (void)
{
  struct test_log e;

  make_image ();                /* zeroes over pages, pages over zeroes */
  test_log_begin (&e, &image, 1, 0);
  test_log_data (&e, TARGET, 'a');
  test_log_data (&e, TARGET + 2 * PAGE, 'b');
  test_log_data (&e, TARGET + 4 * PAGE, 'c');
  test_log_zero (&e, TARGET + PAGE, 4 * PAGE);
  test_log_data (&e, TARGET + 3 * PAGE, 'd');
  test_log_zero (&e, TARGET + 6 * PAGE, PAGE);
  test_log_data (&e, TARGET + 6 * PAGE, 'e');
  test_log_zero (&e, TARGET + 7 * PAGE, 3 * PAGE);
  test_log_zero (&e, TARGET + 8 * PAGE, PAGE);
  test_log_put (&e, &image, 0);
  check_target_len ("a\0\0d\0\xee" "e\0\0\0\xee", 11);
}

/* In the order of entries, across them, and around the ring. */
static void
test_overlaps_across (void)
{
  const uint64_t start = (RING_PAGES - 2) * PAGE;
  struct test_log e;
  uint64_t at;

  make_image ();
  test_log_begin (&e, &image, 9, start);
  test_log_zero (&e, TARGET, 8 * PAGE);
  at = test_log_put (&e, &image, start);
  at = put_simple (at, 10, start, 2, 'x');
  at = put_simple (at, 11, start, 5, 'y');
  test_log_begin (&e, &image, 12, start);
  test_log_zero (&e, TARGET + 2 * PAGE, PAGE);
  test_log_put (&e, &image, at);
  check_target_len ("\0\0\0\0\0y\0\0\xee", 9);
}

static void
test_lengths (void)
{
  struct source *view;
  struct test_log e;
  uint64_t at;

  make_image ();
  at = source_len (image.src);
  test_log_begin (&e, &image, 1, 0);
  e.last_len = at + 3 * TEST_MIB + 1000;        /* as QEMU, any number */
  test_log_data (&e, at + 2 * TEST_MIB, 'n');
  test_log_put (&e, &image, 0);
  view = get_view ();
  CHECK (source_len (view) == at + 3 * TEST_MIB + 1000);
  CHECK (source_len (image.src) == at);
  check_page (view, at, 0);
  check_page (view, at + 2 * TEST_MIB, 'n');
  CHECK (source_extent (view, at, TEST_MIB).hole);
  CHECK (!source_extent (view, at + 2 * TEST_MIB, PAGE).hole);
  source_put (view);

  make_image ();                /* a file that has been cut short */
  test_log_begin (&e, &image, 1, 0);
  e.flushed_len++;
  test_log_put (&e, &image, 0);
  check_refused (VHDX_LOG_LENIENT, EINVAL, "cut short");
  check_refused (VHDX_LOG_STRICT, EINVAL, "cut short");

  make_image ();                /* only the last entry knows */
  test_log_begin (&e, &image, 1, 0);
  e.flushed_len += TEST_MIB;
  at = test_log_put (&e, &image, 0);
  put_simple (at, 2, 0, 0, 'a');
  check_target ("a\xee");
}

/* ---- torn entries */

enum tear { TEAR_MISSING, TEAR_STALE, TEAR_BIT_FIRST, TEAR_BIT_LAST };

/* Sector 'i' of what lies at 'at' did not reach the disk as it should. */
static void
tear (uint64_t at, unsigned i, enum tear how)
{
  const uint64_t host = image.spec.log_host +
    (at + i * PAGE) % image.spec.log_len;

  switch (how) {
  case TEAR_MISSING:
    test_vhdx_fill (&image, host, PAGE, 0);
    break;
  case TEAR_STALE:
    test_vhdx_fill (&image, host, PAGE, 0x5a);
    break;
  case TEAR_BIT_FIRST:
    test_vhdx_poke (&image, host, 1, test_vhdx_peek (&image, host, 1) ^ 1);
    break;
  case TEAR_BIT_LAST:
    test_vhdx_poke (&image, host + PAGE - 9, 1,
                    test_vhdx_peek (&image, host + PAGE - 9, 1) ^ 0x80);
    break;
  }
}

/* A long entry, at 'at', of two sectors of descriptors and three of data. */
static uint64_t
put_long (uint64_t at, uint64_t sequence, uint64_t tail)
{
  struct test_log e;

  test_log_begin (&e, &image, sequence, tail);
  for (unsigned i = 0; i < 150; ++i)
    test_log_zero (&e, TARGET + i * PAGE, PAGE);
  for (unsigned i = 0; i < 3; ++i)
    test_log_data (&e, TARGET + (i + 1) * PAGE, 'x');
  return test_log_put (&e, &image, at);
}

static void
test_torn (void)
{
  for (unsigned i = 0; i < 5; ++i)
    for (enum tear how = TEAR_MISSING; how <= TEAR_BIT_LAST; ++how) {
      const uint64_t start = (RING_PAGES - 4) * PAGE;
      uint64_t at;

      make_image ();            /* the last one of several */
      at = put_simple (start, 1, start, 0, 'a');
      put_long (at, 2, start);
      check_target_len ("\0xxx\0\0\0", 7);
      tear (at, i, how);
      check_target ("a\xee");

      make_image ();            /* the only one */
      put_long (start, 1, start);
      tear (start, i, how);
      check_taken_as_empty ();

      make_image ();            /* one in the middle: the tail is lost */
      at = put_simple (start, 1, start, 0, 'a');
      put_simple (put_long (at, 2, start), 3, start, 1, 'b');
      tear (at, i, how);
      check_target ("a\xee");
    }
}

/* ---- no entry at all */

static void
test_without_entries (void)
{
  struct test_log e;
  uint64_t at;

  make_image ();
  check_taken_as_empty ();
  test_log_begin (&e, &image, 1, 0);    /* of another log */
  memset (e.guid, 0x55, sizeof e.guid);
  test_log_data (&e, TARGET, 'x');
  test_log_put (&e, &image, 0);
  check_taken_as_empty ();
  put_long (10 * PAGE, 4, 10 * PAGE);   /* and a first one, torn */
  tear (10 * PAGE, 3, TEAR_MISSING);
  check_taken_as_empty ();
  put_long (30 * PAGE, 5, 30 * PAGE);   /* and a second one */
  tear (30 * PAGE, 3, TEAR_MISSING);
  check_lost ();

  make_image ();                /* torn, and not the first one */
  put_long (10 * PAGE, 4, 0);
  tear (10 * PAGE, 3, TEAR_MISSING);
  check_lost ();

  make_image ();                /* at the end of the ring */
  at = (RING_PAGES - 1) * PAGE;
  put_long (at, 4, at);
  tear (at, 4, TEAR_STALE);
  check_taken_as_empty ();
}

/* ---- entries with a good checksum and a bad intention */

struct lie {
  unsigned at, width;           /* in the entry's bytes */
  uint64_t value;
};

/* An entry of one sector of descriptors: data, then zeroes. */
static size_t
put_liar (uint64_t at, uint64_t sequence, uint64_t tail,
          const struct lie *lie, bool is_sealed)
{
  struct test_log e;
  uint8_t bytes[8];
  size_t len = 2 * PAGE;

  test_log_begin (&e, &image, sequence, tail);
  test_log_data (&e, TARGET + 5 * PAGE, 'x');
  test_log_zero (&e, TARGET + 6 * PAGE, PAGE);
  test_log_put (&e, &image, at);
  store_le64 (bytes, lie->value);
  test_log_put_bytes (&image, at + lie->at, bytes, lie->width);
  if (is_sealed)
    test_log_seal (&image, at, len);
  return len;
}

static const struct lie lies[] = {
  { 0, 4, 0x65676f6d },                 /* no entry at all */
  { 8, 4, 0 }, { 8, 4, 4096 }, { 8, 4, 8191 }, { 8, 4, 12288 },
  { 8, 4, 0x80000000 }, { 8, 4, 0xfffff000 }, { 8, 4, 2 * TEST_MIB },
  { 12, 4, 100 }, { 12, 4, TEST_MIB }, { 12, 4, 0xfffff000 },
  { 16, 8, 0 }, { 16, 8, UINT64_C (0x100000002) },
  { 24, 4, 0 }, { 24, 4, 3 }, { 24, 4, 127 },
  { 24, 4, UINT32_MAX }, { 24, 4, 0x08000002 },
  { 56, 8, UINT64_MAX }, { 56, 8, (UINT64_C (1) << 48) + 1 },
  { 64, 4, 0x12345678 }, { 96, 4, 0x12345678 },
  { 64, 4, 0x6f72657a },                /* zeroes of a silly length */
  { 88, 8, 1 }, { 120, 8, 3 },          /* sequence numbers */
  /* Targets: identifier, headers, the log, unaligned, far away. */
  { 80, 8, 0 }, { 80, 8, 65536 }, { 80, 8, 131072 }, { 80, 8, 192512 - 4096 },
  { 80, 8, TEST_MIB }, { 80, 8, 2 * TEST_MIB - 4096 },
  { 80, 8, TARGET + 512 }, { 80, 8, UINT64_MAX - 4095 },
  { 80, 8, UINT64_C (1) << 63 }, { 80, 8, UINT64_C (1) << 40 },
  { 80, 8, 4 * TEST_MIB },
  { 112, 8, 0 }, { 112, 8, 131072 }, { 112, 8, TEST_MIB - 4096 + 1 },
  { 112, 8, TEST_MIB }, { 112, 8, UINT64_MAX - 4095 },
  { 112, 8, 4 * TEST_MIB },
  /* Lengths. */
  { 104, 8, 0 }, { 104, 8, 1 }, { 104, 8, 4097 },
  { 104, 8, UINT64_C (1) << 50 }, { 104, 8, UINT64_MAX - 4095 },
  { 104, 8, TEST_MIB },
  { 4096, 4, 0x61746165 }, { 4100, 4, 1 }, { 8188, 4, 3 },
};

static void
test_lies (void)
{
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; ++i) {
    uint64_t at;

    make_image ();              /* behind a good one */
    at = put_simple (0, 1, 0, 0, 'a');
    put_liar (at, 2, 0, &lies[i], true);
    check_target ("a\xee\xee\xee\xee\xee\xee\xee");

    make_image ();              /* alone: nobody tore that */
    put_liar (0, 2, 0, &lies[i], true);
    check_refused (VHDX_LOG_STRICT, EINVAL, "no valid sequence");
    if (lies[i].at == 0 || lies[i].at == 8)
      continue;                 /* the checksum means nothing then */
    check_refused (VHDX_LOG_LENIENT, EINVAL, "no valid sequence");

    make_image ();              /* the same with a bad checksum */
    put_liar (0, 2, 0, &lies[i], false);
    check_refused (VHDX_LOG_STRICT, EINVAL, "no valid sequence");
    if (lies[i].at != 12)
      check_taken_as_empty ();
  }
}

/* Zeroes that run from a good place into the log, or just beside it. */
static void
test_beside_log (void)
{
  static const struct { uint64_t host, len; bool is_good; } ranges[] = {
    { 192 * 1024, TEST_MIB - 192 * 1024, true },
    { 192 * 1024, TEST_MIB - 192 * 1024 + 4096, false },
    { 2 * TEST_MIB, TEST_MIB, true },
    { 2 * TEST_MIB - 4096, 8192, false },
    { 192 * 1024, 4 * TEST_MIB - 192 * 1024, false },
    { 2 * TEST_MIB, 2 * TEST_MIB, true },
    { 2 * TEST_MIB, 2 * TEST_MIB + 4096, false },
  };

  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; ++i) {
    struct test_log e;

    make_image ();
    test_log_begin (&e, &image, 1, 0);
    test_log_zero (&e, ranges[i].host, ranges[i].len);
    test_log_put (&e, &image, 0);
    if (ranges[i].is_good)
      source_put (get_view ());
    else
      check_lost ();
  }
}

int
main (void)
{
  test_examples ();
  test_unused ();
  test_positions ();
  test_order ();
  test_wrapped ();
  test_stale ();
  test_tail ();
  test_numbers ();
  test_overlaps ();
  test_overlaps_across ();
  test_lengths ();
  test_torn ();
  test_without_entries ();
  test_lies ();
  test_beside_log ();
  test_vhdx_free (&image);
  return EXIT_SUCCESS;
}
