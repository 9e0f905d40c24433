/* Test that the work on a log is in proportion to its length, whatever it
 * says, and that a log that changes while it is read does no harm.
 *
 * The long logs are made up sector by sector when they are read.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "report/test-messages.h"
#include "vhdx/crc32c.h"
#include "vhdx/log.h"
#include "vhdx/test-image.h"

#define PAGE ((uint64_t) TEST_VHDX_PAGE)
#define RING_HOST TEST_MIB
#define LOG_BYTE 0x77

/* So many times each sector of the ring may be read. */
#define MAX_ROUNDS 8

/* ---- a file that is a log of one kind */

struct made_up;
typedef void (*fill_sector) (const struct made_up *m, uint64_t i,
                             uint8_t *sector);

struct made_up {
  struct source src;            /* must be first */
  uint64_t ring_len;            /* bytes */
  fill_sector fill;
  uint32_t *crcs;               /* of entries of one sector, or NULL */
  uint64_t tail;
  uint64_t nr_reads;
};

static int
made_up_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct made_up *m = (struct made_up *) src;

  CHECK (len == PAGE && host % PAGE == 0);
  CHECK (range_is_inside (host - RING_HOST, len, m->ring_len));
  m->nr_reads++;
  memset (buf, 0, len);
  m->fill (m, (host - RING_HOST) / PAGE, buf);
  return 0;
}

static void
made_up_close (struct source *src)
{
  source_destroy (src);
}

static const struct source_ops made_up_ops = {
  .kind = "made-up",
  .pread = made_up_pread,
  .close = made_up_close,
};

static void
fill_nothing (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  (void) m;
  (void) i;
  (void) sector;
}

static void
put_header (uint8_t *sector, uint64_t len, uint64_t tail, uint64_t sequence,
            uint64_t nr)
{
  memcpy (sector, "loge", 4);
  store_le32 (sector + 8, len);
  store_le32 (sector + 12, tail);
  store_le64 (sector + 16, sequence);
  store_le32 (sector + 24, nr);
  memset (sector + 32, LOG_BYTE, 16);
}

/* Every sector begins an entry that is the whole ring, all data. */
static void
fill_claims (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  put_header (sector, m->ring_len, i * PAGE, i + 1, 0);
}

/* The same, all descriptors. */
static void
fill_claims_descriptors (const struct made_up *m, uint64_t i,
                         uint8_t *sector)
{
  put_header (sector, m->ring_len, i * PAGE, 9, m->ring_len / 32 - 2);
}

static void
put_data (uint8_t *sector, uint64_t sequence)
{
  memcpy (sector, "data", 4);
  store_le32 (sector + 4, sequence >> 32);
  store_le32 (sector + PAGE - 4, sequence);
}

/* One in a thousand, and data that fits all of them. */
static void
fill_claims_data (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  if (i % 1000 == 999)
    put_header (sector, m->ring_len, i * PAGE, 9, 0);
  else
    put_data (sector, 9);
}

/* The only header is in the last sector. */
static void
fill_wrapped (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  if (i == m->ring_len / PAGE - 1)
    put_header (sector, m->ring_len, i * PAGE, 9, 0);
  else
    put_data (sector, 9);
}

/* Entries of one sector that follow each other. */
static void
fill_chain (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  put_header (sector, PAGE, m->tail, i + 1, 0);
  if (m->crcs)
    store_le32 (sector + 4, m->crcs[i]);
}

/* ... whose numbers go down: each is a run. */
static void
fill_singles (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  put_header (sector, PAGE, m->tail == UINT32_MAX ? i * PAGE : m->tail,
              m->ring_len / PAGE - i, 0);
  if (m->crcs)
    store_le32 (sector + 4, m->crcs[i]);
}

/* One entry of zero descriptors. */
static void
fill_zeroes (const struct made_up *m, uint64_t i, uint8_t *sector)
{
  unsigned at = 0;

  if (i == 0) {
    put_header (sector, m->ring_len, 0, 9, m->ring_len / 32 - 2);
    if (m->crcs)
      store_le32 (sector + 4, m->crcs[0]);
    at = 64;
  }
  for (; at < PAGE; at += 32) {
    uint8_t *const d = sector + at;

    memcpy (d, "zero", 4);
    store_le64 (d + 8, (1 + (i + at / 32) % 7) * PAGE);
    store_le64 (d + 16, 192 * 1024 + (i * 5 + at / 32) % 100 * PAGE);
    store_le64 (d + 24, 9);
  }
}

/* The checksums of all entries of one sector; or of one that is the ring.
 */
static uint32_t *
make_crcs (struct made_up *m, bool is_one)
{
  const uint64_t nr = m->ring_len / PAGE;
  uint32_t *crcs = calloc (nr, sizeof *crcs);
  uint8_t sector[TEST_VHDX_PAGE];
  uint32_t crc = 0;

  CHECK (crcs != NULL);
  for (uint64_t i = 0; i < nr; ++i) {
    memset (sector, 0, sizeof sector);
    m->fill (m, i, sector);
    crc = crc32c (is_one ? crc : 0, sector, sizeof sector);
    crcs[is_one ? 0 : i] = crc;
  }
  return crcs;
}

enum crcs { CRCS_NONE, CRCS_SECTORS, CRCS_RING };

/* 0 or errno; *has_view: there was one. */
static int
run (fill_sector fill, uint64_t ring_len, uint64_t tail, enum crcs crcs,
     bool *has_view)
{
  struct made_up m = { .ring_len = ring_len, .fill = fill, .tail = tail };
  struct vhdx_header h = { .log_len = ring_len, .log_host = RING_HOST };
  struct source *view;
  int err;

  memset (h.log.bytes, LOG_BYTE, sizeof h.log.bytes);
  if (crcs != CRCS_NONE)
    m.crcs = make_crcs (&m, crcs == CRCS_RING);
  CHECK (source_init (&m.src, &made_up_ops, "image") == 0);
  m.src.len = RING_HOST + ring_len;
  test_messages_forget ();
  errno = 0;
  err = vhdx_log_open (&m.src, "image", &h, VHDX_LOG_LENIENT, &view) == 0
    ? 0 : errno;
  CHECK (m.nr_reads <= MAX_ROUNDS * (ring_len / PAGE));
  CHECK (m.nr_reads >= ring_len / PAGE);
  *has_view = view != NULL;
  source_put (view);
  source_put (&m.src);
  free (m.crcs);
  return err;
}

static void
test_bounds (void)
{
  const uint64_t gib = 1024 * TEST_MIB;
  bool has_view;

  CHECK (run (fill_nothing, gib, 0, CRCS_NONE, &has_view) == 0 && !has_view);
  CHECK (run (fill_claims, gib, 0, CRCS_NONE, &has_view) == EINVAL);
  CHECK (run (fill_claims_descriptors, gib, 0, CRCS_NONE, &has_view) ==
         EINVAL);
  CHECK (run (fill_chain, gib, 0, CRCS_NONE, &has_view) == EINVAL);
  CHECK (run (fill_claims_data, 128 * TEST_MIB, 0, CRCS_NONE, &has_view) ==
         EINVAL);
  CHECK (run (fill_wrapped, 128 * TEST_MIB, 0, CRCS_NONE, &has_view) == 0 &&
         !has_view);
}

static void
test_sound_bounds (void)
{
  const uint64_t len = 64 * TEST_MIB;
  bool has_view;

  /* All follow each other; the tail is the first, the last, nowhere. */
  CHECK (run (fill_chain, len, 0, CRCS_SECTORS, &has_view) == 0 && has_view);
  CHECK (run (fill_chain, len, len - PAGE, CRCS_SECTORS, &has_view) == 0 &&
         has_view);
  /* All are runs of their own, good ones or not. */
  CHECK (run (fill_singles, len, UINT32_MAX, CRCS_SECTORS, &has_view) == 0 &&
         has_view);
  CHECK (run (fill_singles, len, PAGE, CRCS_SECTORS, &has_view) == 0 &&
         has_view);
  CHECK (run (fill_zeroes, 8 * TEST_MIB, 0, CRCS_RING, &has_view) == 0 &&
         has_view);
  /* What would take very much memory is not done. */
  CHECK (run (fill_zeroes, len, 0, CRCS_RING, &has_view) == ENOTSUP);
  CHECK (strstr (test_messages.error, "changes") != NULL);
}

/* ---- a log that changes */

/* Reads come from one source, later ones from another. */
struct changing {
  struct source src;            /* must be first */
  struct source *before, *after;
  uint64_t nr_left;             /* reads until it changes */
};

static int
changing_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  struct changing *c = (struct changing *) src;

  if (c->nr_left == 0)
    return source_pread (c->after, buf, len, host);
  c->nr_left--;
  return source_pread (c->before, buf, len, host);
}

static const struct source_ops changing_ops = {
  .kind = "changing",
  .pread = changing_pread,
  .close = made_up_close,
};

static void
put_entry (struct test_vhdx *t, uint64_t *at, uint64_t sequence,
           unsigned nr_data, uint64_t host)
{
  struct test_log e;

  test_log_begin (&e, t, sequence, 0);
  for (unsigned i = 0; i < nr_data; ++i)
    test_log_data (&e, host + i * PAGE, 'a' + i);
  test_log_zero (&e, host, PAGE);
  *at = test_log_put (&e, t, *at);
}

/* What the log is before, and what it becomes. */
static void
make_state (struct test_vhdx *t, unsigned which)
{
  static const struct test_vhdx_spec spec = { .disk_len = 8 * TEST_MIB };
  const uint64_t bat = 3 * TEST_MIB;
  uint64_t at = 0;

  test_vhdx_make (t, &spec);
  test_vhdx_use_log (t, LOG_BYTE);
  switch (which) {
  case 0:                       /* three short entries */
    for (unsigned i = 1; i <= 3; ++i)
      put_entry (t, &at, i, 2, bat);
    break;
  case 1:                       /* long ones */
    for (unsigned i = 1; i <= 3; ++i)
      put_entry (t, &at, i, 60, bat);
    break;
  case 2:                       /* of the same form, to bad places */
    for (unsigned i = 1; i <= 3; ++i)
      put_entry (t, &at, i, 2, 1000);
    break;
  case 3:                       /* numbers that never end */
    for (unsigned i = 1; i <= 64; ++i)
      put_entry (t, &at, i * 2, 3, bat);
    CHECK (at == 0);
    break;
  case 4:                       /* nothing */
    break;
  }
}

static void
test_change (unsigned from, unsigned to)
{
  struct test_vhdx before, after;
  uint64_t nr = 0;
  bool is_over = false;

  make_state (&before, from);
  make_state (&after, to);
  for (; !is_over; ++nr) {
    struct changing c = { .before = before.src, .after = after.src,
                          .nr_left = nr };
    struct vhdx_header h = { .log_len = TEST_MIB, .log_host = RING_HOST };
    struct source *view;

    memset (h.log.bytes, LOG_BYTE, sizeof h.log.bytes);
    CHECK (source_init (&c.src, &changing_ops, "image") == 0);
    c.src.len = source_len (before.src);
    test_messages_forget ();
    if (vhdx_log_open (&c.src, "image", &h, VHDX_LOG_LENIENT, &view) == -1)
      CHECK (view == NULL && test_messages.nr_errors == 1);
    is_over = c.nr_left > 0;
    source_put (view);
    source_put (&c.src);
  }
  CHECK (nr > 256);
  test_vhdx_free (&before);
  test_vhdx_free (&after);
}

int
main (void)
{
  test_bounds ();
  test_sound_bounds ();
  for (unsigned to = 1; to <= 4; ++to)
    test_change (0, to);
  test_change (1, 0);
  test_change (3, 0);
  return EXIT_SUCCESS;
}
