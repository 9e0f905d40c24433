/* Which of several names a backing file has.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "chain/candidate.h"
#include "include/cleanup.h"
#include "report/report.h"

/* Entries of one directory that are looked at for a name in another case. */
#define MAX_ENTRIES 100000

/* Does the error tell that no file has the name?  Others leave it open, as
 * EACCES does, and no other name may be taken then.
 */
static bool
is_nowhere (int err)
{
  return err == ENOENT || err == ENOTDIR || err == ENAMETOOLONG;
}

/* ---- names in another case */

/* The only entry of directory 'dir' that is 'name' but for case; owned by
 * the caller.  NULL: none, or several, which sets *several.
 */
static char *
find_entry (const char *dir, const char *name, bool *several)
{
  DIR *d = opendir (dir);
  struct dirent *e;
  char *found = NULL;
  unsigned nr_found = 0;

  if (d == NULL)
    return NULL;
  for (unsigned i = 0; i < MAX_ENTRIES && (e = readdir (d)) != NULL; i++) {
    if (strcasecmp (e->d_name, name) != 0)
      continue;
    if (nr_found++ == 0)
      found = strdup (e->d_name);
  }
  closedir (d);
  if (nr_found == 1)
    return found;
  if (nr_found > 1)
    *several = true;
  free (found);
  return NULL;
}

/* Put the next component behind 'path', as the file system writes it.
 * NULL: there is none like it, or no memory; 'path' is freed in any case.
 */
static char *
add_component (char *path, const char *component, bool *several)
{
  CLEANUP_FREE char *entry = NULL;
  char *next = NULL;
  struct stat st;

  if (asprintf (&next, "%s/%s", path, component) == -1)
    next = NULL;
  else if (lstat (next, &st) == -1 && is_nowhere (errno)) {
    free (next);
    next = NULL;
    entry = find_entry (path[0] ? path : "/", component, several);
    if (entry && asprintf (&next, "%s/%s", path, entry) == -1)
      next = NULL;
  }
  free (path);
  return next;
}

/* The absolute name of a file that is 'name', seen from the image at
 * 'path', but for case.  NULL: none.
 */
static char *
find_ignoring_case (const char *path, const char *name, bool *several)
{
  CLEANUP_FREE char *joined = path || name[0] == '/'
    ? policy_join (path, name) : NULL;
  char *found = joined ? strdup ("") : NULL;
  char *save, *part;

  if (found == NULL)
    return NULL;
  for (part = strtok_r (joined, "/", &save); part && found;
       part = strtok_r (NULL, "/", &save))
    found = add_component (found, part, several);
  return found;
}

/* ---- choosing */

/* Is there a file of that name, whether it may be opened or not, or may
 * there be?  1, 0 or -1, reported.
 */
static int
exists (const struct policy *policy, const char *path, const char *name)
{
  CLEANUP_VERDICT struct policy_verdict verdict = { .path = NULL };

  if (policy_judge (policy, path, name, POLICY_BACKING, &verdict) == -1)
    return -1;
  switch (verdict.answer) {
  case POLICY_EMPTY:
  case POLICY_NO_DIRECTORY:
    return 0;
  case POLICY_MISSING:
    return !is_nowhere (verdict.err);
  default:
    return 1;
  }
}

static char *
no_memory (const struct image *img)
{
  report_error ("%s: no memory for the name of its backing file", img->name);
  errno = ENOMEM;
  return NULL;
}

/* 'path' is the image's, or NULL when it has none. */
static char *
none_exists (const struct image *img, const char *path, bool several)
{
  CLEANUP_FREE char *recorded = policy_show (img->backing_name ?: "");
  char *const *c = img->backing_candidates;
  char *text = strdup ("");

  for (; text && *c; c++) {
    CLEANUP_FREE char *old = text;

    if (asprintf (&text, "%s%s\"%s\"", old, old[0] ? ", " : "", *c) == -1)
      text = NULL;
  }
  if (img->backing_candidates[0] == NULL)
    report_error ("%s: has a backing file, but records no path to it; name "
                  "it with backing=PATH", img->name);
  else
    report_error ("%s: %s: recorded is %s; looked for %s%s%s; name it with "
                  "backing=PATH, or its place with path-map=", img->name,
                  several ? "which file its backing file is cannot be told"
                  : "its backing file was not found",
                  recorded && *recorded ? recorded : "something",
                  text ?: "it", path ? " in the image's directory"
                  : ", but an image that comes by file descriptor has no "
                  "directory",
                  several ? ", where several files match but for upper and "
                  "lower case" : "");
  free (text);
  errno = ENOENT;
  return NULL;
}

char *
candidate_choose (const struct policy *policy, const char *path,
                  const struct image *img)
{
  bool several = false;
  char *name;

  if (img->backing_candidates == NULL)
    return strdup (img->backing_name ?: "") ?: no_memory (img);
  for (char *const *c = img->backing_candidates; *c; c++) {
    const int r = exists (policy, path, *c);

    if (r == -1)
      return NULL;
    if (r == 1)
      return strdup (*c) ?: no_memory (img);
    name = img->backing_ignores_case ? find_ignoring_case (path, *c, &several)
      : NULL;
    if (name)
      return name;
  }
  return none_exists (img, path, several);
}
