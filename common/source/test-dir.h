/* A directory of its own for a test program, removed when it ends.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_TEST_DIR_H
#define NDF_SOURCE_TEST_DIR_H

#include <dirent.h>
#include <limits.h>
#include <sys/types.h>
#include <unistd.h>

#include "include/testing.h"

static char test_dir[256];
static pid_t test_dir_owner;    /* children of fork leave it alone */

static inline const char *
test_path (const char *name)
{
  static char paths[4][PATH_MAX];
  static unsigned next;
  char *path = paths[next++ % 4];

  snprintf (path, sizeof paths[0], "%s/%s", test_dir, name);
  return path;
}

static void
test_dir_remove (void)
{
  struct dirent *entry;
  DIR *dir;

  if (getpid () != test_dir_owner)
    return;
  dir = opendir (test_dir);
  while (dir != NULL && (entry = readdir (dir)) != NULL)
    if (entry->d_name[0] != '.')
      unlink (test_path (entry->d_name));
  if (dir != NULL)
    closedir (dir);
  rmdir (test_dir);
}

static inline void
test_dir_make (void)
{
  const char *parent = getenv ("TMPDIR");

  snprintf (test_dir, sizeof test_dir, "%s/test-source-XXXXXX",
            parent != NULL ? parent : "/tmp");
  CHECK (mkdtemp (test_dir) != NULL);
  test_dir_owner = getpid ();
  CHECK (atexit (test_dir_remove) == 0);
}

#endif /* NDF_SOURCE_TEST_DIR_H */
