/* Damage met while an image is in use: told, but not without end.
 *
 * A client that reads a damaged range again and again must not fill the
 * log, nor must an image that is damaged everywhere.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "image/damage.h"
#include "report/report.h"

void
damage_log_init (struct damage_log *log)
{
  memset (log, 0, sizeof *log);
  lock_init (&log->lock);
}

void
damage_log_destroy (struct damage_log *log)
{
  lock_destroy (&log->lock);
}

enum verdict { SAY_NOTHING, SAY_IT, SAY_MORE };

static enum verdict
judge (struct damage_log *log, uint64_t host)
{
  unsigned i;
  LOCK_SCOPE (&log->lock);

  for (i = 0; i < log->nr_places; ++i)
    if (log->places[i] == host)
      return SAY_NOTHING;
  if (log->nr_places < DAMAGE_MAX_PLACES) {
    log->places[log->nr_places++] = host;
    return SAY_IT;
  }
  if (log->has_said_more)
    return SAY_NOTHING;
  log->has_said_more = true;
  return SAY_MORE;
}

void
damage_log_report (struct damage_log *log, const char *name, uint64_t host,
                   const char *fmt, ...)
{
  char text[512];
  va_list args;

  switch (judge (log, host)) {
  case SAY_NOTHING:
    break;
  case SAY_MORE:
    report_error ("%s: there are more damaged places than these %d; "
                  "they are not reported", name, DAMAGE_MAX_PLACES);
    break;
  case SAY_IT:
    va_start (args, fmt);
    vsnprintf (text, sizeof text, fmt, args);
    va_end (args);
    report_error ("%s: %s", name, text);
    break;
  }
}
