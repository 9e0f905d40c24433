/* The region table.
 *
 * The second copy is for when the first is damaged; neither is believed
 * without its checksum.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/refuse.h"
#include "vhdx/crc32c.h"
#include "vhdx/region.h"

#define SIGNATURE "regi"
#define TABLE_LEN 65536
#define PIECE_LEN 8192          /* divides it */
#define TABLE_HOST(i) (UINT64_C (196608) + UINT64_C (65536) * (i))
#define ENTRIES_AT 16
#define ENTRY_LEN 32
#define REQUIRED UINT32_C (1)

static const struct guid bat_guid = { {
  0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
  0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08
} };
static const struct guid metadata_guid = { {
  0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
  0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e
} };

/* Read a copy.  All of it counts for the checksum, but only its beginning,
 * with the entries, is kept in 'p': untouched memory costs nothing.
 */
static int
read_copy (struct source *src, uint64_t host, uint8_t *p, bool *is_valid)
{
  uint64_t kept;
  uint32_t crc;

  if (source_pread_padded (src, p, PIECE_LEN, host) == -1)
    return -1;
  kept = MIN (load_le32 (p + 8), (uint32_t) VHDX_MAX_REGIONS);
  kept = round_up (ENTRIES_AT + ENTRY_LEN * kept, PIECE_LEN);
  crc = crc32c_of_structure (p, PIECE_LEN);
  for (uint64_t at = PIECE_LEN; at < TABLE_LEN; at += PIECE_LEN) {
    uint8_t *piece = p + MIN (at, kept);

    if (source_pread_padded (src, piece, PIECE_LEN, host + at) == -1)
      return -1;
    crc = crc32c (crc, piece, PIECE_LEN);
  }
  *is_valid = memcmp (p, SIGNATURE, 4) == 0 && load_le32 (p + 4) == crc;
  return 0;
}

/* Read the first copy that is valid; which, or -1, reported. */
static int
read_table (struct source *src, const char *name, uint8_t *p)
{
  for (int i = 0; i < 2; ++i) {
    bool is_valid;

    if (read_copy (src, TABLE_HOST (i), p, &is_valid) == -1)
      return -1;
    if (is_valid)
      return i;
  }
  return REFUSE (EINVAL, "%s: neither of the region tables at bytes %" PRIu64
                 " and %" PRIu64 " is valid (signature \"regi\" and "
                 "checksum)", name, TABLE_HOST (0), TABLE_HOST (1));
}

/* ---- entries */

static int
check_place (const char *name, const struct vhdx_region *r, unsigned i,
             uint64_t file_len)
{
  if (r->host % VHDX_MIB != 0 || r->len % VHDX_MIB != 0 || r->len == 0 ||
      r->host < VHDX_SECTION_LEN)
    return REFUSE (EINVAL, "%s: entry %u of the region table: byte %" PRIu64
                   ", %" PRIu64 " bytes long: regions lie behind the first "
                   "1 MiB, in units of 1 MiB", name, i, r->host, r->len);
  if (!range_is_inside (r->host, r->len, file_len))
    return REFUSE (EINVAL, "%s: entry %u of the region table: byte %" PRIu64
                   ", %" PRIu64 " bytes long, is not within the file, which "
                   "has %" PRIu64 " bytes", name, i, r->host, r->len,
                   file_len);
  return 0;
}

static bool
overlaps (const struct vhdx_region *a, uint64_t host, uint64_t len)
{
  return a->host < host + len && host < a->host + a->len;
}

/* Against the log and those before it; the sums do not overflow. */
static int
check_alone (const char *name, const struct vhdx_regions *regions,
             const struct vhdx_header *h, unsigned i)
{
  const struct vhdx_region *r = &regions->all[i];

  if (h->log_len > 0 && overlaps (r, h->log_host, h->log_len))
    return REFUSE (EINVAL, "%s: entry %u of the region table: the region at "
                   "byte %" PRIu64 " overlaps the log at byte %" PRIu64,
                   name, i, r->host, h->log_host);
  for (unsigned j = 0; j < i; ++j) {
    const struct vhdx_region *other = &regions->all[j];

    if (guid_is_equal (&r->guid, &other->guid))
      return REFUSE (EINVAL, "%s: entries %u and %u of the region table name "
                     "the same region", name, j, i);
    if (overlaps (r, other->host, other->len))
      return REFUSE (EINVAL, "%s: entries %u and %u of the region table: the "
                     "regions at bytes %" PRIu64 " and %" PRIu64 " overlap",
                     name, j, i, other->host, r->host);
  }
  return 0;
}

static int
read_entry (const char *name, const uint8_t *p, const struct vhdx_header *h,
            struct vhdx_regions *regions, unsigned i, uint64_t file_len)
{
  struct vhdx_region *r = &regions->all[i];
  char text[GUID_TEXT_LEN];

  *r = (struct vhdx_region) {
    .guid = guid_load (p),
    .host = load_le64 (p + 16),
    .len = load_le32 (p + 24),
  };
  if (check_place (name, r, i, file_len) == -1 ||
      check_alone (name, regions, h, i) == -1)
    return -1;
  if (guid_is_equal (&r->guid, &bat_guid))
    regions->bat = *r;
  else if (guid_is_equal (&r->guid, &metadata_guid))
    regions->metadata = *r;
  else if (load_le32 (p + 28) & REQUIRED) {
    guid_format (&r->guid, text);
    return REFUSE (ENOTSUP, "%s: entry %u of the region table: region %s is "
                   "required, and not known", name, i, text);
  }
  return 0;
}

static int
compare_hosts (const void *va, const void *vb)
{
  const struct vhdx_region *a = va, *b = vb;

  return a->host < b->host ? -1 : a->host > b->host;
}

const struct vhdx_region *
vhdx_regions_find (const struct vhdx_regions *regions, uint64_t host,
                   uint64_t len)
{
  size_t low = 0, high = regions->nr;

  while (low < high) {
    const size_t middle = low + (high - low) / 2;

    if (regions->all[middle].host + regions->all[middle].len <= host)
      low = middle + 1;
    else
      high = middle;
  }
  return low < regions->nr && overlaps (&regions->all[low], host, len)
    ? &regions->all[low] : NULL;
}

int
vhdx_regions_read (struct source *src, const char *name,
                   const struct vhdx_header *h,
                   struct vhdx_regions *regions)
{
  CLEANUP_FREE uint8_t *p = malloc (TABLE_LEN);
  uint32_t nr;
  int copy;

  *regions = (struct vhdx_regions) { .nr = 0 };
  if (p == NULL)
    goto no_memory;
  copy = read_table (src, name, p);
  if (copy == -1)
    return -1;
  regions->copy = copy;
  nr = load_le32 (p + 8);
  if (nr > VHDX_MAX_REGIONS)
    return REFUSE (EINVAL, "%s: the region table has %" PRIu32 " entries; at "
                   "most %d are possible", name, nr, VHDX_MAX_REGIONS);
  regions->all = calloc (nr ?: 1, sizeof *regions->all);
  if (regions->all == NULL)
    goto no_memory;
  for (; regions->nr < nr; ++regions->nr)
    if (read_entry (name, p + ENTRIES_AT + ENTRY_LEN * regions->nr, h,
                    regions, regions->nr, source_len (src)) == -1)
      return -1;
  qsort (regions->all, regions->nr, sizeof *regions->all, compare_hosts);
  if (regions->bat.len == 0 || regions->metadata.len == 0)
    return REFUSE (EINVAL, "%s: the region table names no %s region", name,
                   regions->bat.len == 0 ? "BAT" : "metadata");
  return 0;

 no_memory:
  return REFUSE (ENOMEM, "%s: no memory for the region table", name);
}

void
vhdx_regions_free (struct vhdx_regions *regions)
{
  free (regions->all);
  regions->all = NULL;
}
