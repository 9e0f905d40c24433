/* Test sources on regular files (and descriptors, and refusals).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "include/testing.h"
#include "source/file.h"
#include "source/test-dir.h"

#define MIB UINT64_C (1048576)

static const char *
new_file (const char *name, const char *content, size_t len)
{
  const char *path = test_path (name);
  int fd = open (path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

  CHECK (fd >= 0 && write (fd, content, len) == (ssize_t) len);
  CHECK (close (fd) == 0);
  return path;
}

static off_t
length_on_disk (const char *path)
{
  struct stat st;

  CHECK (stat (path, &st) == 0);
  return st.st_size;
}

static void
test_read_write (void)
{
  const char *path = new_file ("plain", "hello", 5);
  struct source *src = source_file_open (path, true);
  char buf[16];

  CHECK (src != NULL && source_is_file (src) && source_len (src) == 5);
  CHECK (src->writable && src->can_grow && src->alignment >= 512);
  CHECK (source_pread (src, buf, 5, 0) == 0);
  CHECK (memcmp (buf, "hello", 5) == 0);
  CHECK_FAILS (source_pread (src, buf, 6, 0), EIO);
  memset (buf, 'x', sizeof buf);
  CHECK (source_pread_padded (src, buf, 10, 2) == 0);
  CHECK (memcmp (buf, "llo\0\0\0\0\0\0\0xx", 12) == 0);

  CHECK (source_pwrite (src, "end", 3, 5000) == 0);
  CHECK (source_len (src) == 5003 && length_on_disk (path) == 5003);
  CHECK (source_pread (src, buf, 8, 4995) == 0);
  CHECK (memcmp (buf, "\0\0\0\0\0end", 8) == 0);
  CHECK (source_sync (src) == 0);
  source_prefetch (src, 0, 5003);

  CHECK (source_truncate (src, 3) == 0 && length_on_disk (path) == 3);
  CHECK (source_grow (src, 100) == 0 && length_on_disk (path) == 100);
  CHECK (source_grow (src, 50) == 0 && length_on_disk (path) == 100);
  CHECK (source_pread (src, buf, 8, 0) == 0);
  CHECK (memcmp (buf, "hel\0\0\0\0\0", 8) == 0);
  (void) source_file_is_rotational (src);
  source_put (src);
}

static void
test_readonly (void)
{
  const char *path = new_file ("readonly", "hello", 5);
  struct source *src = source_file_open (path, false);

  CHECK (src != NULL && !src->writable);
  CHECK_FAILS (source_pwrite (src, "x", 1, 0), EROFS);
  CHECK_FAILS (source_zero (src, 1, 0, SOURCE_ZERO_PUNCH), EROFS);
  CHECK_FAILS (source_truncate (src, 0), EROFS);
  CHECK (source_sync (src) == 0);
  source_put (src);
}

/* Zeroing, inside and over the end, whatever the file system can do. */
static void
test_zero (void)
{
  static const enum source_zero_mode modes[] = {
    SOURCE_ZERO_KEEP, SOURCE_ZERO_PUNCH,
  };
  char *x = malloc (MIB), *buf = malloc (MIB);

  memset (x, 'x', MIB);
  for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
    const char *path = new_file ("zero", x, MIB);
    struct source *src = source_file_open (path, true);

    CHECK (source_zero (src, 300000, 1001, modes[i]) == 0);
    CHECK (source_len (src) == MIB);
    CHECK (source_pread (src, buf, MIB, 0) == 0);
    CHECK (memcmp (buf, x, 1001) == 0);
    for (size_t k = 1001; k < 301001; k++)
      CHECK (buf[k] == 0);
    CHECK (memcmp (buf + 301001, x, MIB - 301001) == 0);

    CHECK (source_zero (src, 2 * MIB, MIB - 10, modes[i]) == 0);
    CHECK (source_len (src) == 3 * MIB - 10);
    CHECK (length_on_disk (path) == 3 * MIB - 10);
    CHECK (source_pread (src, buf, 100, MIB - 20) == 0);
    CHECK (memcmp (buf, x, 10) == 0);
    for (size_t k = 10; k < 100; k++)
      CHECK (buf[k] == 0);
    source_put (src);
  }
  free (x);
  free (buf);
}

/* The extents cover the range, and what is called a hole has no bytes; on
 * file systems that know holes the wide one is found.
 */
static void
test_extents (void)
{
  const char *path = new_file ("extents", "", 0);
  struct source *src = source_file_open (path, true);
  int fd = source_file_descriptor (src);
  uint64_t len = 64 * MIB, holes = 0;
  char byte;

  CHECK (source_pwrite (src, "a", 1, 0) == 0);
  CHECK (source_pwrite (src, "b", 1, 32 * MIB) == 0);
  CHECK (source_grow (src, len) == 0);
  for (uint64_t host = 0; host < len;) {
    struct source_extent ext = source_extent (src, host, len - host);

    CHECK (ext.len > 0 && ext.len <= len - host);
    if (ext.hole) {
      holes += ext.len;
      CHECK (host > 0 && (host > 32 * MIB || host + ext.len <= 32 * MIB));
      CHECK (source_pread (src, &byte, 1, host) == 0 && byte == 0);
    }
    host += ext.len;
  }
  if (lseek (fd, 0, SEEK_HOLE) < (off_t) len)
    CHECK (holes > 60 * MIB);
  source_put (src);
}

static void
test_other_program_shortens (void)
{
  const char *path = new_file ("shrunk", "hello", 5);
  struct source *src = source_file_open (path, false);
  char buf[5];

  CHECK (truncate (path, 3) == 0);
  CHECK_FAILS (source_pread (src, buf, 5, 0), EIO);
  CHECK (source_pread (src, buf, 3, 0) == 0);
  source_put (src);
}

static void
check_refused (const char *path, int err)
{
  for (int writable = 0; writable < 2; writable++) {
    errno = 0;
    CHECK (source_file_open (path, writable) == NULL);
    CHECK (errno == err);
  }
}

static void
test_refusals (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int s = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int fd;

  check_refused (test_path ("missing"), ENOENT);
  check_refused (test_path ("."), EINVAL);
  check_refused ("/dev/null", EINVAL);

  CHECK (mkfifo (test_path ("fifo"), 0600) == 0);
  check_refused (test_path ("fifo"), EINVAL);
  fd = open (test_path ("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  CHECK (fd >= 0);
  CHECK (source_file_fd (fd, "fifo", false) == NULL && errno == EINVAL);
  close (fd);

  /* The name of a socket is short: relative to the directory. */
  CHECK (s >= 0 && chdir (test_path (".")) == 0);
  strcpy (address.sun_path, "socket");
  CHECK (bind (s, (struct sockaddr *) &address, sizeof address) == 0);
  close (s);
  check_refused ("socket", EINVAL);
  CHECK (chdir ("/") == 0);
}

static void
test_descriptor (void)
{
  const char *path = new_file ("fd", "hello", 5);
  int rw = open (path, O_RDWR), ro = open (path, O_RDONLY);
  int wo = open (path, O_WRONLY), append = open (path, O_RDWR | O_APPEND);
  struct source *src;
  char buf[5];

  CHECK (rw >= 0 && ro >= 0 && wo >= 0 && append >= 0);
  src = source_file_fd (rw, "fd:rw", true);
  CHECK (src != NULL && source_file_descriptor (src) != rw);
  CHECK (source_pwrite (src, "J", 1, 0) == 0);
  source_put (src);

  src = source_file_fd (rw, "fd:rw", false);
  CHECK (src != NULL && !src->writable);
  CHECK_FAILS (source_pwrite (src, "x", 1, 0), EROFS);
  CHECK (source_file_upgrade (src) == 0 && src->writable);
  source_put (src);

  src = source_file_fd (ro, "fd:ro", false);
  CHECK (src != NULL && source_pread (src, buf, 5, 0) == 0);
  CHECK (memcmp (buf, "Jello", 5) == 0);
  source_put (src);

  CHECK (source_file_fd (ro, "fd:ro", true) == NULL && errno == EINVAL);
  CHECK (source_file_fd (wo, "fd:wo", true) == NULL && errno == EINVAL);
  CHECK (source_file_fd (append, "fd:a", true) == NULL && errno == EINVAL);
  src = source_file_fd (append, "fd:a", false);
  CHECK (src != NULL);
  CHECK (source_file_upgrade (src) == 0);
  CHECK (source_pwrite (src, "M", 1, 0) == 0);
  CHECK (length_on_disk (path) == 5);
  source_put (src);
  CHECK (fcntl (rw, F_GETFD) != -1);
  CHECK (source_file_fd (-1, "fd:none", false) == NULL && errno == EBADF);
  close (rw);
  close (ro);
  close (wo);
  close (append);
}

/* The file stays the same one, and so does the descriptor's number. */
static void
test_upgrade (void)
{
  const char *path = new_file ("upgrade", "hello", 5);
  struct source *src = source_file_open (path, false);
  struct source *same = source_file_open (path, false), *other;
  int fd = source_file_descriptor (src);
  char buf[5];

  CHECK (rename (path, test_path ("renamed")) == 0);
  other = source_file_open (new_file ("upgrade", "other", 5), false);
  CHECK (source_file_same (src, same) && !source_file_same (src, other));
  CHECK (source_file_upgrade (src) == 0 && src->writable);
  CHECK (source_file_descriptor (src) == fd);
  CHECK (fcntl (fd, F_GETFD) == FD_CLOEXEC);
  CHECK (source_file_upgrade (src) == 0);
  CHECK (source_pwrite (src, "J", 1, 0) == 0);
  CHECK (source_pread (same, buf, 5, 0) == 0);
  CHECK (memcmp (buf, "Jello", 5) == 0);
  CHECK (source_pread (other, buf, 5, 0) == 0);
  CHECK (memcmp (buf, "other", 5) == 0);
  source_put (src);
  source_put (same);
  source_put (other);
}

/* Root may write anything, but not under any identity. */
static void
test_upgrade_refused (void)
{
  const char *path = new_file ("guarded", "hello", 5);
  struct source *src;
  uid_t uid = geteuid ();

  CHECK (chmod (path, 0444) == 0);
  src = source_file_open (path, false);
  CHECK (src != NULL);
  if (uid == 0)
    CHECK (seteuid (65534) == 0);
  CHECK_FAILS (source_file_upgrade (src), EACCES);
  CHECK (!src->writable);
  if (uid == 0)
    CHECK (seteuid (0) == 0);
  CHECK (source_pwrite (src, "x", 1, 0) == -1 && errno == EROFS);
  source_put (src);
}

int
main (void)
{
  test_dir_make ();
  test_read_write ();
  test_readonly ();
  test_zero ();
  test_extents ();
  test_other_program_shortens ();
  test_refusals ();
  test_descriptor ();
  test_upgrade ();
  test_upgrade_refused ();
  return EXIT_SUCCESS;
}
