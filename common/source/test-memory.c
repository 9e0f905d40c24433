/* Test the memory source: bytes against a flat copy, holes, the limit.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "source/memory.h"

#define MIB UINT64_C (1048576)

static void
test_sparse (void)
{
  const uint64_t len = UINT64_C (1) << 50;
  struct source *src = source_memory ("sparse", len, INT64_MAX);
  struct source_extent ext;
  char buf[16];

  CHECK (src != NULL && source_len (src) == len);
  CHECK (src->writable && src->can_grow);
  ext = source_extent (src, 0, len);
  CHECK (ext.hole && ext.len == len);

  CHECK (source_pwrite (src, "abc", 3, 4095) == 0);
  CHECK (source_pwrite (src, "far", 3, len - 3) == 0);
  ext = source_extent (src, 1, len);
  CHECK (!ext.hole && ext.len == 8191);
  ext = source_extent (src, 8192, len);
  CHECK (ext.hole && ext.len == len - 4096 - 8192);
  ext = source_extent (src, len - 4096, 100);
  CHECK (!ext.hole && ext.len == 100);

  CHECK (source_pread (src, buf, 5, 4094) == 0);
  CHECK (memcmp (buf, "\0abc\0", 5) == 0);
  CHECK (source_zero (src, len, 0, SOURCE_ZERO_PUNCH) == 0);
  ext = source_extent (src, 0, len);
  CHECK (ext.hole && ext.len == len);

  CHECK (source_pwrite (src, "abc", 3, 4095) == 0);
  CHECK (source_zero (src, 8192, 0, SOURCE_ZERO_KEEP) == 0);
  ext = source_extent (src, 0, len);
  CHECK (!ext.hole && ext.len == 8192);
  CHECK (source_pread (src, buf, 3, 4095) == 0);
  CHECK (memcmp (buf, "\0\0\0", 3) == 0);
  source_put (src);
}

static void
test_limit (void)
{
  struct source *src = source_memory ("limited", 100, 5000);
  struct source *fixed = source_memory ("fixed", 4096, 4096);
  char buf[5001] = { 0 };

  CHECK (src->can_grow && !fixed->can_grow);
  CHECK_FAILS (source_pwrite (src, buf, 5001, 0), ENOSPC);
  CHECK (source_len (src) == 100);
  CHECK_FAILS (source_truncate (src, 5001), ENOSPC);
  CHECK (source_pwrite (src, buf, 5000, 0) == 0);
  CHECK (source_len (src) == 5000);

  CHECK_FAILS (source_pwrite (fixed, "ab", 2, 4095), ENOSPC);
  CHECK_FAILS (source_zero (fixed, 2, 4095, SOURCE_ZERO_KEEP), ENOSPC);
  CHECK_FAILS (source_truncate (fixed, 5000), ENOSPC);
  CHECK_FAILS (source_truncate (fixed, 5), ENOTSUP);
  CHECK (source_truncate (fixed, 4096) == 0);
  CHECK (source_pwrite (fixed, "ab", 2, 4094) == 0);
  source_put (src);
  source_put (fixed);
}

static void
test_copy_and_readonly (void)
{
  struct source *src = source_memory_copy ("copy", "hello", 5, 5);
  char buf[5];

  CHECK (src != NULL && source_len (src) == 5);
  source_memory_set_readonly (src, true);
  CHECK_FAILS (source_pwrite (src, "x", 1, 0), EROFS);
  CHECK_FAILS (source_zero (src, 1, 0, SOURCE_ZERO_KEEP), EROFS);
  CHECK_FAILS (source_truncate (src, 1), EROFS);
  CHECK_FAILS (source_truncate (src, 5), EROFS);
  CHECK (source_pread (src, buf, 5, 0) == 0);
  CHECK (memcmp (buf, "hello", 5) == 0);
  source_memory_set_readonly (src, false);
  CHECK (source_pwrite (src, "x", 1, 0) == 0);
  source_put (src);
}

static uint64_t random_state = 1;

static uint64_t
pick (uint64_t limit)
{
  random_state = random_state * UINT64_C (6364136223846793005) + 1;
  return (random_state >> 33) % limit;
}

/* Random calls, against the same done to an array. */
static void
test_against_array (void)
{
  struct source *src = source_memory ("model", 0, 4 * MIB);
  char *flat = calloc (1, 4 * MIB), *buf = calloc (1, 4 * MIB);
  uint64_t len = 0;

  CHECK (flat != NULL && buf != NULL);
  for (int i = 0; i < 2000; i++) {
    uint64_t host = pick (4 * MIB - 20000), n = 1 + pick (20000);

    switch (pick (4)) {
    case 0:
      memset (buf, i, n);
      CHECK (source_pwrite (src, buf, n, host) == 0);
      memset (flat + host, i, n);
      len = host + n > len ? host + n : len;
      break;
    case 1:
      CHECK (source_zero (src, n, host, pick (2)) == 0);
      memset (flat + host, 0, n);
      len = host + n > len ? host + n : len;
      break;
    case 2:
      if (pick (4) > 0)
        break;
      CHECK (source_truncate (src, host) == 0);
      memset (flat + host, 0, 4 * MIB - host);
      len = host;
      break;
    default:
      CHECK (source_pread_padded (src, buf, n, host) == 0);
      CHECK (memcmp (buf, flat + host, n) == 0);
    }
    CHECK (source_len (src) == len);
  }
  CHECK (source_truncate (src, 4 * MIB) == 0);
  CHECK (source_pread (src, buf, 4 * MIB, 0) == 0);
  CHECK (memcmp (buf, flat, 4 * MIB) == 0);

  /* Holes hold nothing. */
  for (uint64_t host = 0; host < 4 * MIB;) {
    struct source_extent ext = source_extent (src, host, 4 * MIB - host);

    CHECK (ext.len > 0);
    if (ext.hole)
      for (uint64_t k = host; k < host + ext.len; k++)
        CHECK (flat[k] == 0);
    host += ext.len;
  }
  free (flat);
  free (buf);
  source_put (src);
}

int
main (void)
{
  test_sparse ();
  test_limit ();
  test_copy_and_readonly ();
  test_against_array ();
  return EXIT_SUCCESS;
}
