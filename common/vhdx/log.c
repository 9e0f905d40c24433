/* The log: finding what counts in it.
 *
 * The log is a ring of sectors of 4 KiB.  An entry is a run of them: a
 * header with descriptors, more descriptors, and one sector of data for
 * each data descriptor.  Every sector but the first begins with a signature
 * of its own, so that within a sound entry there is no other's beginning:
 * judging all entries that there may be reads the ring twice at most.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "report/refuse.h"
#include "vhdx/crc32c.h"
#include "vhdx/log.h"
#include "vhdx/replay.h"

#define SECTOR_LEN VHDX_PAGE_LEN

#define ENTRY_SIGNATURE "loge"
#define DATA_DESCRIPTOR "desc"
#define ZERO_DESCRIPTOR "zero"
#define DATA_SIGNATURE "data"

#define ENTRY_HEADER_LEN 64
#define DESCRIPTOR_LEN 32

/* Nothing below is ever logged: identifier and headers. */
#define FIRST_LOGGED UINT64_C (196608)

/* Files do not become longer than this by a log: four times the largest
 * disk.
 */
#define MAX_FILE_LEN (UINT64_C (1) << 48)

/* Data descriptors have a sector each, and the longest log has a quarter of
 * these; zero descriptors could be far more, which nobody writes.
 */
#define MAX_CHANGES (1 << 20)

struct entry {
  bool is_sound;
  uint64_t at;                  /* in the ring, bytes */
  uint64_t len;                 /* bytes */
  uint64_t tail;                /* in the ring */
  uint64_t sequence;
  uint32_t nr_descriptors;
  uint64_t flushed_len;         /* of the file, bytes */
  uint64_t last_len;
};

/* A run of entries whose sequence numbers follow each other. */
struct run {
  struct entry first, last;
  uint64_t len;                 /* bytes */
};

struct ring {
  struct source *src;
  const char *name;             /* for messages */
  const struct vhdx_header *h;
  uint64_t len;                 /* bytes */
};

/* ---- one entry */

static uint64_t
ring_host (const struct ring *ring, uint64_t at)
{
  return ring->h->log_host + at % ring->len;
}

static int
read_sector (const struct ring *ring, uint64_t at, uint8_t *sector)
{
  return source_pread (ring->src, sector, SECTOR_LEN, ring_host (ring, at));
}

/* Does an entry of the current log begin with this sector? */
static bool
is_beginning (const struct ring *ring, const uint8_t *sector)
{
  const struct guid g = guid_load (sector + 32);

  return memcmp (sector, ENTRY_SIGNATURE, 4) == 0 &&
    guid_is_equal (&g, &ring->h->log);
}

static uint64_t
descriptors_len (uint64_t nr)
{
  return round_up (ENTRY_HEADER_LEN + DESCRIPTOR_LEN * nr, SECTOR_LEN);
}

/* The fields of the header, sound by themselves? */
static bool
parse_header (const struct ring *ring, const uint8_t *sector, uint64_t at,
              struct entry *e)
{
  *e = (struct entry) {
    .at = at,
    .len = load_le32 (sector + 8),
    .tail = load_le32 (sector + 12),
    .sequence = load_le64 (sector + 16),
    .nr_descriptors = load_le32 (sector + 24),
    .flushed_len = load_le64 (sector + 48),
    .last_len = load_le64 (sector + 56),
  };
  return is_beginning (ring, sector) && e->len % SECTOR_LEN == 0 &&
    e->len >= SECTOR_LEN && e->len <= ring->len &&
    e->tail % SECTOR_LEN == 0 && e->tail < ring->len && e->sequence > 0 &&
    descriptors_len (e->nr_descriptors) <= e->len &&
    e->last_len <= MAX_FILE_LEN;
}

/* May the log change [host, host+len)? */
static bool
is_target (const struct ring *ring, const struct entry *e, uint64_t host,
           uint64_t len)
{
  const uint64_t log_end = ring->h->log_host + ring->len;
  const uint64_t limit = MAX (source_len (ring->src), e->last_len);

  return host % SECTOR_LEN == 0 && len % SECTOR_LEN == 0 && len > 0 &&
    host >= FIRST_LOGGED && range_is_inside (host, len, MAX_FILE_LEN) &&
    (host >= log_end || host + len <= ring->h->log_host) &&
    host + len <= round_up (limit, VHDX_MIB);
}

/* One descriptor, for a data sector or for zeroes.  False: it is none. */
static bool
parse_descriptor (const struct ring *ring, const struct entry *e,
                  const uint8_t *d, struct replay_patch *patch,
                  bool *is_data, bool *is_allowed)
{
  *is_data = memcmp (d, DATA_DESCRIPTOR, 4) == 0;
  *patch = (struct replay_patch) {
    .host = load_le64 (d + 16),
    .len = *is_data ? SECTOR_LEN : load_le64 (d + 8),
  };
  if (*is_data) {
    memcpy (patch->trailing, d + 4, sizeof patch->trailing);
    memcpy (patch->leading, d + 8, sizeof patch->leading);
  }
  else if (memcmp (d, ZERO_DESCRIPTOR, 4) != 0)
    return false;
  *is_allowed = is_target (ring, e, patch->host, patch->len);
  return load_le64 (d + 24) == e->sequence;
}

/* What goes through the descriptors of an entry. */
struct reader {
  const struct ring *ring;
  const struct entry *e;
  uint64_t next;                /* descriptor */
  uint64_t nr_data;             /* data descriptors so far */
  bool is_bad;                  /* a descriptor is for another place */
  struct replay_patch *patches; /* room for all, or NULL */
};

/* The descriptors in sector number 'i' of the entry.  False: unsound. */
static bool
read_descriptors (struct reader *r, const uint8_t *sector, uint64_t i)
{
  const struct entry *e = r->e;
  unsigned at = i == 0 ? ENTRY_HEADER_LEN : 0;

  for (; at < SECTOR_LEN && r->next < e->nr_descriptors;
       at += DESCRIPTOR_LEN, ++r->next) {
    struct replay_patch patch;
    bool is_data, is_allowed;

    if (!parse_descriptor (r->ring, e, sector + at, &patch, &is_data,
                           &is_allowed))
      return false;
    r->is_bad = r->is_bad || !is_allowed;
    if (is_data)
      patch.sector = ring_host (r->ring, e->at +
                                descriptors_len (e->nr_descriptors) +
                                SECTOR_LEN * r->nr_data++);
    if (r->patches)
      r->patches[r->next] = patch;
  }
  return true;
}

static bool
is_data_sector (const uint8_t *sector, uint64_t sequence)
{
  return memcmp (sector, DATA_SIGNATURE, 4) == 0 &&
    load_le32 (sector + 4) == sequence >> 32 &&
    load_le32 (sector + SECTOR_LEN - 4) == (uint32_t) sequence;
}

/* Is sector number 'i' of the entry as it must be? */
static bool
check_sector (struct reader *r, const uint8_t *sector, uint64_t i)
{
  if (i * SECTOR_LEN < descriptors_len (r->e->nr_descriptors))
    return read_descriptors (r, sector, i);
  return is_data_sector (sector, r->e->sequence);
}

/* Judge what begins at 'at' of the ring.  -1: it could not be read. */
static int
judge_entry (const struct ring *ring, uint64_t at, struct entry *e)
{
  struct reader r = { .ring = ring, .e = e };
  _Alignas (8) uint8_t sector[SECTOR_LEN];
  uint32_t crc = 0, stored;

  if (read_sector (ring, at, sector) == -1)
    return -1;
  if (!parse_header (ring, sector, at, e))
    return 0;
  stored = load_le32 (sector + 4);
  store_le32 (sector + 4, 0);
  for (uint64_t i = 0; i < e->len / SECTOR_LEN; ++i) {
    if (i > 0 && read_sector (ring, at + i * SECTOR_LEN, sector) == -1)
      return -1;
    if (!check_sector (&r, sector, i))
      return 0;
    crc = crc32c (crc, sector, SECTOR_LEN);
  }
  e->is_sound = crc == stored && !r.is_bad &&
    e->len == descriptors_len (e->nr_descriptors) + r.nr_data * SECTOR_LEN;
  return 0;
}

/* ---- the active sequence */

/* Somebody writes the file; what was judged is not what is there now. */
static int
changed (const struct ring *ring)
{
  return REFUSE (EIO, "%s: the log changed while it was read", ring->name);
}

/* Does the run hold an entry that begins at 'at'?  Walks through it. */
static int
holds_entry (const struct ring *ring, const struct run *run, uint64_t at)
{
  struct entry e = run->first;

  for (;;) {
    if (e.at == at)
      return 1;
    if (e.sequence == run->last.sequence)
      return 0;
    if (judge_entry (ring, (e.at + e.len) % ring->len, &e) == -1)
      return -1;
    if (!e.is_sound || e.sequence > run->last.sequence)
      return changed (ring);
  }
}

/* The longest run from 'at' on; run->len is 0 when there is none. */
static int
read_run (const struct ring *ring, uint64_t at, struct run *run)
{
  struct entry e;

  run->len = 0;
  while (run->len < ring->len) {
    if (judge_entry (ring, at, &e) == -1)
      return -1;
    if (!e.is_sound || run->len + e.len > ring->len ||
        (run->len > 0 && e.sequence != run->last.sequence + 1))
      break;
    if (run->len == 0)
      run->first = e;
    run->last = e;
    run->len += e.len;
    at = (at + e.len) % ring->len;
  }
  return 0;
}

/* Find the run with the greatest sequence number of those whose last entry
 * has its tail in the run.  best->len is 0 when there is none.
 *
 * A run that is no good has no part that is: every part that ends where it
 * does lacks the tail as well.  So each entry is looked at in one run.
 */
static int
find_sequence (const struct ring *ring, struct run *best)
{
  uint64_t at = 0;

  while (at < ring->len) {
    struct run run;
    int r = 0;

    if (read_run (ring, at, &run) == -1)
      return -1;
    if (run.len > 0)
      r = holds_entry (ring, &run, run.last.tail);
    if (r == -1)
      return -1;
    if (r == 1 &&
        (best->len == 0 || run.last.sequence > best->last.sequence))
      *best = run;
    at += MAX (run.len, SECTOR_LEN);
  }
  return 0;
}

/* ---- a log without a sequence */

/* Count the beginnings of entries of this log; *only is the place of the
 * last one found.
 */
static int
count_beginnings (const struct ring *ring, uint64_t *nr, uint64_t *only)
{
  _Alignas (8) uint8_t sector[SECTOR_LEN];

  *nr = 0;
  for (uint64_t at = 0; at < ring->len; at += SECTOR_LEN) {
    if (read_sector (ring, at, sector) == -1)
      return -1;
    if (is_beginning (ring, sector)) {
      ++*nr;
      *only = at;
    }
  }
  return 0;
}

/* Does the checksum of what begins there fit the length it claims?  Then it
 * was not torn, whatever else is wrong with it.
 */
static int
has_checksum (const struct ring *ring, const struct entry *e)
{
  _Alignas (8) uint8_t sector[SECTOR_LEN];
  uint32_t crc = 0, stored = 0;

  if (e->len == 0 || e->len % SECTOR_LEN != 0 || e->len > ring->len)
    return 0;
  for (uint64_t i = 0; i < e->len; i += SECTOR_LEN) {
    if (read_sector (ring, e->at + i, sector) == -1)
      return -1;
    if (i == 0) {
      stored = load_le32 (sector + 4);
      store_le32 (sector + 4, 0);
    }
    crc = crc32c (crc, sector, SECTOR_LEN);
  }
  return crc == stored;
}

/* QEMU names the log in the headers before it writes the first entry: when
 * it is killed between the two nothing has been changed yet.  That is so
 * if there is no entry, or one, torn, that would be the first.
 */
static int
accept_empty (const struct ring *ring)
{
  uint64_t nr, only = 0;
  struct entry e;
  int r;

  if (count_beginnings (ring, &nr, &only) == -1)
    return -1;
  if (nr != 1)
    return nr == 0;
  if (judge_entry (ring, only, &e) == -1)
    return -1;
  r = has_checksum (ring, &e);
  return r == -1 ? -1 : r == 0 && e.tail == only;
}

static int
no_sequence (const struct ring *ring, enum vhdx_log_mode mode)
{
  char text[GUID_TEXT_LEN];
  int r = mode == VHDX_LOG_STRICT ? 0 : accept_empty (ring);

  if (r == -1)
    return -1;
  guid_format (&ring->h->log, text);
  if (r == 1) {
    report_warning ("%s: the header says that log %s is in use, but it has "
                    "no entry; it is taken as empty, as a writer that was "
                    "killed early leaves it; log=strict refuses that",
                    ring->name, text);
    return 0;
  }
  return REFUSE (EINVAL, "%s: log %s at byte %" PRIu64 " is in use, but no "
                 "valid sequence of entries is in it: changes of the "
                 "metadata are lost%s", ring->name, text,
                 ring->h->log_host, mode == VHDX_LOG_STRICT
                 ? "; log=lenient accepts a log that a killed writer left "
                 "without any entry" : "");
}

/* ---- replaying */

static int
check_lengths (const struct ring *ring, const struct entry *last)
{
  if (last->flushed_len <= source_len (ring->src))
    return 0;
  return REFUSE (EINVAL, "%s: the file has %" PRIu64 " bytes, but had %"
                 PRIu64 " when the log was written: it has been cut short",
                 ring->name, source_len (ring->src), last->flushed_len);
}

/* Go from the entry at the tail to the last one; 'on' is called for each. */
typedef int (*on_entry) (const struct ring *ring, const struct entry *e,
                         void *opaque);

static int
for_each_entry (const struct ring *ring, const struct run *run, on_entry on,
                void *opaque)
{
  uint64_t at = run->last.tail;
  struct entry e;

  do {
    if (judge_entry (ring, at, &e) == -1)
      return -1;
    if (!e.is_sound || e.sequence > run->last.sequence)
      return changed (ring);
    if (on (ring, &e, opaque) == -1)
      return -1;
    at = (at + e.len) % ring->len;
  } while (e.sequence != run->last.sequence);
  return 0;
}

struct patches {
  size_t nr, max;
  struct replay_patch *all;     /* room for 'max'; owned; NULL: only
                                   counting */
};

static int
count_patches (const struct ring *ring, const struct entry *e, void *opaque)
{
  struct patches *p = opaque;

  p->nr += e->nr_descriptors;
  if (p->nr > MAX_CHANGES)
    return REFUSE (ENOTSUP, "%s: its log has more than %d changes, which "
                   "cannot be replayed in memory", ring->name, MAX_CHANGES);
  return 0;
}

static int
read_patches (const struct ring *ring, const struct entry *e, void *opaque)
{
  struct patches *p = opaque;
  struct reader r = { .ring = ring, .e = e, .patches = p->all + p->nr };
  _Alignas (8) uint8_t sector[SECTOR_LEN];

  if (e->nr_descriptors > p->max - p->nr)
    return changed (ring);
  for (uint64_t i = 0; r.next < e->nr_descriptors; ++i) {
    if (read_sector (ring, e->at + i * SECTOR_LEN, sector) == -1)
      return -1;
    if (!read_descriptors (&r, sector, i) || r.is_bad)
      return changed (ring);
  }
  p->nr += e->nr_descriptors;
  return 0;
}

/* A descriptor's 32 bytes in the log are about as many in memory. */
static int
replay (const struct ring *ring, const struct run *run,
        struct source **view)
{
  struct patches p = { .nr = 0 };

  if (check_lengths (ring, &run->last) == -1 ||
      for_each_entry (ring, run, count_patches, &p) == -1)
    return -1;
  p.all = calloc (p.nr ? p.nr : 1, sizeof *p.all);
  if (p.all == NULL)
    return REFUSE (ENOMEM, "%s: no memory to replay its log", ring->name);
  p.max = p.nr;
  p.nr = 0;
  if (for_each_entry (ring, run, read_patches, &p) == 0)
    *view = replay_new (ring->src, ring->name, p.all, p.nr,
                        run->last.last_len);
  free (p.all);
  if (*view == NULL)
    return -1;
  report_debug ("vhdx: replay file=%s from=%" PRIu64 " sequence=%" PRIu64
                " changes=%zu size=%" PRIu64, ring->name, run->last.tail,
                run->last.sequence, p.nr, source_len (*view));
  return 0;
}

int
vhdx_log_open (struct source *src, const char *name,
               const struct vhdx_header *h, enum vhdx_log_mode mode,
               struct source **view)
{
  const struct ring ring = {
    .src = src, .name = name, .h = h, .len = h->log_len
  };
  struct run best = { .len = 0 };

  *view = NULL;
  if (guid_is_zero (&h->log))
    return 0;
  if (find_sequence (&ring, &best) == -1)
    return -1;
  if (best.len == 0)
    return no_sequence (&ring, mode);
  return replay (&ring, &best, view);
}
