/* Where messages go.
 *
 * Two ends exist, chosen when a program is linked: nbdkit's log (plugins,
 * filters) and standard error (tests, fuzzers).  Messages are one line,
 * begin with the file they speak of, and end without a full stop; "%m" is
 * understood.  Both calls keep errno.  Threads: any.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_REPORT_H
#define NDF_REPORT_H

#include <stdbool.h>

/* Tell the user what went wrong: which file, where, what was found, what
 * was expected, what to do.  Called once for each fault, where all that is
 * known; callers above only pass the failure on.
 */
extern void report_error (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

/* Something the user ought to know although the work goes on.  Appears
 * like an error, with "warning: " before it.
 */
extern void report_warning (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

/* "format: verb key=value ...", at most one line for each request. */
extern void report_debug (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

/* Drop every message of the calling thread (true), or end that: for a look
 * at files of which nothing may be told.
 */
extern void report_set_quiet (bool quiet);

#endif /* NDF_REPORT_H */
