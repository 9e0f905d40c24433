/* Writing of compressed units.
 *
 * Only what is written as a whole unit is compressed, by the thread that
 * writes it; requests of many connections run beside each other.  What is
 * written in pieces is stored as it is, so that the next piece goes in
 * place.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "image/pack.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/refuse.h"

/* Streams begin and end on sectors, so that no write touches one that holds
 * bytes of another.
 */
#define SECTOR_LEN 512

/* Encode the unit that begins with buf[0..len-1] and goes on with zeroes,
 * to less than 'end' bytes.  0: it does not get so small; -1, reported.
 */
static ssize_t
encode (const struct image *img, const uint8_t *buf, uint64_t len,
        uint8_t *stream, uint32_t end)
{
  CLEANUP_FREE uint8_t *padded = NULL;
  ssize_t n;

  if (len < img->unit) {
    padded = calloc (1, img->unit);
    if (padded == NULL)
      goto no_memory;
    memcpy (padded, buf, len);
    buf = padded;
  }
  n = codec_encode_deflate (img->wishes.compress_level, buf, img->unit,
                            stream, end);
  if (n != -1)
    return n;

 no_memory:
  return REFUSE (ENOMEM, "%s: no memory to compress a cluster", img->name);
}

/* 1; 0: not in this way; -1, reported. */
static int
reserve (struct image *img, uint64_t guest, uint32_t packed_len,
         struct claim *claim)
{
  int r = img->format->reserve_packed (img, guest, packed_len, claim);

  /* What was dropped since the last pass may be room enough. */
  if (r == -1 && errno == ENOSPC) {
    if (pass_run (img) == -1)
      return -1;
    r = img->format->reserve_packed (img, guest, packed_len, claim);
  }
  if (r == 0)
    return 1;
  /* Space for more will not be there either, but that is for others to say. */
  return errno == ENOTSUP || errno == ENOSPC ? 0 : -1;
}

static int
write_stream (struct image *img, const struct claim *claim, uint8_t *stream)
{
  const uint64_t padded_len = round_up (claim->packed_len, SECTOR_LEN);

  memset (stream + claim->packed_len, 0, padded_len - claim->packed_len);
  if (source_pwrite (claim->src, stream, padded_len, claim->host) == -1)
    return -1;
  pass_data_written (img);
  packed_forget (img->packed, claim->host, padded_len);
  return 0;
}

int64_t
image_write_packed (struct image *img, const uint8_t *buf, uint64_t len,
                    uint64_t guest)
{
  CLEANUP_FREE uint8_t *stream = NULL;
  struct claim claim;
  uint32_t max;
  ssize_t n;
  int r, err;

  if (img->wishes.compress_level == 0 || guest % img->unit != 0 ||
      len < MIN (img->unit, img->len - guest))
    return 0;
  len = MIN (len, (uint64_t) img->unit);
  max = img->format->max_packed_len (img);
  stream = malloc (round_up (max + 1, SECTOR_LEN));
  if (stream == NULL)
    return REFUSE (ENOMEM, "%s: no memory to compress a cluster", img->name);
  n = encode (img, buf, len, stream, max + 1);
  if (n <= 0)
    return n;
  r = reserve (img, guest, n, &claim);
  if (r != 1)
    return r;
  assert (claim.guest == guest && claim.packed_len == n);
  if (write_stream (img, &claim, stream) == -1) {
    err = errno;
    img->format->abandon (img, &claim);
    errno = err;
    return -1;
  }
  img->format->link (img, &claim);
  return len;
}
