/* An end of 'report' for unit tests that look at what was reported.
 *
 * For tests of one thread.  Nothing is printed; a test that goes red
 * prints its condition.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "report/report.h"
#include "report/test-messages.h"

struct test_messages test_messages;

static bool is_quiet;

void
test_messages_forget (void)
{
  memset (&test_messages, 0, sizeof test_messages);
}

void
report_set_quiet (bool quiet)
{
  is_quiet = quiet;
}

void
report_error (const char *fmt, ...)
{
  int err = errno;
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  if (test_messages.nr_errors++ == 0)
    vsnprintf (test_messages.error, sizeof test_messages.error, fmt, args);
  va_end (args);
  errno = err;
}

void
report_warning (const char *fmt, ...)
{
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  test_messages.nr_warnings++;
  vsnprintf (test_messages.warning, sizeof test_messages.warning, fmt, args);
  va_end (args);
}

void
report_debug (const char *fmt, ...)
{
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  if (test_messages.nr_debug++ == 0)
    vsnprintf (test_messages.debug, sizeof test_messages.debug, fmt, args);
  va_end (args);
}
