/* QEMU's image locks.
 *
 * A program that uses an image holds, as shared locks, one byte for each
 * permission it uses (100 + n) and one for each it does not grant to
 * others (200 + n); then it tests whether anybody else holds the opposite
 * bytes.  The locks belong to open file descriptions; POSIX locks of other
 * programs conflict with them as usual.
 *
 * Invariant: all bytes of one file are held through one descriptor, which
 * belongs to the file's identity.  Locks of the same description never
 * conflict, so several sources of this process on a file agree, and each
 * test sees other processes only.
 *
 * Protocol: file-posix.c in QEMU 7.2 (raw_apply_lock_bytes).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "report/report.h"
#include "source/lock.h"

/* Lock bytes as bits: 0..3 for bytes 100..103, 4..7 for 200..203. */
#define USE(permission) (1u << (permission))
#define FORBID(permission) (1u << (4 + (permission)))

/* QEMU's permissions, by number. */
enum { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE };

static const char *const permission_names[] = {
  [CONSISTENT_READ] = "consistent read",
  [WRITE] = "write",
  [WRITE_UNCHANGED] = "write unchanged",
  [RESIZE] = "resize",
};

static const struct needs {
  unsigned hold;
  unsigned test;                /* bytes that nobody else may hold */
} needs_of[] = {
  [SOURCE_LOCK_PROBE] = {
    .hold = USE (CONSISTENT_READ),
    .test = FORBID (CONSISTENT_READ),
  },
  [SOURCE_LOCK_SHARED] = {
    .hold = USE (CONSISTENT_READ),
    .test = FORBID (CONSISTENT_READ),
  },
  [SOURCE_LOCK_READ] = {
    .hold = USE (CONSISTENT_READ) | FORBID (WRITE) | FORBID (RESIZE),
    .test = FORBID (CONSISTENT_READ) | USE (WRITE) | USE (RESIZE),
  },
  [SOURCE_LOCK_WRITE] = {
    .hold = USE (CONSISTENT_READ) | USE (WRITE) | USE (RESIZE)
            | FORBID (WRITE) | FORBID (RESIZE),
    .test = FORBID (CONSISTENT_READ) | FORBID (WRITE) | FORBID (RESIZE)
            | USE (WRITE) | USE (RESIZE),
  },
};

/* Why the locks could not be had. */
struct refusal {
  int bit;                      /* which byte, or -1: see errno */
  long pid;                     /* > 0 when the kernel told */
};

static unsigned
byte_of (int bit)
{
  return bit < 4 ? 100 + (unsigned) bit : 200 + (unsigned) bit - 4;
}

static struct flock
flock_of (int bit, short type)
{
  return (struct flock) {
    .l_type = type,
    .l_whence = SEEK_SET,
    .l_start = byte_of (bit),
    .l_len = 1,
  };
}

static int
do_fcntl (int fd, int command, struct flock *fl)
{
  int r;

  do
    r = fcntl (fd, command, fl);
  while (r == -1 && errno == EINTR);
  return r;
}

/* A descriptor of our own for the locks.  Where the file cannot be opened
 * again (no /proc, or a descriptor from a more privileged program) its
 * description is shared with 'fd'.
 */
static int
open_lock_descriptor (int fd)
{
  char path[64];
  int lock_fd;

  snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  lock_fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  return lock_fd >= 0 ? lock_fd : fcntl (fd, F_DUPFD_CLOEXEC, 0);
}

/* Take a shared lock on one byte: 0; -1 with *why filled in. */
static int
take_byte (struct identity *id, int bit, struct refusal *why)
{
  struct flock fl = flock_of (bit, F_RDLCK);

  if (do_fcntl (id->lock_fd, F_OFD_SETLK, &fl) == 0)
    return 0;
  why->bit = errno == EAGAIN || errno == EACCES ? bit : -1;
  return -1;
}

static int
test_byte (struct identity *id, int bit, struct refusal *why)
{
  struct flock fl = flock_of (bit, F_WRLCK);

  if (do_fcntl (id->lock_fd, F_OFD_GETLK, &fl) == -1) {
    why->bit = -1;
    return -1;
  }
  if (fl.l_type == F_UNLCK)
    return 0;
  why->bit = bit;
  why->pid = fl.l_pid;
  return -1;
}

static void
drop_byte (struct identity *id, int bit)
{
  struct flock fl = flock_of (bit, F_UNLCK);

  do_fcntl (id->lock_fd, F_OFD_SETLK, &fl);
}

/* A source no longer wants 'bits'. */
static void
unwant_locked (struct identity *id, unsigned bits)
{
  bool any = false;

  assert_held (&identity_registry_lock);
  for (int i = 0; i < IDENTITY_LOCK_BYTES; i++) {
    if ((bits & (1u << i)) && --id->wanted[i] == 0)
      drop_byte (id, i);
    any = any || id->wanted[i] > 0;
  }
  if (!any && id->lock_fd >= 0) {
    close (id->lock_fd);
    id->lock_fd = -1;
  }
}

/* One more source wants 'bits'.  After a failure nothing has changed. */
static int
want_locked (struct identity *id, unsigned bits, struct refusal *why)
{
  assert_held (&identity_registry_lock);
  for (int i = 0; i < IDENTITY_LOCK_BYTES; i++) {
    if (!(bits & (1u << i)))
      continue;
    if (id->wanted[i] == 0 && take_byte (id, i, why) == -1) {
      int saved = errno;

      unwant_locked (id, bits & ((1u << i) - 1));
      errno = saved;
      return -1;
    }
    id->wanted[i]++;
  }
  return 0;
}

static int
test_locked (struct identity *id, unsigned bits, struct refusal *why)
{
  assert_held (&identity_registry_lock);
  for (int i = 0; i < IDENTITY_LOCK_BYTES; i++)
    if ((bits & (1u << i)) && test_byte (id, i, why) == -1)
      return -1;
  return 0;
}

/* The new bytes are taken before the old ones are dropped, so that nobody
 * gets between.
 */
static int
trade_locked (struct identity *id, int fd, unsigned *held,
              const struct needs *needs, struct refusal *why)
{
  assert_held (&identity_registry_lock);
  if (id->lock_fd == -1)
    id->lock_fd = open_lock_descriptor (fd);
  if (id->lock_fd == -1) {
    why->bit = -1;
    return -1;
  }
  if (want_locked (id, needs->hold, why) == -1)
    return -1;
  if (test_locked (id, needs->test, why) == -1) {
    int saved = errno;

    unwant_locked (id, needs->hold);
    errno = saved;
    return -1;
  }
  unwant_locked (id, *held);
  *held = needs->hold;
  return 0;
}

static void
report_conflict (const struct identity *id, const char *name,
                 const struct refusal *why, enum source_lock_want want,
                 bool own)
{
  const char *permission = permission_names[why->bit % 4];
  const char *advice;
  char holder[128];

  if (why->pid > 0)
    image_lock_holder_pid (why->pid, holder, sizeof holder);
  else
    image_lock_holder (id, byte_of (why->bit), own, holder, sizeof holder);

  /* Even a forced reader respects those who forbid reading. */
  if (want == SOURCE_LOCK_SHARED || why->bit == 4 + CONSISTENT_READ)
    advice = "wait until it has finished";
  else
    advice = "stop it, or read the image all the same, without any "
      "promise that it is consistent, with force-share=true (with -r)";

  if (why->bit >= 4)
    report_error ("%s: cannot get the \"%s\" lock (byte %u): another "
                  "program%s uses the image and does not share that "
                  "permission; %s",
                  name, permission, byte_of (why->bit), holder, advice);
  else
    report_error ("%s: cannot get the shared \"%s\" lock (byte %u): another "
                  "program%s has the image open with that permission; %s",
                  name, permission, byte_of (why->bit), holder, advice);
}

/* What kernels and file systems say where such locks do not exist. */
static bool
means_no_locking (int err)
{
  return err == ENOLCK || err == ENOSYS || err == ENOTSUP || err == EINVAL;
}

/* 'err' says why the bytes could not be locked at all. */
static int
no_locking (const char *name, bool say, enum source_lock_mode mode, int err)
{
  errno = err;
  if (!means_no_locking (err)) {
    report_error ("%s: cannot lock the image: %m", name);
    return -1;
  }
  if (mode == SOURCE_LOCK_ON) {
    report_error ("%s: image locks are not available here: %m; use "
                  "lock=auto or lock=off if no other program can have the "
                  "image open", name);
    errno = ENOTSUP;
    return -1;
  }
  if (say)
    report_warning ("%s: image locks are not available here: %m; nothing "
                    "keeps other programs from changing the image; "
                    "lock=off silences this", name);
  return 0;
}

int
image_lock_trade (struct identity *id, int fd, const char *name,
                  unsigned *held, enum source_lock_want want,
                  enum source_lock_mode mode)
{
  struct refusal why = { .bit = -1 };
  bool say, own;
  int r, err;

  if (mode == SOURCE_LOCK_OFF)
    return 0;

  {
    LOCK_SCOPE (&identity_registry_lock);
    r = trade_locked (id, fd, held, &needs_of[want], &why);
    err = errno;
    own = why.bit >= 0 && id->wanted[why.bit] > 0;
    say = !id->warned;
    if (r == -1 && why.bit == -1 && mode == SOURCE_LOCK_AUTO)
      id->warned = id->warned || means_no_locking (err);
  }

  if (r == 0)
    return 0;
  if (why.bit == -1)
    return no_locking (name, say, mode, err);
  report_conflict (id, name, &why, want, own);
  errno = EAGAIN;
  return -1;
}

void
image_lock_release (struct identity *id, unsigned *held)
{
  LOCK_SCOPE (&identity_registry_lock);
  unwant_locked (id, *held);
  *held = 0;
}
