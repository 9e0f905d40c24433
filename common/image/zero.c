/* Zeroing and trimming: mappings change where whole units are covered, the
 * ends are written.
 *
 * The request holds its range exclusively, rounded out to the unit, from
 * beginning to end.  A unit that is covered in part is taken whole when
 * its other bytes read as zeroes anyway.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>

#include "image/image.h"
#include "image/read.h"
#include "image/write.h"
#include "include/checked.h"
#include "report/report.h"

/* Zeroes to write where nothing else will do. */
#define ZEROES_LEN (64 * 1024)
static const uint8_t zeroes[ZEROES_LEN];

/* Write zeroes over what does not read so yet. */
static int
write_zeroes (struct image *img, uint64_t start, uint64_t end)
{
  uint64_t n;

  for (; start < end; start += n) {
    int r;

    n = MIN (end - start, (uint64_t) ZEROES_LEN);
    r = image_is_zero_locked (img, n, start);
    if (r == -1)
      return -1;
    if (r == 0 && image_write_exclusive (img, zeroes, n, start) == -1)
      return -1;
  }
  return 0;
}

/* Where the unit that begins at 'start' ends: the disk's end ends it too. */
static uint64_t
unit_end (const struct image *img, uint64_t start)
{
  return MIN (start + img->zero_unit, img->len);
}

/* The request, in three parts: [start, a) and [b, end) are to be written,
 * [a, b) is to be unmapped.
 */
struct parts {
  uint64_t start, a, b, end;
};

/* Can the unit at 'unit' be taken whole for the part [start, end) of it?
 * 1, 0 or -1.
 */
static int
rest_is_zero (struct image *img, uint64_t unit, uint64_t start, uint64_t end)
{
  const uint64_t last = unit_end (img, unit);
  int r = 1;

  if (unit < start)
    r = image_is_zero_locked (img, start - unit, unit);
  if (r == 1 && end < last)
    r = image_is_zero_locked (img, last - end, end);
  return r;
}

/* Find the parts, taking units whole where that is the same. */
static int
split (struct image *img, uint64_t start, uint64_t end, struct parts *parts)
{
  const uint64_t first = round_down (start, img->zero_unit);
  const uint64_t last = round_down (end, img->zero_unit);
  int r;

  *parts = (struct parts) {
    .start = start, .a = start, .b = end, .end = end
  };
  if (start > first) {
    r = rest_is_zero (img, first, start, MIN (end, unit_end (img, first)));
    if (r == -1)
      return -1;
    parts->a = r ? first : MIN (unit_end (img, first), end);
  }
  if (end > last && end < img->len && parts->a <= last) {
    r = rest_is_zero (img, last, MAX (start, last), end);
    if (r == -1)
      return -1;
    parts->b = r ? unit_end (img, last) : last;
  }
  return 0;
}

static int
check_fast (struct image *img, const struct parts *parts)
{
  int r = 1;

  if (parts->start < parts->a)
    r = image_is_zero_locked (img, parts->a - parts->start, parts->start);
  if (r == 1 && parts->b < parts->end)
    r = image_is_zero_locked (img, parts->end - parts->b, parts->b);
  if (r == 1)
    return 0;
  if (r == 0)
    errno = ENOTSUP;
  return -1;
}

/* unmap, with a pass and a second try when there is no space. */
static ssize_t
unmap_step (struct image *img, uint64_t start, uint64_t len,
            enum unmap_wish wish, bool fast)
{
  ssize_t n = img->format->unmap (img, start, len, wish, fast);

  if (n != -1 || errno != ENOSPC)
    return n;
  if (pass_run (img) == -1)
    return -1;
  n = img->format->unmap (img, start, len, wish, fast);
  if (n == -1 && errno == ENOSPC) {
    report_error ("%s: no space left for tables", img->name);
    errno = ENOSPC;
  }
  return n;
}

/* Unmap [start, end); what the driver cannot do is written, unit by unit,
 * unless 'fast'.
 */
static int
unmap (struct image *img, uint64_t start, uint64_t end,
       enum unmap_wish wish, bool fast)
{
  while (start < end) {
    ssize_t n;

    if (img->cache && cache_is_pressed (img->cache) && pass_run (img) == -1)
      return -1;
    n = unmap_step (img, start, end - start, wish, fast);
    if (n == -1) {
      if (errno != ENOTSUP || fast || wish == UNMAP_TRIM)
        return -1;
      n = MIN (round_down (start, img->unit) + img->unit, end) - start;
      if (write_zeroes (img, start, start + n) == -1)
        return -1;
    }
    start += n;
  }
  return 0;
}

int
image_zero (struct image *img, uint64_t len, uint64_t guest, bool may_trim,
            bool fast)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };
  const enum unmap_wish wish = may_trim ? UNMAP_ZERO_FREE : UNMAP_ZERO_KEEP;
  struct parts parts;

  if (len == 0)
    return 0;
  if (image_begin_change (img) == -1)
    return -1;
  image_lock_units (img, &hold, len, guest);
  if (split (img, guest, guest + len, &parts) == -1 ||
      (fast && check_fast (img, &parts) == -1))
    return -1;
  if (parts.a < parts.b &&
      unmap (img, parts.a, parts.b, wish, fast) == -1)
    return -1;
  if (parts.start < parts.a &&
      write_zeroes (img, parts.start, parts.a) == -1)
    return -1;
  return write_zeroes (img, MAX (parts.b, parts.a), parts.end);
}

int
image_trim (struct image *img, uint64_t len, uint64_t guest)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };
  uint64_t start, end;

  if (len == 0)
    return 0;
  if (image_begin_change (img) == -1)
    return -1;
  start = round_up (guest, img->zero_unit);
  end = guest + len == img->len ? img->len
    : round_down (guest + len, img->zero_unit);
  if (start >= end)
    return 0;
  image_lock_units (img, &hold, end - start, start);
  if (unmap (img, start, end, UNMAP_TRIM, false) == -1)
    return errno == ENOTSUP ? 0 : -1;
  return 0;
}
