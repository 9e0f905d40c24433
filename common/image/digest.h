/* Digests.  With digest.c the only place that knows the crypto library.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_DIGEST_H
#define NDF_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_MD5_LEN 16

/* MD5 of what digest_md5_add was given since digest_md5_begin, in pieces
 * of any length.  Not for anything that must withstand an attacker: formats
 * ask for it.
 */
struct digest_md5 {
  _Alignas (8) uint8_t opaque[128];
};
extern void digest_md5_begin (struct digest_md5 *md5);
extern void digest_md5_add (struct digest_md5 *md5, const void *bytes,
                            size_t len);
extern void digest_md5_end (struct digest_md5 *md5,
                            uint8_t digest[DIGEST_MD5_LEN]);

#endif /* NDF_DIGEST_H */
