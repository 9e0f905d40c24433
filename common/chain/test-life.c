/* Tests of the life of a chain: stages, locks, what is changed and when.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chain/life.h"
#include "raw/raw.h"
#include "report/report.h"

#define DISK_LEN (UINT64_C (1) << 20)

static char path[] = "/tmp/test-life-XXXXXX";

static const struct format *const formats[] = { &raw_format, NULL };

static struct chain_settings settings = {
  .format = &raw_format,
  .formats = formats,
  .file = path,
  .fd = -1,
  .lock = SOURCE_LOCK_ON,
  .cache_size = 1 << 20,
};

/* Another program: does anybody hold this lock byte? */
static bool
is_locked (unsigned byte)
{
  struct flock fl = {
    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
  };
  int fd = open (path, O_RDWR | O_CLOEXEC);

  assert (fd >= 0);
  assert (fcntl (fd, F_OFD_GETLK, &fl) == 0);
  close (fd);
  return fl.l_type != F_UNLCK;
}

/* Exactly these of 100, 101, 103, 201, 203 are held. */
static void
expect_locks (bool b100, bool b101, bool b103, bool b201, bool b203)
{
  assert (is_locked (100) == b100);
  assert (is_locked (101) == b101);
  assert (is_locked (103) == b103);
  assert (is_locked (201) == b201);
  assert (is_locked (203) == b203);
}

#define EXPECT_NOTHING() expect_locks (false, false, false, false, false)
#define EXPECT_PROBED() expect_locks (true, false, false, false, false)
#define EXPECT_READ() expect_locks (true, false, false, true, true)
#define EXPECT_WRITTEN() expect_locks (true, true, true, true, true)

/* Another program takes some lock bytes; close the result to end that. */
static int
hold_byte (unsigned byte)
{
  struct flock fl = {
    .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
  };
  int fd = open (path, O_RDWR | O_CLOEXEC);

  assert (fd >= 0);
  assert (fcntl (fd, F_OFD_SETLK, &fl) == 0);
  return fd;
}

static unsigned char
byte_read (struct life *life, uint64_t guest)
{
  CLEANUP_VISIT struct life_visit visit;
  unsigned char c;

  assert (image_read (life_enter (life, false, &visit), &c, 1, guest) == 0);
  return c;
}

static int
byte_write (struct life *life, uint64_t guest, unsigned char c)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = life_enter (life, true, &visit);

  return img ? image_write (img, &c, 1, guest) : -1;
}

static void
end (struct life *life)
{
  assert (life_end (life) == 0);
  EXPECT_NOTHING ();
  life_free (life);
}

static void
test_reader (void)
{
  struct life *life = life_start (&settings);

  assert (life);
  EXPECT_PROBED ();
  assert (life_connect (life, true) == 0);
  EXPECT_READ ();
  assert (!life_can_write (life));
  assert (byte_read (life, 0) == 0);
  life_disconnect (life);
  EXPECT_READ ();
  end (life);
}

static void
test_writer (void)
{
  struct life *life = life_start (&settings);

  assert (life);
  assert (life_connect (life, false) == 0);
  EXPECT_WRITTEN ();
  assert (life_can_write (life));
  assert (byte_write (life, 5, 'x') == 0);
  assert (byte_read (life, 5) == 'x');
  life_disconnect (life);
  end (life);
}

/* A reader first, then a writer, then the end with both still there. */
static void
test_reader_then_writer (void)
{
  struct life *life = life_start (&settings);

  assert (life);
  assert (life_connect (life, true) == 0);
  assert (byte_read (life, 5) == 'x');
  assert (life_connect (life, false) == 0);
  EXPECT_WRITTEN ();
  assert (life_can_write (life));
  assert (byte_write (life, 5, 'y') == 0);
  assert (byte_read (life, 5) == 'y');
  assert (life_end (life) == 0);
  EXPECT_NOTHING ();
  assert (byte_write (life, 5, 'z') == -1 && errno == ESHUTDOWN);
  assert (byte_read (life, 5) == 'y');
  life_free (life);
}

/* What others change between the start and the first client is seen. */
static void
test_changed_meanwhile (void)
{
  struct life *life = life_start (&settings);

  assert (life);
  assert (truncate (path, 2 * DISK_LEN) == 0);
  assert (life_connect (life, true) == 0);
  assert (chain_top (life_chain (life))->len == 2 * DISK_LEN);
  assert (byte_read (life, DISK_LEN) == 0);
  assert (truncate (path, DISK_LEN) == 0);
  end (life);
}

static void
test_other_writes (void)
{
  int other = hold_byte (101);
  struct life *life;

  assert (life_start (&settings) == NULL && errno == EAGAIN);
  settings.force_share = true;
  life = life_start (&settings);
  assert (life);
  assert (life_connect (life, false) == 0);
  assert (!life_can_write (life));
  assert (life_end (life) == 0);
  life_free (life);
  settings.force_share = false;
  settings.lock = SOURCE_LOCK_OFF;
  life = life_start (&settings);
  assert (life);
  assert (life_end (life) == 0);
  life_free (life);
  settings.lock = SOURCE_LOCK_ON;
  close (other);

  /* The other comes after the start, before the first client. */
  life = life_start (&settings);
  assert (life);
  other = hold_byte (101);
  assert (life_connect (life, true) == -1 && errno == EAGAIN);
  assert (life_connect (life, false) == -1);
  close (other);
  assert (life_connect (life, false) == 0);
  assert (life_can_write (life));
  end (life);
}

/* Others that read keep us from writing, not from reading. */
static void
test_other_reads (void)
{
  struct life *life = life_start (&settings);
  int other = hold_byte (201);

  assert (life);
  assert (life_connect (life, false) == 0);
  assert (!life_can_write (life));
  EXPECT_READ ();
  assert (byte_read (life, 5) == 'y');
  assert (byte_write (life, 5, 'z') == -1 && errno == EROFS);
  close (other);
  assert (life_connect (life, false) == 0);
  assert (!life_can_write (life));
  end (life);
}

/* A file that this user may only read.  (Root may write everything.) */
static void
test_not_permitted (void)
{
  struct life *life;

  if (geteuid () == 0)
    return;
  assert (chmod (path, 0400) == 0);
  life = life_start (&settings);
  assert (life);
  assert (life_connect (life, false) == 0);
  assert (!life_can_write (life));
  EXPECT_READ ();
  assert (chmod (path, 0600) == 0);
  end (life);
}

struct traffic {
  struct life *life;
  _Atomic bool stop;
  _Atomic unsigned long nr_reads;
};

static void *
read_on (void *arg)
{
  struct traffic *t = arg;

  while (!t->stop) {
    unsigned char c = byte_read (t->life, 5);

    assert (c == 'y' || c == 'w');
    t->nr_reads++;
  }
  return NULL;
}

/* The upgrade happens amid requests of readers. */
static void
test_upgrade_under_load (void)
{
  struct traffic t = { .life = life_start (&settings) };
  pthread_t threads[4];

  assert (t.life);
  assert (life_connect (t.life, true) == 0);
  for (size_t i = 0; i < 4; i++)
    assert (pthread_create (&threads[i], NULL, read_on, &t) == 0);
  while (t.nr_reads < 100)
    sched_yield ();
  assert (life_connect (t.life, false) == 0);
  assert (life_can_write (t.life));
  assert (byte_write (t.life, 5, 'w') == 0);
  while (t.nr_reads < 1000)
    sched_yield ();
  t.stop = true;
  for (size_t i = 0; i < 4; i++)
    assert (pthread_join (threads[i], NULL) == 0);
  end (t.life);
}

int
main (void)
{
  int fd = mkstemp (path);

  assert (fd >= 0 && ftruncate (fd, DISK_LEN) == 0);
  close (fd);
  test_reader ();
  test_writer ();
  test_reader_then_writer ();
  test_changed_meanwhile ();
  test_other_writes ();
  test_other_reads ();
  test_not_permitted ();
  test_upgrade_under_load ();
  unlink (path);
  return 0;
}
