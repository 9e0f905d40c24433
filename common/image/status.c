/* Status: what the disk is, over a whole chain, in as few runs as it has.
 *
 * Runs that neighbour and are alike are joined, whichever layers they came
 * from.  A call does a bounded number of lookups; the client asks again
 * from where the answer ended.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>

#include "image/image.h"
#include "image/read.h"
#include "include/checked.h"

/* Lookups for one call, over all layers. */
#define MAX_LOOKUPS 1024

/* A window of the disk that is looked at under one hold of the range
 * lock: writers wait no longer than that takes.
 */
#define WINDOW_LEN (UINT64_C (16) << 30)

/* What is known of a source's allocation: neighbouring extents mostly lie
 * in one run of the host file.
 */
struct host_run {
  const struct source *src;
  uint64_t start, end;
  bool hole;
};

struct status {
  status_add add;
  void *opaque;
  bool one;
  unsigned nr_lookups;
  struct host_run run;

  uint64_t guest, len;          /* the run being joined; len 0: none */
  unsigned flags;
};

enum { STATUS_FAILED = -1, STATUS_GO_ON = 0, STATUS_STOP = 1 };

static int
give_run (struct status *st)
{
  int r = st->len > 0 ? st->add (st->opaque, st->guest, st->len, st->flags)
    : STATUS_GO_ON;

  st->len = 0;
  return r == STATUS_GO_ON && st->one ? STATUS_STOP : r;
}

static int
put_run (struct status *st, uint64_t guest, uint64_t len, unsigned flags)
{
  int r;

  if (st->len > 0 && st->flags == flags) {
    st->len += len;
    return STATUS_GO_ON;
  }
  if (st->len > 0 && (r = give_run (st)) != STATUS_GO_ON)
    return r;
  st->guest = guest;
  st->len = len;
  st->flags = flags;
  return STATUS_GO_ON;
}

/* Find out whether the host's file has a hole at 'host', and how far. */
static const struct host_run *
find_host_run (struct status *st, struct source *src, uint64_t host)
{
  struct host_run *run = &st->run;
  const uint64_t end = source_len (src);

  if (run->src == src && run->start <= host && host < run->end)
    return run;
  run->src = src;
  run->start = host;
  if (host >= end) {
    run->hole = true;           /* nothing is there: it reads as zeroes */
    run->end = UINT64_MAX;
  }
  else {
    struct source_extent e = source_extent (src, host, end - host);

    run->hole = e.hole;
    run->end = host + e.len;
  }
  return run;
}

static int
put_data (struct status *st, const struct extent *ext, uint64_t guest)
{
  uint64_t host = ext->host, len = ext->len;
  int r = STATUS_GO_ON;

  while (len > 0 && r == STATUS_GO_ON) {
    const struct host_run *run = find_host_run (st, ext->src, host);
    const uint64_t n = MIN (len, run->end - host);

    r = put_run (st, guest, n, run->hole ? STATUS_HOLE | STATUS_ZERO : 0);
    guest += n;
    host += n;
    len -= n;
  }
  return r;
}

static int put_layer (struct status *st, struct image *img, uint64_t len,
                      uint64_t guest, bool allocated, uint64_t *done);

/* Bytes that this layer leaves to the one below. */
static int
put_backing (struct status *st, struct image *backing,
             const struct extent *ext, uint64_t guest, uint64_t *done)
{
  uint64_t there = 0;
  int r;

  if (backing && guest < backing->len) {
    there = MIN (ext->len, backing->len - guest);
    r = put_layer (st, backing, there, guest, ext->allocated, done);
    if (r != STATUS_GO_ON || *done < there)
      return r;
  }
  *done = ext->len;
  if (there == ext->len)
    return STATUS_GO_ON;
  return put_run (st, guest + there, ext->len - there,
                  STATUS_ZERO | (ext->allocated ? 0 : STATUS_HOLE));
}

static int
put_extent (struct status *st, struct image *img, const struct extent *ext,
            uint64_t guest, bool allocated, uint64_t *done)
{
  *done = ext->len;
  switch (ext->type) {
  case EXTENT_DATA:
    return put_data (st, ext, guest);
  case EXTENT_ZERO:
    allocated |= ext->allocated;
    return put_run (st, guest, ext->len,
                    STATUS_ZERO | (allocated ? 0 : STATUS_HOLE));
  case EXTENT_BACKING:
    return put_backing (st, img->backing, ext, guest, done);
  case EXTENT_PACKED:
  case EXTENT_DAMAGED:
    break;
  }
  return put_run (st, guest, ext->len, 0);
}

/* The part of one layer that [guest, guest+len) is; *done tells how far it
 * got, less than 'len' when the bound on the work was met.
 */
static int
put_layer (struct status *st, struct image *img, uint64_t len,
           uint64_t guest, bool allocated, uint64_t *done)
{
  struct extent ext[NR_STATUS_EXTENTS];
  uint64_t part;
  ssize_t n, i;
  int r;

  *done = 0;
  while (*done < len && st->nr_lookups < MAX_LOOKUPS) {
    st->nr_lookups++;
    n = image_lookup (img, guest + *done, len - *done, ext,
                      NR_STATUS_EXTENTS);
    if (n == -1)
      return STATUS_FAILED;
    for (i = 0; i < n; ++i) {
      r = put_extent (st, img, &ext[i], guest + *done, allocated, &part);
      *done += part;
      if (r != STATUS_GO_ON || part < ext[i].len)
        return r;
    }
  }
  return STATUS_GO_ON;
}

int
image_status (struct image *img, uint64_t len, uint64_t guest, bool one,
              status_add add, void *opaque)
{
  struct status st = { .add = add, .opaque = opaque, .one = one };
  uint64_t done = 0, part, window;
  int r = STATUS_GO_ON;

  while (r == STATUS_GO_ON && done < len && st.nr_lookups < MAX_LOOKUPS) {
    CLEANUP_RANGE struct range_hold hold = { .locks = NULL };

    window = MIN (len - done, WINDOW_LEN);
    if (img->is_writable) {
      /* Lookups of earlier windows are no guide to what is true now. */
      st.run.src = NULL;
      range_lock_take (&img->ranges, &hold, guest + done,
                       guest + done + window, false);
    }
    r = put_layer (&st, img, window, guest + done, false, &part);
    done += part;
    if (part < window)
      break;
  }
  if (r == STATUS_GO_ON)
    r = give_run (&st);
  return r == STATUS_FAILED ? -1 : 0;
}
