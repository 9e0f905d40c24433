/* Which parts of a disk take part: range lists, read and made.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void
add_range (struct ranges *r, size_t *allocated, uint64_t guest, uint64_t len)
{
  if (r->nr == *allocated) {
    *allocated = *allocated ? 2 * *allocated : 64;
    r->range = realloc (r->range, *allocated * sizeof r->range[0]);
    if (r->range == NULL)
      fail ("no memory for %zu ranges", *allocated);
  }
  if (r->nr == 0)
    r->blocks_each = len / r->block_len;
  else if (r->blocks_each != len / r->block_len)
    r->blocks_each = 0;
  r->range[r->nr++] = (struct range) { .guest = guest, .len = len,
                                       .first_block = r->nr_blocks };
  r->nr_blocks += len / r->block_len;
}

void
ranges_load (struct ranges *r, const char *name, uint64_t disk_len,
             uint32_t block_len)
{
  size_t allocated = 0;
  uint64_t guest, len;
  FILE *f;
  int n;

  *r = (struct ranges) { .block_len = block_len };
  if (name == NULL)
    add_range (r, &allocated, 0, disk_len);
  else {
    f = fopen (name, "r");
    if (f == NULL)
      fail ("%s: %s", name, strerror (errno));
    while ((n = fscanf (f, "%" SCNu64 " %" SCNu64, &guest, &len)) == 2) {
      if (guest > disk_len || len > disk_len - guest)
        fail ("%s: range %" PRIu64 " %" PRIu64 " is not on the disk of %"
              PRIu64 " bytes", name, guest, len, disk_len);
      add_range (r, &allocated, guest, len);
    }
    if (n != EOF || ferror (f))
      fail ("%s: range %zu is not two numbers", name, r->nr + 1);
    fclose (f);
  }
  if (r->nr_blocks == 0)
    fail ("%s: no whole block of %" PRIu32 " bytes in the ranges",
          name ? name : "the disk", block_len);
}

uint64_t
ranges_place (const struct ranges *r, uint64_t n)
{
  size_t low = 0, high = r->nr;

  if (r->blocks_each != 0)
    return r->range[n / r->blocks_each].guest +
      n % r->blocks_each * r->block_len;

  /* The last range that begins at or before block n. */
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;

    if (r->range[middle].first_block <= n)
      low = middle;
    else
      high = middle;
  }
  return r->range[low].guest +
    (n - r->range[low].first_block) * r->block_len;
}

void
ranges_print (uint64_t disk_len, uint32_t block_len, size_t nr,
              unsigned share, unsigned shares, uint64_t seed)
{
  const uint64_t nr_blocks = disk_len / block_len;
  uint64_t *place, part;
  size_t i;

  if (nr == 0)
    nr = nr_blocks;
  if (nr == 0 || nr > nr_blocks)
    fail ("%zu blocks of %" PRIu32 " do not fit the disk", nr, block_len);
  part = nr_blocks / nr;
  place = allocate (nr, sizeof *place);
  for (i = 0; i < nr; i++)
    place[i] = (i * part + random_next (&seed) % part) * block_len;
  for (i = nr - 1; i > 0; i--) {
    const size_t j = random_next (&seed) % (i + 1);
    const uint64_t t = place[i];

    place[i] = place[j];
    place[j] = t;
  }
  for (i = share; i < nr; i += shares)
    printf ("%" PRIu64 " %" PRIu32 "\n", place[i], block_len);
  free (place);
}
