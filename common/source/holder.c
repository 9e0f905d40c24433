/* Who holds a lock on a file?
 *
 * For locks of open file descriptions the kernel names no process, but
 * each process shows the locks of its descriptors in /proc/PID/fdinfo, as
 * far as we are allowed to look.  Best effort, for messages only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "include/cleanup.h"
#include "source/lock.h"

/* The search reads no more descriptors than this. */
#define MAX_DESCRIPTORS 100000

/* A process number, or -1 for the other names in /proc. */
static long
number_of (const char *name)
{
  char *end;
  long n;

  if (!isdigit ((unsigned char) name[0]))
    return -1;
  n = strtol (name, &end, 10);
  return *end == '\0' ? n : -1;
}

/* "lock:  1: OFDLCK  ADVISORY  READ -1 fd:00:1234 100 101" */
static bool
line_locks_byte (const char *line, const struct identity *id, unsigned byte)
{
  unsigned major_hex, minor_hex;
  unsigned long long ino, first, last;
  char end[32];

  if (sscanf (line, "lock: %*[^:]: %*s %*s %*s %*d %x:%x:%llu %llu %31s",
              &major_hex, &minor_hex, &ino, &first, end) != 5)
    return false;
  last = strcmp (end, "EOF") == 0 ? ~0ULL : strtoull (end, NULL, 10);
  return makedev (major_hex, minor_hex) == id->dev && ino == id->ino
    && first <= byte && byte <= last;
}

static bool
descriptor_locks_byte (int dir, const char *name, const struct identity *id,
                       unsigned byte)
{
  CLEANUP_CLOSE int fd = openat (dir, name, O_RDONLY | O_CLOEXEC);
  char text[4096];
  char *save = NULL;
  ssize_t n;

  if (fd == -1)
    return false;
  n = read (fd, text, sizeof text - 1);
  if (n <= 0)
    return false;
  text[n] = '\0';
  for (char *line = strtok_r (text, "\n", &save); line != NULL;
       line = strtok_r (NULL, "\n", &save))
    if (line_locks_byte (line, id, byte))
      return true;
  return false;
}

static bool
process_locks_byte (long pid, const struct identity *id, unsigned byte,
                    unsigned *budget)
{
  char path[64];
  struct dirent *entry;
  bool found = false;
  DIR *dir;

  snprintf (path, sizeof path, "/proc/%ld/fdinfo", pid);
  dir = opendir (path);
  if (dir == NULL)
    return false;
  while (!found && *budget > 0 && (entry = readdir (dir)) != NULL)
    if (number_of (entry->d_name) >= 0) {
      (*budget)--;
      found = descriptor_locks_byte (dirfd (dir), entry->d_name, id, byte);
    }
  closedir (dir);
  return found;
}

void
image_lock_holder_pid (long pid, char *text, size_t size)
{
  char path[64], command[64];
  ssize_t n = -1;

  snprintf (path, sizeof path, "/proc/%ld/comm", pid);
  {
    CLEANUP_CLOSE int fd = open (path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
      n = read (fd, command, sizeof command - 1);
  }
  if (n <= 0) {
    snprintf (text, size, " (process %ld)", pid);
    return;
  }
  command[n] = '\0';
  command[strcspn (command, "\n")] = '\0';
  for (char *p = command; *p != '\0'; p++)
    if (!isprint ((unsigned char) *p))
      *p = '?';
  snprintf (text, size, " (process %ld, %s)", pid, command);
}

void
image_lock_holder (const struct identity *id, unsigned byte,
                   bool skip_parent, char *text, size_t size)
{
  unsigned budget = MAX_DESCRIPTORS;
  struct dirent *entry;
  DIR *dir = opendir ("/proc");

  text[0] = '\0';
  if (dir == NULL)
    return;
  while (budget > 0 && (entry = readdir (dir)) != NULL) {
    long pid = number_of (entry->d_name);

    if (pid < 0 || pid == getpid () || (skip_parent && pid == getppid ()))
      continue;
    if (process_locks_byte (pid, id, byte, &budget)) {
      image_lock_holder_pid (pid, text, size);
      break;
    }
  }
  closedir (dir);
}
