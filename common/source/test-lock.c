/* Test the image locks between two processes and within one.
 *
 * A second process is forked before anything is opened, so that nothing is
 * shared with it; it takes and drops locks as it is told.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/testing.h"
#include "source/file.h"
#include "source/test-dir.h"

enum order { ORDER_LOCK, ORDER_UNLOCK, ORDER_POSIX_LOCK, ORDER_END };

struct message {
  enum order order;
  enum source_lock_want want;
};

static int other;               /* the socket to the other process */
static pid_t other_pid;

static int
obey (struct source *src, const struct message *m)
{
  struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET,
                      .l_start = 101, .l_len = 1 };

  switch (m->order) {
  case ORDER_LOCK:
    return source_file_lock (src, m->want, SOURCE_LOCK_ON) == 0 ? 0 : errno;
  case ORDER_UNLOCK:
    source_file_unlock (src);
    fl.l_type = F_UNLCK;
    fcntl (source_file_descriptor (src), F_SETLK, &fl);
    return 0;
  case ORDER_POSIX_LOCK:
    return fcntl (source_file_descriptor (src), F_SETLK, &fl);
  case ORDER_END:
    break;
  }
  source_put (src);
  return 0;
}

static void
serve (int s, const char *path)
{
  struct source *src = source_file_open (path, false);
  struct message m;
  int answer;

  CHECK (src != NULL);
  do {
    if (read (s, &m, sizeof m) != sizeof m)
      _exit (EXIT_FAILURE);     /* the test has failed */
    answer = obey (src, &m);
    CHECK (write (s, &answer, sizeof answer) == sizeof answer);
  } while (m.order != ORDER_END);
  _exit (EXIT_SUCCESS);
}

static void
start_other (const char *path)
{
  int s[2];

  CHECK (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) == 0);
  other_pid = fork ();
  CHECK (other_pid >= 0);
  if (other_pid == 0) {
    close (s[0]);
    serve (s[1], path);
  }
  close (s[1]);
  other = s[0];
}

static int
tell (enum order order, enum source_lock_want want)
{
  struct message m = { .order = order, .want = want };
  int answer;

  CHECK (write (other, &m, sizeof m) == sizeof m);
  CHECK (read (other, &answer, sizeof answer) == sizeof answer);
  return answer;
}

/* Every pair of wants. */
static void
test_matrix (const char *path)
{
  static const enum source_lock_want wants[] = {
    SOURCE_LOCK_PROBE, SOURCE_LOCK_SHARED, SOURCE_LOCK_READ,
    SOURCE_LOCK_WRITE,
  };
  struct source *src = source_file_open (path, false);

  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      bool conflict = (i == 3 && j >= 2) || (i >= 2 && j == 3);

      CHECK (tell (ORDER_LOCK, wants[i]) == 0);
      errno = 0;
      if (conflict)
        CHECK_FAILS (source_file_lock (src, wants[j], SOURCE_LOCK_AUTO),
                     EAGAIN);
      else
        CHECK (source_file_lock (src, wants[j], SOURCE_LOCK_AUTO) == 0);
      CHECK (source_file_lock (src, wants[j], SOURCE_LOCK_OFF) == 0);
      source_file_unlock (src);
      CHECK (tell (ORDER_UNLOCK, 0) == 0);
      CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == 0);
      CHECK (tell (ORDER_UNLOCK, 0) == 0);
    }
  source_put (src);
}

static void
test_trade (const char *path)
{
  struct source *src = source_file_open (path, false);

  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == 0);
  CHECK (source_file_lock (src, SOURCE_LOCK_READ, SOURCE_LOCK_ON) == 0);
  CHECK_FAILS (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON),
               EAGAIN);

  /* What was held is still held. */
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == EAGAIN);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_SHARED) == 0);
  CHECK (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == EAGAIN);

  /* Downwards, and away with the last reference. */
  CHECK (source_file_lock (src, SOURCE_LOCK_READ, SOURCE_LOCK_ON) == 0);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == 0);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == EAGAIN);
  source_put (src);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == 0);
  CHECK (tell (ORDER_UNLOCK, 0) == 0);
}

/* Sources of one process never conflict, and each one's locks last until
 * it drops them, whatever the others do.
 */
static void
test_one_process (const char *path)
{
  struct source *a = source_file_open (path, false);
  struct source *b = source_file_open (path, true);
  struct source *c = source_file_open (path, false);

  CHECK (source_file_lock (a, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  CHECK (source_file_lock (b, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  CHECK (source_file_lock (c, SOURCE_LOCK_READ, SOURCE_LOCK_ON) == 0);
  source_put (a);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == EAGAIN);
  source_put (b);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == 0);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == EAGAIN);

  /* An upgrade keeps them. */
  CHECK (source_file_upgrade (c) == 0);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == EAGAIN);
  source_file_unlock (c);
  source_file_unlock (c);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == 0);
  CHECK (tell (ORDER_UNLOCK, 0) == 0);
  source_put (c);
}

/* A process that was forked meanwhile keeps the descriptors open, as
 * nbdkit's parent does; the locks go all the same.
 */
static void
test_fork_keeps_no_lock (const char *path)
{
  struct source *src = source_file_open (path, false);
  int gate[2];
  pid_t child;
  char byte;

  CHECK (source_file_lock (src, SOURCE_LOCK_WRITE, SOURCE_LOCK_ON) == 0);
  CHECK (pipe (gate) == 0);
  child = fork ();
  CHECK (child >= 0);
  if (child == 0) {
    close (gate[1]);
    _exit (read (gate[0], &byte, 1) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == EAGAIN);
  source_put (src);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == 0);
  CHECK (tell (ORDER_UNLOCK, 0) == 0);
  close (gate[0]);
  close (gate[1]);
  CHECK (waitpid (child, NULL, 0) == child);
}

/* What is said when 'want' is refused. */
static const char *
refusal (const char *path, enum source_lock_want want)
{
  static char text[4096];
  struct source *src = source_file_open (path, false);
  FILE *fp = tmpfile ();
  int saved = dup (STDERR_FILENO);
  size_t n;

  CHECK (src != NULL && fp != NULL && saved >= 0);
  CHECK (dup2 (fileno (fp), STDERR_FILENO) >= 0);
  n = source_file_lock (src, want, SOURCE_LOCK_AUTO) == -1;
  fflush (stderr);
  CHECK (dup2 (saved, STDERR_FILENO) >= 0);
  CHECK (n == 1 && errno == EAGAIN);
  close (saved);
  rewind (fp);
  n = fread (text, 1, sizeof text - 1, fp);
  text[n] = '\0';
  fclose (fp);
  source_put (src);
  fputs (text, stderr);
  return text;
}

static void
test_messages (const char *path)
{
  const char *text, *p;
  char pid[32];

  snprintf (pid, sizeof pid, "(process %ld", (long) other_pid);
  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_WRITE) == 0);
  text = refusal (path, SOURCE_LOCK_READ);
  CHECK (strstr (text, path) != NULL);
  CHECK (strstr (text, "shared \"write\" lock") != NULL);
  CHECK (strstr (text, "force-share=true") != NULL);

  /* Not every file system lets us find the process; but if so, it is the
   * right one.
   */
  p = strstr (text, "(process ");
  CHECK (p == NULL || strncmp (p, pid, strlen (pid)) == 0);

  CHECK (tell (ORDER_LOCK, SOURCE_LOCK_READ) == 0);
  text = refusal (path, SOURCE_LOCK_WRITE);
  CHECK (strstr (text, "the \"write\" lock") != NULL);
  CHECK (tell (ORDER_UNLOCK, 0) == 0);

  /* With POSIX locks the kernel tells. */
  CHECK (tell (ORDER_POSIX_LOCK, 0) == 0);
  text = refusal (path, SOURCE_LOCK_READ);
  CHECK (strstr (text, pid) != NULL);
  CHECK (tell (ORDER_UNLOCK, 0) == 0);
}

int
main (void)
{
  const char *path;
  int fd, status;

  test_dir_make ();
  path = strdup (test_path ("image"));
  fd = open (path, O_CREAT | O_EXCL | O_RDWR, 0600);
  CHECK (fd >= 0 && close (fd) == 0);
  start_other (path);

  test_matrix (path);
  test_trade (path);
  test_one_process (path);
  test_fork_keeps_no_lock (path);
  test_messages (path);

  CHECK (tell (ORDER_END, 0) == 0);
  CHECK (waitpid (other_pid, &status, 0) == other_pid && status == 0);
  free ((char *) path);
  return EXIT_SUCCESS;
}
