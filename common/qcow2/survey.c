/* A walk over everything in an image.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, all of its tables.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/bitmap.h"
#include "qcow2/refuse.h"
#include "qcow2/snapshot.h"
#include "qcow2/survey.h"
#include "qcow2/table.h"

/* Bitmap directory entry and table, spec "Bitmap directory". */
#define BITMAP_ENTRY_LEN 24
#define BITMAP_MAX_TABLE UINT32_C (0x8000000)
#define BITMAP_HOST UINT64_C (0x00fffffffffffe00)

struct survey {
  struct image *img;
  const struct qcow2 *q;
  survey_add add;
  void *opaque;
  bool is_active;               /* COPIED means something in the tables of
                                   the disk only: snapshots keep old flags */
};

static int
damaged (const struct survey *s, const char *what, uint64_t place)
{
  return REFUSE (EIO, "%s: %s at host offset %" PRIu64 " is damaged; "
                 CHECK_A_COPY, s->img->name, what, place);
}

/* Is the run one of whole clusters that begin inside the file? */
static bool
is_run (const struct survey *s, uint64_t host, uint64_t len)
{
  const uint64_t end = round_up (source_len (s->img->source),
                                 s->q->cluster_len);

  return host % s->q->cluster_len == 0 && range_is_inside (host, len, end);
}

/* Read a table into memory; the caller has bounded 'len'. */
static uint8_t *
read_bytes (const struct survey *s, uint64_t host, uint64_t len)
{
  uint8_t *bytes = malloc (MAX (len, UINT64_C (1)));

  if (bytes == NULL) {
    report_error ("%s: no memory to examine the image", s->img->name);
    errno = ENOMEM;
    return NULL;
  }
  if (source_pread_padded (s->img->source, bytes, len, host) == -1) {
    free (bytes);
    return NULL;
  }
  return bytes;
}

/* ---- tables of the disk and of snapshots */

static int
survey_cluster (const struct survey *s, const struct cluster *c,
                uint64_t place)
{
  if (c->kind == CLUSTER_DAMAGED)
    return damaged (s, "an L2 entry", place);
  if (!c->allocated || s->q->rules.has_data_file)
    return 0;
  if (c->kind == CLUSTER_PACKED)
    return s->add (s->opaque, c->host, c->packed_len, false);
  return s->add (s->opaque, c->host, s->q->cluster_len,
                 s->is_active && c->copied);
}

static int
survey_l2 (const struct survey *s, uint64_t host, uint64_t guest)
{
  const struct qcow2 *q = s->q;
  CLEANUP_FREE uint8_t *bytes = read_bytes (s, host, q->cluster_len);
  uint64_t i;

  if (bytes == NULL)
    return -1;
  for (i = 0; i < UINT64_C (1) << q->l2_bits; ++i) {
    const uint8_t *entry = bytes + (i << q->entry_bits);
    struct cluster c = { .packed_len = 0 };

    cluster_decode (&q->rules, load_be64 (entry),
                    q->rules.is_extended ? load_be64 (entry + 8) : 0,
                    guest + i * q->cluster_len, &c);
    if (survey_cluster (s, &c, host + (i << q->entry_bits)) == -1)
      return -1;
  }
  return 0;
}

static int
survey_l1 (const struct survey *s, uint64_t host, uint32_t nr)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint32_t i;

  if (nr == 0)
    return 0;
  if (nr > L1_MAX_ENTRIES || !is_run (s, host, nr * UINT64_C (8)))
    return damaged (s, "an L1 table", host);
  if (s->add (s->opaque, host, nr * UINT64_C (8), false) == -1)
    return -1;
  bytes = read_bytes (s, host, nr * UINT64_C (8));
  if (bytes == NULL)
    return -1;
  for (i = 0; i < nr; ++i) {
    const uint64_t entry = load_be64 (bytes + i * UINT64_C (8));
    const uint64_t l2_host = entry & L1_HOST;

    if (l2_host == 0)
      continue;
    if (!is_run (s, l2_host, s->q->cluster_len))
      return damaged (s, "an L1 entry", host + i * UINT64_C (8));
    if (s->add (s->opaque, l2_host, s->q->cluster_len,
                s->is_active && (entry & L1_COPIED)) == -1 ||
        survey_l2 (s, l2_host, (uint64_t) i << l2_span_bits (s->q)) == -1)
      return -1;
  }
  return 0;
}

static int
survey_snapshots (const struct survey *s)
{
  struct snapshot_reader reader;
  struct snapshot snapshot;
  int r;

  if (s->q->header.nr_snapshots == 0)
    return 0;
  r = snapshot_reader_start (&reader, s->img, &s->q->header);
  while (r == 0 && (r = snapshot_reader_next (&reader, &snapshot)) == 1)
    r = survey_l1 (s, snapshot.l1_host, snapshot.l1_size);
  if (r == 0)
    r = s->add (s->opaque, reader.start, reader.next - reader.start, false);
  snapshot_reader_free (&reader);
  return r;
}

/* ---- bitmaps */

static int
survey_bitmap (const struct survey *s, uint64_t host, uint32_t nr)
{
  CLEANUP_FREE uint8_t *bytes = NULL;
  uint32_t i;

  if (nr > BITMAP_MAX_TABLE || !is_run (s, host, nr * UINT64_C (8)))
    return damaged (s, "a bitmap's table", host);
  if (nr == 0)
    return 0;
  if (s->add (s->opaque, host, nr * UINT64_C (8), false) == -1)
    return -1;
  bytes = read_bytes (s, host, nr * UINT64_C (8));
  if (bytes == NULL)
    return -1;
  for (i = 0; i < nr; ++i) {
    const uint64_t data = load_be64 (bytes + i * UINT64_C (8)) & BITMAP_HOST;

    if (data == 0)
      continue;
    if (!is_run (s, data, s->q->cluster_len))
      return damaged (s, "a bitmap's table", host);
    if (s->add (s->opaque, data, s->q->cluster_len, false) == -1)
      return -1;
  }
  return 0;
}

static int
survey_directory (const struct survey *s, const struct bitmaps_extension *b,
                  const uint8_t *bytes)
{
  uint64_t at = 0;
  uint32_t i;

  for (i = 0; i < b->nr_bitmaps; ++i) {
    const uint8_t *entry = bytes + at;

    if (!range_is_inside (at, BITMAP_ENTRY_LEN, b->directory_len))
      return damaged (s, "the bitmap directory", b->directory_host);
    if (survey_bitmap (s, load_be64 (entry), load_be32 (entry + 8)) == -1)
      return -1;
    at += round_up ((uint64_t) BITMAP_ENTRY_LEN + load_be16 (entry + 18) +
                    load_be32 (entry + 20), 8);
  }
  return 0;
}

static int
survey_bitmaps (const struct survey *s)
{
  const struct extension *ext =
    extension_list_find (&s->q->extensions, EXTENSION_BITMAPS);
  CLEANUP_FREE uint8_t *bytes = NULL;
  struct bitmaps_extension b;

  if (ext == NULL || ext->len != EXTENSION_BITMAPS_LEN)
    return 0;
  bitmaps_extension_parse (ext->data, &b);
  if (b.directory_len > BITMAPS_MAX_DIRECTORY_LEN ||
      !is_run (s, b.directory_host, b.directory_len))
    return damaged (s, "the bitmap directory", b.directory_host);
  if (s->add (s->opaque, b.directory_host, b.directory_len, false) == -1)
    return -1;
  bytes = read_bytes (s, b.directory_host, b.directory_len);
  if (bytes == NULL)
    return -1;
  return survey_directory (s, &b, bytes);
}

int
qcow2_survey (struct image *img, survey_add add, void *opaque)
{
  const struct qcow2 *q = qcow2_state (img);
  struct survey s = {
    .img = img,
    .q = q,
    .add = add,
    .opaque = opaque,
    .is_active = true,
  };

  if (add (opaque, 0, q->cluster_len, false) == -1 ||
      survey_l1 (&s, q->header.l1_host, q->header.l1_size) == -1)
    return -1;
  s.is_active = false;
  if (survey_snapshots (&s) == -1)
    return -1;
  return survey_bitmaps (&s);
}
