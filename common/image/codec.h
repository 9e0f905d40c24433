/* Compressed units.  The only file that knows zlib and zstd.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CODEC_H
#define NDF_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum codec {
  CODEC_DEFLATE,                /* raw deflate, RFC 1951; window 32 KiB */
  CODEC_ZSTD,                   /* zstd frames, concatenated */
};

/* Was support for it built in? */
extern bool codec_is_supported (enum codec codec);
extern const char *codec_name (enum codec codec);

/* Decode in[0..in_len-1] until exactly 'out_len' bytes have come out; what
 * follows in the input is ignored.  A coder's state is kept by thread and
 * reused.
 *
 * Returns 0, or -1 with errno EIO (the stream is damaged or too short),
 * ENOMEM or ENOTSUP; unreported, the caller knows the place.
 * Threads: any.
 */
extern int codec_decode (enum codec codec, const void *in, size_t in_len,
                         void *out, size_t out_len);

/* Levels of deflate: how much work there is to be in it. */
#define CODEC_DEFLATE_MIN_LEVEL 1
#define CODEC_DEFLATE_MAX_LEVEL 9
#define CODEC_DEFLATE_LEVEL 6   /* what QEMU uses */

/* Encode in[0..in_len-1] as raw deflate with a window of 4 KiB, as qcow
 * has it.  Returns the length, less than 'max'; 0 when it would not be; -1
 * with errno ENOMEM, unreported.  Threads: any.
 */
extern ssize_t codec_encode_deflate (int level, const void *in,
                                     size_t in_len, void *out, size_t max);

#endif /* NDF_CODEC_H */
