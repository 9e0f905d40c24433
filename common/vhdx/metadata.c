/* The metadata region: a table of items, then the items.
 *
 * There is no checksum, so everything is checked by its sense.
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
#include "vhdx/metadata.h"

#define SIGNATURE "metadata"
#define TABLE_LEN 65536
#define START_LEN 4096          /* has all entries as a rule */
#define ENTRY_LEN 32
#define MAX_ENTRIES 2047
#define MAX_USER_ENTRIES 1024
#define MAX_REGION_LEN (UINT64_C (128) << 20)

/* Flags of an entry. */
#define IS_USER UINT32_C (1)
#define IS_VIRTUAL_DISK UINT32_C (2)
#define IS_REQUIRED UINT32_C (4)

/* File parameters. */
#define LEAVE_ALLOCATED UINT32_C (1)
#define HAS_PARENT UINT32_C (2)

enum item {
  ITEM_FILE_PARAMETERS,
  ITEM_DISK_LEN,
  ITEM_SECTOR_LEN,
  ITEM_PHYSICAL_SECTOR_LEN,
  ITEM_DISK_ID,
  NR_NEEDED,
  ITEM_LOCATOR = NR_NEEDED,
  ITEM_CHS,                     /* not in the specification, like the next */
  ITEM_PMEM,
  ITEM_INCOMPLETE,
  NR_ITEMS,
};

static const struct {
  const char *what;
  uint32_t len;                 /* bytes; 0: any */
  struct guid guid;
} items[NR_ITEMS] = {
  [ITEM_FILE_PARAMETERS] = { "the file parameters", 8, { {
    0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
    0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b } } },
  [ITEM_DISK_LEN] = { "the virtual disk size", 8, { {
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
    0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 } } },
  [ITEM_SECTOR_LEN] = { "the logical sector size", 4, { {
    0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
    0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f } } },
  [ITEM_PHYSICAL_SECTOR_LEN] = { "the physical sector size", 4, { {
    0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
    0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 } } },
  [ITEM_DISK_ID] = { "the virtual disk id", 16, { {
    0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
    0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 } } },
  [ITEM_LOCATOR] = { "the parent locator", 0, { {
    0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
    0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c } } },
  [ITEM_CHS] = { "the disk geometry", 0, { {
    0xbc, 0xd7, 0x02, 0xda, 0x3a, 0x3d, 0x3c, 0x42,
    0xac, 0x88, 0x2a, 0x36, 0xab, 0x21, 0x47, 0x9b } } },
  [ITEM_PMEM] = { "the label area", 0, { {
    0x8a, 0xae, 0xe1, 0x10, 0x7e, 0x4b, 0x69, 0x41,
    0xa4, 0x0f, 0xcd, 0x70, 0xde, 0x92, 0x83, 0x93 } } },
  [ITEM_INCOMPLETE] = { "the mark of an incomplete file", 0, { {
    0xf0, 0x85, 0xcc, 0x71, 0x69, 0x1b, 0x28, 0x4e,
    0x95, 0x58, 0xc3, 0xbf, 0x83, 0xae, 0x75, 0xd3 } } },
};

struct entry {
  struct guid guid;
  uint32_t at;                  /* bytes from the start of the region */
  uint32_t len;
  uint32_t flags;
};

struct table {
  const char *name;             /* for messages */
  struct source *src;
  const struct vhdx_region *region;
  unsigned nr;
  struct entry *entries;        /* owned */
  const struct entry *found[NR_ITEMS];
};

/* ---- the table */

static int
read_entries (struct table *t, const uint8_t *p)
{
  unsigned nr_user = 0;

  t->entries = calloc (t->nr ? t->nr : 1, sizeof *t->entries);
  if (t->entries == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the metadata", t->name);
  for (unsigned i = 0; i < t->nr; ++i) {
    const uint8_t *e = p + ENTRY_LEN * (i + 1);

    t->entries[i] = (struct entry) {
      .guid = guid_load (e),
      .at = load_le32 (e + 16),
      .len = load_le32 (e + 20),
      .flags = load_le32 (e + 24),
    };
    nr_user += t->entries[i].flags & IS_USER;
  }
  if (nr_user > MAX_USER_ENTRIES)
    return REFUSE (EINVAL, "%s: the metadata table has %u entries of the "
                   "user; at most %d are possible", t->name, nr_user,
                   MAX_USER_ENTRIES);
  return 0;
}

static int
check_entry (const struct table *t, unsigned i)
{
  const struct entry *e = &t->entries[i];

  if (guid_is_zero (&e->guid))
    return REFUSE (EINVAL, "%s: entry %u of the metadata table has no id",
                   t->name, i);
  if ((e->flags & IS_USER) && (e->flags & IS_REQUIRED))
    return REFUSE (EINVAL, "%s: entry %u of the metadata table is the user's "
                   "and required, which excludes each other", t->name, i);
  if (e->len == 0) {
    if (e->at == 0)
      return 0;
    return REFUSE (EINVAL, "%s: entry %u of the metadata table has an "
                   "offset, %" PRIu32 ", but no length", t->name, i, e->at);
  }
  if (e->at < TABLE_LEN || e->len > VHDX_MAX_ITEM_LEN ||
      !range_is_inside (e->at, e->len, t->region->len))
    return REFUSE (EINVAL, "%s: entry %u of the metadata table: byte %" PRIu32
                   " of the region, %" PRIu32 " bytes long: items lie behind "
                   "the table, within the region of %" PRIu64 " bytes, and "
                   "have at most 1 MiB", t->name, i, e->at, e->len,
                   t->region->len);
  return 0;
}

/* No two entries are of one id or share bytes. */
static int
check_pair (const struct table *t, unsigned i, unsigned j)
{
  const struct entry *a = &t->entries[i], *b = &t->entries[j];

  if (guid_is_equal (&a->guid, &b->guid) &&
      (a->flags & IS_USER) == (b->flags & IS_USER))
    return REFUSE (EINVAL, "%s: entries %u and %u of the metadata table are "
                   "for the same item", t->name, i, j);
  if (a->len > 0 && b->len > 0 &&
      a->at < b->at + b->len && b->at < a->at + a->len)
    return REFUSE (EINVAL, "%s: entries %u and %u of the metadata table: the "
                   "items at bytes %" PRIu32 " and %" PRIu32 " of the region "
                   "overlap", t->name, i, j, a->at, b->at);
  return 0;
}

/* Which item of ours is it?  NR_ITEMS: none. */
static unsigned
item_of (const struct entry *e)
{
  unsigned k;

  for (k = 0; k < NR_ITEMS; ++k)
    if (!(e->flags & IS_USER) && guid_is_equal (&e->guid, &items[k].guid))
      break;
  return k;
}

static int
find_items (struct table *t)
{
  char text[GUID_TEXT_LEN];

  for (unsigned i = 0; i < t->nr; ++i) {
    const struct entry *e = &t->entries[i];
    const unsigned k = item_of (e);

    if (k < NR_ITEMS)
      t->found[k] = e;
    else if (e->flags & IS_REQUIRED) {
      guid_format (&e->guid, text);
      return REFUSE (ENOTSUP, "%s: entry %u of the metadata table: item %s "
                     "is required, and not known", t->name, i, text);
    }
  }
  if (t->found[ITEM_INCOMPLETE])
    return REFUSE (EINVAL, "%s: the file is marked as incomplete: whoever "
                   "made it did not come to the end", t->name);
  for (unsigned k = 0; k < NR_NEEDED; ++k) {
    if (t->found[k] == NULL)
      return REFUSE (EINVAL, "%s: the metadata lack %s", t->name,
                     items[k].what);
    if (t->found[k]->len != items[k].len)
      return REFUSE (EINVAL, "%s: in the metadata %s has %" PRIu32 " bytes, "
                     "it must have %" PRIu32, t->name, items[k].what,
                     t->found[k]->len, items[k].len);
  }
  return 0;
}

static int
read_table (struct table *t)
{
  CLEANUP_FREE uint8_t *p = malloc (TABLE_LEN);

  if (p == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the metadata", t->name);
  if (t->region->len > MAX_REGION_LEN)
    return REFUSE (EINVAL, "%s: the metadata region has %" PRIu64 " bytes; "
                   "at most %" PRIu64 " are taken", t->name, t->region->len,
                   MAX_REGION_LEN);
  if (source_pread_padded (t->src, p, START_LEN, t->region->host) == -1)
    return -1;
  if (memcmp (p, SIGNATURE, 8) != 0)
    return REFUSE (EINVAL, "%s: the metadata region at byte %" PRIu64
                   " does not begin with \"" SIGNATURE "\"", t->name,
                   t->region->host);
  t->nr = load_le16 (p + 10);
  if (t->nr > MAX_ENTRIES)
    return REFUSE (EINVAL, "%s: the metadata table has %u entries; at most "
                   "%d are possible", t->name, t->nr, MAX_ENTRIES);
  if (ENTRY_LEN * (t->nr + 1) > START_LEN &&
      source_pread_padded (t->src, p + START_LEN, TABLE_LEN - START_LEN,
                           t->region->host + START_LEN) == -1)
    return -1;
  if (read_entries (t, p) == -1)
    return -1;
  for (unsigned i = 0; i < t->nr; ++i) {
    if (check_entry (t, i) == -1)
      return -1;
    for (unsigned j = 0; j < i; ++j)
      if (check_pair (t, j, i) == -1)
        return -1;
  }
  return find_items (t);
}

/* ---- the items */

static int
read_item (const struct table *t, enum item k, uint8_t *p)
{
  const struct entry *e = t->found[k];

  return source_pread_padded (t->src, p, e->len, t->region->host + e->at);
}

static int
read_parameters (const struct table *t, struct vhdx_metadata *m)
{
  uint8_t p[8];
  uint32_t flags;

  if (read_item (t, ITEM_FILE_PARAMETERS, p) == -1)
    return -1;
  m->block_len = load_le32 (p);
  flags = load_le32 (p + 4);
  m->has_parent = flags & HAS_PARENT;
  m->leaves_allocated = (flags & LEAVE_ALLOCATED) && !m->has_parent;
  if (!is_power_of_2 (m->block_len) || m->block_len < VHDX_MIN_BLOCK_LEN ||
      m->block_len > VHDX_MAX_BLOCK_LEN)
    return REFUSE (EINVAL, "%s: blocks of %" PRIu32 " bytes: must be a power "
                   "of two from 1 MiB to 256 MiB", t->name, m->block_len);
  return 0;
}

static int
read_sector_len (const struct table *t, enum item k, uint32_t *len)
{
  uint8_t p[4];

  if (read_item (t, k, p) == -1)
    return -1;
  *len = load_le32 (p);
  if (*len != 512 && *len != 4096)
    return REFUSE (EINVAL, "%s: %s is %" PRIu32 ": must be 512 or 4096",
                   t->name, items[k].what, *len);
  return 0;
}

static int
read_disk_len (const struct table *t, struct vhdx_metadata *m)
{
  uint8_t p[8];

  if (read_item (t, ITEM_DISK_LEN, p) == -1)
    return -1;
  m->disk_len = load_le64 (p);
  if (m->disk_len == 0 || m->disk_len > VHDX_MAX_DISK_LEN ||
      m->disk_len % m->sector_len != 0)
    return REFUSE (EINVAL, "%s: the virtual disk size is %" PRIu64 ": must "
                   "be a multiple of the logical sector size, %" PRIu32
                   ", more than 0 and at most 64 TiB", t->name, m->disk_len,
                   m->sector_len);
  return 0;
}

static int
read_locator (const struct table *t, struct vhdx_metadata *m)
{
  const struct entry *e = t->found[ITEM_LOCATOR];

  if (!m->has_parent)
    return 0;
  if (e == NULL || e->len == 0)
    return REFUSE (EINVAL, "%s: is a differencing disk, but the metadata "
                   "lack the parent locator", t->name);
  m->locator = malloc (e->len);
  if (m->locator == NULL)
    return REFUSE (ENOMEM, "%s: no memory for the parent locator", t->name);
  m->locator_len = e->len;
  return read_item (t, ITEM_LOCATOR, m->locator);
}

static int
read_items (const struct table *t, struct vhdx_metadata *m)
{
  uint8_t id[GUID_LEN];

  if (read_parameters (t, m) == -1 ||
      read_sector_len (t, ITEM_SECTOR_LEN, &m->sector_len) == -1 ||
      read_sector_len (t, ITEM_PHYSICAL_SECTOR_LEN,
                       &m->physical_sector_len) == -1 ||
      read_disk_len (t, m) == -1 ||
      read_item (t, ITEM_DISK_ID, id) == -1)
    return -1;
  m->disk_id = guid_load (id);
  return read_locator (t, m);
}

int
vhdx_metadata_read (struct source *src, const char *name,
                    const struct vhdx_region *region,
                    struct vhdx_metadata *m)
{
  struct table t = { .name = name, .src = src, .region = region };
  int r;

  *m = (struct vhdx_metadata) { .block_len = 0 };
  r = read_table (&t);
  if (r == 0)
    r = read_items (&t, m);
  free (t.entries);
  return r;
}

void
vhdx_metadata_free (struct vhdx_metadata *m)
{
  free (m->locator);
  m->locator = NULL;
}
