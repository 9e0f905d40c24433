/* Is an image sound?  For unit tests.
 *
 * The refcounts are read here, without the driver's own code for them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "qcow2/state.h"
#include "qcow2/survey.h"
#include "qcow2/test-sound.h"

struct sound {
  const struct qcow2 *q;
  uint32_t *references;         /* by cluster; owned */
  bool *is_copied;              /* likewise */
  uint64_t nr;
  int64_t nr_leaks;
  bool is_broken;
};

static void
complain (struct sound *s, const char *what, uint64_t cluster,
          uint64_t count)
{
  fprintf (stderr, "cluster %" PRIu64 " %s: counted %" PRIu64 ", used %"
           PRIu32 "\n", cluster, what, count, s->references[cluster]);
  s->is_broken = true;
}

static int
add (void *opaque, uint64_t host, uint64_t len, bool copied)
{
  struct sound *s = opaque;
  uint64_t cluster = host / s->q->cluster_len;

  for (; len > 0 && cluster <= (host + len - 1) / s->q->cluster_len;
       ++cluster) {
    if (cluster >= s->nr) {
      fprintf (stderr, "cluster %" PRIu64 " is behind the end\n", cluster);
      s->is_broken = true;
      return 0;
    }
    s->references[cluster]++;
    s->is_copied[cluster] |= copied;
  }
  return 0;
}

static uint64_t
load_count (const uint8_t *bytes, uint64_t i, unsigned order)
{
  const unsigned bits = 1u << order;
  uint64_t count = 0, n;

  if (bits < 8)
    return bytes[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
  for (n = 0; n < bits / 8; ++n)
    count = count << 8 | bytes[i * (bits / 8) + n];
  return count;
}

/* Are the counts from i on, 64 of them, all 0? */
static bool
is_zero (const uint8_t *bytes, uint64_t i, unsigned order)
{
  static const uint8_t zeroes[512];

  return memcmp (bytes + (i << order) / 8, zeroes, 8u << order) == 0;
}

static void
compare (struct sound *s, uint64_t cluster, uint64_t count)
{
  const uint64_t used = cluster < s->nr ? s->references[cluster] : 0;

  if (count < used)
    complain (s, "is counted too seldom", cluster, count);
  else if (cluster < s->nr && s->is_copied[cluster] && count != 1)
    complain (s, "is marked as used once", cluster, count);
  else if (count > used)
    s->nr_leaks++;
}

/* Go through all ranges that the table can name. */
static void
compare_all (struct sound *s, struct source *src)
{
  const struct qcow2_header *h = &s->q->header;
  const uint64_t len = s->q->cluster_len;
  const uint64_t nr = h->refcount_table_clusters * len / 8;
  const uint64_t per_block = len * 8 >> h->refcount_order;
  CLEANUP_FREE uint8_t *block = malloc (len);
  uint64_t i, j;

  CHECK (block != NULL);
  add (s, h->refcount_table_host, nr * 8, false);
  for (i = 0; i < nr; ++i) {
    uint8_t entry[8];

    CHECK (source_pread_padded (src, entry, 8,
                                h->refcount_table_host + i * 8) == 0);
    if (load_be64 (entry) != 0)
      add (s, load_be64 (entry), len, false);
  }
  for (i = 0; i < nr; ++i) {
    uint8_t entry[8];

    CHECK (source_pread_padded (src, entry, 8,
                                h->refcount_table_host + i * 8) == 0);
    if (load_be64 (entry) == 0 && i * per_block >= s->nr)
      continue;
    memset (block, 0, len);
    if (load_be64 (entry) != 0)
      CHECK (source_pread_padded (src, block, len, load_be64 (entry)) == 0);
    for (j = 0; j < per_block && i * per_block + j < s->nr; ++j)
      compare (s, i * per_block + j,
               load_count (block, j, h->refcount_order));
    /* What is behind the end is not used; every count may be a leak. */
    for (; j < per_block; ++j) {
      if (j % 64 == 0 && is_zero (block, j, h->refcount_order))
        j += 63;
      else
        compare (s, i * per_block + j,
                 load_count (block, j, h->refcount_order));
    }
  }
  if (s->nr > nr * per_block)
    for (i = nr * per_block; i < s->nr; ++i)
      compare (s, i, 0);
}

int64_t
test_sound (struct source *src)
{
  CLEANUP_IMAGE struct image *img =
    image_open (&qcow2_format, src, "image", 1024 * 1024);
  struct sound s = { .nr_leaks = 0 };

  if (img == NULL) {
    fprintf (stderr, "cannot be opened\n");
    return -1;
  }
  s.q = qcow2_state (img);
  s.nr = div_round_up (source_len (src), s.q->cluster_len);
  s.references = calloc (s.nr, sizeof *s.references);
  s.is_copied = calloc (s.nr, sizeof *s.is_copied);
  CHECK (s.references != NULL && s.is_copied != NULL);
  if (qcow2_survey (img, add, &s) == -1) {
    fprintf (stderr, "the survey fails\n");
    s.is_broken = true;
  }
  compare_all (&s, src);
  free (s.references);
  free (s.is_copied);
  return s.is_broken ? -1 : s.nr_leaks;
}
