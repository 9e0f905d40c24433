/* nbdkit's next layer as a source.
 *
 * A layer may have a minimum block size: requests are rounded out to it
 * then, and writes merged with what is there.  Nobody else may write to
 * these blocks meanwhile, which the filter's callers see to.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"
#include "source/next.h"

/* Longer requests are split: plugins need not take any length. */
#define REQUEST_MAX (UINT32_C (1) << 22)

/* Longest range that can be asked about at once: block counts are 32 bits. */
#define EXTENTS_MAX (UINT64_C (1) << 31)

struct next_source {
  struct source src;            /* must be first */
  nbdkit_next *next;            /* borrowed */
  uint32_t block;               /* minimum, a power of two */
  uint32_t request;             /* the longest; a multiple of 'block' */
  bool has_extents;
  bool has_flush;
};

static const struct source_ops next_ops;

static struct next_source *
next_of (struct source *src)
{
  assert (src->ops == &next_ops);
  return (struct next_source *) src;
}

/* ---- whole blocks */

static int
read_blocks (struct next_source *s, void *buf, uint32_t len, uint64_t host)
{
  int err = EIO;

  if (s->next->pread (s->next, buf, len, host, 0, &err) == 0)
    return 0;
  errno = err;
  return -1;
}

static int
write_blocks (struct next_source *s, const void *buf, uint32_t len,
              uint64_t host)
{
  int err = EIO;

  if (s->next->pwrite (s->next, buf, len, host, 0, &err) == 0)
    return 0;
  errno = err;
  return -1;
}

/* The blocks round a range, which begin at 'start', in a new buffer. */
static void *
read_around (struct next_source *s, size_t len, uint64_t host,
             uint64_t *start, uint32_t *around)
{
  const uint64_t end = MIN (round_up (host + len, s->block),
                            source_len (&s->src));
  void *buf;

  *start = round_down (host, s->block);
  *around = (uint32_t) (end - *start);
  buf = malloc (*around);
  if (buf && read_blocks (s, buf, *around, *start) == -1) {
    free (buf);
    return NULL;
  }
  return buf;
}

/* Does the range consist of whole blocks?  The last one may be cut off. */
static bool
is_whole (struct next_source *s, size_t len, uint64_t host)
{
  return host % s->block == 0 &&
    (len % s->block == 0 || host + len == source_len (&s->src));
}

/* The next piece of a longer range: it ends where a whole one does. */
static size_t
piece_len (const struct next_source *s, size_t len, uint64_t host)
{
  return MIN (len, (size_t) (s->request - host % s->request));
}

static int
read_piece (struct next_source *s, void *buf, size_t len, uint64_t host)
{
  CLEANUP_FREE uint8_t *blocks = NULL;
  uint64_t start;
  uint32_t around;

  if (is_whole (s, len, host))
    return read_blocks (s, buf, (uint32_t) len, host);
  blocks = read_around (s, len, host, &start, &around);
  if (blocks == NULL)
    return -1;
  memcpy (buf, blocks + (host - start), len);
  return 0;
}

static int
write_piece (struct next_source *s, const void *buf, size_t len,
             uint64_t host)
{
  CLEANUP_FREE uint8_t *blocks = NULL;
  uint64_t start;
  uint32_t around;

  if (is_whole (s, len, host))
    return write_blocks (s, buf, (uint32_t) len, host);
  blocks = read_around (s, len, host, &start, &around);
  if (blocks == NULL)
    return -1;
  memcpy (blocks + (host - start), buf, len);
  return write_blocks (s, blocks, around, start);
}

/* ---- the source */

static int
next_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct next_source *s = next_of (src);

  for (uint8_t *p = buf; len > 0;) {
    const size_t n = piece_len (s, len, host);

    if (read_piece (s, p, n, host) == -1)
      return -1;
    p += n;
    host += n;
    len -= n;
  }
  return 0;
}

static int
next_pwrite (struct source *src, const void *buf, size_t len, uint64_t host)
{
  struct next_source *s = next_of (src);

  for (const uint8_t *p = buf; len > 0;) {
    const size_t n = piece_len (s, len, host);

    if (write_piece (s, p, n, host) == -1)
      return -1;
    p += n;
    host += n;
    len -= n;
  }
  return 0;
}

static int
next_sync (struct source *src)
{
  struct next_source *s = next_of (src);
  int err = ENOTSUP;

  if (s->has_flush && s->next->flush (s->next, 0, &err) == 0)
    return 0;
  errno = err;
  return -1;
}

/* What the next layer says of the block of 'host' and of what follows.
 * Only one run is asked for: nbdkit's split plugin crashes when the end of
 * a range lies inside a longer run, and it is asked for more than one.
 */
static struct source_extent
next_extent (struct source *src, uint64_t host, uint64_t len)
{
  const uint32_t hole = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
  struct next_source *s = next_of (src);
  struct source_extent ext = { .len = len, .hole = false };
  const uint64_t start = round_down (host, s->block);
  const uint64_t end = MIN (round_up (host + len, s->block),
                            source_len (src));
  const uint64_t count = MIN (end - start, EXTENTS_MAX);
  struct nbdkit_extents *list;
  int err;

  if (!s->has_extents)
    return ext;
  list = nbdkit_extents_new (start, source_len (src));
  if (list == NULL)
    return ext;
  if (s->next->extents (s->next, (uint32_t) count, start,
                        NBDKIT_FLAG_REQ_ONE, list, &err) == 0 &&
      nbdkit_extents_count (list) > 0) {
    const struct nbdkit_extent first = nbdkit_get_extent (list, 0);

    if (first.offset == start && first.length > host - start) {
      ext.len = MIN (len, first.length - (host - start));
      ext.hole = (first.type & hole) == hole;
    }
  }
  nbdkit_extents_free (list);
  return ext;
}

static void
next_close (struct source *src)
{
  source_destroy (src);
  free (next_of (src));
}

/* Ask the layer everything now: the answers are kept, and cannot fail
 * later.
 */
static int
learn (struct next_source *s, bool readonly)
{
  uint32_t minimum, preferred, maximum;
  const int64_t len = s->next->get_size (s->next);
  int can_extents, can_write, can_flush;

  if (len == -1 ||
      s->next->block_size (s->next, &minimum, &preferred, &maximum) == -1)
    return -1;
  can_extents = s->next->can_extents (s->next);
  can_write = s->next->can_write (s->next);
  can_flush = s->next->can_flush (s->next);
  if (can_extents == -1 || can_write == -1 || can_flush == -1)
    return -1;

  s->src.len = (uint64_t) len;
  s->src.writable = can_write && !readonly;
  s->block = is_power_of_2 (minimum) ? minimum : 1; /* 0: unknown */
  s->request = MAX (s->block, REQUEST_MAX);
  if (maximum >= s->block && maximum < s->request)
    s->request = (uint32_t) round_down (maximum, s->block);
  s->src.alignment = MAX (s->block, UINT32_C (512));
  s->has_extents = can_extents;
  s->has_flush = can_flush;
  return 0;
}

struct source *
source_next (nbdkit_next *next, const char *name, bool readonly)
{
  struct next_source *s = calloc (1, sizeof *s);

  if (s == NULL || source_init (&s->src, &next_ops, name) == -1) {
    report_error ("%s: %m", name);
    free (s);
    return NULL;
  }
  s->next = next;
  if (learn (s, readonly) == -1) {
    source_put (&s->src);
    return NULL;
  }
  return &s->src;
}

bool
source_next_can_flush (struct source *src)
{
  return next_of (src)->has_flush;
}

static const struct source_ops next_ops = {
  .kind = "next",
  .pread = next_pread,
  .pwrite = next_pwrite,
  .sync = next_sync,
  .extent = next_extent,
  .close = next_close,
};
