/* Coding of compressed units.  The only file that knows zlib and zstd.
 *
 * A coder's state is some ten KiB (to encode, some hundred) that would
 * otherwise be made anew for every unit, so each thread keeps one.  All of
 * them hang in one list: a thread that ends takes its own out, and what is
 * left (the first thread's, whose destructors never run) goes when this
 * object is unloaded.
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

struct coder {
  struct coder *prev, *next;    /* guarded by coders.lock */
  bool has_inflate;
  z_stream inflate;
  bool has_deflate;
  int level;                    /* of deflate */
  z_stream deflate;
  void *zstd;                   /* ZSTD_DCtx, or NULL */
};

/* Per process, because threads are: the exception to "no globals". */
static struct {
  pthread_once_t once;
  pthread_key_t key;
  bool has_key;                 /* constant after 'once' */
  struct lock lock;             /* a leaf */
  struct coder *first;          /* guarded by lock */
} coders = { .once = PTHREAD_ONCE_INIT, .lock = LOCK_INITIALIZER };

#ifdef HAVE_ZSTD

#define HAS_ZSTD true

static void
free_zstd (void *zstd)
{
  ZSTD_freeDCtx (zstd);
}

/* The thread's zstd context, ready for a new stream; NULL, errno ENOMEM. */
static ZSTD_DCtx *
begin_zstd (struct coder *c)
{
  if (c->zstd == NULL) {
    c->zstd = ZSTD_createDCtx ();
    if (c->zstd == NULL) {
      errno = ENOMEM;
      return NULL;
    }
    ZSTD_DCtx_setParameter (c->zstd, ZSTD_d_windowLogMax,
                            ZSTD_WINDOW_BITS_MAX);
  }
  ZSTD_DCtx_reset (c->zstd, ZSTD_reset_session_only);
  return c->zstd;
}

static int
decode_zstd (struct coder *c, const void *in, size_t in_len,
             void *out, size_t out_len)
{
  ZSTD_DCtx *zstd = begin_zstd (c);
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
decode_zstd (struct coder *c __attribute__ ((unused)),
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
free_coder (struct coder *c)
{
  if (c->has_inflate)
    inflateEnd (&c->inflate);
  if (c->has_deflate)
    deflateEnd (&c->deflate);
  free_zstd (c->zstd);
  free (c);
}

/* Threads end here, with what they kept. */
static void
thread_ended (void *opaque)
{
  struct coder *c = opaque;

  {
    LOCK_SCOPE (&coders.lock);

    if (c->prev)
      c->prev->next = c->next;
    else
      coders.first = c->next;
    if (c->next)
      c->next->prev = c->prev;
  }
  free_coder (c);
}

static void
make_key (void)
{
  coders.has_key = pthread_key_create (&coders.key, thread_ended) == 0;
}

/* The code is going away, or the process: a thread that ends later must
 * not call thread_ended any more.
 */
__attribute__ ((destructor)) static void
free_all_coders (void)
{
  struct coder *c;

  if (!coders.has_key)
    return;
  pthread_key_delete (coders.key);
  coders.has_key = false;
  while ((c = coders.first) != NULL) {
    coders.first = c->next;
    free_coder (c);
  }
}

/* This thread's coder, or NULL with errno ENOMEM. */
static struct coder *
own_coder (void)
{
  struct coder *c;

  pthread_once (&coders.once, make_key);
  if (!coders.has_key) {
    errno = ENOMEM;
    return NULL;
  }
  c = pthread_getspecific (coders.key);
  if (c)
    return c;

  c = calloc (1, sizeof *c);
  if (c == NULL)
    return NULL;
  if (pthread_setspecific (coders.key, c) != 0) {
    free (c);
    errno = ENOMEM;
    return NULL;
  }

  LOCK_SCOPE (&coders.lock);

  c->next = coders.first;
  if (c->next)
    c->next->prev = c;
  coders.first = c;
  return c;
}

/* Ready the thread's inflate state for a new stream. */
static int
begin_inflate (struct coder *c)
{
  int r;

  if (c->has_inflate)
    r = inflateReset (&c->inflate);
  else
    r = inflateInit2 (&c->inflate, DEFLATE_WINDOW_BITS);
  if (r != Z_OK) {
    errno = r == Z_MEM_ERROR ? ENOMEM : EIO;
    return -1;
  }
  c->has_inflate = true;
  return 0;
}

static int
decode_deflate (struct coder *c, const void *in, size_t in_len,
                void *out, size_t out_len)
{
  int r;

  if (out_len > UINT_MAX) {
    errno = EIO;
    return -1;
  }
  if (begin_inflate (c) == -1)
    return -1;

  c->inflate.next_in = (void *) in;     /* zlib only reads it */
  c->inflate.avail_in = MIN (in_len, (size_t) UINT_MAX);
  c->inflate.next_out = out;
  c->inflate.avail_out = out_len;

  /* The stream may go on, or garbage may follow: only the bytes that came
   * out count.
   */
  r = inflate (&c->inflate, Z_FINISH);
  if (c->inflate.avail_out == 0)
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
  struct coder *c;

  if (!codec_is_supported (codec)) {
    errno = ENOTSUP;
    return -1;
  }
  if (out_len == 0)
    return 0;
  c = own_coder ();
  if (c == NULL)
    return -1;

  switch (codec) {
  case CODEC_DEFLATE:
    return decode_deflate (c, in, in_len, out, out_len);
  case CODEC_ZSTD:
    return decode_zstd (c, in, in_len, out, out_len);
  }
  errno = ENOTSUP;
  return -1;
}

/* Ready the thread's deflate state for a new stream. */
static int
begin_deflate (struct coder *c, int level)
{
  if (c->has_deflate && c->level != level) {
    deflateEnd (&c->deflate);
    c->has_deflate = false;
  }
  if (c->has_deflate)
    return deflateReset (&c->deflate) == Z_OK ? 0 : -1;
  memset (&c->deflate, 0, sizeof c->deflate);
  if (deflateInit2 (&c->deflate, level, Z_DEFLATED, ENCODE_WINDOW_BITS,
                    ENCODE_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
    return -1;
  c->has_deflate = true;
  c->level = level;
  return 0;
}

ssize_t
codec_encode_deflate (int level, const void *in, size_t in_len,
                      void *out, size_t max)
{
  struct coder *c = own_coder ();

  if (c == NULL)
    return -1;
  if (in_len > UINT_MAX || max > UINT_MAX || begin_deflate (c, level) == -1) {
    errno = ENOMEM;
    return -1;
  }
  c->deflate.next_in = (void *) in;     /* zlib only reads it */
  c->deflate.avail_in = in_len;
  c->deflate.next_out = out;
  c->deflate.avail_out = max;
  if (deflate (&c->deflate, Z_FINISH) != Z_STREAM_END)
    return 0;
  return max - c->deflate.avail_out;
}
