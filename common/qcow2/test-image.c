/* Hand-made qcow2 images in memory, for unit tests and fuzzers.
 *
 * Written from the format's description and without the driver's own
 * formatters, so that both are tested against each other.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"
#include "source/memory.h"

#define COPIED (UINT64_C (1) << 63)
#define HOST UINT64_C (0x00fffffffffffe00)
#define CACHE_LIMIT (1024 * 1024)

/* ---- bytes */

void
test_image_poke (struct test_image *t, uint64_t host, unsigned width,
                 uint64_t value)
{
  CHECK (range_is_inside (host, width, t->len));
  switch (width) {
  case 1: t->bytes[host] = value; break;
  case 2: store_be16 (t->bytes + host, value); break;
  case 4: store_be32 (t->bytes + host, value); break;
  case 8: store_be64 (t->bytes + host, value); break;
  default: abort ();
  }
}

uint64_t
test_image_peek (const struct test_image *t, uint64_t host, unsigned width)
{
  CHECK (range_is_inside (host, width, t->len));
  switch (width) {
  case 1: return t->bytes[host];
  case 2: return load_be16 (t->bytes + host);
  case 4: return load_be32 (t->bytes + host);
  case 8: return load_be64 (t->bytes + host);
  default: abort ();
  }
}

uint64_t
test_image_add (struct test_image *t, uint64_t nr_clusters)
{
  uint64_t host = t->len;
  size_t more = nr_clusters << t->cluster_bits;

  t->bytes = realloc (t->bytes, t->len + more);
  CHECK (t->bytes != NULL);
  memset (t->bytes + t->len, 0, more);
  t->len += more;
  return host;
}

/* ---- the image */

void
test_image_init (struct test_image *t, uint32_t version,
                 uint32_t cluster_bits, uint64_t disk_len,
                 uint64_t incompatible)
{
  uint64_t l1_size;

  memset (t, 0, sizeof *t);
  t->cluster_bits = cluster_bits;
  t->cluster_len = UINT32_C (1) << cluster_bits;
  t->is_extended = incompatible & 16;
  l1_size = div_round_up (disk_len, UINT64_C (1)
                          << (2 * cluster_bits - 3 - t->is_extended));
  test_image_add (t, 3 + div_round_up (MAX (l1_size, UINT64_C (1)) * 8,
                                       t->cluster_len));
  t->l1_host = 3 * (uint64_t) t->cluster_len;

  test_image_poke (t, 0, 4, 0x514649fb);
  test_image_poke (t, 4, 4, version);
  test_image_poke (t, 20, 4, cluster_bits);
  test_image_poke (t, 24, 8, disk_len);
  test_image_poke (t, 36, 4, l1_size);
  test_image_poke (t, 40, 8, t->l1_host);
  test_image_poke (t, 48, 8, t->cluster_len);
  test_image_poke (t, 56, 4, 1);
  test_image_poke (t, t->cluster_len, 8, 2 * (uint64_t) t->cluster_len);
  if (version >= 3) {
    test_image_poke (t, 72, 8, incompatible);
    test_image_poke (t, 96, 4, 4);
    test_image_poke (t, 100, 4, 112);
    test_image_poke (t, 104, 1, incompatible & 8 ? 1 : 0);
  }
}

void
test_image_free (struct test_image *t)
{
  free (t->bytes);
  t->bytes = NULL;
}

static unsigned
entry_len (const struct test_image *t)
{
  return t->is_extended ? 16 : 8;
}

static uint64_t
l1_place (const struct test_image *t, uint64_t guest)
{
  uint64_t l2_entries = t->cluster_len / entry_len (t);

  return t->l1_host + (guest >> t->cluster_bits) / l2_entries * 8;
}

void
test_image_set_l1 (struct test_image *t, uint64_t guest, uint64_t entry)
{
  test_image_poke (t, l1_place (t, guest), 8, entry);
}

uint64_t
test_image_l2_place (struct test_image *t, uint64_t guest)
{
  uint64_t l2_entries = t->cluster_len / entry_len (t);
  uint64_t l1_entry = test_image_peek (t, l1_place (t, guest), 8);

  if ((l1_entry & HOST) == 0) {
    l1_entry = test_image_add (t, 1) | COPIED;
    test_image_set_l1 (t, guest, l1_entry);
  }
  return (l1_entry & HOST) +
    (guest >> t->cluster_bits) % l2_entries * entry_len (t);
}

void
test_image_set_l2 (struct test_image *t, uint64_t guest, uint64_t entry)
{
  test_image_poke (t, test_image_l2_place (t, guest), 8, entry);
}

void
test_image_set_bitmap (struct test_image *t, uint64_t guest, uint64_t bitmap)
{
  CHECK (t->is_extended);
  test_image_poke (t, test_image_l2_place (t, guest) + 8, 8, bitmap);
}

uint64_t
test_image_add_data (struct test_image *t, uint64_t guest, uint8_t byte)
{
  uint64_t place = test_image_l2_place (t, guest);
  uint64_t host = test_image_add (t, 1);

  memset (t->bytes + host, byte, t->cluster_len);
  test_image_poke (t, place, 8, host | COPIED);
  if (t->is_extended)
    test_image_poke (t, place + 8, 8, UINT32_MAX);
  return host;
}

/* A stored block: final flag, length, its complement, the bytes. */
static size_t
store_block (uint8_t *p, uint8_t byte, uint16_t len, bool is_last)
{
  p[0] = is_last;
  p[1] = len & 0xff;
  p[2] = len >> 8;
  p[3] = ~p[1];
  p[4] = ~p[2];
  memset (p + 5, byte, len);
  return 5 + (size_t) len;
}

uint64_t
test_image_add_packed (struct test_image *t, uint64_t guest, uint8_t byte)
{
  uint64_t place = test_image_l2_place (t, guest);
  uint64_t host = test_image_add (t, 2);
  unsigned shift = 62 - (t->cluster_bits - 8);
  uint64_t len = 0, extra;
  uint32_t done;

  for (done = 0; done < t->cluster_len; ) {
    uint32_t n = MIN (t->cluster_len - done, UINT32_C (32768));

    done += n;
    len += store_block (t->bytes + host + len, byte, n,
                        done == t->cluster_len);
  }
  extra = (len - 1) / 512;
  test_image_poke (t, place, 8, host | extra << shift | UINT64_C (1) << 62);
  return host;
}

/* ---- what hangs on the header */

static uint64_t
header_len (const struct test_image *t)
{
  return test_image_peek (t, 4, 4) >= 3 ? test_image_peek (t, 100, 4) : 72;
}

void
test_image_add_extension (struct test_image *t, uint32_t type,
                          const void *data, uint32_t len)
{
  uint64_t at = header_len (t);

  while (test_image_peek (t, at, 4) != 0)
    at += 8 + round_up (test_image_peek (t, at + 4, 4), 8);
  CHECK (at + 8 + round_up (len, 8) + 8 <= t->cluster_len);
  test_image_poke (t, at, 4, type);
  test_image_poke (t, at + 4, 4, len);
  if (len > 0)
    memcpy (t->bytes + at + 8, data, len);
}

void
test_image_set_backing (struct test_image *t, const char *name)
{
  size_t len = strlen (name);
  uint64_t at = t->cluster_len - len;

  memcpy (t->bytes + at, name, len);
  test_image_poke (t, 8, 8, at);
  test_image_poke (t, 16, 4, len);
}

void
test_image_add_snapshots (struct test_image *t, unsigned nr,
                          uint32_t extra_len)
{
  uint64_t len = 40 + (uint64_t) extra_len + 3;
  uint64_t host = test_image_add (t, div_round_up (nr * round_up (len, 8),
                                                   t->cluster_len));
  uint64_t at = host;
  unsigned i;

  for (i = 0; i < nr; ++i, at += round_up (len, 8)) {
    test_image_poke (t, at, 8, t->l1_host);
    test_image_poke (t, at + 8, 4, test_image_peek (t, 36, 4));
    test_image_poke (t, at + 12, 2, 1);
    test_image_poke (t, at + 14, 2, 2);
    test_image_poke (t, at + 36, 4, extra_len);
    if (extra_len >= 16)
      test_image_poke (t, at + 48, 8, test_image_peek (t, 24, 8));
    memcpy (t->bytes + at + 40 + extra_len, "1s1", 3);
  }
  test_image_poke (t, 60, 4, nr);
  test_image_poke (t, 64, 8, host);
}

/* ---- refcounts */

static void
refer (const struct test_image *t, uint16_t *refs, uint64_t host,
       uint64_t len)
{
  uint64_t i;

  if (!range_is_inside (host, len, t->len))
    return;
  for (i = host >> t->cluster_bits;
       i <= (host + len - 1) >> t->cluster_bits; ++i)
    refs[i]++;
}

/* What an L1 table refers to, and itself. */
static void
count_tables (const struct test_image *t, uint16_t *refs)
{
  uint64_t l1_size = test_image_peek (t, 36, 4), i, at;
  bool has_data_file = test_image_peek (t, 4, 4) >= 3 &&
    (test_image_peek (t, 72, 8) & 4);

  if (l1_size > 0)
    refer (t, refs, t->l1_host, l1_size * 8);
  for (i = 0; i < l1_size; ++i) {
    uint64_t l2 = test_image_peek (t, t->l1_host + i * 8, 8) & HOST;

    if (l2 == 0)
      continue;
    refer (t, refs, l2, t->cluster_len);
    for (at = l2; at < l2 + t->cluster_len; at += entry_len (t)) {
      uint64_t entry = test_image_peek (t, at, 8);
      uint64_t x = 70 - t->cluster_bits;
      uint64_t host = entry & ((UINT64_C (1) << x) - 1);
      uint64_t nr = (entry & ~(UINT64_C (1) << 62)) >> x;

      if (entry & UINT64_C (1) << 62)
        refer (t, refs, host, (nr + 1) * 512 - host % 512);
      else if ((entry & HOST) != 0 && !has_data_file)
        refer (t, refs, entry & HOST, t->cluster_len);
    }
  }
}

/* The flag belongs where exactly one refers to a cluster. */
static void
clear_copied (struct test_image *t, const uint16_t *refs, uint64_t at)
{
  uint64_t entry = test_image_peek (t, at, 8);
  uint64_t i = (entry & HOST) >> t->cluster_bits;

  if ((entry & COPIED) && i < t->len >> t->cluster_bits && refs[i] > 1)
    test_image_poke (t, at, 8, entry & ~COPIED);
}

void
test_image_count (struct test_image *t)
{
  uint64_t nr = t->len >> t->cluster_bits, i, at;
  uint64_t l1_size = test_image_peek (t, 36, 4);
  uint16_t *refs = calloc (nr, sizeof *refs);

  CHECK (refs != NULL && nr <= t->cluster_len / 2);
  for (i = 0; i <= test_image_peek (t, 60, 4); ++i)
    count_tables (t, refs);
  for (i = 0; i < nr; ++i)
    test_image_poke (t, 2 * (uint64_t) t->cluster_len + 2 * i, 2,
                     MAX (refs[i], 1));
  for (i = 0; i < l1_size; ++i) {
    uint64_t l2 = test_image_peek (t, t->l1_host + i * 8, 8) & HOST;

    clear_copied (t, refs, t->l1_host + i * 8);
    for (at = l2; l2 != 0 && at < l2 + t->cluster_len; at += entry_len (t))
      clear_copied (t, refs, at);
  }
  free (refs);
}

struct image *
test_image_open (const struct test_image *t, struct source *data_source)
{
  CLEANUP_SOURCE struct source *src =
    source_memory_copy ("image", t->bytes, t->len, INT64_MAX);
  struct image *img;
  int err;

  CHECK (src != NULL);
  img = image_open (&qcow2_format, src, "image", CACHE_LIMIT);
  if (img == NULL) {
    err = errno;
    source_put (data_source);
    errno = err;
    return NULL;
  }
  if (image_connect (img, NULL, data_source) == 0)
    return img;
  err = errno;
  image_close (img);
  errno = err;
  return NULL;
}
