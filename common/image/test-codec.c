/* Test coding: what is accepted, what is not, what is made, and that
 * threads leave nothing behind (the sanitizers see to that).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "image/codec.h"
#include "include/cleanup.h"
#include "include/testing.h"

#define UNIT 65536
#define ROOM (2 * UNIT + 65536)

static uint8_t plain[UNIT], packed[ROOM], out[UNIT];

/* Compressible, but not all alike. */
static void
make_plain (unsigned seed)
{
  for (size_t i = 0; i < UNIT; ++i) {
    seed = seed * 1103515245 + 12345;
    plain[i] = i % 7 ? plain[i - i % 7] : (seed >> 16) & 0xff;
  }
}

static size_t
deflate_raw (const void *in, size_t in_len, uint8_t *to)
{
  z_stream z = { .next_in = (void *) in, .avail_in = in_len,
                 .next_out = to, .avail_out = ROOM };

  CHECK (deflateInit2 (&z, 6, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY)
         == Z_OK);
  CHECK (deflate (&z, Z_FINISH) == Z_STREAM_END);
  CHECK (deflateEnd (&z) == Z_OK);
  return ROOM - z.avail_out;
}

static void
expect_plain (enum codec codec, size_t in_len, size_t out_len)
{
  memset (out, 0xee, sizeof out);
  CHECK (codec_decode (codec, packed, in_len, out, out_len) == 0);
  CHECK (memcmp (out, plain, out_len) == 0);
  for (size_t i = out_len; i < UNIT; ++i)
    CHECK (out[i] == 0xee);
}

static void
expect_error (enum codec codec, size_t in_len, int error)
{
  errno = 0;
  CHECK (codec_decode (codec, packed, in_len, out, UNIT) == -1);
  CHECK (errno == error);
}

static void
test_common (enum codec codec, size_t len)
{
  CHECK (len < UNIT);
  expect_plain (codec, len, UNIT);

  /* Trailing bytes, as sector-rounded lengths bring them. */
  memset (packed + len, 0xff, 511);
  expect_plain (codec, len + 511, UNIT);
  memset (packed + len, 0, 511);
  expect_plain (codec, len + 511, UNIT);

  /* The stream holds more than is wanted. */
  expect_plain (codec, len, 4096);
  expect_plain (codec, len, 1);
  CHECK (codec_decode (codec, packed, len, out, 0) == 0);

  /* Too short, in the stream and in what it yields. */
  expect_error (codec, len / 2, EIO);
  expect_error (codec, 0, EIO);

  /* Whatever else it is, it must not harm; and afterwards all is well. */
  for (unsigned i = 0; i < 500; ++i) {
    uint8_t saved = packed[i * 37 % len];

    packed[i * 37 % len] ^= 1u << i % 8;
    codec_decode (codec, packed, len, out, UNIT);
    packed[i * 37 % len] = saved;
  }
  expect_plain (codec, len, UNIT);
}

static void
test_deflate (void)
{
  size_t len;

  CHECK (codec_is_supported (CODEC_DEFLATE));
  CHECK (strcmp (codec_name (CODEC_DEFLATE), "zlib") == 0);
  make_plain (1);
  len = deflate_raw (plain, UNIT, packed);
  test_common (CODEC_DEFLATE, len);

  len = deflate_raw (plain, UNIT - 1, packed);
  expect_error (CODEC_DEFLATE, len, EIO);
  memset (packed, 0xff, UNIT);
  expect_error (CODEC_DEFLATE, UNIT, EIO);
}

/* Decode a stream as one with a window of 4 KiB must be decoded: in small
 * steps, so that nothing further back is there.
 */
static void
expect_small_window (size_t in_len)
{
  z_stream z = { .next_in = packed, .avail_in = in_len };
  uint8_t step[256];
  size_t done = 0;
  int r;

  CHECK (inflateInit2 (&z, -12) == Z_OK);
  do {
    z.next_out = step;
    z.avail_out = sizeof step;
    r = inflate (&z, Z_NO_FLUSH);
    CHECK (r == Z_OK || r == Z_STREAM_END);
    CHECK (memcmp (step, plain + done, sizeof step - z.avail_out) == 0);
    done += sizeof step - z.avail_out;
  } while (r == Z_OK);
  CHECK (done == UNIT && z.avail_in == 0);
  CHECK (inflateEnd (&z) == Z_OK);
}

static void
test_encode (void)
{
  ssize_t fast, best, r;

  make_plain (4);
  /* What was before comes again 20000 bytes further on. */
  memcpy (plain + 40000, plain + 20000, 20000);

  fast = codec_encode_deflate (CODEC_DEFLATE_MIN_LEVEL, plain, UNIT, packed,
                               UNIT);
  CHECK (fast > 0);
  expect_plain (CODEC_DEFLATE, fast, UNIT);
  best = codec_encode_deflate (CODEC_DEFLATE_MAX_LEVEL, plain, UNIT, packed,
                               UNIT);
  CHECK (best > 0 && best < fast);
  expect_plain (CODEC_DEFLATE, best, UNIT);
  expect_small_window (best);

  /* The bound is one; and a stream that did not fit leaves no trace. */
  memset (packed, 0xee, UNIT);
  r = codec_encode_deflate (CODEC_DEFLATE_MAX_LEVEL, plain, UNIT, packed,
                            best);
  CHECK (r == 0 && packed[best] == 0xee);
  CHECK (codec_encode_deflate (CODEC_DEFLATE_MAX_LEVEL, plain, UNIT, packed,
                               0) == 0);
  r = codec_encode_deflate (CODEC_DEFLATE_MAX_LEVEL, plain, UNIT, packed,
                            best + 1);
  CHECK (r == best);
  expect_plain (CODEC_DEFLATE, best, UNIT);
}

#ifdef HAVE_ZSTD

static size_t
zstd_frame (const uint8_t *in, size_t in_len, uint8_t *to)
{
  size_t r = ZSTD_compress (to, ROOM, in, in_len, 3);

  CHECK (!ZSTD_isError (r));
  return r;
}

/* A frame whose length is not told, with a window of 'bits'. */
static size_t
zstd_streamed (int bits)
{
  ZSTD_CCtx *c = ZSTD_createCCtx ();
  ZSTD_outBuffer to = { packed, ROOM, 0 };

  CHECK (c != NULL);
  CHECK (!ZSTD_isError (ZSTD_CCtx_setParameter (c, ZSTD_c_windowLog, bits)));
  for (size_t done = 0; done < UNIT; done += UNIT / 4) {
    ZSTD_inBuffer from = { plain + done, UNIT / 4, 0 };

    while (from.pos < from.size)
      CHECK (!ZSTD_isError (ZSTD_compressStream2 (c, &to, &from,
                                                  ZSTD_e_continue)));
  }
  ZSTD_inBuffer none = { NULL, 0, 0 };
  CHECK (ZSTD_compressStream2 (c, &to, &none, ZSTD_e_end) == 0);
  ZSTD_freeCCtx (c);
  return to.pos;
}

static void
test_zstd (void)
{
  size_t len;

  CHECK (codec_is_supported (CODEC_ZSTD));
  CHECK (strcmp (codec_name (CODEC_ZSTD), "zstd") == 0);
  make_plain (2);
  len = zstd_frame (plain, UNIT, packed);
  test_common (CODEC_ZSTD, len);

  /* Several frames, an empty one among them. */
  len = zstd_frame (plain, 1000, packed);
  len += zstd_frame (plain, 0, packed + len);
  len += zstd_frame (plain + 1000, 31000, packed + len);
  len += zstd_frame (plain + 32000, UNIT - 32000, packed + len);
  expect_plain (CODEC_ZSTD, len, UNIT);

  len = zstd_frame (plain, UNIT - 1, packed);
  expect_error (CODEC_ZSTD, len, EIO);

  /* Memory does not follow what the stream asks for. */
  len = zstd_streamed (20);
  expect_plain (CODEC_ZSTD, len, UNIT);
  len = zstd_streamed (27);
  expect_error (CODEC_ZSTD, len, EIO);
  memset (packed, 0xff, UNIT);
  expect_error (CODEC_ZSTD, UNIT, EIO);
}

#else

static void
test_zstd (void)
{
  CHECK (!codec_is_supported (CODEC_ZSTD));
  expect_error (CODEC_ZSTD, UNIT, ENOTSUP);
}

#endif

/* Each thread has a state of its own. */
static uint8_t shared_packed[ROOM], shared_plain[UNIT];
static size_t shared_len;

static void *
code_in_thread (void *arg)
{
  CLEANUP_FREE uint8_t *buf = malloc (UNIT), *stream = malloc (UNIT);
  ssize_t n;

  (void) arg;
  CHECK (buf != NULL && stream != NULL);
  for (unsigned i = 0; i < 20; ++i) {
    n = codec_encode_deflate (i % 9 + 1, shared_plain, UNIT, stream, UNIT);
    CHECK (n > 0);
    CHECK (codec_decode (CODEC_DEFLATE, stream, n, buf, UNIT) == 0);
    CHECK (memcmp (buf, shared_plain, UNIT) == 0);
    CHECK (codec_decode (CODEC_DEFLATE, shared_packed, shared_len,
                         buf, UNIT) == 0);
    CHECK (memcmp (buf, shared_plain, UNIT) == 0);
  }
  return NULL;
}

static void
test_threads (void)
{
  pthread_t threads[8];

  make_plain (3);
  memcpy (shared_plain, plain, UNIT);
  shared_len = deflate_raw (plain, UNIT, shared_packed);
  for (unsigned round = 0; round < 4; ++round) {
    for (unsigned i = 0; i < 8; ++i)
      CHECK (pthread_create (&threads[i], NULL, code_in_thread, NULL)
             == 0);
    for (unsigned i = 0; i < 8; ++i)
      CHECK (pthread_join (threads[i], NULL) == 0);
  }
}

int
main (void)
{
  test_deflate ();
  test_encode ();
  test_zstd ();
  test_threads ();
  return EXIT_SUCCESS;
}
