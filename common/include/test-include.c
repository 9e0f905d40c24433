/* Test the inline code of this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "include/testing.h"

static void
test_byte_order (void)
{
  static const uint8_t disk[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
  const uint8_t *p = disk + 1;  /* not aligned */
  _Alignas (8) uint8_t entry[8];
  uint8_t out[9] = { 0 };

  CHECK (load_be16 (p) == 0x0102);
  CHECK (load_be32 (p) == 0x01020304);
  CHECK (load_be64 (p) == UINT64_C (0x0102030405060708));

  store_be16 (out + 1, 0x0102);
  CHECK (memcmp (out + 1, p, 2) == 0);
  store_be32 (out + 1, 0x01020304);
  CHECK (memcmp (out + 1, p, 4) == 0);
  store_be64 (out + 1, UINT64_C (0x0102030405060708));
  CHECK (memcmp (out + 1, p, 8) == 0);
  CHECK (out[0] == 0);

  store_entry_be64 (entry, UINT64_C (0x0102030405060708));
  CHECK (memcmp (entry, p, 8) == 0);
  CHECK (load_entry_be64 (entry) == UINT64_C (0x0102030405060708));
}

static void
test_checked (void)
{
  uint64_t r;
  uint32_t r32;

  CHECK (!ADD_OVERFLOW (UINT64_MAX - 1, UINT64_C (1), &r));
  CHECK (r == UINT64_MAX);
  CHECK (ADD_OVERFLOW (UINT64_MAX, UINT64_C (1), &r));
  CHECK (ADD_OVERFLOW (UINT64_C (1) << 32, 0, &r32));
  CHECK (!MUL_OVERFLOW (UINT64_C (1) << 31, UINT64_C (1) << 32, &r));
  CHECK (r == UINT64_C (1) << 63);
  CHECK (MUL_OVERFLOW (UINT64_C (1) << 32, UINT64_C (1) << 32, &r));

  CHECK (MIN (3, 4) == 3 && MIN (4, 3) == 3);
  CHECK (MAX (3, 4) == 4 && MAX (4, 3) == 4);

  CHECK (round_down (4095, 512) == 3584 && round_down (512, 512) == 512);
  CHECK (round_up (1, 512) == 512 && round_up (512, 512) == 512);
  CHECK (round_up (0, 512) == 0);
  CHECK (div_round_up (0, 3) == 0 && div_round_up (7, 3) == 3);
  CHECK (div_round_up (6, 3) == 2);
  CHECK (div_round_up (UINT64_MAX, 2) == UINT64_C (1) << 63);

  CHECK (is_power_of_2 (1) && is_power_of_2 (UINT64_C (1) << 63));
  CHECK (!is_power_of_2 (0) && !is_power_of_2 (6));

  CHECK (range_is_inside (0, 0, 0) && range_is_inside (5, 5, 10));
  CHECK (!range_is_inside (5, 6, 10) && !range_is_inside (11, 0, 10));
  CHECK (!range_is_inside (UINT64_MAX, 2, 10));
  CHECK (!range_is_inside (2, UINT64_MAX, 10));
}

static int
descriptor_left_open (int keep)
{
  CLEANUP_CLOSE int fd = open ("/dev/null", O_RDONLY);
  int number = fd;

  CHECK (fd >= 0);
  if (keep)
    return STEAL_FD (fd);
  return number;
}

static char *
copy_of (const char *s)
{
  CLEANUP_FREE char *copy = strdup (s);

  CHECK (copy != NULL);
  return STEAL (copy);
}

static void
test_cleanup (void)
{
  CLEANUP_FREE char *copy = copy_of ("kept");
  int fd;

  CHECK (strcmp (copy, "kept") == 0);
  fd = descriptor_left_open (1);
  CHECK (fcntl (fd, F_GETFD) != -1);
  CHECK (close (fd) == 0);
  fd = descriptor_left_open (0);
  CHECK_FAILS (fcntl (fd, F_GETFD), EBADF);
}

#define NR_THREADS 4
#define NR_ROUNDS 1000

static struct lock counter_lock = LOCK_INITIALIZER;
static struct condition counter_changed;
static unsigned counter;        /* guarded by counter_lock */

static void *
count_to_end (void *unused)
{
  (void) unused;
  for (int i = 0; i < NR_ROUNDS; i++) {
    LOCK_SCOPE (&counter_lock);
    assert_held (&counter_lock);
    counter++;
    condition_wake_all (&counter_changed);
  }
  return NULL;
}

static void
test_lock (void)
{
  struct timespec past = { 0, 0 };
  pthread_t threads[NR_THREADS];

  condition_init (&counter_changed);
  for (int i = 0; i < NR_THREADS; i++)
    CHECK (pthread_create (&threads[i], NULL, count_to_end, NULL) == 0);
  {
    LOCK_SCOPE (&counter_lock);
    while (counter < NR_THREADS * NR_ROUNDS)
      condition_wait (&counter_changed, &counter_lock);
    CHECK (!condition_wait_until (&counter_changed, &counter_lock, &past));
    assert_held (&counter_lock);
  }
  for (int i = 0; i < NR_THREADS; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  CHECK (!counter_lock.held);
  condition_destroy (&counter_changed);
}

int
main (void)
{
  test_byte_order ();
  test_checked ();
  test_cleanup ();
  test_lock ();
  return EXIT_SUCCESS;
}
