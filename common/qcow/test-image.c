/* Hand-made qcow images in memory, for unit tests and fuzzers.
 *
 * Written from the format's description and without the driver's own
 * formatters, so that both are tested against each other.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "image/digest.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow/test-image.h"
#include "source/memory.h"

#define SECTOR 512
#define TAPDISK_PAGE 4096

/* ---- bytes */

static void
put (struct test_qcow *t, const void *bytes, size_t len, uint64_t host)
{
  CHECK (source_pwrite (t->src, bytes, len, host) == 0);
}

void
test_qcow_poke (struct test_qcow *t, uint64_t host, unsigned width,
                uint64_t value)
{
  uint8_t bytes[8];

  CHECK (width >= 1 && width <= 8);
  store_be64 (bytes, value);
  put (t, bytes + 8 - width, width, host);
}

uint64_t
test_qcow_peek (const struct test_qcow *t, uint64_t host, unsigned width)
{
  uint8_t bytes[8] = { 0 };

  CHECK (width >= 1 && width <= 8);
  CHECK (source_pread_padded (t->src, bytes + 8 - width, width, host) == 0);
  return load_be64 (bytes);
}

static void
put_entry (uint8_t *p, uint64_t value, bool is_big)
{
  unsigned i;

  for (i = 0; i < 8; ++i)
    p[is_big ? 7 - i : i] = value >> 8 * i;
}

static uint64_t
cluster_len (const struct test_qcow *t)
{
  return UINT64_C (1) << t->spec.cluster_bits;
}

static uint64_t
l2_entries (const struct test_qcow *t)
{
  return UINT64_C (1) << t->spec.l2_bits;
}

static uint64_t
span_len (const struct test_qcow *t)
{
  return cluster_len (t) << t->spec.l2_bits;
}

/* ---- the L1 table */

static bool
is_big_entry (const struct test_qcow *t, uint64_t index)
{
  switch (t->spec.order) {
  case TEST_QCOW_BIG: return true;
  case TEST_QCOW_LITTLE: return false;
  case TEST_QCOW_MIXED: return index < t->spec.nr_big;
  case TEST_QCOW_ALTERNATE: return index % 2 == 1;
  }
  abort ();
}

void
test_qcow_set_l1 (struct test_qcow *t, uint64_t index, uint64_t value,
                  bool is_big)
{
  uint8_t entry[8];

  CHECK (index < t->nr_l1);
  t->l1[index] = value;
  put_entry (entry, value, is_big);
  put (t, entry, 8, t->spec.l1_host + index * 8);
}

/* The word on disk, as a big endian number, for a table in one order. */
static uint32_t
cksum_of (const struct test_qcow *t, bool is_big, bool is_empty)
{
  uint8_t digest[DIGEST_MD5_LEN], entry[8];
  struct digest_md5 md5;
  uint64_t i;

  digest_md5_begin (&md5);
  for (i = 0; i < t->nr_l1; ++i) {
    put_entry (entry, is_empty ? 0 : t->l1[i], is_big);
    digest_md5_add (&md5, entry, 8);
  }
  digest_md5_end (&md5, digest);
  if (t->spec.cksum_is_straight)
    return load_be32 (digest);
  return (uint32_t) digest[3] << 24 | digest[2] << 16 | digest[1] << 8 |
    digest[0];
}

void
test_qcow_set_cksum (struct test_qcow *t, bool is_big)
{
  test_qcow_poke (t, 52, 4, cksum_of (t, is_big, false));
}

static void
put_cksum (struct test_qcow *t)
{
  bool is_big = t->spec.order == TEST_QCOW_BIG ||
    t->spec.cksum == TEST_QCOW_CKSUM_BIG;
  bool is_created = t->spec.cksum == TEST_QCOW_CKSUM_CREATED;
  uint32_t word = cksum_of (t, is_big, is_created);

  if (t->spec.cksum == TEST_QCOW_CKSUM_STALE)
    word = ~word;
  test_qcow_poke (t, 52, 4, word);
}

/* ---- the headers */

static unsigned
xen_len (const struct test_qcow *t)
{
  switch (t->spec.xen) {
  case TEST_QCOW_PLAIN: return 0;
  case TEST_QCOW_XEN_12: return 12;
  case TEST_QCOW_XEN_16: case TEST_QCOW_XEN_REVERSED: return 16;
  case TEST_QCOW_XEN_20: return 20;
  }
  abort ();
}

static size_t
name_len (const struct test_qcow *t)
{
  return t->spec.backing ? strlen (t->spec.backing) : 0;
}

static void
choose (struct test_qcow *t)
{
  struct test_qcow_spec *s = &t->spec;
  uint64_t head_end = 48 + xen_len (t);

  if (s->cluster_bits == 0)
    s->cluster_bits = s->backing ? 9 : 12;
  if (s->l2_bits == 0)
    s->l2_bits = s->backing ? 12 : 9;
  if (s->backing && s->backing_host == 0)
    s->backing_host = head_end;
  if (s->backing)
    head_end = MAX (head_end, s->backing_host + name_len (t));
  if (s->l1_host == 0)
    s->l1_host = round_up (head_end, s->xen ? TAPDISK_PAGE : 8);
  if (!s->has_flags)
    s->flags = (s->is_reserved ? 0 : 1) |
      (s->order == TEST_QCOW_BIG ? 2 : 0);
  if (!s->has_min_cluster_alloc)
    s->min_cluster_alloc = s->backing ? 1 : 1 << s->l2_bits;
  if (s->every_nth == 0)
    s->every_nth = 1;
  if (s->nr_data == 0)
    s->nr_data = 2;
  CHECK (s->nr_data <= l2_entries (t));
  t->nr_l1 = div_round_up (s->disk_len, span_len (t));
}

static void
put_header (struct test_qcow *t)
{
  const struct test_qcow_spec *s = &t->spec;

  test_qcow_poke (t, 0, 4, 0x514649fb);
  test_qcow_poke (t, 4, 4, 1);
  test_qcow_poke (t, 24, 8, s->disk_len);
  test_qcow_poke (t, 32, 1, s->cluster_bits);
  test_qcow_poke (t, 33, 1, s->l2_bits);
  test_qcow_poke (t, 40, 8, s->l1_host);
  if (s->xen) {
    test_qcow_poke (t, 48, 4, s->xen == TEST_QCOW_XEN_REVERSED
                    ? 0xfb4e4558 : 0x58454efb);
    test_qcow_poke (t, 56, 4, s->min_cluster_alloc);
    if (s->xen != TEST_QCOW_XEN_12)
      test_qcow_poke (t, 60, 4, s->flags);
  }
  if (s->backing) {
    test_qcow_poke (t, 8, 8, s->backing_host);
    test_qcow_poke (t, 16, 4, name_len (t));
    if (name_len (t) > 0)
      put (t, s->backing, name_len (t), s->backing_host);
  }
}

static void
swap_bytes (uint8_t *p, unsigned width)
{
  unsigned i;

  for (i = 0; i < width / 2; ++i) {
    uint8_t byte = p[i];

    p[i] = p[width - 1 - i];
    p[width - 1 - i] = byte;
  }
}

/* The header as it lies in the memory of a little endian host, with the
 * checksum of the empty table; the flag for big endian was set in flags
 * that nobody had swapped.
 */
static void
put_stray (struct test_qcow *t, uint64_t host)
{
  static const uint8_t widths[] = { 4, 4, 8, 4, 4, 8, 1, 1, 2, 4, 8, 4 };
  uint8_t sector[SECTOR] = { 0 };
  size_t i, at = 0;

  CHECK (source_pread (t->src, sector, 64, 0) == 0);
  for (i = 0; i < sizeof widths; at += widths[i++])
    swap_bytes (sector + at, widths[i]);
  store_be32 (sector + 52, cksum_of (t, true, true));
  sector[60] |= 2;
  put (t, sector, SECTOR, host);
}

/* ---- extents */

void
test_qcow_sector (uint64_t guest_sector, uint8_t sector[512])
{
  unsigned i;

  for (i = 0; i < SECTOR; i += 8) {
    uint64_t word = (guest_sector * 64 + i / 8 + 1) *
      UINT64_C (0x9e3779b97f4a7c15);

    store_be64 (sector + i, word | 1);
  }
}

/* One cluster's data; what lies behind the end of the disk stays zero. */
static void
put_data (struct test_qcow *t, uint64_t guest, uint64_t host)
{
  uint64_t end = MIN (cluster_len (t),
                      t->spec.disk_len - MIN (guest, t->spec.disk_len));
  uint8_t sector[SECTOR];
  uint64_t done;

  for (done = 0; done + SECTOR <= end; done += SECTOR) {
    test_qcow_sector ((guest + done) / SECTOR, sector);
    put (t, sector, SECTOR, host + done);
  }
}

/* As tapdisk: a table, then its clusters. */
static void
put_extent (struct test_qcow *t, uint64_t index)
{
  uint64_t nr = t->spec.backing ? t->spec.nr_data : l2_entries (t), i;
  uint64_t l2_host = round_up (t->end, cluster_len (t));
  uint8_t *l2 = calloc (l2_entries (t), 8);

  CHECK (l2 != NULL);
  t->end = round_up (l2_host + l2_entries (t) * 8, cluster_len (t));
  for (i = 0; i < nr; ++i, t->end += cluster_len (t)) {
    put_entry (l2 + i * 8, t->end, true);
    if (i < t->spec.nr_data)
      put_data (t, index * span_len (t) + i * cluster_len (t), t->end);
  }
  put (t, l2, l2_entries (t) * 8, l2_host);
  free (l2);
  t->l1[index] = l2_host;
}

bool
test_qcow_has_span (const struct test_qcow *t, uint64_t guest)
{
  return t->l1[guest / span_len (t)] != 0;
}

void
test_qcow_expect (const struct test_qcow *t, void *buf, size_t len,
                  uint64_t guest)
{
  uint8_t *p = buf;

  for (; len > 0; p += SECTOR, len -= SECTOR, guest += SECTOR) {
    uint64_t cluster = guest % span_len (t) / cluster_len (t);

    if (test_qcow_has_span (t, guest) && cluster < t->spec.nr_data &&
        guest / span_len (t) % t->spec.every_nth == 0)
      test_qcow_sector (guest / SECTOR, p);
    else
      memset (p, 0, SECTOR);
  }
}

/* ---- the image */

/* Where the first extent goes, and how long the file is without any. */
static uint64_t
put_l1_block (struct test_qcow *t)
{
  uint64_t unit = t->spec.xen ? TAPDISK_PAGE : SECTOR;
  uint64_t end = t->spec.l1_host + round_up (t->nr_l1 * 8, unit);

  CHECK (source_grow (t->src, end) == 0);
  t->end = MAX (end + t->spec.gap, t->spec.first_l2);
  return end;
}

static void
put_extents (struct test_qcow *t)
{
  uint64_t i;

  if (t->spec.is_empty)
    return;
  for (i = 0; i < t->nr_l1; ++i) {
    uint64_t index = t->spec.is_backwards ? t->nr_l1 - 1 - i : i;

    if (index % t->spec.every_nth == 0)
      put_extent (t, index);
  }
  CHECK (source_grow (t->src, t->end) == 0);
}

void
test_qcow_make (struct test_qcow *t, const struct test_qcow_spec *spec)
{
  uint64_t l1_end, i;

  *t = (struct test_qcow) { .spec = *spec };
  t->src = source_memory ("image", 0, INT64_MAX);
  CHECK (t->src != NULL);
  choose (t);
  t->l1 = calloc (t->nr_l1 + 1, sizeof *t->l1);
  CHECK (t->l1 != NULL);

  l1_end = put_l1_block (t);
  put_extents (t);
  for (i = 0; i < t->nr_l1; ++i)
    if (t->l1[i] != 0)
      test_qcow_set_l1 (t, i, t->l1[i], is_big_entry (t, i));
  put_header (t);
  if (t->spec.xen)
    put_cksum (t);
  if (t->spec.has_stray)
    put_stray (t, l1_end + t->spec.gap);
  if (t->spec.is_reserved)
    CHECK (source_grow (t->src, l1_end + t->nr_l1 * SECTOR +
                        t->spec.disk_len) == 0);
  CHECK (source_grow (t->src, t->spec.file_len) == 0);
}

void
test_qcow_free (struct test_qcow *t)
{
  source_put (t->src);
  free (t->l1);
  *t = (struct test_qcow) { .src = NULL };
}

void
test_qcow_header (const struct test_qcow *t, struct qcow_header *h)
{
  uint8_t head[QCOW_HEAD_LEN];

  CHECK (source_pread_padded (t->src, head, sizeof head, 0) == 0);
  CHECK (qcow_header_check ("image", head, source_len (t->src), h) == 0);
}

/* ---- single entries */

/* Room for one more object, at the end. */
static uint64_t
add_room (struct test_qcow *t, uint64_t len)
{
  uint64_t host = round_up (MAX (t->end, source_len (t->src)),
                            cluster_len (t));

  t->end = host + round_up (len, cluster_len (t));
  CHECK (source_grow (t->src, t->end) == 0);
  return host;
}

void
test_qcow_set_l2 (struct test_qcow *t, uint64_t guest, uint64_t entry)
{
  uint64_t index = guest / span_len (t);

  CHECK (index < t->nr_l1);
  if (t->l1[index] == 0)
    test_qcow_set_l1 (t, index, add_room (t, l2_entries (t) * 8),
                      t->spec.order != TEST_QCOW_LITTLE);
  test_qcow_poke (t, t->l1[index] +
                  guest / cluster_len (t) % l2_entries (t) * 8, 8, entry);
}

uint64_t
test_qcow_add_data (struct test_qcow *t, uint64_t guest, uint8_t byte)
{
  CLEANUP_FREE uint8_t *data = malloc (cluster_len (t));
  uint64_t host;

  CHECK (data != NULL);
  test_qcow_set_l2 (t, guest, 0);
  host = add_room (t, cluster_len (t));
  memset (data, byte, cluster_len (t));
  put (t, data, cluster_len (t), host);
  test_qcow_set_l2 (t, guest, host);
  return host;
}

/* A stream must be shorter than a cluster, which stored blocks are not. */
struct bits {
  uint8_t bytes[4096];
  unsigned nr;
};

static void
put_bits (struct bits *b, unsigned value, unsigned nr)
{
  unsigned i;

  for (i = 0; i < nr; ++i, ++b->nr) {
    CHECK (b->nr / 8 < sizeof b->bytes);
    b->bytes[b->nr / 8] |= (value >> i & 1) << b->nr % 8;
  }
}

/* Huffman codes go in from their highest bit on. */
static void
put_code (struct bits *b, unsigned code, unsigned nr)
{
  while (nr > 0)
    put_bits (b, code >> --nr & 1, 1);
}

static void
put_literal (struct bits *b, uint8_t byte)
{
  if (byte < 144)
    put_code (b, 0x30 + byte, 8);
  else
    put_code (b, 0x190 + byte - 144, 9);
}

/* One byte, many times: deflate with the fixed codes. */
static void
deflate_run (struct bits *b, uint8_t byte, uint64_t len)
{
  put_bits (b, 1, 1);           /* the last block */
  put_bits (b, 1, 2);           /* fixed codes */
  put_literal (b, byte);
  for (--len; len >= 258; len -= 258) {
    put_code (b, 0xc0 + 285 - 280, 8);  /* 258 bytes */
    put_code (b, 0, 5);                 /* from 1 byte before */
  }
  for (; len > 0; --len)
    put_literal (b, byte);
  put_code (b, 0, 7);           /* the end */
}

uint64_t
test_qcow_add_packed (struct test_qcow *t, uint64_t guest, uint8_t byte)
{
  struct bits b = { .nr = 0 };
  uint64_t host, len;

  deflate_run (&b, byte, cluster_len (t));
  len = (b.nr + 7) / 8;
  CHECK (len < cluster_len (t));
  test_qcow_set_l2 (t, guest, 0);
  host = add_room (t, len);
  put (t, b.bytes, len, host);
  test_qcow_set_l2 (t, guest, UINT64_C (1) << 63 |
                    len << (63 - t->spec.cluster_bits) | host);
  return host;
}
