/* Internal snapshots, seen as disks of their own.
 *
 * A snapshot has an L1 table and a length of its own; everything else it
 * shares with the active disk.  While it exists, what its tables name is
 * counted and so is neither changed nor freed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/cleanup.h"
#include "qcow2/refuse.h"
#include "qcow2/snapshot.h"
#include "qcow2/table.h"
#include "qcow2/view.h"

/* The entry's id and name, as strings one behind the other; NULL,
 * reported.
 */
static char *
read_names (const struct image *img, const struct snapshot *s)
{
  char *names = malloc ((size_t) s->id_len + s->name_len + 2);

  if (names == NULL) {
    report_error ("%s: no memory for the snapshot table", img->name);
    errno = ENOMEM;
    return NULL;
  }
  if (source_pread (img->source, names, s->id_len, s->id_host) == -1 ||
      source_pread (img->source, names + s->id_len + 1, s->name_len,
                    s->id_host + s->id_len) == -1) {
    free (names);
    return NULL;
  }
  names[s->id_len] = names[s->id_len + 1 + s->name_len] = '\0';
  return names;
}

static uint64_t
disk_len (const struct snapshot *s, const struct qcow2_header *h)
{
  return s->has_disk_len ? s->disk_len : h->disk_len;
}

int
qcow2_snapshots (struct image *img, snapshot_add add, void *opaque)
{
  const struct qcow2_header *h = &qcow2_state (img)->header;
  struct snapshot_reader reader;
  struct snapshot s;
  int r = snapshot_reader_start (&reader, img, h);

  while (r == 0 && (r = snapshot_reader_next (&reader, &s)) == 1) {
    CLEANUP_FREE char *names = read_names (img, &s);
    const struct snapshot_info info = {
      .id = names, .name = names ? names + s.id_len + 1 : NULL,
      .len = disk_len (&s, h), .seconds = s.seconds,
    };

    r = names ? add (opaque, &info) : -1;
  }
  snapshot_reader_free (&reader);
  return r == -1 ? -1 : 0;
}

/* ---- choosing one */

/* 0: not found; 1; -1, reported. */
static int
find (const struct image *img, const struct qcow2_header *h, bool by_id,
      struct snapshot *s)
{
  const char *wanted = img->wishes.snapshot;
  struct snapshot_reader reader;
  int r = snapshot_reader_start (&reader, img, h);
  bool found = false;

  while (!found && r == 0 && (r = snapshot_reader_next (&reader, s)) == 1) {
    CLEANUP_FREE char *names = read_names (img, s);

    r = names ? 0 : -1;
    found = names &&
      strcmp (by_id ? names : names + s->id_len + 1, wanted) == 0;
  }
  snapshot_reader_free (&reader);
  return r == -1 ? -1 : found;
}

/* What the table of snapshots says of one must be true of a disk; whether
 * the L1 table is in the file and long enough is seen when it is opened.
 */
static int
check_snapshot (const struct image *img, const struct qcow2_header *h,
                const struct snapshot *s)
{
  const uint64_t cluster_len = UINT64_C (1) << h->cluster_bits;
  const uint64_t len = disk_len (s, h);

  if (len > INT64_MAX)
    return REFUSE (EINVAL, "%s: the disk of the snapshot has %" PRIu64
                   " bytes (its entry at byte %" PRIu64 ", extra data); "
                   CHECK_A_COPY, img->name, len, s->host);
  if (s->l1_size > L1_MAX_ENTRIES)
    return REFUSE (EINVAL, "%s: the L1 table of the snapshot is too large: %"
                   PRIu32 " entries (its entry at byte %" PRIu64 "), the "
                   "most is %" PRIu32 "; " CHECK_A_COPY, img->name,
                   s->l1_size, s->host, L1_MAX_ENTRIES);
  if (s->l1_host % cluster_len != 0 || s->l1_host > INT64_MAX / 2)
    return REFUSE (EINVAL, "%s: the L1 table of the snapshot cannot be at "
                   "byte %" PRIu64 " (its entry at byte %" PRIu64 "); "
                   CHECK_A_COPY, img->name, s->l1_host, s->host);
  return 0;
}

int
qcow2_choose_snapshot (struct image *img, struct qcow2_header *h)
{
  struct snapshot s;
  int r = find (img, h, true, &s);

  if (r == 0)
    r = find (img, h, false, &s);
  if (r == -1)
    return -1;
  if (r == 0)
    return REFUSE (ENOENT, "%s: there is no snapshot with the id or name "
                   "\"%s\"; qemu-img snapshot -l lists those there are",
                   img->name, img->wishes.snapshot);
  if (check_snapshot (img, h, &s) == -1)
    return -1;
  h->l1_host = s.l1_host;
  h->l1_size = s.l1_size;
  h->disk_len = disk_len (&s, h);
  return 0;
}
