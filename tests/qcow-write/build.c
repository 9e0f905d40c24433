/* qcow (version 1) images made by hand.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "image/digest.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "source/memory.h"
#include "build.h"
#include "chance.h"

#define LIMIT (UINT64_C (1) << 40)
#define PACKED (UINT64_C (1) << 63)
#define SECTOR 512
#define PAGE 4096

struct build {
  const struct shape *s;
  struct source *src;
  uint64_t c, l2_len, span;     /* bytes */
  uint64_t l1, nr_l1;
  uint64_t end;                 /* what comes next goes behind it */
  uint64_t common;              /* the entry of the stream for many */
};

/* ---- what each cluster is */

enum content {
  NOTHING,
  PLAIN,
  BLANK,                        /* plain, but never written to */
  STREAM,
  COMMON,                       /* the stream for many */
  TWIN,                         /* the cluster before it */
  ODD,
  BEYOND,
};

static uint64_t
nr_clusters (const struct shape *s)
{
  return div_round_up (s->len, UINT64_C (1) << s->cluster_bits);
}

/* One of each, early on the disk. */
static enum content
special_content (const struct shape *s, uint64_t i)
{
  if (i == 9 && (s->features & SHAPE_TWINS))
    return TWIN;
  if (i == 14 && (s->features & SHAPE_ODD))
    return ODD;
  if (i == 16 && (s->features & SHAPE_BEYOND))
    return BEYOND;
  return NOTHING;
}

static enum content
content (const struct shape *s, uint64_t i)
{
  const uint64_t per_span = UINT64_C (1) << s->l2_bits;
  const uint64_t nr = nr_clusters (s);
  const bool is_plain = s->features & SHAPE_PLAIN;
  const bool is_packed = s->features & SHAPE_PACKED;

  if (s->features & SHAPE_FORMULA)
    return i / per_span >= MAX (nr / per_span * 3 / 4, UINT64_C (1)) ? NOTHING
      : i < nr && i % 8 % 5 < 2 ? PLAIN : BLANK;
  if (i >= nr)
    return NOTHING;
  if (s->features & SHAPE_FULL)
    return is_packed && i % 3 == 1 ? STREAM : PLAIN;
  if (i >= nr * 3 / 4)
    return NOTHING;
  if (special_content (s, i) != NOTHING)
    return special_content (s, i);
  switch (i % 8) {
  case 0: case 1: case 6:
    return is_plain ? PLAIN : NOTHING;
  case 3:
    return is_packed ? STREAM : NOTHING;
  case 4: case 7:
    return is_packed ? COMMON : NOTHING;
  default:
    return NOTHING;
  }
}

/* What the cluster holds; 'what' is something. */
static void
fill (const struct build *b, enum content what, uint64_t i, uint8_t *buf)
{
  uint64_t state = 1000 + i;

  switch (what) {
  case TWIN:
    state--;
    /* fall through */
  case PLAIN: case ODD:
    chance_fill (&state, buf, b->c);
    break;
  case STREAM:
    for (uint64_t j = 0; j < b->c; ++j)
      buf[j] = 'a' + (j / 64 + j % 3 + i) % 7;
    break;
  case COMMON:
    memset (buf, 'c', b->c);
    break;
  default:
    memset (buf, 0, b->c);
  }
}

/* ---- parts */

static void
poke (const struct build *b, uint64_t host, unsigned width, uint64_t value)
{
  uint8_t bytes[8];

  switch (width) {
  case 1: bytes[0] = value; break;
  case 4: store_be32 (bytes, value); break;
  default: store_be64 (bytes, value); break;
  }
  CHECK (source_pwrite (b->src, bytes, width, host) == 0);
}

static uint64_t
peek (const struct build *b, uint64_t host)
{
  uint8_t bytes[8];

  CHECK (source_pread_padded (b->src, bytes, sizeof bytes, host) == 0);
  return load_be64 (bytes);
}

/* Zeroes behind everything. */
static uint64_t
append (struct build *b, uint64_t len, uint64_t alignment)
{
  const uint64_t host = round_up (b->end, alignment);

  b->end = host + len;
  CHECK (source_grow (b->src, b->end) == 0);
  return host;
}

uint64_t
build_stream (const uint8_t *cluster, uint64_t len, uint8_t *stream)
{
  z_stream z = {
    .next_in = (Bytef *) cluster, .avail_in = len,
    .next_out = stream, .avail_out = len - 1,
  };

  CHECK (deflateInit2 (&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
                       Z_DEFAULT_STRATEGY) == Z_OK);
  CHECK (deflate (&z, Z_FINISH) == Z_STREAM_END);
  CHECK (deflateEnd (&z) == Z_OK);
  return z.total_out;
}

static uint64_t
append_stream (struct build *b, const uint8_t *cluster)
{
  CLEANUP_FREE uint8_t *stream = malloc (b->c);
  uint64_t len, host;

  CHECK (stream != NULL);
  len = build_stream (cluster, b->c, stream);
  host = append (b, len, 1);
  CHECK (source_pwrite (b->src, stream, len, host) == 0);
  return PACKED | len << (63 - b->s->cluster_bits) | host;
}

static void
append_junk (struct build *b, uint64_t len)
{
  CLEANUP_FREE uint8_t *junk = malloc (len);
  uint64_t state = 77;

  CHECK (junk != NULL);
  chance_fill (&state, junk, len);
  CHECK (source_pwrite (b->src, junk, len, append (b, len, 1)) == 0);
}

/* ---- the header */

static void
put_xen_header (const struct build *b)
{
  const bool has_base = b->s->features & SHAPE_BACKING;
  uint8_t digest[DIGEST_MD5_LEN];
  struct digest_md5 md5;

  digest_md5_begin (&md5);
  for (uint64_t i = 0; i < b->nr_l1; ++i) {
    uint8_t entry[8];

    CHECK (source_pread_padded (b->src, entry, 8, b->l1 + i * 8) == 0);
    digest_md5_add (&md5, entry, sizeof entry);
  }
  digest_md5_end (&md5, digest);

  poke (b, 48, 4, 0x58454efb);
  poke (b, 52, 4, load_le32 (digest)); /* a little endian host closed it */
  poke (b, 56, 4, has_base ? 1 : UINT32_C (1) << b->s->l2_bits);
  poke (b, 60, 4, 3);           /* sparse, and the L1 table is big endian */
}

static void
put_header (struct build *b)
{
  const struct shape *s = b->s;
  char name[256] = "";

  if (s->features & SHAPE_LONG_NAME)
    for (unsigned i = 0; i < 100; ++i)
      strcat (name, "./");
  strcat (name, "base");

  b->end = s->features & SHAPE_XEN ? 64 : 48;
  CHECK (source_grow (b->src, b->end) == 0);
  poke (b, 0, 4, 0x514649fb);
  poke (b, 4, 4, 1);
  poke (b, 24, 8, s->len);
  poke (b, 32, 1, s->cluster_bits);
  poke (b, 33, 1, s->l2_bits);
  if (s->features & SHAPE_BACKING) {
    poke (b, 8, 8, b->end);
    poke (b, 16, 4, strlen (name));
    CHECK (source_pwrite (b->src, name, strlen (name), b->end) == 0);
    b->end += strlen (name);
  }
  b->nr_l1 = div_round_up (s->len, b->span);
  b->l1 = append (b, b->nr_l1 * 8,
                  s->features & (SHAPE_XEN | SHAPE_L1_FAR) ? PAGE : 8);
  poke (b, 40, 8, b->l1);
}

/* ---- clusters */

static void
put_entry (struct build *b, uint64_t i, uint64_t entry)
{
  const uint64_t l1_at = b->l1 + (i >> b->s->l2_bits) * 8;
  uint64_t l2 = peek (b, l1_at);

  if (l2 == 0) {
    l2 = append (b, b->l2_len, b->c);
    poke (b, l1_at, 8, l2);
  }
  poke (b, l2 + (i & ((UINT64_C (1) << b->s->l2_bits) - 1)) * 8, 8, entry);
}

static uint64_t
get_entry (const struct build *b, uint64_t i)
{
  const uint64_t l2 = peek (b, b->l1 + (i >> b->s->l2_bits) * 8);

  return peek (b, l2 + (i & ((UINT64_C (1) << b->s->l2_bits) - 1)) * 8);
}

static uint64_t
append_plain (struct build *b, enum content what, const uint8_t *buf)
{
  uint64_t host = append (b, b->c, b->c);

  if (what == BLANK)
    return host;                /* a hole */
  if (what == ODD) {
    append (b, SECTOR, 1);
    host += SECTOR;
  }
  CHECK (source_pwrite (b->src, buf, b->c, host) == 0);
  return host;
}

static void
put_cluster (struct build *b, uint64_t i)
{
  const enum content what = content (b->s, i);
  CLEANUP_FREE uint8_t *buf = malloc (b->c);

  CHECK (buf != NULL);
  fill (b, what, i, buf);
  switch (what) {
  case NOTHING: case BEYOND:
    break;
  case COMMON:
    if (b->common == 0)
      b->common = append_stream (b, buf);
    put_entry (b, i, b->common);
    break;
  case STREAM:
    put_entry (b, i, append_stream (b, buf));
    break;
  case TWIN:
    put_entry (b, i, get_entry (b, i - 1));
    break;
  case PLAIN: case BLANK: case ODD:
    put_entry (b, i, append_plain (b, what, buf));
    break;
  }
}

/* As tapdisk does: a table, and all its clusters behind it. */
static void
put_span (struct build *b, uint64_t first)
{
  const uint64_t nr = UINT64_C (1) << b->s->l2_bits;

  poke (b, b->l1 + (first >> b->s->l2_bits) * 8, 8,
        append (b, b->l2_len, MAX (b->c, (uint64_t) PAGE)));
  for (uint64_t i = first; i < first + nr; ++i)
    put_cluster (b, i);
}

static void
put_clusters (struct build *b)
{
  const struct shape *s = b->s;
  const uint64_t nr = nr_clusters (s), step = UINT64_C (1) << s->l2_bits;

  if (s->features & SHAPE_XEN)
    append (b, 0, PAGE);
  if (s->features & SHAPE_FORMULA) {
    for (uint64_t i = 0; i < nr; i += step)
      if (content (s, i) != NOTHING)
        put_span (b, i);
    return;
  }
  for (uint64_t i = 0; i < nr; ++i) {
    if (i == nr / 2 && (s->features & SHAPE_JUNK))
      append_junk (b, 3 * b->c + 100);
    put_cluster (b, i);
  }
}

/* These depend on where the file ends. */
static void
put_end (struct build *b)
{
  const struct shape *s = b->s;
  const uint64_t l1_at = b->l1 + (b->nr_l1 - 1) * 8;
  uint64_t eof;

  if (s->features & SHAPE_JUNK)
    append_junk (b, b->c / 2 + 100);
  eof = round_up (b->end, b->c);
  if (s->features & SHAPE_TRAP) {
    CHECK (peek (b, l1_at) == 0);
    poke (b, l1_at, 8, eof);
  }
  for (uint64_t i = 0; i < nr_clusters (s); ++i)
    if (content (s, i) == BEYOND)
      put_entry (b, i, eof + b->l2_len + 5 * b->c);
}

struct source *
build_image (const struct shape *s)
{
  struct build b = {
    .s = s, .src = source_memory ("image", 0, LIMIT),
    .c = UINT64_C (1) << s->cluster_bits,
    .l2_len = UINT64_C (8) << s->l2_bits,
    .span = UINT64_C (1) << (s->cluster_bits + s->l2_bits),
  };

  CHECK (b.src != NULL);
  put_header (&b);
  put_clusters (&b);
  put_end (&b);
  if (s->features & SHAPE_XEN)
    put_xen_header (&b);
  return b.src;
}

void
build_expect (const struct form *form, uint8_t *buf)
{
  const struct shape *s = form->shape;
  const struct build b = { .s = s, .c = UINT64_C (1) << s->cluster_bits };
  CLEANUP_FREE uint8_t *cluster = malloc (b.c);

  CHECK (cluster != NULL);
  for (uint64_t i = 0; i < nr_clusters (s); ++i) {
    const enum content what = content (s, i);
    const uint64_t guest = i * b.c, n = MIN (b.c, s->len - guest);

    fill (&b, what, i, cluster);
    if (what == NOTHING)
      for (uint64_t j = 0; j < n; ++j)
        cluster[j] = bed_base_byte (form, guest + j);
    memcpy (buf + guest, cluster, n);
  }
}
