/* A regular file, a block device or an inherited descriptor as a source.
 *
 * Reads and writes go through the page cache.  What a file system cannot
 * do is asked once and remembered: punching, zeroing, telling its holes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"
#include "source/device.h"
#include "source/file.h"
#include "source/hole-map.h"
#include "source/identity.h"
#include "source/lock.h"

struct file_source {
  struct source src;            /* must be first */
  int fd;                       /* the number never changes */
  struct identity *id;
  unsigned locks;               /* lock bytes held; see lock.c */
  struct device device;         /* block devices only */
  bool is_device;

  /* What has not been refused so far. */
  _Atomic bool can_punch;
  _Atomic bool can_zero_range;
  _Atomic bool can_seek_data;
};

static const struct source_ops file_ops;

static struct file_source *
file_of (const struct source *src)
{
  assert (src->ops == &file_ops);
  return (struct file_source *) src;
}

static int
file_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct file_source *f = file_of (src);
  char *p = buf;

  while (len > 0) {
    ssize_t n = pread (f->fd, p, len, (off_t) host);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == 0) {
      report_debug ("%s: ends at %" PRIu64 ", before %" PRIu64 " bytes: "
                    "another program made it shorter",
                    src->name, host, source_len (src));
      errno = EIO;
    }
    if (n <= 0)
      return -1;
    p += n;
    host += (uint64_t) n;
    len -= (size_t) n;
  }
  return 0;
}

static int
write_all (struct file_source *f, const char *p, size_t len, uint64_t host)
{
  while (len > 0) {
    ssize_t n = pwrite (f->fd, p, len, (off_t) host);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == 0)
      errno = EIO;
    if (n <= 0)
      return -1;
    p += n;
    host += (uint64_t) n;
    len -= (size_t) n;
  }
  return 0;
}

static int
file_pwrite (struct source *src, const void *buf, size_t len, uint64_t host)
{
  struct file_source *f = file_of (src);
  struct stat st;
  int saved;

  if (write_all (f, buf, len, host) == 0)
    return 0;
  saved = errno;
  if (!f->is_device && fstat (f->fd, &st) == 0)
    source_note_length (src, (uint64_t) st.st_size);
  errno = saved;
  return -1;
}

/* One way of fallocate, until it is refused. */
static int
try_fallocate (struct file_source *f, _Atomic bool *can, int mode,
               uint64_t len, uint64_t host)
{
  int r;

  if (!*can) {
    errno = ENOTSUP;
    return -1;
  }
  do
    r = fallocate (f->fd, mode, (off_t) host, (off_t) len);
  while (r == -1 && errno == EINTR);
  if (r == -1 && (errno == ENOTSUP || errno == ENOSYS || errno == ENODEV)) {
    *can = false;
    errno = ENOTSUP;
  }
  return r;
}

static int
zero_regular (struct file_source *f, uint64_t len, uint64_t host,
              enum source_zero_mode mode)
{
  if (mode == SOURCE_ZERO_PUNCH) {
    int r = try_fallocate (f, &f->can_punch,
                           FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           len, host);
    if (r == 0 || errno != ENOTSUP)
      return r;
  }
  return try_fallocate (f, &f->can_zero_range,
                        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                        len, host);
}

/* A device zeroes whole blocks; the ends are written.  The middle goes
 * first because it may say ENOTSUP, with nothing changed.
 */
static int
zero_device (struct file_source *f, uint64_t len, uint64_t host,
             enum source_zero_mode mode)
{
  static const char zeroes[DEVICE_BLOCK_MAX];
  uint64_t end = host + len;
  uint64_t first = round_up (host, f->device.block_len);
  uint64_t last = round_down (end, f->device.block_len);
  int r = -1;

  if (first >= last) {
    errno = ENOTSUP;
    return -1;
  }
  if (mode == SOURCE_ZERO_PUNCH)
    r = try_fallocate (f, &f->can_punch,
                       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       last - first, first);
  if (r == -1 && (mode == SOURCE_ZERO_KEEP || errno == ENOTSUP))
    r = device_zero (f->fd, &f->device, last - first, first);
  if (r == -1)
    return -1;
  if (write_all (f, zeroes, first - host, host) == -1)
    return -1;
  return write_all (f, zeroes, end - last, last);
}

static int
file_zero (struct source *src, uint64_t len, uint64_t host,
           enum source_zero_mode mode)
{
  struct file_source *f = file_of (src);

  return f->is_device ? zero_device (f, len, host, mode)
    : zero_regular (f, len, host, mode);
}

static int
file_sync (struct source *src)
{
  struct file_source *f = file_of (src);
  int r;

  LOCK_SCOPE (&f->id->sync_lock);
  if (f->id->sync_failed) {
    errno = EIO;
    return -1;
  }
  do
    r = fdatasync (f->fd);
  while (r == -1 && errno == EINTR);
  if (r == -1) {
    int saved = errno;

    identity_fail (f->id);
    errno = saved;
  }
  return r;
}

static int
file_truncate (struct source *src, uint64_t len)
{
  struct file_source *f = file_of (src);
  int r;

  do
    r = ftruncate (f->fd, (off_t) len);
  while (r == -1 && errno == EINTR);
  return r;
}

/* The first byte of the wanted kind at or after 'host'.  'end' when there
 * is none before it; 'host' itself, and never asked again, when the file
 * system does not know.
 */
static uint64_t
seek (struct file_source *f, uint64_t host, uint64_t end, int whence)
{
  off_t r = lseek (f->fd, (off_t) host, whence);

  if (r == -1 && errno == ENXIO)
    return end;
  if (r == -1) {
    f->can_seek_data = false;
    return host;
  }
  return MIN ((uint64_t) r, end);
}

static struct source_extent
file_extent (struct source *src, uint64_t host, uint64_t len)
{
  struct file_source *f = file_of (src);
  struct source_extent ext = { .len = len, .hole = false };
  uint64_t end = host + len;
  uint64_t next;

  if (!f->can_seek_data)
    return ext;
  next = seek (f, host, end, SEEK_DATA);
  if (next > host) {
    ext.len = next - host;
    ext.hole = true;
    return ext;
  }
  if (f->can_seek_data)
    next = seek (f, host, end, SEEK_HOLE);
  if (next > host)
    ext.len = next - host;
  return ext;
}

static void
file_prefetch (struct source *src, uint64_t host, uint64_t len)
{
  posix_fadvise (file_of (src)->fd, (off_t) host, (off_t) len,
                 POSIX_FADV_WILLNEED);
}

static void
file_close (struct source *src)
{
  struct file_source *f = file_of (src);

  source_file_unlock (src);
  identity_put (f->id, f->fd);
  close (f->fd);
  source_destroy (src);
  free (f);
}

static const char *
describe_type (mode_t mode)
{
  switch (mode & S_IFMT) {
  case S_IFDIR: return "a directory";
  case S_IFIFO: return "a pipe";
  case S_IFSOCK: return "a socket";
  case S_IFCHR: return "a character device";
  default: return "of an unknown type";
  }
}

static int
check_type (const char *name, const struct stat *st)
{
  if (S_ISREG (st->st_mode) || S_ISBLK (st->st_mode))
    return 0;
  report_error ("%s: is %s; an image must be a regular file or a block "
                "device", name, describe_type (st->st_mode));
  errno = EINVAL;
  return -1;
}

/* Fill in length, growth and alignment. */
static int
measure (struct file_source *f, const struct stat *st)
{
  f->is_device = S_ISBLK (st->st_mode);
  f->src.can_grow = !f->is_device;
  if (f->is_device) {
    uint64_t len;

    if (device_measure (f->fd, st->st_rdev, &f->device, &len) == -1)
      return -1;
    f->src.len = len;
    f->src.alignment = f->device.alignment;
    return 0;
  }
  f->src.len = (uint64_t) st->st_size;
  if (st->st_blksize >= 4096)
    f->src.alignment = 4096;
  return 0;
}

/* Make a source of 'fd', which it owns from here on, even on failure. */
static struct source *
source_of_descriptor (int fd_, const char *name, bool writable)
{
  CLEANUP_CLOSE int fd = fd_;
  CLEANUP_FREE struct file_source *f = calloc (1, sizeof *f);
  struct stat st;

  if (fstat (fd, &st) == -1 || f == NULL) {
    report_error ("%s: cannot open: %m", name);
    return NULL;
  }
  if (check_type (name, &st) == -1)
    return NULL;
  f->fd = fd;
  if (source_init (&f->src, &file_ops, name) == -1) {
    report_error ("%s: cannot open: %m", name);
    return NULL;
  }
  f->id = identity_get (&st);
  if (f->id == NULL || measure (f, &st) == -1) {
    report_error ("%s: cannot open: %m", name);
    if (f->id != NULL)
      identity_put (f->id, fd);
    source_destroy (&f->src);
    return NULL;
  }
  f->src.writable = writable;
  f->src.sync_failed = f->id->sync_failed;
  f->can_punch = f->can_zero_range = true;
  f->can_seek_data = !f->is_device;
  (void) STEAL_FD (fd);
  return &STEAL (f)->src;
}

/* The type is looked at before opening, as opening some devices has
 * effects, and again after it (in source_of_descriptor), as the name may
 * have changed; O_NONBLOCK, so that even then a pipe cannot hold us.
 */
struct source *
source_file_open (const char *path, bool writable)
{
  int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
  struct stat st;
  int fd = -1;

  if (stat (path, &st) == 0) {
    if (check_type (path, &st) == -1)
      return NULL;
    do
      fd = open (path, flags | O_NONBLOCK);
    while (fd == -1 && errno == EINTR);
  }
  if (fd == -1) {
    report_error ("%s: cannot open for reading%s: %m", path,
                  writable ? " and writing" : "");
    return NULL;
  }
  fcntl (fd, F_SETFL, flags);
  return source_of_descriptor (fd, path, writable);
}

/* Flags of an open descriptor under which we could not work. */
static const char *
find_unusable_flag (int flags, bool writable)
{
  if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
    return "it is not open for reading";
  if (writable && (flags & O_ACCMODE) != O_RDWR)
    return "it is not open for writing";
  if (flags & O_DIRECT)
    return "it is open with O_DIRECT";
  if (writable && (flags & O_APPEND))
    return "it is open for appending";
  return NULL;
}

struct source *
source_file_fd (int fd, const char *name, bool writable)
{
  int flags = fcntl (fd, F_GETFL);
  const char *trouble;
  int copy;

  if (flags == -1) {
    report_error ("%s: file descriptor %d: %m", name, fd);
    return NULL;
  }
  trouble = find_unusable_flag (flags, writable);
  if (trouble != NULL) {
    report_error ("%s: file descriptor %d cannot be used: %s",
                  name, fd, trouble);
    errno = EINVAL;
    return NULL;
  }
  copy = fcntl (fd, F_DUPFD_CLOEXEC, 0);
  if (copy == -1) {
    report_error ("%s: cannot duplicate file descriptor %d: %m", name, fd);
    return NULL;
  }
  return source_of_descriptor (copy, name, writable);
}

int
source_file_lock (struct source *src, enum source_lock_want want,
                  enum source_lock_mode mode)
{
  struct file_source *f = file_of (src);

  return image_lock_trade (f->id, f->fd, src->name, &f->locks, want, mode);
}

void
source_file_unlock (struct source *src)
{
  struct file_source *f = file_of (src);

  image_lock_release (f->id, &f->locks);
}

int
source_file_upgrade (struct source *src)
{
  struct file_source *f = file_of (src);
  CLEANUP_CLOSE int fd = -1;
  char path[64];
  int flags;

  if (src->writable)
    return 0;
  flags = fcntl (f->fd, F_GETFL);
  if (flags == -1)
    return -1;
  if (find_unusable_flag (flags, true) != NULL) {
    snprintf (path, sizeof path, "/proc/self/fd/%d", f->fd);
    fd = open (path, O_RDWR | O_CLOEXEC);
    if (fd == -1 || dup3 (fd, f->fd, O_CLOEXEC) == -1)
      return -1;
  }
  src->writable = true;
  return 0;
}

int
source_file_refresh (struct source *src)
{
  struct file_source *f = file_of (src);
  struct stat st;

  hole_map_note_change (src->holes);
  if (fstat (f->fd, &st) == 0 && measure (f, &st) == 0)
    return 0;
  report_error ("%s: cannot ask for its length: %m", src->name);
  return -1;
}

bool
source_is_file (const struct source *src)
{
  return src->ops == &file_ops;
}

bool
source_file_same (const struct source *src, const struct source *other)
{
  const struct identity *a, *b;

  if (!source_is_file (src) || !source_is_file (other))
    return false;
  a = file_of (src)->id;
  b = file_of (other)->id;
  return a == b || (a->device != 0 && a->device == b->device);
}

int
source_file_descriptor (const struct source *src)
{
  return file_of (src)->fd;
}

bool
source_file_is_rotational (const struct source *src)
{
  const struct identity *id = file_of (src)->id;

  return device_is_rotational (id->device != 0 ? id->device : id->dev);
}

static const struct source_ops file_ops = {
  .kind = "file",
  .pread = file_pread,
  .pwrite = file_pwrite,
  .zero = file_zero,
  .sync = file_sync,
  .truncate = file_truncate,
  .extent = file_extent,
  .prefetch = file_prefetch,
  .close = file_close,
};
