/* The calls that all sources share.
 *
 * Decides what may reach a source at all (inside the length, writable,
 * able to grow), keeps the length, makes a failed sync stick, and writes
 * zeroes where a source has no quicker way.  Failures are reported here,
 * so that implementations only set errno.
 *
 * Invariant: bytes at or beyond 'len' read as zeroes once the source is
 * lengthened over them.  Therefore a write that lengthened a source and
 * then failed must be accounted for (source_note_length), or a later
 * growth would uncover what it left.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "report/report.h"
#include "source/hole-map.h"
#include "source/source.h"

/* The largest buffer of zeroes that is ever written at once. */
#define ZERO_BUFFER_MAX (UINT64_C (1) << 20)

/* A source that is lengthened ahead of need is so by as much at least, and
 * at most.
 */
#define MIN_AHEAD (UINT64_C (1) << 20)
#define MAX_AHEAD (UINT64_C (1) << 26)

/* The end of [host, host+len), for a range that is about to change. */
static int
check_change (struct source *src, uint64_t len, uint64_t host, uint64_t *end)
{
  if (!src->writable) {
    report_error ("%s: is open for reading only, so %" PRIu64 " bytes at "
                  "%" PRIu64 " cannot be changed", src->name, len, host);
    errno = EROFS;
    return -1;
  }
  if (ADD_OVERFLOW (host, len, end) || *end > INT64_MAX) {
    report_error ("%s: a change of %" PRIu64 " bytes at %" PRIu64 " passes "
                  "the largest possible file length",
                  src->name, len, host);
    errno = src->can_grow ? EFBIG : ENOSPC;
    return -1;
  }
  if (*end > src->len && !src->can_grow) {
    report_error ("%s: a change of %" PRIu64 " bytes at %" PRIu64 " passes "
                  "the end (%" PRIu64 " bytes), and this cannot grow",
                  src->name, len, host, source_len (src));
    errno = ENOSPC;
    return -1;
  }
  return 0;
}

static int
report_range (struct source *src, const char *verb, uint64_t len,
              uint64_t host)
{
  report_error ("%s: cannot %s %" PRIu64 " bytes at %" PRIu64 ": %m",
                src->name, verb, len, host);
  return -1;
}

/* Growth is shared among writes, which may pass each other, and exclusive
 * for truncate, which would otherwise cut off what a write just added.
 */
static void
growth_share (struct source *src)
{
  lock_must (pthread_rwlock_rdlock (&src->growth));
}

static void
growth_exclude (struct source *src)
{
  lock_must (pthread_rwlock_wrlock (&src->growth));
}

static void
growth_release (struct source *src)
{
  lock_must (pthread_rwlock_unlock (&src->growth));
}

/* The map of holes is wrong from the beginning of a change to its end. */
static void
end_change (struct source **src)
{
  hole_map_note_change ((*src)->holes);
}

#define CHANGE_SCOPE(src)                                               \
  __attribute__ ((cleanup (end_change), unused))                        \
  struct source *changing_ = ({ hole_map_note_change ((src)->holes); (src); })

/* Write a range that check_change has passed; unreported. */
static int
write_checked (struct source *src, const void *buf, size_t len,
               uint64_t host)
{
  uint64_t end = host + len;
  int r;

  if (end <= src->len)
    return src->ops->pwrite (src, buf, len, host);

  growth_share (src);
  r = src->ops->pwrite (src, buf, len, host);
  if (r == 0)
    source_note_length (src, end);
  growth_release (src);
  return r;
}

/* Lengthen to at least 'end'; unreported. */
static int
grow (struct source *src, uint64_t end)
{
  int r = 0;

  growth_exclude (src);
  if (end > src->len) {
    r = src->ops->truncate (src, end);
    if (r == 0)
      src->len = end;
  }
  growth_release (src);
  return r;
}

static int
write_zeroes (struct source *src, uint64_t len, uint64_t host)
{
  uint64_t size = MIN (len, ZERO_BUFFER_MAX);
  CLEANUP_FREE void *zeroes = calloc (1, size);

  if (zeroes == NULL)
    return -1;
  while (len > 0) {
    size_t n = MIN (len, size);

    if (write_checked (src, zeroes, n, host) == -1)
      return -1;
    host += n;
    len -= n;
  }
  return 0;
}

/* Zero a range inside the length; unreported. */
static int
zero_inside (struct source *src, uint64_t len, uint64_t host,
             enum source_zero_mode mode, bool fast)
{
  if (src->ops->zero != NULL) {
    int r = src->ops->zero (src, len, host, mode);

    if (r == 0 || errno != ENOTSUP)
      return r;
  }
  if (fast) {
    errno = ENOTSUP;
    return -1;
  }
  return write_zeroes (src, len, host);
}

static int
zero_range (struct source *src, uint64_t len, uint64_t host,
            enum source_zero_mode mode, bool fast)
{
  uint64_t end, src_len, inside;
  int r = 0;

  if (len == 0)
    return 0;
  if (check_change (src, len, host, &end) == -1)
    return -1;
  CHANGE_SCOPE (src);

  /* The inner part first: it may say ENOTSUP, with nothing changed. */
  src_len = src->len;
  inside = host >= src_len ? 0 : MIN (len, src_len - host);
  if (inside > 0)
    r = zero_inside (src, inside, host, mode, fast);
  if (r == 0 && end > src_len)
    r = grow (src, end);
  if (r == -1 && !(fast && errno == ENOTSUP))
    return report_range (src, "zero", len, host);
  return r;
}

int
source_init (struct source *src, const struct source_ops *ops,
             const char *name)
{
  src->ops = ops;
  src->name = strdup (name);
  src->holes = malloc (sizeof *src->holes);
  if (src->name == NULL || src->holes == NULL) {
    free (src->name);
    free (src->holes);
    errno = ENOMEM;
    return -1;
  }
  hole_map_init (src->holes);
  lock_must (pthread_rwlock_init (&src->growth, NULL));
  src->references = 1;
  src->len = 0;
  src->writable = false;
  src->can_grow = false;
  src->alignment = 512;
  src->sync_failed = false;
  return 0;
}

void
source_destroy (struct source *src)
{
  lock_must (pthread_rwlock_destroy (&src->growth));
  hole_map_destroy (src->holes);
  free (src->holes);
  free (src->name);
}

void
source_note_length (struct source *src, uint64_t end)
{
  uint64_t len = src->len;

  while (len < end
         && !atomic_compare_exchange_weak (&src->len, &len, end))
    ;
}

int
source_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  if (len == 0)
    return 0;
  if (!range_is_inside (host, len, src->len)) {
    report_error ("%s: a read of %zu bytes at %" PRIu64 " passes the end "
                  "(%" PRIu64 " bytes)", src->name, len, host,
                  source_len (src));
    errno = EIO;
    return -1;
  }
  if (src->ops->pread (src, buf, len, host) == -1)
    return report_range (src, "read", len, host);
  return 0;
}

int
source_pread_padded (struct source *src, void *buf, size_t len,
                     uint64_t host)
{
  uint64_t src_len = src->len;
  size_t inside = host >= src_len ? 0 : MIN (len, src_len - host);

  if (source_pread (src, buf, inside, host) == -1)
    return -1;
  if (inside < len)
    memset ((char *) buf + inside, 0, len - inside);
  return 0;
}

int
source_pwrite (struct source *src, const void *buf, size_t len,
               uint64_t host)
{
  uint64_t end;

  if (len == 0)
    return 0;
  if (check_change (src, len, host, &end) == -1)
    return -1;
  CHANGE_SCOPE (src);
  if (write_checked (src, buf, len, host) == -1)
    return report_range (src, "write", len, host);
  return 0;
}

int
source_zero (struct source *src, uint64_t len, uint64_t host,
             enum source_zero_mode mode)
{
  return zero_range (src, len, host, mode, false);
}

int
source_zero_fast (struct source *src, uint64_t len, uint64_t host,
                  enum source_zero_mode mode)
{
  return zero_range (src, len, host, mode, true);
}

int
source_sync (struct source *src)
{
  if (src->sync_failed) {
    report_error ("%s: an earlier flush of this file failed and changes may "
                  "have been lost, so no flush can succeed any more; "
                  "stop the server and check the image", src->name);
    errno = EIO;
    return -1;
  }
  if (!src->writable)
    return 0;
  if (src->ops->sync (src) == -1) {
    src->sync_failed = true;
    report_error ("%s: cannot flush to stable storage: %m", src->name);
    return -1;
  }
  return 0;
}

/* Of a source that cannot grow the length is fixed either way. */
static int
check_truncate (struct source *src, uint64_t len)
{
  if (!src->writable)
    errno = EROFS;
  else if (!src->can_grow)
    errno = len > src->len ? ENOSPC : ENOTSUP;
  else if (len > INT64_MAX)
    errno = EFBIG;
  else
    return 0;
  return -1;
}

static int
report_length (struct source *src, uint64_t len)
{
  report_error ("%s: cannot change the length from %" PRIu64 " to "
                "%" PRIu64 " bytes: %m", src->name, source_len (src), len);
  return -1;
}

int
source_truncate (struct source *src, uint64_t len)
{
  int r;

  if (src->writable && len == src->len)
    return 0;
  if (check_truncate (src, len) == -1)
    return report_length (src, len);
  CHANGE_SCOPE (src);

  growth_exclude (src);
  r = src->ops->truncate (src, len);
  if (r == 0)
    src->len = len;
  growth_release (src);
  return r == 0 ? 0 : report_length (src, len);
}

int
source_grow (struct source *src, uint64_t len)
{
  if (src->writable && len <= src->len)
    return 0;
  if (check_truncate (src, len) == -1)
    return report_length (src, len);
  CHANGE_SCOPE (src);
  return grow (src, len) == 0 ? 0 : report_length (src, len);
}

/* How long to make a source that needs 'len': an eighth more, about. */
static uint64_t
len_ahead (const struct source *src, uint64_t len, uint32_t unit)
{
  uint64_t step = MAX (MIN_AHEAD, unit);

  while (step < source_len (src) / 8 && step < MAX_AHEAD)
    step *= 2;
  return len > INT64_MAX - step ? len : round_up (len, step);
}

static bool
is_too_long (int err)
{
  return err == ENOSPC || err == EFBIG;
}

int
source_grow_ahead (struct source *src, uint64_t len, uint32_t unit)
{
  if (src->writable && (len <= src->len || !src->can_grow))
    return 0;
  if (check_truncate (src, len) == -1)
    return report_length (src, len);
  CHANGE_SCOPE (src);
  if (grow (src, len_ahead (src, len, unit)) == 0 ||
      (is_too_long (errno) && grow (src, len) == 0))
    return 0;
  if (!is_too_long (errno))
    return report_length (src, len);
  report_debug ("%s: cannot grow to %" PRIu64 " bytes: %m", src->name, len);
  errno = ENOSPC;
  return -1;
}

struct source_extent
source_extent (struct source *src, uint64_t host, uint64_t len)
{
  uint64_t src_len = src->len;
  struct source_extent ext;

  assert (len > 0);
  if (host >= src_len)
    return (struct source_extent) { .len = len, .hole = true };

  len = MIN (len, src_len - host);
  ext = (struct source_extent) { .len = len, .hole = false };
  if (src->ops->extent != NULL)
    ext = hole_map_extent (src->holes, src, host, len);
  assert (ext.len > 0 && ext.len <= len);
  return ext;
}

void
source_prefetch (struct source *src, uint64_t host, uint64_t len)
{
  uint64_t src_len = src->len;

  if (src->ops->prefetch != NULL && len > 0 && host < src_len)
    src->ops->prefetch (src, host, MIN (len, src_len - host));
}

struct source *
source_get (struct source *src)
{
  src->references++;
  return src;
}

void
source_put (struct source *src)
{
  if (src != NULL && --src->references == 0)
    src->ops->close (src);
}
