/* Test file sources on a system that misbehaves: short and interrupted
 * transfers, missing features, no locks, failed syncs.
 *
 * The system calls concerned are replaced in this program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "include/testing.h"
#include "source/file.h"
#include "source/test-dir.h"

static bool transfers_are_short;
static off_t write_limit = -1;  /* no byte can be written from here on */
static int fallocate_error, seek_error, lock_error, sync_error;
static unsigned nr_transfers, nr_fallocates, nr_seeks, nr_syncs;

/* Each function under both names that a C library may use for it. */
#define REPLACE(type, name, args)                                       \
  type fake_##name args __asm__ (#name);                                \
  type fake_##name##64 args __asm__ (#name "64")

REPLACE (ssize_t, pread, (int fd, void *buf, size_t len, off_t host));
REPLACE (ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t host));
REPLACE (int, fallocate, (int fd, int mode, off_t host, off_t len));
REPLACE (off_t, lseek, (int fd, off_t host, int whence));
REPLACE (int, fcntl, (int fd, int command, ...));
int fake_fdatasync (int fd) __asm__ ("fdatasync");

static bool
is_interrupted (size_t *len)
{
  if (!transfers_are_short)
    return false;
  *len = *len > 3 ? 3 : *len;
  errno = EINTR;
  return ++nr_transfers % 2 == 1;
}

ssize_t
fake_pread (int fd, void *buf, size_t len, off_t host)
{
  if (is_interrupted (&len))
    return -1;
  return syscall (SYS_pread64, fd, buf, len, host);
}

ssize_t
fake_pread64 (int fd, void *buf, size_t len, off_t host)
{
  return fake_pread (fd, buf, len, host);
}

ssize_t
fake_pwrite (int fd, const void *buf, size_t len, off_t host)
{
  if (is_interrupted (&len))
    return -1;
  if (write_limit >= 0 && host + (off_t) len > write_limit) {
    errno = ENOSPC;
    if (host >= write_limit)
      return -1;
    len = (size_t) (write_limit - host);
  }
  return syscall (SYS_pwrite64, fd, buf, len, host);
}

ssize_t
fake_pwrite64 (int fd, const void *buf, size_t len, off_t host)
{
  return fake_pwrite (fd, buf, len, host);
}

int
fake_fallocate (int fd, int mode, off_t host, off_t len)
{
  nr_fallocates++;
  if (fallocate_error != 0) {
    errno = fallocate_error;
    return -1;
  }
  return (int) syscall (SYS_fallocate, fd, mode, host, len);
}

int
fake_fallocate64 (int fd, int mode, off_t host, off_t len)
{
  return fake_fallocate (fd, mode, host, len);
}

off_t
fake_lseek (int fd, off_t host, int whence)
{
  if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    nr_seeks++;
    if (seek_error != 0) {
      errno = seek_error;
      return -1;
    }
  }
  return syscall (SYS_lseek, fd, host, whence);
}

off_t
fake_lseek64 (int fd, off_t host, int whence)
{
  return fake_lseek (fd, host, whence);
}

static int
do_fcntl (int fd, int command, void *arg)
{
  if (lock_error != 0
      && (command == F_OFD_SETLK || command == F_OFD_GETLK)) {
    errno = lock_error;
    return -1;
  }
  return (int) syscall (SYS_fcntl, fd, command, arg);
}

int
fake_fcntl (int fd, int command, ...)
{
  va_list args;
  void *arg;

  va_start (args, command);
  arg = va_arg (args, void *);
  va_end (args);
  return do_fcntl (fd, command, arg);
}

int
fake_fcntl64 (int fd, int command, ...)
{
  va_list args;
  void *arg;

  va_start (args, command);
  arg = va_arg (args, void *);
  va_end (args);
  return do_fcntl (fd, command, arg);
}

int
fake_fdatasync (int fd)
{
  nr_syncs++;
  if (sync_error != 0) {
    errno = sync_error;
    return -1;
  }
  return (int) syscall (SYS_fdatasync, fd);
}

static struct source *
open_new (const char *name)
{
  int fd = open (test_path (name), O_CREAT | O_EXCL | O_RDWR, 0600);
  struct source *src;

  CHECK (fd >= 0 && close (fd) == 0);
  src = source_file_open (test_path (name), true);
  CHECK (src != NULL);
  return src;
}

static void
test_transfers (void)
{
  struct source *src = open_new ("short");
  char buf[10];

  transfers_are_short = true;
  CHECK (source_pwrite (src, "0123456789", 10, 0) == 0);
  CHECK (nr_transfers == 8);
  CHECK (source_pread (src, buf, 10, 0) == 0);
  CHECK (nr_transfers == 16);
  CHECK (memcmp (buf, "0123456789", 10) == 0);
  transfers_are_short = false;
  source_put (src);
}

/* A write that fails half way leaves bytes, which must not show up when
 * the source grows over them as zeroes.
 */
static void
test_partial_growth (void)
{
  struct source *src = open_new ("partial");
  struct stat st;
  char byte;

  write_limit = 6;
  CHECK_FAILS (source_pwrite (src, "0123456789", 10, 0), ENOSPC);
  write_limit = -1;
  CHECK (fstat (source_file_descriptor (src), &st) == 0);
  CHECK (st.st_size == 6 && source_len (src) == 6);
  CHECK (source_zero (src, 10, 0, SOURCE_ZERO_PUNCH) == 0);
  for (uint64_t i = 0; i < 10; i++)
    CHECK (source_pread (src, &byte, 1, i) == 0 && byte == 0);
  source_put (src);
}

static void
test_no_fallocate (void)
{
  struct source *src = open_new ("plain");
  char buf[3];

  CHECK (source_pwrite (src, "xxx", 3, 0) == 0);
  fallocate_error = EOPNOTSUPP;
  nr_fallocates = 0;
  CHECK_FAILS (source_zero_fast (src, 1, 1, SOURCE_ZERO_PUNCH), ENOTSUP);
  CHECK (nr_fallocates == 2);
  CHECK (source_zero (src, 1, 1, SOURCE_ZERO_PUNCH) == 0);
  CHECK (source_zero (src, 1, 1, SOURCE_ZERO_KEEP) == 0);
  CHECK (nr_fallocates == 2);   /* never asked again */
  CHECK (source_pread (src, buf, 3, 0) == 0);
  CHECK (memcmp (buf, "x\0x", 3) == 0);
  source_put (src);

  /* Other failures are failures. */
  src = open_new ("failing");
  CHECK (source_pwrite (src, "xxx", 3, 0) == 0);
  fallocate_error = ENOSPC;
  CHECK_FAILS (source_zero (src, 1, 1, SOURCE_ZERO_KEEP), ENOSPC);
  fallocate_error = 0;
  source_put (src);
}

static void
test_no_holes (void)
{
  struct source *src = open_new ("seek");
  struct source_extent ext;

  CHECK (source_grow (src, 1 << 20) == 0);
  seek_error = EINVAL;
  nr_seeks = 0;
  for (int i = 0; i < 3; i++) {
    ext = source_extent (src, 512, 1 << 20);
    CHECK (!ext.hole && ext.len == (1 << 20) - 512);
  }
  CHECK (nr_seeks == 1);
  seek_error = 0;
  source_put (src);
}

static void
test_no_locks (void)
{
  struct source *src = open_new ("locks");

  lock_error = ENOLCK;
  CHECK_FAILS (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON),
               ENOTSUP);
  CHECK (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_AUTO) == 0);
  CHECK (source_file_lock (src, SOURCE_LOCK_READ, SOURCE_LOCK_OFF) == 0);
  source_file_unlock (src);

  /* A failure of the moment is no reason to go on without locks. */
  lock_error = EIO;
  CHECK_FAILS (source_file_lock (src, SOURCE_LOCK_READ, SOURCE_LOCK_AUTO),
               EIO);
  lock_error = 0;
  CHECK (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  source_put (src);
}

static void
test_failed_sync (void)
{
  struct source *src = open_new ("sync"), *beside, *fresh;
  struct stat failed, st;

  beside = source_file_open (test_path ("sync"), true);
  CHECK (source_sync (src) == 0 && source_sync (beside) == 0);
  sync_error = ENOSPC;
  CHECK_FAILS (source_sync (src), ENOSPC);
  sync_error = 0;
  nr_syncs = 0;
  CHECK_FAILS (source_sync (src), EIO);
  CHECK_FAILS (source_sync (beside), EIO);
  CHECK (nr_syncs == 0);

  /* Across close and open, under another name, too. */
  source_put (src);
  source_put (beside);
  CHECK (link (test_path ("sync"), test_path ("linked")) == 0);
  src = source_file_open (test_path ("linked"), true);
  CHECK (source_pwrite (src, "x", 1, 0) == 0);
  CHECK_FAILS (source_sync (src), EIO);
  CHECK (fstat (source_file_descriptor (src), &failed) == 0);
  source_put (src);

  /* But only that file: its number is not used again. */
  CHECK (unlink (test_path ("sync")) == 0);
  CHECK (unlink (test_path ("linked")) == 0);
  fresh = open_new ("sync");
  CHECK (fstat (source_file_descriptor (fresh), &st) == 0);
  CHECK (st.st_ino != failed.st_ino);
  CHECK (source_sync (fresh) == 0);
  source_put (fresh);
}

int
main (void)
{
  test_dir_make ();
  test_transfers ();
  test_partial_growth ();
  test_no_fallocate ();
  test_no_holes ();
  test_no_locks ();
  test_failed_sync ();
  return EXIT_SUCCESS;
}
