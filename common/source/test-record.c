/* Test the recording source: what a power cut may leave and what not, the
 * faults, the counts.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "source/memory.h"
#include "source/record-log.h"
#include "source/record.h"

#define LEN 4096
#define SECTOR 512
#define NR_SEEDS 400

struct machine {
  struct record *r;
  struct source *src;
};

static struct machine
new_machine (char fill, uint64_t limit)
{
  struct machine m = { .r = record_new () };
  char bytes[LEN];
  struct source *initial;

  memset (bytes, fill, LEN);
  initial = source_memory_copy ("disk", bytes, LEN, LEN);
  CHECK (m.r != NULL && initial != NULL);
  m.src = record_add (m.r, "disk", initial, limit);
  CHECK (m.src != NULL);
  source_put (initial);
  return m;
}

static void
free_machine (struct machine m)
{
  source_put (m.src);
  record_free (m.r);
}

static void
fill (struct source *src, char byte, size_t len, uint64_t host)
{
  char bytes[2 * LEN];

  memset (bytes, byte, len);
  CHECK (source_pwrite (src, bytes, len, host) == 0);
}

static void
look (struct machine m, size_t position, uint64_t seed, enum record_mode mode,
      char buf[LEN])
{
  struct source *image = record_crash_image (m.r, m.src, position, seed,
                                             mode);

  CHECK (image != NULL && image->writable);
  CHECK (source_pread_padded (image, buf, LEN, 0) == 0);
  source_put (image);
}

static void
check_all (struct machine m, size_t position, enum record_mode mode,
           char byte)
{
  char buf[LEN];

  look (m, position, 0, mode, buf);
  for (size_t i = 0; i < LEN; i++)
    CHECK (buf[i] == byte);
}

/* Before, at and after a sync. */
static void
test_barrier (void)
{
  struct machine m = new_machine ('0', LEN);
  size_t written, synced;
  char buf[LEN];

  check_all (m, 0, RECORD_ALL, '0');
  fill (m.src, '1', LEN, 0);
  written = record_position (m.r);
  CHECK (written == 2);
  check_all (m, written, RECORD_NONE, '0');
  check_all (m, written, RECORD_ALL, '1');
  check_all (m, 0, RECORD_ALL, '0');
  check_all (m, 1, RECORD_ALL, '1');    /* it had begun */

  CHECK (source_sync (m.src) == 0);
  synced = record_position (m.r);
  CHECK (synced == 4);
  check_all (m, synced - 1, RECORD_NONE, '0');  /* the sync had not ended */
  check_all (m, synced, RECORD_NONE, '1');

  fill (m.src, '2', LEN, 0);
  check_all (m, record_position (m.r), RECORD_NONE, '1');
  check_all (m, record_position (m.r), RECORD_ALL, '2');
  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    look (m, synced, seed, RECORD_RANDOM, buf);
    for (size_t i = 0; i < LEN; i++)
      CHECK (buf[i] == '1');
  }
  free_machine (m);
}

/* A write that had not completed when the sync began is not covered. */
static void
test_write_beside_sync (void)
{
  struct machine m = new_machine ('0', LEN);

  fill (m.src, '1', LEN, 0);
  CHECK (source_sync (m.src) == 0);
  m.r->changes[0].end = 3;      /* it ended last */
  m.r->changes[1].begin = 1;
  m.r->changes[1].end = 2;
  check_all (m, 4, RECORD_NONE, '0');
  check_all (m, 4, RECORD_ALL, '1');

  /* The next sync covers it. */
  CHECK (source_sync (m.src) == 0);
  check_all (m, 6, RECORD_NONE, '1');
  free_machine (m);
}

/* Sectors are whole and independent, and an older one may win. */
static void
test_torn (void)
{
  struct machine m = new_machine ('0', LEN);
  unsigned seen[3] = { 0 }, mixed = 0, all_new = 0;
  char buf[LEN], again[LEN];

  fill (m.src, '1', LEN, 0);
  fill (m.src, '2', LEN, 0);
  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    bool same = true;

    look (m, 4, seed, RECORD_RANDOM, buf);
    look (m, 4, seed, RECORD_RANDOM, again);
    CHECK (memcmp (buf, again, LEN) == 0);
    for (size_t i = 0; i < LEN; i++) {
      CHECK (buf[i] >= '0' && buf[i] <= '2');
      CHECK (buf[i] == buf[i - i % SECTOR]);
      seen[buf[i] - '0']++;
      same = same && buf[i] == buf[0];
    }
    mixed += !same;
    all_new += same && buf[0] == '2';
  }
  CHECK (seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
  CHECK (mixed > 0 && all_new > 0);
  free_machine (m);
}

/* Two small writes into one sector: the second is never there alone. */
static void
test_one_sector (void)
{
  struct machine m = new_machine ('0', LEN);
  unsigned none = 0, first = 0, both = 0;
  char buf[LEN];

  fill (m.src, '1', 12, 48);
  fill (m.src, '2', 8, 100);
  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    look (m, 4, seed, RECORD_RANDOM, buf);
    CHECK (buf[47] == '0' && buf[60] == '0' && buf[108] == '0');
    CHECK (buf[48] == buf[59] && buf[100] == buf[107]);
    none += buf[48] == '0' && buf[100] == '0';
    first += buf[48] == '1' && buf[100] == '0';
    both += buf[48] == '1' && buf[100] == '2';
  }
  CHECK (none > 0 && first > 0 && both > 0);
  CHECK (none + first + both == NR_SEEDS);
  free_machine (m);
}

static void
test_zero (void)
{
  struct machine m = new_machine ('0', LEN);
  unsigned old = 0, new = 0;
  char buf[LEN];

  CHECK (source_zero (m.src, 1024, 512, SOURCE_ZERO_PUNCH) == 0);
  CHECK (record_count (m.r, RECORD_ZERO) == 1);
  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    look (m, 2, seed, RECORD_RANDOM, buf);
    CHECK (buf[511] == '0' && buf[1536] == '0');
    for (size_t i = 512; i < 1536; i++)
      CHECK (buf[i] == buf[i - i % SECTOR] && (buf[i] == '0' || !buf[i]));
    old += buf[600] == '0';
    new += buf[600] == 0;
  }
  CHECK (old > 0 && new > 0);
  free_machine (m);
}

/* Shorten, then write behind the new end. */
static void
test_truncate (void)
{
  struct machine m = new_machine ('0', 2 * LEN);
  unsigned long_old = 0, shortened = 0, long_new = 0;
  char buf[LEN];

  CHECK (source_truncate (m.src, 1000) == 0);
  fill (m.src, '2', SECTOR, 3072);
  CHECK (source_len (m.src) == 3584);

  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    struct source *image = record_crash_image (m.r, m.src, 4, seed,
                                               RECORD_RANDOM);
    uint64_t len = source_len (image);

    CHECK (len == LEN || len == 1000 || len == 3584);
    CHECK (source_pread_padded (image, buf, LEN, 0) == 0);
    source_put (image);
    for (size_t i = 0; i < 1000; i++)
      CHECK (buf[i] == '0');
    for (size_t i = 1000; i < LEN; i++)
      if (len == LEN)
        CHECK (buf[i] == '0');  /* nothing happened */
      else if (len == 1000 || i < 3072 || i >= 3584)
        CHECK (buf[i] == 0);    /* nothing old comes back */
      else
        CHECK (buf[i] == buf[3072] && (buf[i] == 0 || buf[i] == '2'));
    long_old += len == LEN;
    shortened += len == 1000;
    long_new += len == 3584 && buf[3072] == '2';
  }
  CHECK (long_old > 0 && shortened > 0 && long_new > 0);

  check_all (m, 4, RECORD_NONE, '0');
  look (m, 4, 0, RECORD_ALL, buf);
  CHECK (buf[999] == '0' && buf[1000] == 0 && buf[3072] == '2');
  free_machine (m);
}

/* A write past the end may leave its length, its bytes, both or none. */
static void
test_growth (void)
{
  struct machine m = new_machine ('0', 4 * LEN);
  unsigned absent = 0, empty = 0, whole = 0;

  fill (m.src, '1', SECTOR, 2 * LEN);
  for (uint64_t seed = 0; seed < NR_SEEDS; seed++) {
    struct source *image = record_crash_image (m.r, m.src, 2, seed,
                                               RECORD_RANDOM);
    uint64_t len = source_len (image);
    char bytes[2] = { 'x', 'x' };

    CHECK (image->can_grow);
    CHECK (len == LEN || len == 2 * LEN + SECTOR);
    CHECK (source_pread_padded (image, bytes, 1, 2 * LEN - 1) == 0);
    CHECK (source_pread_padded (image, bytes + 1, 1, 2 * LEN) == 0);
    CHECK (bytes[0] == 0 && (bytes[1] == 0 || bytes[1] == '1'));
    CHECK (len != LEN || bytes[1] == 0);
    absent += len == LEN;
    empty += len > LEN && bytes[1] == 0;
    whole += bytes[1] == '1';
    source_put (image);
  }
  CHECK (absent > 0 && empty > 0 && whole > 0);
  free_machine (m);
}

static void
test_skipped_sync (void)
{
  struct machine m = new_machine ('0', LEN);

  fill (m.src, '1', LEN, 0);
  record_skip_sync (m.r, 1, false);
  CHECK (source_sync (m.src) == 0);
  check_all (m, record_position (m.r), RECORD_NONE, '0');
  CHECK (source_sync (m.src) == 0);
  check_all (m, record_position (m.r), RECORD_NONE, '1');

  record_skip_sync (m.r, 2, true);
  fill (m.src, '2', LEN, 0);
  CHECK (source_sync (m.src) == 0);
  check_all (m, record_position (m.r), RECORD_NONE, '2');
  fill (m.src, '3', LEN, 0);
  CHECK (source_sync (m.src) == 0);
  check_all (m, record_position (m.r), RECORD_NONE, '2');
  record_skip_sync (m.r, 0, false);
  CHECK (source_sync (m.src) == 0);
  check_all (m, record_position (m.r), RECORD_NONE, '3');
  CHECK (record_count (m.r, RECORD_SYNC) == 5);
  free_machine (m);
}

/* A sync concerns its own source only; the log is one. */
static void
test_two_sources (void)
{
  struct machine m = new_machine ('0', LEN), data;
  struct source *initial = source_memory ("data", LEN, LEN);

  data = (struct machine) { m.r, record_add (m.r, "data", initial, LEN) };
  source_put (initial);
  check_all (data, 0, RECORD_ALL, 0);
  fill (m.src, '1', LEN, 0);
  fill (data.src, '2', LEN, 0);
  CHECK (source_sync (data.src) == 0);
  CHECK (record_position (m.r) == 6);
  check_all (m, 6, RECORD_NONE, '0');
  check_all (data, 6, RECORD_NONE, '2');
  CHECK (source_sync (m.src) == 0);
  check_all (m, 8, RECORD_NONE, '1');
  check_all (data, 3, RECORD_ALL, '2');
  check_all (data, 2, RECORD_ALL, 0);
  source_put (data.src);
  free_machine (m);
}

static void
test_faults (void)
{
  struct machine m = new_machine ('0', 2 * LEN);
  char byte;

  record_fail_at (m.r, RECORD_WRITE, 2, EIO, false);
  fill (m.src, '1', LEN, 0);
  CHECK_FAILS (source_pwrite (m.src, "x", 1, 0), EIO);
  CHECK (record_position (m.r) == 2);   /* had no effect */
  check_all (m, 2, RECORD_ALL, '1');
  fill (m.src, '2', LEN, 0);
  CHECK (record_count (m.r, RECORD_WRITE) == 3);

  record_fail_at (m.r, RECORD_READ, 1, ENOMEM, true);
  CHECK_FAILS (source_pread (m.src, &byte, 1, 0), ENOMEM);
  CHECK_FAILS (source_pread (m.src, &byte, 1, 0), ENOMEM);
  record_fail_at (m.r, RECORD_READ, 0, 0, false);
  CHECK (source_pread (m.src, &byte, 1, 0) == 0 && byte == '2');
  CHECK (record_count (m.r, RECORD_READ) == 3);

  record_fail_at (m.r, RECORD_TRUNCATE, 1, ENOSPC, false);
  CHECK_FAILS (source_grow (m.src, 5000), ENOSPC);
  CHECK (source_len (m.src) == LEN);
  CHECK (source_grow (m.src, 5000) == 0);
  CHECK_FAILS (source_grow (m.src, 2 * LEN + 1), ENOSPC);
  CHECK_FAILS (source_pwrite (m.src, "xx", 2, 2 * LEN - 1), ENOSPC);
  CHECK (source_len (m.src) == 5000);
  CHECK (record_count (m.r, RECORD_TRUNCATE) == 2);

  /* A sync that failed covers nothing. */
  record_fail_at (m.r, RECORD_SYNC, 1, EIO, false);
  CHECK_FAILS (source_sync (m.src), EIO);
  check_all (m, record_position (m.r), RECORD_NONE, '0');
  free_machine (m);
}

static void
test_marks (void)
{
  struct machine m = new_machine ('0', LEN);
  char text[1024] = "";
  FILE *fp = fmemopen (text, sizeof text, "w");

  fill (m.src, '1', LEN, 0);
  record_mark (m.r, 42);
  CHECK (!record_is_marked (m.r, 2, 42));
  CHECK (record_is_marked (m.r, 3, 42));
  CHECK (!record_is_marked (m.r, 3, 43));
  CHECK (record_position (m.r) == 3);

  record_print (m.r, fp, 0, 3);
  fclose (fp);
  CHECK (strstr (text, "disk: write 4096 bytes at 0, ended at 1\n") != NULL);
  CHECK (strstr (text, "mark 42\n") != NULL);
  free_machine (m);
}

#define NR_THREADS 4

static void *
write_and_sync (void *arg)
{
  struct source *src = arg;
  static _Atomic unsigned next;
  unsigned index = next++;

  for (unsigned i = 0; i < 100; i++) {
    fill (src, (char) ('1' + index), SECTOR, index * SECTOR);
    if (i % 8 == 7)
      CHECK (source_sync (src) == 0);
  }
  return NULL;
}

/* Several writers: at the end, what each had synced is there, whatever
 * the seed; the log has every call.
 */
static void
test_threads (void)
{
  struct machine m = new_machine ('0', LEN);
  pthread_t threads[NR_THREADS];
  char buf[LEN];

  for (unsigned i = 0; i < NR_THREADS; i++)
    CHECK (pthread_create (&threads[i], NULL, write_and_sync, m.src) == 0);
  for (unsigned i = 0; i < NR_THREADS; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  CHECK (record_count (m.r, RECORD_WRITE) == NR_THREADS * 100);
  CHECK (record_position (m.r) == NR_THREADS * (200 + 24));
  for (uint64_t seed = 0; seed < 20; seed++) {
    look (m, record_position (m.r), seed, RECORD_RANDOM, buf);
    for (size_t i = 0; i < NR_THREADS; i++)
      CHECK (buf[i * SECTOR] == (char) ('1' + i));
  }
  for (size_t p = 0; p <= record_position (m.r); p += 37)
    look (m, p, p, RECORD_RANDOM, buf);
  free_machine (m);
}

int
main (void)
{
  test_barrier ();
  test_write_beside_sync ();
  test_torn ();
  test_one_sector ();
  test_zero ();
  test_truncate ();
  test_growth ();
  test_skipped_sync ();
  test_two_sources ();
  test_faults ();
  test_marks ();
  test_threads ();
  return EXIT_SUCCESS;
}
