/* Digests, from nettle.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <nettle/md5.h>

#include "image/digest.h"

_Static_assert (sizeof (struct md5_ctx) <= sizeof (struct digest_md5),
                "the library's state must fit");

static struct md5_ctx *
state (struct digest_md5 *md5)
{
  return (struct md5_ctx *) md5->opaque;
}

void
digest_md5_begin (struct digest_md5 *md5)
{
  md5_init (state (md5));
}

void
digest_md5_add (struct digest_md5 *md5, const void *bytes, size_t len)
{
  md5_update (state (md5), len, bytes);
}

void
digest_md5_end (struct digest_md5 *md5, uint8_t digest[DIGEST_MD5_LEN])
{
  md5_digest (state (md5), DIGEST_MD5_LEN, digest);
}
