/* Decoding of compressed units.  The only file that knows zlib and zstd.
 *
 * A decoder's state is some ten KiB that would otherwise be made anew for
 * every unit, so each thread keeps one.  All of them hang in one list: a
 * thread that ends takes its own out, and what is left (the first thread's,
 * whose destructors never run) goes when this object is unloaded.
 *
 * Memory does not follow what a stream says: deflate has a window of 32
 * KiB, and zstd frames that ask for more than ZSTD_WINDOW_BITS_MAX are
 * refused.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "image/codec.h"
#include "include/checked.h"
#include "include/lock.h"

/* 8 MiB: what RFC 8878 recommends that every decoder supports.  Frames
 * that tell their length need no window at all.
 */
#define ZSTD_WINDOW_BITS_MAX 23

/* Raw deflate, no header; the largest window. */
#define DEFLATE_WINDOW_BITS (-15)

/* What qcow and qcow2 writers use. */
#define ENCODE_WINDOW_BITS (-12)
#define ENCODE_MEMORY_LEVEL 9

struct decoder {
  struct decoder *prev, *next;  /* guarded by decoders.lock */
  bool has_inflate;
  z_stream inflate;
  void *zstd;                   /* ZSTD_DCtx, or NULL */
};

/* Per process, because threads are: the exception to "no globals". */
static struct {
  pthread_once_t once;
  pthread_key_t key;
  bool has_key;                 /* constant after 'once' */
  struct lock lock;             /* a leaf */
  struct decoder *first;        /* guarded by lock */
} decoders = { .once = PTHREAD_ONCE_INIT, .lock = LOCK_INITIALIZER };

#ifdef HAVE_ZSTD

#define HAS_ZSTD true

static void
free_zstd (void *zstd)
{
  ZSTD_freeDCtx (zstd);
}

/* The thread's zstd context, ready for a new stream; NULL, errno ENOMEM. */
static ZSTD_DCtx *
begin_zstd (struct decoder *d)
{
  if (d->zstd == NULL) {
    d->zstd = ZSTD_createDCtx ();
    if (d->zstd == NULL) {
      errno = ENOMEM;
      return NULL;
    }
    ZSTD_DCtx_setParameter (d->zstd, ZSTD_d_windowLogMax,
                            ZSTD_WINDOW_BITS_MAX);
  }
  ZSTD_DCtx_reset (d->zstd, ZSTD_reset_session_only);
  return d->zstd;
}

static int
decode_zstd (struct decoder *d, const void *in, size_t in_len,
             void *out, size_t out_len)
{
  ZSTD_DCtx *zstd = begin_zstd (d);
  ZSTD_inBuffer from = { .src = in, .size = in_len };
  ZSTD_outBuffer to = { .dst = out, .size = out_len };
  size_t frame_len;

  if (zstd == NULL)
    return -1;

  /* The usual case, one frame that says it is all: straight to 'out'. */
  frame_len = ZSTD_findFrameCompressedSize (in, in_len);
  if (!ZSTD_isError (frame_len) &&
      ZSTD_getFrameContentSize (in, in_len) == out_len &&
      ZSTD_decompressDCtx (zstd, out, out_len, in, frame_len) == out_len)
    return 0;
  ZSTD_DCtx_reset (zstd, ZSTD_reset_session_only);

  /* A frame that ends leaves the context ready for the next one. */
  while (to.pos < to.size) {
    size_t had_in = from.pos, had_out = to.pos;
    size_t r = ZSTD_decompressStream (zstd, &to, &from);

    if (ZSTD_isError (r)) {
      errno = EIO;
      return -1;
    }
    if (from.pos == had_in && to.pos == had_out) {
      errno = EIO;              /* too short */
      return -1;
    }
  }
  return 0;
}

#else /* !HAVE_ZSTD */

#define HAS_ZSTD false

static void
free_zstd (void *zstd __attribute__ ((unused)))
{
}

static int
decode_zstd (struct decoder *d __attribute__ ((unused)),
             const void *in __attribute__ ((unused)),
             size_t in_len __attribute__ ((unused)),
             void *out __attribute__ ((unused)),
             size_t out_len __attribute__ ((unused)))
{
  errno = ENOTSUP;
  return -1;
}

#endif /* !HAVE_ZSTD */

static void
free_decoder (struct decoder *d)
{
  if (d->has_inflate)
    inflateEnd (&d->inflate);
  free_zstd (d->zstd);
  free (d);
}

/* Threads end here, with what they kept. */
static void
thread_ended (void *opaque)
{
  struct decoder *d = opaque;

  {
    LOCK_SCOPE (&decoders.lock);

    if (d->prev)
      d->prev->next = d->next;
    else
      decoders.first = d->next;
    if (d->next)
      d->next->prev = d->prev;
  }
  free_decoder (d);
}

static void
make_key (void)
{
  decoders.has_key = pthread_key_create (&decoders.key, thread_ended) == 0;
}

/* The code is going away, or the process: a thread that ends later must
 * not call thread_ended any more.
 */
__attribute__ ((destructor)) static void
free_all_decoders (void)
{
  struct decoder *d;

  if (!decoders.has_key)
    return;
  pthread_key_delete (decoders.key);
  decoders.has_key = false;
  while ((d = decoders.first) != NULL) {
    decoders.first = d->next;
    free_decoder (d);
  }
}

/* This thread's decoder, or NULL with errno ENOMEM. */
static struct decoder *
own_decoder (void)
{
  struct decoder *d;

  pthread_once (&decoders.once, make_key);
  if (!decoders.has_key) {
    errno = ENOMEM;
    return NULL;
  }
  d = pthread_getspecific (decoders.key);
  if (d)
    return d;

  d = calloc (1, sizeof *d);
  if (d == NULL)
    return NULL;
  if (pthread_setspecific (decoders.key, d) != 0) {
    free (d);
    errno = ENOMEM;
    return NULL;
  }

  LOCK_SCOPE (&decoders.lock);

  d->next = decoders.first;
  if (d->next)
    d->next->prev = d;
  decoders.first = d;
  return d;
}

/* Ready the thread's inflate state for a new stream. */
static int
begin_inflate (struct decoder *d)
{
  int r;

  if (d->has_inflate)
    r = inflateReset (&d->inflate);
  else
    r = inflateInit2 (&d->inflate, DEFLATE_WINDOW_BITS);
  if (r != Z_OK) {
    errno = r == Z_MEM_ERROR ? ENOMEM : EIO;
    return -1;
  }
  d->has_inflate = true;
  return 0;
}

static int
decode_deflate (struct decoder *d, const void *in, size_t in_len,
                void *out, size_t out_len)
{
  int r;

  if (out_len > UINT_MAX) {
    errno = EIO;
    return -1;
  }
  if (begin_inflate (d) == -1)
    return -1;

  d->inflate.next_in = (void *) in;     /* zlib only reads it */
  d->inflate.avail_in = MIN (in_len, (size_t) UINT_MAX);
  d->inflate.next_out = out;
  d->inflate.avail_out = out_len;

  /* The stream may go on, or garbage may follow: only the bytes that came
   * out count.
   */
  r = inflate (&d->inflate, Z_FINISH);
  if (d->inflate.avail_out == 0)
    return 0;
  errno = r == Z_MEM_ERROR ? ENOMEM : EIO;
  return -1;
}

bool
codec_is_supported (enum codec codec)
{
  switch (codec) {
  case CODEC_DEFLATE:
    return true;
  case CODEC_ZSTD:
    return HAS_ZSTD;
  }
  return false;
}

const char *
codec_name (enum codec codec)
{
  switch (codec) {
  case CODEC_DEFLATE:
    return "zlib";
  case CODEC_ZSTD:
    return "zstd";
  }
  return "unknown";
}

int
codec_decode (enum codec codec, const void *in, size_t in_len,
              void *out, size_t out_len)
{
  struct decoder *d;

  if (!codec_is_supported (codec)) {
    errno = ENOTSUP;
    return -1;
  }
  if (out_len == 0)
    return 0;
  d = own_decoder ();
  if (d == NULL)
    return -1;

  switch (codec) {
  case CODEC_DEFLATE:
    return decode_deflate (d, in, in_len, out, out_len);
  case CODEC_ZSTD:
    return decode_zstd (d, in, in_len, out, out_len);
  }
  errno = ENOTSUP;
  return -1;
}

ssize_t
codec_encode_deflate (const void *in, size_t in_len, void *out, size_t max)
{
  z_stream z = { .next_in = (void *) in, .avail_in = in_len,
                 .next_out = out, .avail_out = max };
  int r;

  if (in_len > UINT_MAX || max > UINT_MAX ||
      deflateInit2 (&z, Z_BEST_COMPRESSION, Z_DEFLATED, ENCODE_WINDOW_BITS,
                    ENCODE_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
    errno = ENOMEM;
    return -1;
  }
  r = deflate (&z, Z_FINISH);
  deflateEnd (&z);
  return r == Z_STREAM_END ? (ssize_t) (max - z.avail_out) : 0;
}
