/* The end of 'report' for fuzzers: messages are formatted, so that their
 * arguments are looked at, and dropped.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "report/report.h"

static void __attribute__ ((format (printf, 1, 0)))
drop (const char *fmt, va_list args)
{
  int err = errno;
  char text[4096];

  vsnprintf (text, sizeof text, fmt, args);
  errno = err;
}

#define DEFINE_SILENT(name)                                             \
  void                                                                  \
  name (const char *fmt, ...)                                           \
  {                                                                     \
    va_list args;                                                       \
                                                                        \
    va_start (args, fmt);                                               \
    drop (fmt, args);                                                   \
    va_end (args);                                                      \
  }

DEFINE_SILENT (report_error)
DEFINE_SILENT (report_warning)
DEFINE_SILENT (report_debug)

void
report_set_quiet (bool quiet)
{
  (void) quiet;
}
