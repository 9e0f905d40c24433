/* Messages on standard error, for tests and fuzzers.
 *
 * Each message is one write, so that lines of several threads or processes
 * do not mix.  Debug lines appear only when NDF_DEBUG=1 is in the
 * environment.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

static _Thread_local bool is_quiet;

void
report_set_quiet (bool quiet)
{
  is_quiet = quiet;
}

static void __attribute__ ((format (printf, 2, 0)))
print_line (const char *prefix, const char *fmt, va_list args)
{
  char line[4096];
  int saved = errno;
  size_t used;
  int n;

  if (is_quiet)
    return;
  used = (size_t) snprintf (line, sizeof line, "%s", prefix);
  errno = saved;                /* for "%m" */
  n = vsnprintf (line + used, sizeof line - used - 1, fmt, args);
  if (n > 0)
    used += strlen (line + used);
  line[used++] = '\n';
  fwrite (line, 1, used, stderr);
  errno = saved;
}

static bool
debug_is_wanted (void)
{
  const char *s = getenv ("NDF_DEBUG");

  return s != NULL && strcmp (s, "1") == 0;
}

void
report_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  print_line ("error: ", fmt, args);
  va_end (args);
}

void
report_warning (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  print_line ("warning: ", fmt, args);
  va_end (args);
}

void
report_debug (const char *fmt, ...)
{
  va_list args;

  if (!debug_is_wanted ())
    return;
  va_start (args, fmt);
  print_line ("debug: ", fmt, args);
  va_end (args);
}
