/* Test the standard error end: the lines, "%m", errno, debugging.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <unistd.h>

#include "include/testing.h"
#include "report/report.h"

/* Standard error goes to a file while messages are made. */
static char *
text_of (void (*speak) (void))
{
  static char text[8192];
  FILE *fp = tmpfile ();
  int saved = dup (STDERR_FILENO);
  size_t n;

  CHECK (fp != NULL && saved >= 0);
  CHECK (dup2 (fileno (fp), STDERR_FILENO) >= 0);
  speak ();
  fflush (stderr);
  CHECK (dup2 (saved, STDERR_FILENO) >= 0);
  close (saved);
  rewind (fp);
  n = fread (text, 1, sizeof text - 1, fp);
  text[n] = '\0';
  fclose (fp);
  return text;
}

static void
speak_all (void)
{
  errno = ENOSPC;
  report_error ("disk %d: %m", 7);
  CHECK (errno == ENOSPC);
  errno = EROFS;
  report_warning ("disk %s: %m", "x");
  CHECK (errno == EROFS);
  report_debug ("raw: open len=%d", 5);
  CHECK (errno == EROFS);
}

static void
speak_at_length (void)
{
  char longer[6000];

  memset (longer, 'x', sizeof longer);
  longer[sizeof longer - 1] = '\0';
  report_error ("%s", longer);
}

int
main (void)
{
  static const char lines[] =
    "error: disk 7: No space left on device\n"
    "warning: disk x: Read-only file system\n";
  static const char debug[] = "debug: raw: open len=5\n";
  const char *text;

  unsetenv ("NDF_DEBUG");
  CHECK (strcmp (text_of (speak_all), lines) == 0);

  setenv ("NDF_DEBUG", "1", 1);
  text = text_of (speak_all);
  CHECK (strncmp (text, lines, strlen (lines)) == 0);
  CHECK (strcmp (text + strlen (lines), debug) == 0);

  text = text_of (speak_at_length);
  CHECK (strlen (text) > 4000 && strlen (text) < 4097);
  CHECK (text[strlen (text) - 1] == '\n');
  return EXIT_SUCCESS;
}
