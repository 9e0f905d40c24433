/* What an image may make us open.
 *
 * The judgement is of the real path: symbolic links and ".." are resolved
 * before anything is compared, and it is the real path that is opened.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chain/policy.h"
#include "include/cleanup.h"
#include "report/report.h"

int
policy_allow (struct policy *policy, const char *path)
{
  CLEANUP_FREE char *real = realpath (path, NULL);
  char **allowed;

  if (real == NULL) {
    report_error ("allow-path=%s: %m", path);
    return -1;
  }
  allowed = reallocarray (policy->allowed, policy->nr_allowed + 1,
                          sizeof *allowed);
  if (allowed == NULL) {
    report_error ("allow-path=%s: %m", path);
    return -1;
  }
  policy->allowed = allowed;
  allowed[policy->nr_allowed++] = STEAL (real);
  return 0;
}

void
policy_free (struct policy *policy)
{
  for (size_t i = 0; i < policy->nr_allowed; i++)
    free (policy->allowed[i]);
  free (policy->allowed);
  *policy = (struct policy) { .allowed = NULL };
}

void
policy_verdict_free (struct policy_verdict *verdict)
{
  free (verdict->path);
  free (verdict->real);
  *verdict = (struct policy_verdict) { .path = NULL };
}

/* As QEMU tells a protocol from a file. */
bool
policy_is_protocol (const char *name)
{
  return name[strcspn (name, ":/")] == ':';
}

bool
policy_is_json (const char *name)
{
  return strncmp (name, "json:", 5) == 0;
}

bool
policy_has_control (const char *name)
{
  for (; *name; name++)
    if ((unsigned char) *name < ' ' || *name == 0x7f)
      return true;
  return false;
}

char *
policy_show (const char *name)
{
  char *shown = strdup (name);

  for (char *p = shown; p && *p; p++)
    if ((unsigned char) *p < ' ' || *p == 0x7f)
      *p = '?';
  return shown;
}

/* The length of the directory part of 'path', with its last slash. */
static size_t
directory_len (const char *path)
{
  const char *slash = strrchr (path, '/');

  return slash ? (size_t) (slash - path) + 1 : 0;
}

static const char *
base_name (const char *path)
{
  return path + directory_len (path);
}

char *
policy_join (const char *image, const char *name)
{
  char *path;

  if (name[0] == '/')
    return strdup (name);
  if (asprintf (&path, "%.*s%s", (int) directory_len (image), image,
                name) == -1) {
    errno = ENOMEM;
    return NULL;
  }
  return path;
}

/* Is 'path' the directory or file 'root', or below it? */
static bool
is_below (const char *path, const char *root)
{
  size_t len = strlen (root);

  if (strncmp (path, root, len) != 0)
    return false;
  return path[len] == '\0' || path[len] == '/' || strcmp (root, "/") == 0;
}

static bool
is_allowed (const struct policy *policy, const char *real)
{
  for (size_t i = 0; i < policy->nr_allowed; i++)
    if (is_below (real, policy->allowed[i]))
      return true;
  return false;
}

/* Are two real paths in the same directory? */
static bool
is_beside (const char *real, const char *other)
{
  size_t len = directory_len (real);

  return len == directory_len (other) && memcmp (real, other, len) == 0;
}

/* Is the file directly in the directory of 'image', of its name as given
 * or of its real path?
 */
static bool
is_in_own_directory (const char *image, const char *real)
{
  CLEANUP_FREE char *real_image = realpath (image, NULL);
  CLEANUP_FREE char *given = NULL, *in_given = NULL, *real_given = NULL;

  if (real_image != NULL && is_beside (real, real_image))
    return true;

  given = strndup (image, directory_len (image));
  if (given != NULL)
    real_given = realpath (given, NULL);
  if (real_given == NULL)
    return false;
  if (asprintf (&in_given, "%s/", strcmp (real_given, "/") == 0
                ? "" : real_given) == -1) {
    in_given = NULL;
    return false;
  }
  return is_beside (real, in_given);
}

/* The name by itself. */
static enum policy_answer
judge_name (const char *image, const char *recorded)
{
  if (recorded[0] == '\0')
    return POLICY_EMPTY;
  if (policy_has_control (recorded))
    return POLICY_CONTROL;
  if (policy_is_json (recorded))
    return POLICY_JSON;
  if (policy_is_protocol (recorded))
    return POLICY_PROTOCOL;
  if (recorded[0] != '/' && image == NULL)
    return POLICY_NO_DIRECTORY;
  return POLICY_OK;
}

/* The file that it leads to. */
static enum policy_answer
judge_file (const struct policy *policy, const char *image,
            enum policy_role role, const struct policy_verdict *verdict,
            mode_t mode)
{
  if (!S_ISREG (mode) && !S_ISBLK (mode))
    return POLICY_TYPE;
  if (is_allowed (policy, verdict->real))
    return POLICY_OK;
  if (role == POLICY_DATA)
    return POLICY_WRITTEN;
  if (S_ISBLK (mode))
    return POLICY_DEVICE;
  if (image == NULL || !is_in_own_directory (image, verdict->real))
    return POLICY_OUTSIDE;
  if (base_name (verdict->real)[0] == '.' ||
      base_name (verdict->path)[0] == '.')
    return POLICY_HIDDEN;
  return POLICY_OK;
}

int
policy_judge (const struct policy *policy, const char *image,
              const char *recorded, enum policy_role role,
              struct policy_verdict *verdict)
{
  struct stat st;

  *verdict = (struct policy_verdict) {
    .answer = judge_name (image, recorded),
  };
  if (verdict->answer != POLICY_OK)
    return 0;

  verdict->path = policy_join (image, recorded);
  if (verdict->path != NULL)
    verdict->real = realpath (verdict->path, NULL);
  if (verdict->path == NULL || (verdict->real == NULL && errno == ENOMEM)) {
    report_error ("%s: no memory to look for it", recorded);
    errno = ENOMEM;
    return -1;
  }
  if (verdict->real == NULL || stat (verdict->real, &st) == -1) {
    verdict->answer = POLICY_MISSING;
    verdict->err = errno;
    return 0;
  }
  verdict->answer = judge_file (policy, image, role, verdict, st.st_mode);
  if (policy_has_control (verdict->real)) /* a link may lead to such */
    verdict->answer = POLICY_CONTROL;
  return 0;
}

bool
policy_can_be_allowed (enum policy_answer answer)
{
  return answer >= POLICY_OUTSIDE;
}

const char *
policy_explain (const struct policy_verdict *verdict)
{
  switch (verdict->answer) {
  case POLICY_OK: return "is allowed";
  case POLICY_EMPTY: return "has no name in the image";
  case POLICY_CONTROL: return "has control characters in its name";
  case POLICY_JSON:
    return "is described in JSON (json:), which is not followed";
  case POLICY_PROTOCOL:
    return "is named with a protocol prefix, which is not followed (a file "
      "of that name would be recorded with ./ before it)";
  case POLICY_NO_DIRECTORY:
    return "has a relative name, but an image that comes by file descriptor "
      "has no directory";
  case POLICY_MISSING: return strerror (verdict->err);
  case POLICY_TYPE: return "is neither a regular file nor a block device";
  case POLICY_OUTSIDE: return "is not in the directory of the image";
  case POLICY_HIDDEN: return "has a name that begins with a dot";
  case POLICY_DEVICE: return "is a block device";
  case POLICY_WRITTEN:
    return "is a data file, which whoever writes the image writes to";
  }
  return "is refused";
}

char *
policy_quote (const char *name)
{
  static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=@%:,";
  char *quoted, *p;

  if (name[0] != '\0' && name[strspn (name, plain)] == '\0')
    return strdup (name);
  quoted = malloc (4 * strlen (name) + 3);
  if (quoted == NULL)
    return NULL;
  p = quoted;
  *p++ = '\'';
  for (; *name; name++)
    if (*name == '\'')
      p = stpcpy (p, "'\\''");
    else
      *p++ = *name;
  strcpy (p, "'");
  return quoted;
}
