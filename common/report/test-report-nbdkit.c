/* Test nbdkit's end: what reaches the server, with "%m" and errno kept.
 * The server's calls are played by this program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdarg.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "include/testing.h"
#include "report/report.h"

static char heard[8192];

static void __attribute__ ((format (printf, 2, 0)))
hear (const char *level, const char *fmt, va_list args)
{
  int n = snprintf (heard, 16, "%s|", level);

  vsnprintf (heard + n, sizeof heard - (size_t) n, fmt, args);
  errno = EBADF;                /* a server may spoil it */
}

void __attribute__ ((format (printf, 1, 0)))
nbdkit_verror (const char *fmt, va_list args)
{
  hear ("error", fmt, args);
}

void __attribute__ ((format (printf, 1, 2)))
nbdkit_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  hear ("error", fmt, args);
  va_end (args);
}

void __attribute__ ((format (printf, 1, 0)))
nbdkit_vdebug (const char *fmt, va_list args)
{
  hear ("debug", fmt, args);
}

int
main (void)
{
  errno = ENOSPC;
  report_error ("disk %d: %m", 7);
  CHECK (errno == ENOSPC);
  CHECK (strcmp (heard, "error|disk 7: No space left on device") == 0);

  report_warning ("disk %d%%: %m", 8);
  CHECK (errno == ENOSPC);
  CHECK (strcmp (heard, "error|warning: disk 8%: No space left on device")
         == 0);

  report_debug ("raw: open len=%d: %m", 9);
  CHECK (errno == ENOSPC);
  CHECK (strcmp (heard, "debug|raw: open len=9: No space left on device")
         == 0);
  return EXIT_SUCCESS;
}
