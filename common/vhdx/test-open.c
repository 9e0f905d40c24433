/* Test opening: which header, region table and metadata count, and what is
 * refused, with which words.  Every read and every allocation fails once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "image/image.h"
#include "include/testing.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"
#include "vhdx/state.h"
#include "vhdx/test-image.h"
#include "vhdx/vhdx.h"

#define CACHE_LIMIT 65536

/* Where things are in the images below. */
#define LOG_HOST TEST_MIB
#define METADATA_HOST (2 * TEST_MIB)
#define BAT_HOST (3 * TEST_MIB)
#define FIRST_BLOCK (4 * TEST_MIB)
#define FILE_LEN (7 * TEST_MIB)

/* ---- allocations that fail */

#if defined __has_feature
#if __has_feature (address_sanitizer) || __has_feature (thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define IS_SANITIZED 1
#endif

/* The allocations until one fails; 0: none fails.  One thread only. */
static size_t allocations_left;
static bool has_failed;

#if !defined IS_SANITIZED && defined __GLIBC__
#define CAN_FAIL 1

extern void *__libc_malloc (size_t len);
extern void *__libc_calloc (size_t nr, size_t len);
extern void *__libc_memalign (size_t alignment, size_t len);

static bool
fails_now (void)
{
  if (allocations_left == 0 || --allocations_left > 0)
    return false;
  has_failed = true;
  errno = ENOMEM;
  return true;
}

void *
malloc (size_t len)
{
  return fails_now () ? NULL : __libc_malloc (len);
}

void *
calloc (size_t nr, size_t len)
{
  return fails_now () ? NULL : __libc_calloc (nr, len);
}

void *
aligned_alloc (size_t alignment, size_t len)
{
  return fails_now () ? NULL : __libc_memalign (alignment, len);
}
#else
#define CAN_FAIL 0
#endif

/* ---- what is opened */

static struct test_vhdx image;

static void
make (const struct test_vhdx_spec *spec)
{
  test_vhdx_free (&image);
  test_vhdx_make (&image, spec);
}

/* Blocks 0 and 1 are there, and one MiB more. */
static void
make_simple (bool has_parent)
{
  const struct test_vhdx_spec spec = {
    .disk_len = 8 * TEST_MIB, .has_parent = has_parent,
  };

  make (&spec);
  test_vhdx_add_block (&image, 0, 6);
  test_vhdx_add_block (&image, 1, 6);
  test_vhdx_add_room (&image, TEST_MIB);
  CHECK (source_len (image.src) == FILE_LEN);
  CHECK (image.spec.bat_host == BAT_HOST);
}

static struct image *
open_image (void)
{
  test_messages_forget ();
  errno = 0;
  return image_open (&vhdx_format, image.src, "image", CACHE_LIMIT);
}

static void
check_opens (void)
{
  struct image *img = open_image ();

  if (img == NULL)
    fprintf (stderr, "%s\n", test_messages.error);
  CHECK (img != NULL && test_messages.nr_errors == 0);
  CHECK (test_messages.nr_warnings == 0);
  image_close (img);
}

static void
check_refused (int err, const char *message)
{
  CHECK (open_image () == NULL && errno == err);
  CHECK (test_messages.nr_errors == 1);
  CHECK (strncmp (test_messages.error, "image: ", 7) == 0);
  if (strstr (test_messages.error, message) == NULL)
    fprintf (stderr, "%s, not: %s\n", test_messages.error, message);
  CHECK (strstr (test_messages.error, message) != NULL);
}

/* ---- headers */

/* Which one is current? */
static void
check_header (unsigned index)
{
  struct image *img = open_image ();

  CHECK (img != NULL && vhdx_state (img)->header.index == index);
  image_close (img);
}

static void
set_header (unsigned i, uint64_t sequence)
{
  test_vhdx_poke (&image, test_vhdx_header_host (i) + 8, 8, sequence);
  test_vhdx_seal_header (&image, i);
}

static void
break_header (unsigned i, unsigned at)
{
  const uint64_t host = test_vhdx_header_host (i) + at;

  test_vhdx_poke (&image, host, 1, test_vhdx_peek (&image, host, 1) ^ 0x10);
}

static void
test_headers (void)
{
  make_simple (false);
  check_header (1);
  set_header (0, UINT64_C (1) << 63);   /* unsigned */
  check_header (0);
  set_header (1, UINT64_MAX);
  check_header (1);
  break_header (1, 4095);               /* reserved, but summed up */
  check_header (0);
  break_header (0, 0);
  check_refused (EINVAL, "neither of the headers");
  break_header (1, 4095);
  check_header (1);
  set_header (0, UINT64_MAX);
  check_header (1);                     /* the other is still no "head" */
  break_header (0, 0);
  set_header (0, UINT64_MAX);
  check_header (0);                     /* equal in all bytes */
  break_header (0, 200);
  set_header (0, UINT64_MAX);
  check_refused (EINVAL, "none is current");

  /* The other one is no substitute for a current one that is wrong. */
  make_simple (false);
  test_vhdx_poke (&image, test_vhdx_header_host (1) + 66, 2, 2);
  test_vhdx_seal_header (&image, 1);
  check_refused (ENOTSUP, "version 2");
}

/* ---- numbers that are refused, or not */

enum where {
  FILE_, HEADERS, REGIONS, METADATA,
  ENTRY,                        /* of the item 'which' */
  ITEM,                         /* its content */
  BAT,                          /* entry number 'which' */
};

struct number {
  enum where where;
  unsigned which;
  uint64_t at;
  unsigned width;
  uint64_t value;
  int err;                      /* 0: it opens */
  const char *message;
};

static void
put_number (const struct number *n)
{
  switch (n->where) {
  case FILE_:
    test_vhdx_poke (&image, n->at, n->width, n->value);
    break;
  case HEADERS:
    test_vhdx_poke_headers (&image, n->at, n->width, n->value);
    break;
  case REGIONS:
    test_vhdx_poke_regions (&image, n->at, n->width, n->value);
    break;
  case METADATA:
    test_vhdx_poke (&image, METADATA_HOST + n->at, n->width, n->value);
    break;
  case ENTRY:
    test_vhdx_poke (&image, test_vhdx_item_entry (&image, n->which) + n->at,
                    n->width, n->value);
    break;
  case ITEM:
    test_vhdx_poke (&image, test_vhdx_item_host (&image, n->which) + n->at,
                    n->width, n->value);
    break;
  case BAT:
    test_vhdx_poke (&image, BAT_HOST + 8 * n->which, 8, n->value);
    break;
  }
}

/* Offsets in region table entries: the BAT is first. */
#define R_HOST(i) (32 + 32 * (i))
#define R_LEN(i) (40 + 32 * (i))

static const struct number numbers[] = {
  { FILE_, 0, 0, 1, 'V', EINVAL, "not a VHDX file" },
  { HEADERS, 0, 66, 2, 0, ENOTSUP, "version 0" },
  { HEADERS, 0, 64, 2, 1, 0, NULL },    /* no log: no matter */
  { HEADERS, 0, 72, 8, LOG_HOST + 4096, EINVAL, "units of 1 MiB" },
  { HEADERS, 0, 68, 4, 4096, EINVAL, "units of 1 MiB" },
  { HEADERS, 0, 72, 8, 0, EINVAL, "lies in the header section" },
  { HEADERS, 0, 72, 8, FILE_LEN, EINVAL, "log at byte 7340032" },
  { HEADERS, 0, 72, 8, UINT64_MAX - TEST_MIB + 1, EINVAL, "not within" },
  { HEADERS, 0, 68, 4, 0x40100000, EINVAL, "at most 1 GiB" },
  { HEADERS, 0, 68, 4, 0x40000000, EINVAL, "not within" },
  { HEADERS, 0, 72, 8, BAT_HOST, EINVAL, "overlaps the log" },
  { HEADERS, 0, 72, 8, FIRST_BLOCK, EINVAL, "points into the log" },
  { HEADERS, 0, 68, 4, 0, 0, NULL },
  { HEADERS, 0, 2000, 8, 77, 0, NULL },
  { REGIONS, 0, 8, 4, 2048, EINVAL, "2048 entries" },
  { REGIONS, 0, 8, 4, UINT32_MAX, EINVAL, "at most 2047" },
  { REGIONS, 0, 8, 4, 1, EINVAL, "no metadata region" },
  { REGIONS, 0, 8, 4, 0, EINVAL, "no BAT region" },
  { REGIONS, 0, 16, 1, 0, ENOTSUP, "is required" },
  { REGIONS, 0, R_HOST (0), 8, BAT_HOST + 4096, EINVAL, "in units" },
  { REGIONS, 0, R_HOST (0), 8, 0, EINVAL, "first 1 MiB" },
  { REGIONS, 0, R_LEN (0), 4, 0, EINVAL, "0 bytes long" },
  { REGIONS, 0, R_LEN (0), 4, 4096, EINVAL, "4096 bytes long" },
  { REGIONS, 0, R_LEN (0), 4, 0xfff00000, EINVAL, "not within the file" },
  { REGIONS, 0, R_HOST (0), 8, UINT64_MAX - TEST_MIB + 1, EINVAL,
    "not within the file" },
  { REGIONS, 0, R_HOST (0), 8, FILE_LEN, EINVAL, "not within the file" },
  { REGIONS, 0, R_HOST (1), 8, BAT_HOST, EINVAL, "overlap" },
  { REGIONS, 0, R_HOST (1), 8, LOG_HOST, EINVAL, "overlaps the log" },
  { REGIONS, 0, 44, 4, 0, 0, NULL },    /* not required, as QEMU's */
  { METADATA, 0, 0, 1, 'M', EINVAL, "does not begin with \"metadata\"" },
  { METADATA, 0, 10, 2, 2048, EINVAL, "metadata table has 2048" },
  { METADATA, 0, 10, 2, 4, EINVAL, "lack the virtual disk id" },
  { METADATA, 0, 10, 2, 0, EINVAL, "lack the file parameters" },
  { METADATA, 0, 10, 2, 6, EINVAL, "has no id" },
  { ENTRY, 1, 0, 1, 0, ENOTSUP, "is required, and not known" },
  { ENTRY, 1, 24, 4, 7, EINVAL, "the user's and required" },
  { ENTRY, 1, 24, 4, 3, EINVAL, "lack the virtual disk size" },
  { ENTRY, 1, 16, 4, 65535, EINVAL, "behind the table" },
  { ENTRY, 1, 16, 4, TEST_MIB - 7, EINVAL, "within the region" },
  { ENTRY, 1, 16, 4, UINT32_MAX, EINVAL, "byte 4294967295" },
  { ENTRY, 1, 20, 4, TEST_MIB + 1, EINVAL, "at most 1 MiB" },
  { ENTRY, 1, 20, 4, 0, EINVAL, "but no length" },
  { ENTRY, 1, 20, 4, 7, EINVAL, "it must have 8" },
  { ENTRY, 1, 20, 4, 9, EINVAL, "overlap" },
  { ENTRY, 1, 16, 4, 65536, EINVAL, "items at bytes" },
  { ENTRY, 4, 20, 4, 15, EINVAL, "disk id has 15 bytes" },
  { ITEM, 0, 0, 4, 0, EINVAL, "blocks of 0 bytes" },
  { ITEM, 0, 0, 4, TEST_MIB / 2, EINVAL, "blocks of 524288" },
  { ITEM, 0, 0, 4, 512 * TEST_MIB, EINVAL, "to 256 MiB" },
  { ITEM, 0, 0, 4, 3 * TEST_MIB, EINVAL, "power of two" },
  { ITEM, 0, 4, 4, 2, EINVAL, "lack the parent locator" },
  { ITEM, 0, 4, 4, 1, 0, NULL },
  { ITEM, 1, 0, 8, 0, EINVAL, "disk size is 0" },
  { ITEM, 1, 0, 8, 1000, EINVAL, "disk size is 1000" },
  { ITEM, 1, 0, 8, (UINT64_C (1) << 46) + 512, EINVAL, "at most 64 TiB" },
  { ITEM, 1, 0, 8, UINT64_C (1) << 46, EINVAL, "the BAT has" },
  { ITEM, 2, 0, 4, 1024, EINVAL, "logical sector size is 1024" },
  { ITEM, 2, 0, 4, 0, EINVAL, "logical sector size is 0" },
  { ITEM, 3, 0, 4, 513, EINVAL, "physical sector size is 513" },
  { BAT, 0, 0, 0, 0, 0, NULL },
  { BAT, 2, 0, 0, 1, 0, NULL },
  { BAT, 2, 0, 0, 3, 0, NULL },
  { BAT, 2, 0, 0, FIRST_BLOCK | 2, 0, NULL },   /* means nothing there */
  { BAT, 2, 0, 0, FIRST_BLOCK | 0, 0, NULL },
  { BAT, 2, 0, 0, (FILE_LEN - TEST_MIB) | 1, 0, NULL }, /* an anchor */
  { BAT, 2, 0, 0, FIRST_BLOCK | 1, EINVAL, "overlaps" },
  { BAT, 2, 0, 0, FIRST_BLOCK | 6, EINVAL, "overlaps" },
  { BAT, 2, 0, 0, FILE_LEN | 3, EINVAL, "beyond the end" },
  { BAT, 0, 0, 0, FILE_LEN | 6, EINVAL, "beyond the end" },
  { BAT, 0, 0, 0, (UINT64_MAX - TEST_MIB + 1) | 6, EINVAL, "beyond" },
  { BAT, 0, 0, 0, 6, EINVAL, "header section" },
  { BAT, 0, 0, 0, LOG_HOST | 6, EINVAL, "into the log" },
  { BAT, 0, 0, 0, METADATA_HOST | 6, EINVAL, "region of metadata" },
  { BAT, 0, 0, 0, BAT_HOST | 6, EINVAL, "region of metadata" },
  { BAT, 7, 0, 0, FIRST_BLOCK | 4, EINVAL, "state that is not known" },
  { BAT, 7, 0, 0, 5, EINVAL, "state that is not known" },
  { BAT, 0, 0, 0, FIRST_BLOCK | 7, EINVAL, "has no parent" },
  { BAT, 0, 0, 0, FIRST_BLOCK | 8 | 6, EINVAL, "must be zero" },
  { BAT, 2, 0, 0, 0x80000, EINVAL, "must be zero" },
  { BAT, 8, 0, 0, UINT64_MAX, 0, NULL },        /* padding */
  { BAT, 4096, 0, 0, UINT64_MAX, 0, NULL },
};

/* The same for a differencing disk. */
static const struct number child_numbers[] = {
  { ITEM, 0, 4, 4, 3, 0, NULL },
  { ITEM, 0, 4, 4, 0, 0, NULL },        /* a locator without a parent */
  { ENTRY, 5, 20, 4, 19, EINVAL, "only 19 bytes" },
  { METADATA, 0, 10, 2, 5, EINVAL, "lack the parent locator" },
  { ITEM, 5, 0, 1, 0, ENOTSUP, "parent locator is of type" },
  { BAT, 0, 0, 0, FIRST_BLOCK | 7, EINVAL, "has no sector bitmap" },
  { BAT, 4096, 0, 0, (FILE_LEN - TEST_MIB) | 6, 0, NULL },
  { BAT, 4096, 0, 0, (FILE_LEN - TEST_MIB) | 7, EINVAL,
    "state that sector bitmaps do not have" },
  { BAT, 4096, 0, 0, 2, EINVAL, "bitmaps do not have" },
  { BAT, 4096, 0, 0, FIRST_BLOCK | 6, EINVAL, "overlaps" },
  { BAT, 4096, 0, 0, FILE_LEN | 6, EINVAL, "beyond" },
  { BAT, 4096, 0, 0, 6, EINVAL, "header section" },
  { BAT, 8, 0, 0, UINT64_MAX, 0, NULL },        /* padding */
  { BAT, 4095, 0, 0, FIRST_BLOCK | 6, 0, NULL },
  { BAT, 4097, 0, 0, UINT64_MAX, 0, NULL },
};

static void
test_numbers (const struct number *all, size_t nr, bool has_parent)
{
  for (size_t i = 0; i < nr; ++i) {
    make_simple (has_parent);
    check_opens ();
    put_number (&all[i]);
    if (all[i].err == 0)
      check_opens ();
    else
      check_refused (all[i].err, all[i].message);
  }
}

/* ---- what one number does not show */

static void
test_regions (void)
{
  make_simple (false);          /* the second table, if the first is bad */
  test_vhdx_poke (&image, test_vhdx_regions_host (0) + 60000, 1, 1);
  check_opens ();
  test_vhdx_poke (&image, test_vhdx_regions_host (1), 1, 'R');
  check_refused (EINVAL, "neither of the region tables");

  make_simple (false);          /* unknown ones */
  test_vhdx_add_region (&image, 0x44, FILE_LEN - TEST_MIB, TEST_MIB, 0);
  check_opens ();
  test_vhdx_set_block (&image, 2, (FILE_LEN - TEST_MIB) | 6);
  check_refused (EINVAL, "region of metadata");
  test_vhdx_set_block (&image, 2, 0);
  test_vhdx_add_region (&image, 0x44, FILE_LEN - TEST_MIB, TEST_MIB, 0);
  check_refused (EINVAL, "name the same region");

  make_simple (false);
  test_vhdx_add_region (&image, 0x44, FILE_LEN - TEST_MIB, TEST_MIB, 1);
  check_refused (ENOTSUP, "44444444-4444-4444-4444-444444444444");
}

/* A table with as many regions as there may be. */
static void
test_many_regions (void)
{
  const unsigned nr = 2047;

  make_simple (false);
  test_vhdx_add_room (&image, nr * TEST_MIB);
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned n = 2; n < nr; ++n) {
      const uint64_t entry = test_vhdx_regions_host (i) + 16 + 32 * n;

      test_vhdx_poke (&image, entry, 2, 0x4000 + n);
      test_vhdx_poke (&image, entry + 16, 8, FILE_LEN + n * TEST_MIB);
      test_vhdx_poke (&image, entry + 24, 4, TEST_MIB);
    }
  }
  test_vhdx_poke_regions (&image, 8, 4, nr);
  check_opens ();
  test_vhdx_poke_regions (&image, 16 + 32 * (nr - 1) + 28, 4, 1);
  check_refused (ENOTSUP, "entry 2046 of the region table: region "
                 "000047fe-0000-0000-0000-000000000000");
}

/* Their order in the table is any; each is kept clear of blocks. */
static void
test_regions_backwards (void)
{
  const unsigned nr = 300;
  const uint64_t first = FILE_LEN + 2 * TEST_MIB;

  make_simple (false);
  test_vhdx_add_room (&image, (2 * nr + 2) * TEST_MIB);
  for (unsigned n = 2; n < nr; ++n)
    test_vhdx_add_region (&image, n % 251 + 1,
                          first + 2 * (nr - n) * TEST_MIB, TEST_MIB, 0);
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned n = 2; n < nr; ++n)
      test_vhdx_poke (&image, test_vhdx_regions_host (i) + 16 + 32 * n, 2,
                      0x4000 + n);
    test_vhdx_seal_regions (&image, i);
  }
  for (unsigned n = 2; n < nr; ++n) {
    const uint64_t host = first + 2 * (nr - n) * TEST_MIB;

    test_vhdx_poke (&image, BAT_HOST, 8, host | 6);
    check_refused (EINVAL, "region of metadata");
    test_vhdx_poke (&image, BAT_HOST, 8, (host - TEST_MIB) | 6);
    check_opens ();
  }
}

static void
test_items (void)
{
  static const uint8_t incomplete[16] =
    "\xf0\x85\xcc\x71\x69\x1b\x28\x4e\x95\x58\xc3\xbf\x83\xae\x75\xd3";
  static const uint8_t chs[16] =
    "\xbc\xd7\x02\xda\x3a\x3d\x3c\x42\xac\x88\x2a\x36\xab\x21\x47\x9b";
  static const uint8_t other[16] = "another thing !";

  make_simple (false);
  test_vhdx_add_item (&image, other, 0, "x", 1);
  test_vhdx_add_item (&image, other, 1, "y", 1);        /* the user's */
  test_vhdx_add_item (&image, chs, 4, "12345678", 8);
  check_opens ();
  test_vhdx_add_item (&image, other, 1, NULL, 0);
  check_refused (EINVAL, "same item");

  make_simple (false);
  test_vhdx_add_item (&image, incomplete, 0, NULL, 0);
  check_refused (EINVAL, "incomplete");

  make_simple (false);
  for (unsigned i = 0; i < 1025; ++i) {
    uint8_t guid[16] = { 1, i, i >> 8 };

    test_vhdx_add_item (&image, guid, 1, NULL, 0);
    if (i == 1023)
      check_opens ();
  }
  check_refused (EINVAL, "1025 entries of the user");

  make (&(struct test_vhdx_spec) { .disk_len = TEST_MIB,
                                   .metadata_len = 129 * TEST_MIB });
  check_refused (EINVAL, "at most 134217728");
}

static void
test_short_files (void)
{
  for (uint64_t len = 0; len <= 4 * TEST_MIB; len += 61 * 1024) {
    make (&(struct test_vhdx_spec) { .disk_len = TEST_MIB });
    CHECK (source_truncate (image.src, len) == 0);
    CHECK (open_image () == NULL && errno == EINVAL);
    CHECK (test_messages.nr_errors == 1);
  }
}

/* The last block of a disk may be as short as the disk. */
static void
test_short_block (void)
{
  make (&(struct test_vhdx_spec) { .disk_len = 5 * TEST_MIB + 512,
                                   .block_len = 4 * TEST_MIB });
  test_vhdx_set_block (&image, 1, test_vhdx_add_room (&image, TEST_MIB) | 6);
  test_vhdx_poke (&image, source_len (image.src) + 511, 1, 'x');
  check_opens ();
  CHECK (source_truncate (image.src, source_len (image.src) - 1) == 0);
  check_refused (EINVAL, "beyond the end");
}

/* ---- faults */

/* Everything that opening allocates and reads. */
static void
make_full (void)
{
  uint8_t page[TEST_VHDX_PAGE];
  struct test_log e;

  make (&(struct test_vhdx_spec) { .disk_len = 8 * TEST_MIB,
                                   .has_parent = true });
  test_vhdx_fill (&image, test_vhdx_add_block (&image, 0, 6), 8192, 'a');
  test_vhdx_add_bitmap (&image, 0);
  test_vhdx_fill (&image, test_vhdx_add_block (&image, 1, 7), 8192, 'b');
  test_vhdx_set_bit (&image, 2048);
  test_vhdx_use_log (&image, 0x77);
  CHECK (source_pread (image.src, page, sizeof page, BAT_HOST) == 0);
  test_log_begin (&e, &image, 1, 0);
  test_log_page (&e, BAT_HOST, page);
  test_log_zero (&e, BAT_HOST + 4096, 4096);
  test_log_put (&e, &image, 0);
}

/* Open, look up, read; errno of what failed, or 0. */
static int
run (struct source *src)
{
  static uint8_t buf[1024];
  struct image *img;
  struct extent ext[8];
  int err = 0;

  test_messages_forget ();
  img = image_open (&vhdx_format, src, "image", CACHE_LIMIT);
  if (img == NULL)
    return errno;
  if (image_connect (img, NULL, NULL) == -1 ||
      img->format->lookup (img, 0, img->len, ext, 8) == -1 ||
      image_read (img, buf, sizeof buf, TEST_MIB) == -1)
    err = errno;
  else
    CHECK (buf[0] == 'b' && buf[511] == 'b' && buf[512] == 0);
  image_close (img);
  return err;
}

static void
check_outcome (int err, int expected)
{
  if (err == 0)
    return;                     /* only a hint had failed */
  CHECK (err == expected);
  CHECK (test_messages.nr_errors >= 1);
}

static void
test_reads (void)
{
  struct record *record = record_new ();
  struct source *src;
  size_t nr, nr_failed = 0;

  CHECK (record != NULL);
  src = record_add (record, "image", image.src, source_len (image.src));
  CHECK (src != NULL);
  CHECK (run (src) == 0);
  nr = record_count (record, RECORD_READ);
  for (size_t nth = 1; nth <= nr; nth += nth > 10 && nth + 40 < nr ? 7 : 1) {
    int err;

    record_fail_at (record, RECORD_READ, nth, EIO, false);
    err = run (src);
    check_outcome (err, EIO);
    nr_failed += err != 0;
  }
  CHECK (nr_failed >= 40);
  CHECK (run (src) == 0);
  CHECK (record_count (record, RECORD_WRITE) == 0);
  source_put (src);
  record_free (record);
}

/* Are the functions above the ones that are called?  Not under valgrind. */
static bool
allocations_can_fail (void)
{
  void *(*volatile allocate) (size_t len) = malloc;
  void *p;

  if (!CAN_FAIL)
    return false;
  allocations_left = 1;
  p = allocate (1);
  allocations_left = 0;
  free (p);
  return p == NULL;
}

static void
test_allocations (void)
{
  size_t nth = 0;

  if (!allocations_can_fail ())
    return;
  do {
    int err;

    has_failed = false;
    allocations_left = ++nth;
    err = run (image.src);
    allocations_left = 0;
    if (has_failed)
      check_outcome (err, ENOMEM);
    else
      CHECK (err == 0);
  } while (has_failed);
  CHECK (nth > 20);
}

int
main (void)
{
  test_headers ();
  test_numbers (numbers, sizeof numbers / sizeof numbers[0], false);
  test_numbers (child_numbers,
                sizeof child_numbers / sizeof child_numbers[0], true);
  test_regions ();
  test_many_regions ();
  test_regions_backwards ();
  test_items ();
  test_short_files ();
  test_short_block ();
  make_full ();
  test_allocations ();
  test_reads ();
  test_vhdx_free (&image);
  return EXIT_SUCCESS;
}
