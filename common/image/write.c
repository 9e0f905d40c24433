/* Writing: in place where the mapping allows, else reserve, fill, link.
 *
 * In-place writes hold the range shared.  The first byte that cannot be
 * written in place sends the rest of the request through the exclusive
 * path: room is reserved, data goes there (with what the disk read around
 * it, if the driver's unit asks for that), and only then the mapping
 * changes.  Until the link nothing that a reader or a crash can see has
 * changed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "image/pack.h"
#include "image/read.h"
#include "image/write.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"

/* A claim up to this long is put together in memory and written at once
 * when there is something to fill; a longer one is written in parts.
 */
#define BOUNCE_LEN (512 * 1024)

/* ---- before a change */

static int
prepare (struct image *img)
{
  LOCK_SCOPE (&img->prepare_lock);
  if (img->is_prepared)
    return 0;
  if (img->format->prepare && img->format->prepare (img) == -1)
    return -1;
  img->is_prepared = true;
  return 0;
}

int
image_begin_change (struct image *img)
{
  if (!img->is_writable || img->is_damaged) {
    errno = EROFS;
    return -1;
  }
  if (!img->is_prepared && prepare (img) == -1)
    return -1;
  if (img->cache && cache_is_pressed (img->cache))
    return pass_run (img);
  return 0;
}

void
image_lock_units (struct image *img, struct range_hold *hold, uint64_t len,
                  uint64_t guest)
{
  range_lock_take (&img->ranges, hold, round_down (guest, img->unit),
                   round_up (guest + len, img->unit), true);
}

/* ---- in place */

/* Write what may be written where it is, from 'guest' on; returns how much
 * that was, or -1.
 */
static int64_t
write_in_place (struct image *img, const uint8_t *buf, uint64_t len,
                uint64_t guest)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };
  struct extent ext[NR_EXTENTS];
  uint64_t done = 0;
  ssize_t n, i;

  range_lock_take (&img->ranges, &hold, guest, guest + len, false);
  while (done < len) {
    n = image_lookup (img, guest + done, len - done, ext, NR_EXTENTS);
    if (n == -1)
      return -1;
    for (i = 0; i < n; ++i) {
      if (ext[i].type != EXTENT_DATA || !ext[i].writable)
        return done;
      if (source_pwrite (ext[i].src, buf + done, ext[i].len,
                         ext[i].host) == -1)
        return -1;
      pass_data_written (img);
      done += ext[i].len;
    }
  }
  return done;
}

/* ---- through a claim */

static int
reserve (struct image *img, uint64_t guest, uint64_t len,
         struct claim *claim)
{
  if (img->format->reserve (img, guest, len, claim) == 0)
    goto check;
  if (errno != ENOSPC)
    return -1;

  /* What was dropped since the last pass may be room enough. */
  if (pass_run (img) == -1)
    return -1;
  if (img->format->reserve (img, guest, len, claim) == -1) {
    if (errno == ENOSPC) {
      report_error ("%s: no space left to write guest offset %" PRIu64,
                    img->name, guest);
      errno = ENOSPC;
    }
    return -1;
  }

 check:
  assert (claim->guest == guest && claim->len > 0 && claim->len <= len);
  assert (claim->fill_start <= guest);
  assert (claim->fill_end >= guest + claim->len);
  return 0;
}

/* Old contents of a part to be filled; past the end of the disk zeroes. */
static int
read_old (struct image *img, uint8_t *buf, uint64_t start, uint64_t end)
{
  uint64_t there = 0;

  if (start < img->len) {
    there = MIN (end, img->len) - start;
    if (image_read_locked (img, buf, there, start) == -1)
      return -1;
  }
  memset (buf + there, 0, end - start - there);
  return 0;
}

/* Need the part be written, or does the new place already read as the
 * disk does there?  1, 0 or -1.
 */
static int
must_fill (struct image *img, const struct claim *claim, uint64_t start,
           uint64_t end)
{
  int r;

  if (start == end)
    return 0;
  if (!claim->reads_zero)
    return 1;
  if (start >= img->len)
    return 0;
  r = image_is_zero_locked (img, MIN (end, img->len) - start, start);
  return r == -1 ? -1 : !r;
}

static uint64_t
claim_host (const struct claim *claim, uint64_t guest)
{
  return claim->host + guest - claim->guest;
}

static int
write_claim_part (const struct claim *claim, const void *buf, uint64_t start,
                  uint64_t end)
{
  return source_pwrite (claim->src, buf, end - start,
                        claim_host (claim, start));
}

/* Fill a part by itself, in bounded steps. */
static int
fill_part (struct image *img, const struct claim *claim, uint64_t start,
           uint64_t end)
{
  CLEANUP_FREE uint8_t *bounce = NULL;
  uint64_t n;

  if (start == end)
    return 0;
  n = MIN (end - start, (uint64_t) BOUNCE_LEN);
  bounce = malloc (n);
  if (bounce == NULL)
    goto no_memory;
  for (; start < end; start += n) {
    n = MIN (end - start, n);
    if (read_old (img, bounce, start, start + n) == -1 ||
        write_claim_part (claim, bounce, start, start + n) == -1)
      return -1;
  }
  return 0;

 no_memory:
  report_error ("%s: no memory to copy a cluster", img->name);
  errno = ENOMEM;
  return -1;
}

/* Data with the parts around it, [start, end), in one write. */
static int
write_together (struct image *img, const struct claim *claim,
                const uint8_t *buf, uint64_t start, uint64_t end)
{
  const uint64_t data_end = claim->guest + claim->len;
  CLEANUP_FREE uint8_t *bounce = malloc (end - start);

  if (bounce == NULL) {
    report_error ("%s: no memory to copy a cluster", img->name);
    errno = ENOMEM;
    return -1;
  }
  memcpy (bounce + (claim->guest - start), buf, claim->len);
  if (start < claim->guest &&
      read_old (img, bounce, start, claim->guest) == -1)
    return -1;
  if (data_end < end &&
      read_old (img, bounce + (data_end - start), data_end, end) == -1)
    return -1;
  return write_claim_part (claim, bounce, start, end);
}

static int
write_claim (struct image *img, const struct claim *claim,
             const uint8_t *buf)
{
  const uint64_t data_end = claim->guest + claim->len;
  uint64_t start = claim->guest, end = data_end;
  int head, tail;

  head = must_fill (img, claim, claim->fill_start, claim->guest);
  tail = must_fill (img, claim, data_end, claim->fill_end);
  if (head == -1 || tail == -1)
    return -1;
  if (head)
    start = claim->fill_start;
  if (tail)
    end = claim->fill_end;

  if (start == claim->guest && end == data_end)
    return write_claim_part (claim, buf, start, end);
  if (end - start <= BOUNCE_LEN)
    return write_together (img, claim, buf, start, end);
  if (fill_part (img, claim, start, claim->guest) == -1 ||
      write_claim_part (claim, buf, claim->guest, data_end) == -1)
    return -1;
  return fill_part (img, claim, data_end, end);
}

/* How far from 'guest' on must room be made?  0 when the first byte may be
 * written in place ('ext' is its extent); -1 as lookup, or for damage.
 */
static int64_t
claimable_len (struct image *img, uint64_t guest, uint64_t len,
               struct extent *ext)
{
  uint64_t sum = 0;
  ssize_t n, i;

  n = image_lookup (img, guest, len, ext, NR_EXTENTS);
  if (n == -1)
    return -1;
  for (i = 0; i < n; ++i) {
    if (ext[i].type == EXTENT_DATA && ext[i].writable)
      break;
    if (ext[i].type == EXTENT_DAMAGED)
      break;
    sum += ext[i].len;
  }
  if (sum == 0 && ext[0].type == EXTENT_DAMAGED) {
    errno = EIO;                /* reported by the lookup */
    return -1;
  }
  return sum;
}

/* One step of the exclusive path: returns how much was written, or -1. */
static int64_t
write_step (struct image *img, const uint8_t *buf, uint64_t len,
            uint64_t guest)
{
  struct extent ext[NR_EXTENTS];
  struct claim claim;
  int64_t room = claimable_len (img, guest, len, ext), packed;
  int err;

  if (room == -1)
    return -1;
  if (room == 0) {
    if (source_pwrite (ext[0].src, buf, ext[0].len, ext[0].host) == -1)
      return -1;
    pass_data_written (img);
    return ext[0].len;
  }

  packed = image_write_packed (img, buf, room, guest);
  if (packed != 0)
    return packed;
  if (img->wishes.compress_level != 0)
    room = MIN (room, (int64_t) (img->unit - guest % img->unit));
  if (reserve (img, guest, room, &claim) == -1)
    return -1;
  if (write_claim (img, &claim, buf) == -1) {
    err = errno;
    img->format->abandon (img, &claim);
    errno = err;
    return -1;
  }
  pass_data_written (img);
  img->format->link (img, &claim);
  return claim.len;
}

int
image_write_exclusive (struct image *img, const void *vbuf, uint64_t len,
                       uint64_t guest)
{
  const uint8_t *buf = vbuf;
  int64_t n;

  while (len > 0) {
    n = write_step (img, buf, len, guest);
    if (n == -1)
      return -1;
    buf += n;
    guest += n;
    len -= n;
  }
  return 0;
}

int
image_write (struct image *img, const void *vbuf, uint64_t len,
             uint64_t guest)
{
  CLEANUP_RANGE struct range_hold hold = { .locks = NULL };
  const uint8_t *buf = vbuf;
  int64_t done;

  if (len == 0)
    return 0;
  if (image_begin_change (img) == -1)
    return -1;
  done = write_in_place (img, buf, len, guest);
  if (done == -1)
    return -1;
  if ((uint64_t) done == len)
    return 0;
  image_lock_units (img, &hold, len - done, guest + done);
  return image_write_exclusive (img, buf + done, len - done, guest + done);
}

int
image_flush (struct image *img)
{
  return img->is_writable ? pass_run (img) : 0;
}
