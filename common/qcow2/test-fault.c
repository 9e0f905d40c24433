/* Test faults: every read of the file and every allocation fails once,
 * from opening to reading.  The caller gets the error, somebody is told,
 * and whatever is answered is right.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "include/testing.h"
#include "qcow2/extension.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"
#include "report/test-messages.h"
#include "source/memory.h"
#include "source/record.h"

#define MIB UINT64_C (1048576)
#define CLUSTER_LEN 4096
#define NR_CLUSTERS 4

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
extern void *__libc_realloc (void *p, size_t len);
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
realloc (void *p, size_t len)
{
  return fails_now () ? NULL : __libc_realloc (p, len);
}

void *
aligned_alloc (size_t alignment, size_t len)
{
  return fails_now () ? NULL : __libc_memalign (alignment, len);
}
#else
#define CAN_FAIL 0
#endif

/* ---- the scenario */

/* Everything that opening allocates and reads: an unknown extension, a
 * backing name and format, rest of the header, snapshots; then a cluster
 * of each kind.
 */
static void
make_image (struct test_image *t)
{
  test_image_init (t, 3, 12, MIB, 0);
  test_image_poke (t, 100, 4, 120);
  test_image_add_extension (t, 0x12345678, "unknown", 7);
  test_image_add_extension (t, EXTENSION_BACKING_FORMAT, "raw", 3);
  test_image_set_backing (t, "base");
  test_image_add_data (t, 0, 'a');
  test_image_add_packed (t, CLUSTER_LEN, 'b');
  test_image_set_l2 (t, 2 * CLUSTER_LEN, 1);
  test_image_add_snapshots (t, 3, 16);
}

static void
check_bytes (const uint8_t *buf)
{
  const char expected[NR_CLUSTERS] = { 'a', 'b', 0, 0 };
  size_t i;

  for (i = 0; i < NR_CLUSTERS * CLUSTER_LEN; ++i)
    CHECK (buf[i] == expected[i / CLUSTER_LEN]);
}

/* Open, look up, read; errno of what failed, or 0. */
static int
run (struct source *src)
{
  static uint8_t buf[NR_CLUSTERS * CLUSTER_LEN];
  struct image *img = image_open (&qcow2_format, src, "image", MIB);
  struct extent ext[8];
  int err = 0;

  if (img == NULL)
    return errno;
  errno = 0;
  if (image_connect (img, NULL, NULL) == -1 ||
      img->format->lookup (img, 0, img->len, ext, 8) == -1 ||
      image_read (img, buf, sizeof buf, 0) == -1)
    err = errno;
  else
    check_bytes (buf);
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
test_reads (struct source *initial)
{
  struct record *record = record_new ();
  struct source *src;
  size_t nr, nth, nr_failed = 0;

  CHECK (record != NULL);
  src = record_add (record, "image", initial, source_len (initial));
  CHECK (src != NULL);
  CHECK (run (src) == 0);
  nr = record_count (record, RECORD_READ);
  CHECK (nr >= 5);
  for (nth = 1; nth <= nr; ++nth) {
    int err;

    test_messages_forget ();
    record_fail_at (record, RECORD_READ, nth, EIO, false);
    err = run (src);
    check_outcome (err, EIO);
    nr_failed += err != 0;
  }
  /* And when it fails for good, a hint does not hide it. */
  for (nth = 1; nth <= nr; ++nth) {
    test_messages_forget ();
    record_fail_at (record, RECORD_READ, nth, EIO, true);
    check_outcome (run (src), EIO);
    record_fail_at (record, RECORD_READ, 0, 0, false);
  }
  CHECK (nr_failed >= 4);
  CHECK (run (src) == 0);
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
test_allocations (struct source *src)
{
  size_t nth = 0;

  if (!allocations_can_fail ())
    return;
  do {
    int err;

    test_messages_forget ();
    has_failed = false;
    allocations_left = ++nth;
    err = run (src);
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
  struct test_image t;
  struct source *src;

  make_image (&t);
  src = source_memory_copy ("image", t.bytes, t.len, t.len);
  CHECK (src != NULL);
  /* First, while no decoder is kept for this thread yet. */
  test_allocations (src);
  test_reads (src);
  source_put (src);
  test_image_free (&t);
  return EXIT_SUCCESS;
}
