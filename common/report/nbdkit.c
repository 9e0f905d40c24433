/* Messages in nbdkit's log.
 *
 * The server adds the plugin's name and "error:" or "debug:", and decides
 * where the line goes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "report/report.h"

static _Thread_local bool is_quiet;

void
report_set_quiet (bool quiet)
{
  is_quiet = quiet;
}

void
report_error (const char *fmt, ...)
{
  int saved = errno;
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  nbdkit_verror (fmt, args);
  va_end (args);
  errno = saved;
}

/* nbdkit has no level of warnings.  The text is formatted here, because a
 * prefix cannot be put before a format that is not a constant.
 */
void
report_warning (const char *fmt, ...)
{
  char line[4096];
  int saved = errno;
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  vsnprintf (line, sizeof line, fmt, args);
  va_end (args);
  nbdkit_error ("warning: %s", line);
  errno = saved;
}

void
report_debug (const char *fmt, ...)
{
  int saved = errno;
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  nbdkit_vdebug (fmt, args);
  va_end (args);
  errno = saved;
}
