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
 * follows in the input is ignored.  The decoder's state is kept by thread
 * and reused.
 *
 * Returns 0, or -1 with errno EIO (the stream is damaged or too short),
 * ENOMEM or ENOTSUP; unreported, the caller knows the place.
 * Threads: any.
 */
extern int codec_decode (enum codec codec, const void *in, size_t in_len,
                         void *out, size_t out_len);

/* Encode in[0..in_len-1] as raw deflate with a window of 4 KiB, as qcow
 * has it.  Returns the length; 0 when that would be more than 'max'; -1
 * with errno ENOMEM, unreported.  Threads: any.
 */
extern ssize_t codec_encode_deflate (const void *in, size_t in_len,
                                     void *out, size_t max);

#endif /* NDF_CODEC_H */
