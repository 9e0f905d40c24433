/* Reading of compressed units, with a small cache of decoded ones.
 *
 * Decoded: a unit of which only a part was wanted is kept, because the
 * rest is likely to be asked for next; a unit wanted whole is decoded
 * straight into the reader's buffer and kept only when others wait for it.
 * Whoever comes first decodes, with its name in the table meanwhile.
 *
 * Windows: compressed units of a sequential reader lie one behind the
 * other in the file, several in 100 KiB.  When a stream follows closely on
 * one read lately, a larger piece is read at once and kept in a small
 * ring; its bytes never change once read.
 *
 * Everything is reference counted, so that forgetting only takes names
 * away: who still reads the old content holds the old mapping too.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"
#include "image/image.h"
#include "image/packed.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "report/report.h"

#define DECODED_BYTES (UINT64_C (4) << 20)
#define DECODED_UNITS_MIN 4
#define DECODED_UNITS_MAX 1024
#define NR_BUCKETS 256

#define WINDOW_LEN (UINT64_C (256) << 10)
#define NR_WINDOWS 8

/* A stream is in sequence when it starts no further than this behind the
 * end of one of the last NR_RECENT that were read.
 */
#define NEAR_LEN (UINT64_C (64) << 10)
#define NR_RECENT 16

enum decoded_state {
  DECODED_BUSY,                 /* its first reader is decoding */
  DECODED_READY,                /* bytes are there, for ever */
  DECODED_FAILED,               /* see 'error' */
  DECODED_PASSED_ON,            /* not kept: another must decode */
};

/* All fields guarded by packed.lock; the bytes once READY need none. */
struct decoded {
  struct decoded *next;         /* hash chain */
  struct decoded *older, *newer; /* age list, when kept */
  const struct source *src;
  uint64_t host, packed_len;
  enum codec codec;
  enum decoded_state state;
  int error;                    /* errno when FAILED */
  unsigned references;          /* readers, and the table's one */
  unsigned nr_waiting;
  bool is_named;                /* in the table */
  bool is_kept;                 /* in the age list (and named) */
  uint8_t *bytes;
};

/* Raw bytes of the file; fields as above. */
struct window {
  const struct source *src;
  uint64_t host, len;
  unsigned references;          /* readers, and the ring's one */
  bool busy, failed;
  uint8_t bytes[];
};

struct recent {
  const struct source *src;
  uint64_t start, end;
};

struct packed {
  uint32_t unit;                /* bytes; constant */
  size_t max_kept;              /* units; constant */

  struct lock lock;             /* a leaf */
  struct condition changed;     /* something is no longer busy */

  /* Guarded by lock. */
  struct decoded *buckets[NR_BUCKETS];
  struct decoded *oldest, *newest;
  size_t nr_kept;
  struct window *windows[NR_WINDOWS];
  size_t next_window;
  struct recent recent[NR_RECENT];
  size_t next_recent;
};

/* One read as it goes through. */
struct packed_request {
  struct packed *packed;
  const struct image *img;
  uint64_t guest;               /* of the unit, for messages */
  const struct extent *ext;
};

static bool
ranges_touch (uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
  return a < b ? b - a < a_len : a - b < b_len;
}

/* Windows. */

static void
put_window_locked (struct packed *packed, struct window *w)
{
  assert_held (&packed->lock);
  if (w && --w->references == 0)
    free (w);
}

static struct window *
find_window_locked (struct packed *packed, const struct extent *ext)
{
  assert_held (&packed->lock);
  for (size_t i = 0; i < NR_WINDOWS; ++i) {
    struct window *w = packed->windows[i];

    if (w && w->src == ext->src && ext->host >= w->host &&
        range_is_inside (ext->host - w->host, ext->packed_len, w->len))
      return w;
  }
  return NULL;
}

/* Does 'ext' follow closely on a stream read lately?  It takes that one's
 * place as the last of its sequence.
 */
static bool
is_sequential_locked (struct packed *packed, const struct extent *ext)
{
  struct recent now = {
    .src = ext->src,
    .start = ext->host, .end = ext->host + ext->packed_len,
  };

  assert_held (&packed->lock);
  for (size_t i = 0; i < NR_RECENT; ++i) {
    struct recent *r = &packed->recent[i];

    if (r->src == now.src && now.start > r->start &&
        (now.start <= r->end || now.start - r->end <= NEAR_LEN)) {
      *r = now;
      return true;
    }
  }
  packed->recent[packed->next_recent] = now;
  packed->next_recent = (packed->next_recent + 1) % NR_RECENT;
  return false;
}

/* A new window that begins with the stream, named in the ring and busy, or
 * NULL when none is worth it (or no memory for it).
 */
static struct window *
begin_window_locked (struct packed *packed, const struct extent *ext)
{
  const uint64_t file_len = source_len (ext->src);
  uint64_t len;
  struct window *w;

  assert_held (&packed->lock);
  if (ext->packed_len > WINDOW_LEN / 2 || ext->host >= file_len)
    return NULL;
  len = MAX (MIN (WINDOW_LEN, file_len - ext->host), ext->packed_len);
  w = malloc (sizeof *w + len);
  if (w == NULL)
    return NULL;
  *w = (struct window) {
    .src = ext->src, .host = ext->host, .len = len,
    .references = 2, .busy = true,
  };
  put_window_locked (packed, packed->windows[packed->next_window]);
  packed->windows[packed->next_window] = w;
  packed->next_window = (packed->next_window + 1) % NR_WINDOWS;
  return w;
}

static void
unname_window_locked (struct packed *packed, struct window *w)
{
  assert_held (&packed->lock);
  for (size_t i = 0; i < NR_WINDOWS; ++i)
    if (packed->windows[i] == w) {
      packed->windows[i] = NULL;
      put_window_locked (packed, w);
    }
}

static void
put_window (struct packed *packed, struct window *w)
{
  LOCK_SCOPE (&packed->lock);
  put_window_locked (packed, w);
}

/* Read what begin_window_locked promised. */
static void
fill_window (struct packed *packed, struct source *src, struct window *w)
{
  int r = source_pread_padded (src, w->bytes, w->len, w->host);

  LOCK_SCOPE (&packed->lock);

  w->busy = false;
  w->failed = r == -1;
  if (w->failed)
    unname_window_locked (packed, w);
  condition_wake_all (&packed->changed);
}

/* The window that holds the stream, or NULL: it is to be read alone.
 * put_window gives it back.
 */
static struct window *
get_window (struct packed *packed, const struct extent *ext)
{
  struct window *w;
  bool is_ours = false;

  {
    LOCK_SCOPE (&packed->lock);
    bool sequential = is_sequential_locked (packed, ext);

    w = find_window_locked (packed, ext);
    if (w)
      w->references++;
    else if (sequential) {
      w = begin_window_locked (packed, ext);
      is_ours = w != NULL;
    }
    if (w && !is_ours)
      while (w->busy)
        condition_wait (&packed->changed, &packed->lock);
  }
  if (is_ours)
    fill_window (packed, ext->src, w);
  if (w && w->failed) {         /* what we need may be readable */
    put_window (packed, w);
    return NULL;
  }
  return w;
}

/* Decoding. */

static void
report_damage (const struct packed_request *rq, int error)
{
  const struct extent *ext = rq->ext;

  if (error == ENOMEM)
    report_error ("%s: out of memory for the compressed data at guest "
                  "offset %" PRIu64, rq->img->name, rq->guest);
  else if (error == ENOTSUP)
    report_error ("%s: the data at guest offset %" PRIu64 " are compressed "
                  "with %s, which this build does not support",
                  rq->img->name, rq->guest, codec_name (ext->codec));
  else
    report_error ("%s: the compressed data at guest offset %" PRIu64
                  " (%s, host offset %" PRIu64 ", at most %" PRIu64
                  " bytes) are damaged: they do not decode to %" PRIu32
                  " bytes; restore them from a backup",
                  rq->img->name, rq->guest, codec_name (ext->codec),
                  ext->host, ext->packed_len, rq->packed->unit);
}

/* Decode from 'in', whole stream, to 'out', one unit. */
static int
decode (const struct packed_request *rq, const uint8_t *in, uint8_t *out)
{
  const struct extent *ext = rq->ext;
  int error;

  if (codec_decode (ext->codec, in, ext->packed_len,
                    out, rq->packed->unit) == 0)
    return 0;
  error = errno;
  report_damage (rq, error);
  errno = error == ENOMEM ? ENOMEM : EIO;
  return -1;
}

/* No encoder makes streams longer than this; an image may say so. */
static uint64_t
max_stream_len (uint32_t unit)
{
  return 2 * (uint64_t) unit + 65536;
}

/* Fetch the stream and decode it to 'out', one unit. */
static int
fetch_and_decode (const struct packed_request *rq, uint8_t *out)
{
  const struct extent *ext = rq->ext;
  CLEANUP_FREE uint8_t *in = NULL;
  struct window *w;
  int r;

  if (ext->packed_len == 0 ||
      ext->packed_len > max_stream_len (rq->packed->unit) ||
      !range_is_inside (ext->host, ext->packed_len, INT64_MAX)) {
    report_damage (rq, EIO);
    errno = EIO;
    return -1;
  }

  w = get_window (rq->packed, ext);
  if (w) {
    r = decode (rq, w->bytes + (ext->host - w->host), out);
    put_window (rq->packed, w);
    return r;
  }

  in = malloc (ext->packed_len);
  if (in == NULL) {
    report_damage (rq, ENOMEM);
    errno = ENOMEM;
    return -1;
  }
  if (source_pread_padded (ext->src, in, ext->packed_len, ext->host) == -1) {
    errno = EIO;
    return -1;
  }
  return decode (rq, in, out);
}

/* The table of decoded units. */

static struct decoded **
bucket_of (struct packed *packed, uint64_t host)
{
  /* Streams start anywhere: mix all bits. */
  host *= UINT64_C (0x9e3779b97f4a7c15);
  return &packed->buckets[host >> 56 & (NR_BUCKETS - 1)];
}

static void
put_decoded_locked (struct packed *packed, struct decoded *d)
{
  assert_held (&packed->lock);
  if (--d->references == 0) {
    free (d->bytes);
    free (d);
  }
}

static void
unkeep_locked (struct packed *packed, struct decoded *d)
{
  assert_held (&packed->lock);
  if (!d->is_kept)
    return;
  *(d->older ? &d->older->newer : &packed->oldest) = d->newer;
  *(d->newer ? &d->newer->older : &packed->newest) = d->older;
  d->is_kept = false;
  packed->nr_kept--;
}

static void
keep_as_newest_locked (struct packed *packed, struct decoded *d)
{
  assert_held (&packed->lock);
  unkeep_locked (packed, d);
  d->older = packed->newest;
  d->newer = NULL;
  *(d->older ? &d->older->newer : &packed->oldest) = d;
  packed->newest = d;
  d->is_kept = true;
  packed->nr_kept++;
}

/* Take it out of the table; readers keep what they hold. */
static void
unname_decoded_locked (struct packed *packed, struct decoded *d)
{
  struct decoded **p;

  assert_held (&packed->lock);
  if (!d->is_named)
    return;
  unkeep_locked (packed, d);
  for (p = bucket_of (packed, d->host); *p != d; p = &(*p)->next)
    ;
  *p = d->next;
  d->is_named = false;
  put_decoded_locked (packed, d);
}

static struct decoded *
find_decoded_locked (struct packed *packed, const struct extent *ext)
{
  struct decoded *d;

  assert_held (&packed->lock);
  for (d = *bucket_of (packed, ext->host); d; d = d->next)
    if (d->host == ext->host && d->src == ext->src &&
        d->packed_len == ext->packed_len && d->codec == ext->codec)
      return d;
  return NULL;
}

/* Put a busy one in the table, with a reference for the caller and one for
 * the table.  NULL, errno ENOMEM.
 */
static struct decoded *
name_decoded_locked (struct packed *packed, const struct extent *ext)
{
  struct decoded **bucket = bucket_of (packed, ext->host);
  struct decoded *d = malloc (sizeof *d);

  assert_held (&packed->lock);
  if (d == NULL)
    return NULL;
  *d = (struct decoded) {
    .next = *bucket,
    .src = ext->src, .host = ext->host, .packed_len = ext->packed_len,
    .codec = ext->codec,
    .state = DECODED_BUSY, .references = 2, .is_named = true,
  };
  *bucket = d;
  return d;
}

/* End of BUSY: tell who waits.  'bytes' is taken over; NULL for states
 * without.  Only what is READY stays in the table.
 */
static void
settle_locked (struct packed *packed, struct decoded *d,
               enum decoded_state state, int error, uint8_t *bytes)
{
  assert_held (&packed->lock);
  d->state = state;
  d->error = error;
  d->bytes = bytes;
  if (state == DECODED_READY && d->is_named) {
    keep_as_newest_locked (packed, d);
    while (packed->nr_kept > packed->max_kept)
      unname_decoded_locked (packed, packed->oldest);
  }
  else
    unname_decoded_locked (packed, d);
  condition_wake_all (&packed->changed);
}

/* Decode for a reader who wants the whole unit, into its own buffer; a
 * copy is made only when others have come to wait.
 */
static int
decode_whole (const struct packed_request *rq, struct decoded *d,
              uint8_t *buf)
{
  struct packed *packed = rq->packed;
  int r = fetch_and_decode (rq, buf);
  const int error = errno;
  CLEANUP_FREE uint8_t *copy = NULL;
  bool is_awaited;

  {
    LOCK_SCOPE (&packed->lock);

    is_awaited = d->nr_waiting > 0;
    if (r == -1 || !is_awaited) {
      settle_locked (packed, d, r == -1 ? DECODED_FAILED : DECODED_PASSED_ON,
                     error, NULL);
      put_decoded_locked (packed, d);
      errno = error;
      return r;
    }
  }

  copy = malloc (packed->unit);
  if (copy)
    memcpy (copy, buf, packed->unit);

  LOCK_SCOPE (&packed->lock);
  settle_locked (packed, d, copy ? DECODED_READY : DECODED_PASSED_ON, 0,
                 copy);
  copy = NULL;
  put_decoded_locked (packed, d);
  return 0;
}

/* Decode for a reader of a part; the unit is kept.  The caller's reference
 * stays.
 */
static int
decode_and_keep (const struct packed_request *rq, struct decoded *d)
{
  struct packed *packed = rq->packed;
  CLEANUP_FREE uint8_t *bytes = malloc (packed->unit);
  int r = -1, error;

  if (bytes == NULL) {
    report_damage (rq, ENOMEM);
    error = ENOMEM;
  }
  else {
    r = fetch_and_decode (rq, bytes);
    error = errno;
  }

  {
    LOCK_SCOPE (&packed->lock);

    settle_locked (packed, d, r == 0 ? DECODED_READY : DECODED_FAILED, error,
                   r == 0 ? STEAL (bytes) : NULL);
  }
  errno = error;
  return r;
}

/* Find the unit ready, waiting for who decodes it: 0; or make it this
 * thread's to decode: 1.  Either way the caller holds a reference.  -1,
 * errno set, when that failed; none is held.
 */
static int
find_or_begin (const struct packed_request *rq, struct decoded **dp)
{
  struct packed *packed = rq->packed;
  struct decoded *d;
  enum decoded_state state;
  int error;

  LOCK_SCOPE (&packed->lock);

  for (;;) {
    d = find_decoded_locked (packed, rq->ext);
    if (d == NULL) {
      *dp = name_decoded_locked (packed, rq->ext);
      if (*dp == NULL) {
        report_damage (rq, ENOMEM);
        errno = ENOMEM;
        return -1;
      }
      return 1;
    }

    d->references++;
    d->nr_waiting++;
    while (d->state == DECODED_BUSY)
      condition_wait (&packed->changed, &packed->lock);
    d->nr_waiting--;
    state = d->state;
    error = d->error;
    if (state == DECODED_READY) {
      if (d->is_kept)
        keep_as_newest_locked (packed, d);
      *dp = d;
      return 0;
    }
    put_decoded_locked (packed, d);
    if (state == DECODED_FAILED) {      /* reported by who decoded */
      errno = error;
      return -1;
    }
  }
}

struct packed *
packed_new (uint32_t unit)
{
  struct packed *packed = calloc (1, sizeof *packed);
  const size_t max_kept = DECODED_BYTES / unit;

  if (packed == NULL)
    return NULL;
  packed->unit = unit;
  packed->max_kept = MIN (MAX (max_kept, (size_t) DECODED_UNITS_MIN),
                          (size_t) DECODED_UNITS_MAX);
  lock_init (&packed->lock);
  condition_init (&packed->changed);
  return packed;
}

void
packed_free (struct packed *packed)
{
  if (packed == NULL)
    return;
  packed_forget (packed, 0, UINT64_MAX);
  condition_destroy (&packed->changed);
  lock_destroy (&packed->lock);
  free (packed);
}

int
packed_read (struct packed *packed, const struct image *img, uint64_t guest,
             const struct extent *ext, uint64_t skip, void *buf, size_t len)
{
  const struct packed_request rq = {
    .packed = packed, .img = img, .guest = guest - ext->within, .ext = ext,
  };
  struct decoded *d;
  int r;

  assert (ext->type == EXTENT_PACKED);
  assert (range_is_inside (skip, len, ext->len));
  assert (range_is_inside (ext->within, ext->len, packed->unit));

  r = find_or_begin (&rq, &d);
  if (r == -1)
    return -1;
  if (r == 1 && len == packed->unit)
    return decode_whole (&rq, d, buf);
  if (r == 1 && decode_and_keep (&rq, d) == -1) {
    const int error = errno;

    LOCK_SCOPE (&packed->lock);
    put_decoded_locked (packed, d);
    errno = error;
    return -1;
  }

  memcpy (buf, d->bytes + ext->within + skip, len);

  LOCK_SCOPE (&packed->lock);
  put_decoded_locked (packed, d);
  return 0;
}

void
packed_forget (struct packed *packed, uint64_t host, uint64_t len)
{
  if (packed == NULL || len == 0)
    return;

  LOCK_SCOPE (&packed->lock);

  for (size_t i = 0; i < NR_BUCKETS; ++i) {
    struct decoded *d, *next;

    for (d = packed->buckets[i]; d; d = next) {
      next = d->next;
      if (ranges_touch (d->host, d->packed_len, host, len))
        unname_decoded_locked (packed, d);
    }
  }
  for (size_t i = 0; i < NR_WINDOWS; ++i) {
    struct window *w = packed->windows[i];

    if (w && ranges_touch (w->host, w->len, host, len))
      unname_window_locked (packed, w);
  }
}
