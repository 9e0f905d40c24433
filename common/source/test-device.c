/* Test sources on a block device: a loop device, where we may make one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "include/testing.h"
#include "source/file.h"
#include "source/test-dir.h"

#define MIB UINT64_C (1048576)
#define SKIPPED 77

static char device[64];

static void
skip (const char *what)
{
  printf ("skipped: %s: %s\n", what, strerror (errno));
  exit (SKIPPED);
}

/* Bind a free loop device to the file; it goes with its last descriptor. */
static int
make_device (int file)
{
  struct loop_config config = {
    .fd = (uint32_t) file,
    .info = { .lo_flags = LO_FLAGS_AUTOCLEAR },
  };
  int control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC);

  if (control == -1)
    skip ("/dev/loop-control");
  for (int attempt = 0; attempt < 100; attempt++) {
    int number = ioctl (control, LOOP_CTL_GET_FREE);
    int fd;

    if (number == -1)
      skip ("no free loop device");
    snprintf (device, sizeof device, "/dev/loop%d", number);
    fd = open (device, O_RDWR | O_CLOEXEC);
    if (fd == -1)
      skip (device);
    if (ioctl (fd, LOOP_CONFIGURE, &config) == 0) {
      close (control);
      return fd;
    }
    if (errno != EBUSY)
      skip (device);
    close (fd);                 /* somebody was quicker */
  }
  skip ("no free loop device");
  return -1;
}

static void
test_bytes (struct source *src)
{
  char buf[16];

  CHECK (source_pwrite (src, "odd", 3, 1001) == 0);
  CHECK (source_pread (src, buf, 5, 1000) == 0);
  CHECK (memcmp (buf, "\0odd\0", 5) == 0);
  CHECK (source_pwrite (src, "end", 3, 4 * MIB - 3) == 0);
  CHECK_FAILS (source_pwrite (src, "end", 3, 4 * MIB - 2), ENOSPC);
  CHECK_FAILS (source_grow (src, 4 * MIB + 1), ENOSPC);
  CHECK_FAILS (source_truncate (src, MIB), ENOTSUP);
  CHECK (source_sync (src) == 0);
}

static void
test_zero (struct source *src)
{
  static const enum source_zero_mode modes[] = {
    SOURCE_ZERO_KEEP, SOURCE_ZERO_PUNCH,
  };
  char *x = malloc (MIB), *buf = malloc (MIB);

  CHECK (x != NULL && buf != NULL);
  memset (x, 'x', MIB);
  for (int i = 0; i < 2; i++) {
    CHECK (source_pwrite (src, x, MIB, 0) == 0);
    CHECK (source_zero (src, 500000, 1001, modes[i]) == 0);
    CHECK (source_zero (src, 5, 600000, modes[i]) == 0);
    CHECK (source_pread (src, buf, MIB, 0) == 0);
    for (size_t k = 0; k < MIB; k++) {
      bool is_zero = (k >= 1001 && k < 501001)
        || (k >= 600000 && k < 600005);

      CHECK (buf[k] == (is_zero ? 0 : 'x'));
    }
  }
  free (x);
  free (buf);
}

int
main (void)
{
  struct source *src, *same;
  struct source_extent ext;
  int file, fd;

  test_dir_make ();
  file = open (test_path ("backing"), O_CREAT | O_EXCL | O_RDWR, 0600);
  CHECK (file >= 0 && ftruncate (file, 4 * MIB) == 0);
  fd = make_device (file);

  src = source_file_open (device, false);
  same = source_file_open (device, false);
  CHECK (src != NULL && same != NULL && source_file_same (src, same));
  CHECK (source_len (src) == 4 * MIB && !src->can_grow);
  CHECK (src->alignment >= 512 && (src->alignment & 511) == 0);
  ext = source_extent (src, 100, 4 * MIB);
  CHECK (!ext.hole && ext.len == 4 * MIB - 100);
  CHECK (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  CHECK (source_file_upgrade (src) == 0);
  test_bytes (src);
  test_zero (src);
  (void) source_file_is_rotational (src);
  source_put (src);
  source_put (same);
  close (fd);
  close (file);
  return EXIT_SUCCESS;
}
