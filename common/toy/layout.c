/* Toy images on disk: making one, and looking whether one is sound.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"
#include "toy/layout.h"

#define MAGIC "TOYDISK1"
#define MAX_LEN (UINT64_C (1) << 30)

static int
invalid (const struct source *src, const char *what)
{
  report_error ("%s: not a toy image: %s", src->name, what);
  errno = EINVAL;
  return -1;
}

/* Derive the rest from len and nr_groups. */
static int
arrange (const struct source *src, struct toy_layout *l)
{
  if (l->len == 0 || l->len > MAX_LEN ||
      l->nr_groups == 0 || l->nr_groups > MAX_LEN / TOY_UNIT)
    return invalid (src, "lengths out of bounds");
  l->nr_guest_units = div_round_up (l->len, TOY_UNIT);
  l->nr_host_units = l->nr_groups * TOY_GROUP;
  l->directory = TOY_UNIT;
  l->table = l->directory + round_up (8 * l->nr_groups, TOY_UNIT);
  l->data = l->table + round_up (8 * l->nr_guest_units, TOY_UNIT);
  if (l->data > toy_block_host (0))
    return invalid (src, "the tables do not fit");
  return 0;
}

int
toy_layout_read (struct source *src, struct toy_layout *l)
{
  uint8_t header[TOY_PAGE];

  if (source_pread_padded (src, header, sizeof header, 0) == -1)
    return -1;
  if (memcmp (header + HEADER_MAGIC, MAGIC, 8) != 0)
    return invalid (src, "no magic");
  l->len = load_be64 (header + HEADER_LEN);
  l->nr_groups = load_be64 (header + HEADER_HOST_LEN) / TOY_UNIT / TOY_GROUP;
  l->features = load_be64 (header + HEADER_FEATURES);
  return arrange (src, l);
}

bool
toy_entry_is_sound (const struct toy_layout *l, uint64_t entry)
{
  const uint64_t host = entry & ENTRY_HOST;

  if (entry & ~(ENTRY_HOST | ENTRY_ONCE | ENTRY_ZERO))
    return false;
  if (host == 0)
    return !(entry & ENTRY_ONCE);
  return host >= l->data && host < l->nr_host_units * TOY_UNIT &&
    !toy_is_block_unit (host / TOY_UNIT);
}

int
toy_create (struct source *src, uint64_t len, uint64_t host_len,
            unsigned features)
{
  CLEANUP_FREE uint8_t *bytes = calloc (TOY_GROUP, TOY_UNIT);
  struct toy_layout l = {
    .len = len, .nr_groups = host_len / TOY_UNIT / TOY_GROUP,
  };
  uint8_t *block = bytes + toy_block_host (0);

  if (bytes == NULL)
    return -1;
  if (arrange (src, &l) == -1)
    return -1;
  memcpy (bytes + HEADER_MAGIC, MAGIC, 8);
  store_be64 (bytes + HEADER_LEN, len);
  store_be64 (bytes + HEADER_HOST_LEN, l.nr_host_units * TOY_UNIT);
  store_be64 (bytes + HEADER_FEATURES, features);
  store_be64 (bytes + l.directory, toy_block_host (0));
  memset (block, 1, l.data / TOY_UNIT);
  block[TOY_GROUP - 1] = 1;
  if (source_pwrite (src, bytes, TOY_GROUP * TOY_UNIT, 0) == -1)
    return -1;
  return source_sync (src);
}

static int
read_entry (struct source *src, const struct toy_layout *l, uint64_t unit,
            uint64_t *entry)
{
  uint8_t bytes[8];

  if (source_pread (src, bytes, 8, l->table + 8 * unit) == -1)
    return -1;
  *entry = load_be64 (bytes);
  return 0;
}

static int
write_entry (struct source *src, const struct toy_layout *l, uint64_t unit,
             uint64_t entry)
{
  uint8_t bytes[8];

  store_be64 (bytes, entry);
  return source_pwrite (src, bytes, 8, l->table + 8 * unit);
}

int
toy_share (struct source *src, uint64_t from, uint64_t to)
{
  struct toy_layout l;
  uint64_t entry, old, count_at;
  uint8_t count;

  if (toy_layout_read (src, &l) == -1 ||
      read_entry (src, &l, from, &entry) == -1 ||
      read_entry (src, &l, to, &old) == -1)
    return -1;
  if ((entry & ENTRY_HOST) == 0 || (old & ENTRY_HOST) != 0)
    return invalid (src, "these units cannot be shared");

  entry &= ~ENTRY_ONCE;
  count_at = toy_block_host ((entry & ENTRY_HOST) / TOY_UNIT / TOY_GROUP) +
    (entry & ENTRY_HOST) / TOY_UNIT % TOY_GROUP;
  if (source_pread (src, &count, 1, count_at) == -1)
    return -1;
  count++;
  if (source_pwrite (src, &count, 1, count_at) == -1 ||
      write_entry (src, &l, from, entry) == -1 ||
      write_entry (src, &l, to, entry) == -1)
    return -1;
  return source_sync (src);
}

/* ---- checking */

struct check {
  struct source *src, *data;
  bool loud;
  struct toy_layout layout;
  struct toy_report report;
  uint8_t *counts;              /* as written */
  uint8_t *uses;                /* as found; both by host unit */
};

static void __attribute__ ((format (printf, 2, 3)))
found (struct check *c, const char *fmt, ...)
{
  va_list args;

  /* The first few tell enough. */
  if (c->report.nr_errors++ >= 5 || !c->loud)
    return;
  fputs ("toy_check: ", stderr);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
}

static void
must_read (struct source *src, void *buf, size_t len, uint64_t host)
{
  if (source_pread_padded (src, buf, len, host) == -1)
    abort ();
}

static void
check_counts (struct check *c)
{
  const struct toy_layout *l = &c->layout;
  uint8_t entry[8];

  for (uint64_t g = 0; g < l->nr_groups; ++g) {
    uint64_t host;

    must_read (c->src, entry, 8, l->directory + 8 * g);
    host = load_be64 (entry);
    if (host == 0)
      continue;
    if (host != toy_block_host (g)) {
      found (c, "group %" PRIu64 " has its block at %" PRIu64, g, host);
      continue;
    }
    if (host + TOY_PAGE > source_len (c->src))
      found (c, "block of group %" PRIu64 " is past the end", g);
    must_read (c->src, c->counts + g * TOY_GROUP, TOY_GROUP, host);
    c->uses[host / TOY_UNIT]++;
  }
  for (uint64_t u = 0; u < l->data / TOY_UNIT; ++u)
    c->uses[u]++;
}

static void
check_entry (struct check *c, uint64_t guest_unit, uint64_t entry,
             uint8_t *once)
{
  const uint64_t host = entry & ENTRY_HOST;
  const uint64_t u = host / TOY_UNIT;

  if (!toy_entry_is_sound (&c->layout, entry)) {
    found (c, "entry %" PRIu64 " is %" PRIx64, guest_unit, entry);
    return;
  }
  if (host == 0)
    return;
  c->report.nr_mapped++;
  if (host + TOY_UNIT > round_up (source_len (c->data), TOY_UNIT))
    found (c, "entry %" PRIu64 " names %" PRIu64 ", past the end",
           guest_unit, host);
  if (c->uses[u]++ > 0 && (once[u] || (entry & ENTRY_ONCE)))
    found (c, "entry %" PRIu64 " names %" PRIu64 " as only its own",
           guest_unit, host);
  once[u] = (entry & ENTRY_ONCE) != 0;
}

static void
check_table (struct check *c)
{
  const struct toy_layout *l = &c->layout;
  CLEANUP_FREE uint8_t *table = malloc (8 * l->nr_guest_units);
  CLEANUP_FREE uint8_t *once = calloc (1, l->nr_host_units);

  if (table == NULL || once == NULL)
    abort ();
  must_read (c->src, table, 8 * l->nr_guest_units, l->table);
  for (uint64_t i = 0; i < l->nr_guest_units; ++i)
    check_entry (c, i, load_be64 (table + 8 * i), once);
}

static void
compare_uses (struct check *c)
{
  for (uint64_t u = 0; u < c->layout.nr_host_units; ++u) {
    if (c->counts[u] < c->uses[u])
      found (c, "unit %" PRIu64 " is used %u times and counted %u", u,
             c->uses[u], c->counts[u]);
    if (c->counts[u] > c->uses[u]) {
      c->report.nr_leaks += c->counts[u] - c->uses[u];
      if (!c->report.is_dirty)
        found (c, "unit %" PRIu64 " is used %u times and counted %u", u,
               c->uses[u], c->counts[u]);
    }
  }
}

struct toy_report
toy_check (struct source *src, struct source *data, bool loud)
{
  struct check c = { .src = src, .data = data, .loud = loud };
  CLEANUP_FREE uint8_t *counts = NULL, *uses = NULL;
  uint8_t written;

  if (toy_layout_read (src, &c.layout) == -1) {
    c.report.nr_errors++;
    return c.report;
  }
  counts = c.counts = calloc (1, c.layout.nr_host_units);
  uses = c.uses = calloc (1, c.layout.nr_host_units);
  if (counts == NULL || uses == NULL)
    abort ();
  must_read (src, &written, 1, HEADER_WRITTEN);
  c.report.is_dirty = written != 0;
  check_counts (&c);
  check_table (&c);
  compare_uses (&c);
  return c.report;
}
