/* An end of 'report' for tests that provoke thousands of messages: they
 * are dropped, unless the environment has WRITE_VERBOSE.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/report.h"

__attribute__ ((format (printf, 1, 0)))
static void
report (const char *fmt, va_list args)
{
  const int err = errno;

  if (getenv ("WRITE_VERBOSE")) {
    vfprintf (stderr, fmt, args);
    fputc ('\n', stderr);
  }
  errno = err;
}

void
report_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  report (fmt, args);
  va_end (args);
}

void
report_warning (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  report (fmt, args);
  va_end (args);
}

void
report_debug (const char *fmt, ...)
{
  (void) fmt;
}

void
report_set_quiet (bool quiet)
{
  (void) quiet;
}
