/* The table of internal snapshots.
 *
 * Entries have different lengths, so that the table can only be read from
 * its beginning; the names are skipped.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Snapshots".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow2/refuse.h"
#include "qcow2/snapshot.h"

/* The fields before the extra data, and the extra data we know. */
#define FIXED_LEN 40
#define EXTRA_VM_STATE_LEN 8
#define EXTRA_DISK_LEN 16
#define KNOWN_LEN (FIXED_LEN + EXTRA_DISK_LEN)

#define WINDOW_LEN (64 * 1024)

/* ---- entries */

/* 'bytes' are KNOWN_LEN bytes from the entry's place s->host on. */
static void
parse (const uint8_t *bytes, struct snapshot *s)
{
  s->l1_host = load_be64 (bytes);
  s->l1_size = load_be32 (bytes + 8);
  s->id_len = load_be16 (bytes + 12);
  s->name_len = load_be16 (bytes + 14);
  s->seconds = load_be32 (bytes + 16);
  s->nanoseconds = load_be32 (bytes + 20);
  s->vm_clock = load_be64 (bytes + 24);
  s->vm_state_len = load_be32 (bytes + 32);
  s->extra_len = load_be32 (bytes + 36);
  if (s->extra_len >= EXTRA_VM_STATE_LEN)
    s->vm_state_len = load_be64 (bytes + FIXED_LEN);
  s->has_disk_len = s->extra_len >= EXTRA_DISK_LEN;
  s->disk_len = s->has_disk_len ? load_be64 (bytes + FIXED_LEN + 8) : 0;
  s->id_host = s->host + FIXED_LEN + s->extra_len;
  s->len = (uint64_t) FIXED_LEN + s->extra_len + s->id_len + s->name_len;
}

static int
check_entry (const struct snapshot_reader *reader, const struct snapshot *s)
{
  const char *name = reader->img->name;
  uint64_t file_len = source_len (reader->img->source);

  if (!range_is_inside (s->host, FIXED_LEN, file_len) ||
      !range_is_inside (s->host, s->len, file_len))
    return REFUSE (EINVAL, "%s: snapshot table entry %" PRIu32 " at byte "
                   "%" PRIu64 " passes the end of the file, which has %"
                   PRIu64 " bytes; the file is cut short or damaged",
                   name, reader->index, s->host, file_len);
  if (s->extra_len > SNAPSHOT_MAX_EXTRA)
    return REFUSE (EINVAL, "%s: snapshot table entry %" PRIu32 " at byte "
                   "%" PRIu64 " has %" PRIu32 " bytes of extra data, the "
                   "most is %d; " CHECK_A_COPY,
                   name, reader->index, s->host, s->extra_len,
                   SNAPSHOT_MAX_EXTRA);
  if (s->host + s->len - reader->start > SNAPSHOT_MAX_TABLE_LEN)
    return REFUSE (EINVAL, "%s: the snapshot table (header bytes 60 and 64) "
                   "is too large: entry %" PRIu32 " ends more than %" PRIu64
                   " bytes behind its beginning; " CHECK_A_COPY,
                   name, reader->index, SNAPSHOT_MAX_TABLE_LEN);
  return 0;
}

/* ---- the reader */

int
snapshot_reader_start (struct snapshot_reader *reader,
                       const struct image *img, const struct qcow2_header *h)
{
  memset (reader, 0, sizeof *reader);
  reader->img = img;
  reader->nr = h->nr_snapshots;
  reader->start = reader->next = h->snapshots_host;
  reader->bytes = malloc (WINDOW_LEN);
  if (reader->bytes == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the snapshot table",
                   img->name);
  return 0;
}

/* The bytes of the file from reader->next on, at least KNOWN_LEN. */
static const uint8_t *
window_at_next (struct snapshot_reader *reader)
{
  if (!reader->is_filled ||
      reader->next - reader->window > WINDOW_LEN - KNOWN_LEN) {
    if (source_pread_padded (reader->img->source, reader->bytes, WINDOW_LEN,
                             reader->next) == -1)
      return NULL;
    reader->window = reader->next;
    reader->is_filled = true;
  }
  return reader->bytes + (reader->next - reader->window);
}

int
snapshot_reader_next (struct snapshot_reader *reader,
                      struct snapshot *snapshot)
{
  const uint8_t *bytes;

  if (reader->index == reader->nr)
    return 0;
  bytes = window_at_next (reader);
  if (bytes == NULL)
    return -1;
  snapshot->host = reader->next;
  parse (bytes, snapshot);
  if (check_entry (reader, snapshot) == -1)
    return -1;
  reader->next += round_up (snapshot->len, 8);
  reader->index++;
  return 1;
}

void
snapshot_reader_free (struct snapshot_reader *reader)
{
  free (reader->bytes);
  reader->bytes = NULL;
}

/* ---- the table */

/* The offset is checked even when there are no snapshots, as QEMU does. */
static int
check_header (const struct image *img, const struct qcow2_header *h)
{
  uint64_t cluster_len = UINT64_C (1) << h->cluster_bits;

  if (h->nr_snapshots > SNAPSHOT_MAX_NR)
    return REFUSE (EINVAL, "%s: the snapshot table is too large: %" PRIu32
                   " snapshots (header byte 60), the most is %" PRIu32 "; "
                   CHECK_A_COPY,
                   img->name, h->nr_snapshots, SNAPSHOT_MAX_NR);
  if (h->snapshots_host % cluster_len != 0)
    return REFUSE (EINVAL, "%s: snapshot table offset %" PRIu64 " (header "
                   "byte 64) is not a multiple of the cluster size %" PRIu64
                   "; " CHECK_A_COPY,
                   img->name, h->snapshots_host, cluster_len);
  if (h->snapshots_host > INT64_MAX - SNAPSHOT_MAX_TABLE_LEN)
    return REFUSE (EINVAL, "%s: snapshot table offset %" PRIu64 " (header "
                   "byte 64) is too large; " CHECK_A_COPY,
                   img->name, h->snapshots_host);
  return 0;
}

int
snapshot_table_check (const struct image *img, const struct qcow2_header *h)
{
  struct snapshot_reader reader;
  struct snapshot snapshot;
  int r;

  if (check_header (img, h) == -1)
    return -1;
  if (h->nr_snapshots == 0)
    return 0;
  r = snapshot_reader_start (&reader, img, h);
  if (r == 0)
    while ((r = snapshot_reader_next (&reader, &snapshot)) == 1)
      ;
  snapshot_reader_free (&reader);
  return r;
}
