/* Test the shared calls: checks of arguments, the length, padding, zeroes
 * written where there is no quicker way, the failed sync that sticks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>

#include "include/lock.h"
#include "include/testing.h"
#include "source/memory.h"
#include "source/record.h"

#define MIB UINT64_C (1048576)

static void
test_arguments (void)
{
  struct source *src = source_memory ("args", 1000, INT64_MAX);
  struct source_extent ext;
  char buf[8];

  CHECK (source_pread (src, NULL, 0, 5000) == 0);
  CHECK (source_pwrite (src, NULL, 0, 5000) == 0);
  CHECK (source_zero (src, 0, 5000, SOURCE_ZERO_KEEP) == 0);
  CHECK (source_len (src) == 1000);

  CHECK_FAILS (source_pread (src, buf, 2, 999), EIO);
  CHECK_FAILS (source_pread (src, buf, 1, 1000), EIO);
  CHECK_FAILS (source_pread (src, buf, 8, UINT64_MAX - 3), EIO);
  CHECK_FAILS (source_pwrite (src, buf, 8, UINT64_MAX - 3), EFBIG);
  CHECK_FAILS (source_pwrite (src, buf, 8, INT64_MAX), EFBIG);
  CHECK_FAILS (source_zero (src, UINT64_MAX, 1, SOURCE_ZERO_KEEP), EFBIG);
  CHECK_FAILS (source_truncate (src, UINT64_MAX), EFBIG);
  CHECK_FAILS (source_grow (src, UINT64_MAX), EFBIG);
  CHECK (source_grow (src, 10) == 0 && source_len (src) == 1000);

  ext = source_extent (src, 900, 1000);
  CHECK (ext.hole && ext.len == 100);
  ext = source_extent (src, 1000, 77);
  CHECK (ext.hole && ext.len == 77);
  source_prefetch (src, 0, 1000);
  source_put (src);
}

static void
test_padded (void)
{
  struct source *src = source_memory_copy ("short", "abc", 3, 3);
  char buf[6];

  memset (buf, 'x', sizeof buf);
  CHECK (source_pread_padded (src, buf, 5, 1) == 0);
  CHECK (memcmp (buf, "bc\0\0\0x", 6) == 0);
  memset (buf, 'x', sizeof buf);
  CHECK (source_pread_padded (src, buf, 5, UINT64_MAX - 2) == 0);
  CHECK (memcmp (buf, "\0\0\0\0\0x", 6) == 0);
  source_put (src);
}

static void
test_references (void)
{
  struct source *src = source_memory ("shared", 1, 1);

  CHECK (source_get (src) == src && src->references == 2);
  source_put (src);
  CHECK (source_pwrite (src, "x", 1, 0) == 0);
  source_put (src);
  source_put (NULL);
}

/* Ahead of need where there is room, and to the last byte. */
static void
test_grow_ahead (void)
{
  const uint64_t limit = 300 * MIB + 5;
  struct source *src = source_memory ("limited", 100, limit);
  struct source *fixed = source_memory ("fixed", 100, 100);
  struct record *r = record_new ();

  CHECK (source_grow_ahead (src, 100, 512) == 0 && source_len (src) == 100);
  CHECK (source_grow_ahead (src, 101, 512) == 0 && source_len (src) == MIB);
  CHECK (source_grow_ahead (src, MIB + 1, 4 * MIB) == 0);
  CHECK (source_len (src) == 4 * MIB);
  CHECK (source_grow_ahead (src, 200 * MIB, 512) == 0);
  CHECK (source_len (src) == 200 * MIB);
  CHECK (source_grow_ahead (src, 200 * MIB + 1, 512) == 0);
  CHECK (source_len (src) == 224 * MIB);
  CHECK (source_grow_ahead (src, limit - 2, 512) == 0);
  CHECK (source_len (src) == limit - 2);
  CHECK_FAILS (source_grow_ahead (src, limit + 1, 512), ENOSPC);
  CHECK (source_len (src) == limit - 2);
  CHECK (source_grow_ahead (src, limit, 512) == 0);
  CHECK_FAILS (source_grow_ahead (src, UINT64_MAX, 512), EFBIG);
  CHECK_FAILS (source_grow_ahead (src, INT64_MAX, 512), ENOSPC);
  CHECK (source_grow_ahead (fixed, 1000, 512) == 0);
  CHECK (source_len (fixed) == 100);
  source_put (src);

  src = record_add (r, "recorded", fixed, 8 * MIB);
  source_put (fixed);
  record_fail_at (r, RECORD_TRUNCATE, 1, EFBIG, false);
  CHECK (source_grow_ahead (src, 1000, 512) == 0 && source_len (src) == 1000);
  record_fail_at (r, RECORD_TRUNCATE, 1, EFBIG, true);
  CHECK_FAILS (source_grow_ahead (src, 2000, 512), ENOSPC);
  record_fail_at (r, RECORD_TRUNCATE, 1, EIO, false);
  CHECK_FAILS (source_grow_ahead (src, 2000, 512), EIO);
  source_put (src);
  record_free (r);
}

/* A source that has no quick zero: through a record's fault. */
static void
test_zero_by_writing (void)
{
  struct record *r = record_new ();
  struct source *initial = source_memory ("plain", 4 * MIB, 4 * MIB);
  struct source *src;
  char *buf = malloc (4 * MIB);

  memset (buf, 'x', 4 * MIB);
  CHECK (source_pwrite (initial, buf, 4 * MIB, 0) == 0);
  src = record_add (r, "plain", initial, 8 * MIB);
  source_put (initial);

  record_fail_at (r, RECORD_ZERO, 1, ENOTSUP, true);
  CHECK_FAILS (source_zero_fast (src, 10, 10, SOURCE_ZERO_PUNCH), ENOTSUP);
  CHECK_FAILS (source_zero_fast (src, 8 * MIB - 1, 1, SOURCE_ZERO_PUNCH),
               ENOTSUP);
  CHECK (record_count (r, RECORD_WRITE) == 0);
  CHECK (record_count (r, RECORD_TRUNCATE) == 0);

  /* 2.5 MiB: three buffers. */
  CHECK (source_zero (src, 5 * MIB / 2, 100, SOURCE_ZERO_PUNCH) == 0);
  CHECK (record_count (r, RECORD_WRITE) == 3);
  CHECK (source_pread (src, buf, 4 * MIB, 0) == 0);
  CHECK (buf[99] == 'x' && buf[5 * MIB / 2 + 100] == 'x');
  for (uint64_t i = 100; i < 5 * MIB / 2 + 100; i++)
    CHECK (buf[i] == 0);

  /* Beyond the end nothing needs to be written. */
  CHECK (source_zero_fast (src, MIB, 5 * MIB, SOURCE_ZERO_KEEP) == 0);
  CHECK (source_len (src) == 6 * MIB);
  CHECK (record_count (r, RECORD_WRITE) == 3);
  CHECK (record_count (r, RECORD_TRUNCATE) == 1);

  /* Any other failure is no reason to write. */
  record_fail_at (r, RECORD_ZERO, 1, ENOSPC, false);
  CHECK_FAILS (source_zero (src, 10, 10, SOURCE_ZERO_KEEP), ENOSPC);
  CHECK (record_count (r, RECORD_WRITE) == 3);

  free (buf);
  source_put (src);
  record_free (r);
}

static void
test_sync_sticks (void)
{
  struct record *r = record_new ();
  struct source *initial = source_memory ("sync", 100, 100);
  struct source *src = record_add (r, "sync", initial, 100);

  source_put (initial);
  CHECK (source_sync (src) == 0);
  record_fail_at (r, RECORD_SYNC, 1, ENOSPC, false);
  CHECK_FAILS (source_sync (src), ENOSPC);
  CHECK_FAILS (source_sync (src), EIO);
  CHECK_FAILS (source_sync (src), EIO);
  CHECK (record_count (r, RECORD_SYNC) == 2);
  CHECK (source_pwrite (src, "x", 1, 0) == 0);
  source_put (src);
  record_free (r);
}

#define NR_THREADS 4
#define NR_ROUNDS 500

struct grower {
  struct source *src;
  unsigned index;
};

/* Interleaved blocks, each past the end of most others, and growth. */
static void *
write_blocks (void *arg)
{
  const struct grower *g = arg;
  char block[512];

  memset (block, 'a' + (int) g->index, sizeof block);
  for (uint64_t i = 0; i < NR_ROUNDS; i++) {
    uint64_t host = (i * NR_THREADS + g->index) * 512;

    CHECK (source_pwrite (g->src, block, sizeof block, host) == 0);
    CHECK (source_len (g->src) >= host + 512);
    if (i % 16 == 0)
      CHECK (source_grow (g->src, source_len (g->src) + 512) == 0);
  }
  return NULL;
}

static void
test_concurrent_growth (void)
{
  struct source *src = source_memory ("growing", 0, INT64_MAX);
  struct grower growers[NR_THREADS];
  pthread_t threads[NR_THREADS];
  char byte;

  for (unsigned i = 0; i < NR_THREADS; i++) {
    growers[i] = (struct grower) { .src = src, .index = i };
    CHECK (pthread_create (&threads[i], NULL, write_blocks, &growers[i])
           == 0);
  }
  for (unsigned i = 0; i < NR_THREADS; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  for (uint64_t i = 0; i < NR_ROUNDS * NR_THREADS; i++) {
    CHECK (source_pread (src, &byte, 1, i * 512 + 511) == 0);
    CHECK (byte == (char) ('a' + i % NR_THREADS));
  }
  source_put (src);
}

int
main (void)
{
  test_arguments ();
  test_padded ();
  test_references ();
  test_grow_ahead ();
  test_zero_by_writing ();
  test_sync_sticks ();
  test_concurrent_growth ();
  return EXIT_SUCCESS;
}
