/* Test that rewritten qcow2 headers lose nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"

#include "test-preserve.h"

#define FORMAT UINT32_C (0xe2792aca)
#define NAMES UINT32_C (0x6803f857)
#define X UINT32_C (0x12345678)
#define Y UINT32_C (0x23456789)

#define LEN 4096                /* of most clusters here */
#define BITS 12
#define FILE_LEN 65536

/* What a client is about to write. */
static uint8_t c0[MAX_CLUSTER];

/* An image with X and Y behind a known extension. */
static struct world *
new_world (enum preserve_mode mode)
{
  size_t at;

  memset (c0, 0, sizeof c0);
  at = put_header (c0, 3, BITS, 112, NULL);
  at = put (c0, at, FORMAT, "raw");
  at = put (c0, at, X, "hello");
  put (c0, at, Y, "world!!!");
  return world_new (c0, LEN, FILE_LEN, mode, true);
}

/* Begin a new header of a client; the rest of the cluster is zero. */
static size_t
begin (unsigned version, size_t header_len, const char *fields)
{
  memset (c0, 0, sizeof c0);
  return put_header (c0, version, BITS, header_len, fields);
}

/* ---- what is kept */

static void
test_whole_rewrite (void)
{
  struct world *w = new_world (PRESERVE_WARN);
  size_t at;

  CHECK (preserve_guarded_len (w->p) == LEN);
  EXPECT (w, "v3 112 e2792aca:raw 12345678:hello 23456789:world!!!");

  /* Both lost: one write, as long as the client's. */
  at = begin (3, 112, NULL);
  put (c0, at, FORMAT, "qcow2");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (w->nr_writes == 1 && w->nr_reads == 0 && w->nr_flushes == 0);
  CHECK (w->last_host == 0 && w->last_len == LEN);
  EXPECT (w, "v3 112 e2792aca:qcow2 12345678:hello 23456789:world!!!");

  /* One lost, in another order, with something new. */
  at = begin (3, 112, NULL);
  at = put (c0, at, Y, "world!!!");
  put (c0, at, 0x77777777, "");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 23456789:world!!! 77777777: 12345678:hello");

  /* Nothing lost: the client's bytes as they are.  What it added itself
   * it may drop.
   */
  at = begin (3, 112, NULL);
  at = put (c0, at, X, "hello");
  at = put (c0, at, Y, "world!!!");
  memset (c0 + at + 8, 0x55, LEN - at - 8);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (memcmp (on_disk (w), c0, LEN) == 0);
  CHECK (nr_errors == 0 && nr_warnings == 0);
  world_free (w);
}

/* Fields are patched in place: one write of just these bytes. */
static void
test_patches (void)
{
  static const struct { uint64_t host; size_t len; } patches[] = {
    { 24, 8 }, { 36, 12 }, { 48, 12 }, { 60, 12 }, { 40, 20 }, { 72, 8 },
    { 80, 16 },
  };
  struct world *w = new_world (PRESERVE_STRICT);
  uint8_t buf[20];
  size_t i;

  memset (buf, 0xee, sizeof buf);
  for (i = 0; i < sizeof patches / sizeof patches[0]; ++i) {
    world_forget_counts (w);
    CHECK (client_write (w, buf, patches[i].len, patches[i].host) == 0);
    CHECK (w->nr_writes == 1 && w->nr_reads == 0 && w->nr_flushes == 0);
    CHECK (w->last_host == patches[i].host);
    CHECK (w->last_len == patches[i].len);
  }
  CHECK (client_zero (w, 8, 72) == 0);
  CHECK (load_be64 (on_disk (w) + 72) == 0);
  CHECK (load_be64 (on_disk (w) + 24) == UINT64_C (0xeeeeeeeeeeeeeeee));
  EXPECT (w, "v3 112 e2792aca:raw 12345678:hello 23456789:world!!!");

  /* They are not forgotten in a rewrite. */
  begin (3, 112, NULL);
  memcpy (c0, on_disk (w), 112);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (memcmp (on_disk (w), c0, 112) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  world_free (w);
}

/* Writes that are none of the header's. */
static void
test_elsewhere (void)
{
  struct world *w = new_world (PRESERVE_STRICT);
  uint8_t buf[2 * LEN];

  memset (buf, 0xdd, sizeof buf);
  CHECK (client_write (w, buf, 100, LEN) == 0);
  CHECK (client_write (w, buf, LEN + 100, LEN - 100) == 0);
  CHECK (source_pread (w->src, buf, 2 * LEN, 0) == 0);
  CHECK (buf[LEN - 101] == 0 && buf[LEN - 100] == 0xdd);
  CHECK (buf[2 * LEN - 1] == 0xdd);
  EXPECT (w, "v3 112 e2792aca:raw 12345678:hello 23456789:world!!!");
  CHECK (client_zero (w, LEN + 50, LEN - 50) == 0);
  CHECK (source_pread (w->src, buf, 2 * LEN, 0) == 0);
  CHECK (buf[LEN - 51] == 0xdd && buf[LEN - 50] == 0);
  CHECK (buf[LEN] == 0 && buf[2 * LEN - 1] == 0);

  /* A rewrite that goes on behind the cluster, with the same tables. */
  begin (3, 112, NULL);
  memset (c0 + LEN, 0xcc, 300);
  CHECK (client_write (w, c0, LEN + 300, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  CHECK (source_pread (w->src, buf, 301, LEN) == 0);
  CHECK (buf[0] == 0xcc && buf[299] == 0xcc && buf[300] == 0);

  CHECK (preserve_trim_skip (w->p, 100, 0) == 100);
  CHECK (preserve_trim_skip (w->p, 100, LEN - 1) == 1);
  CHECK (preserve_trim_skip (w->p, 100, LEN) == 0);
  CHECK (preserve_trim_skip (w->p, UINT64_C (1) << 40, 8) == LEN - 8);
  world_free (w);
}

static void
test_nothing_to_keep (void)
{
  static uint8_t noise[LEN];
  struct world *w;
  size_t at;

  /* No image; an image with nothing unknown; one of version 1; a damaged
   * list; off.
   */
  w = world_new (noise, LEN, FILE_LEN, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  world_free (w);

  at = begin (3, 120, "\0");
  put (c0, at, FORMAT, "raw");
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  CHECK (client_write (w, noise, LEN, 0) == 0);
  CHECK (preserve_trim_skip (w->p, 100, 0) == 0);
  CHECK (w->nr_reads == 0 && w->nr_writes == 1);
  world_free (w);

  put (c0, at, X, "hello");
  store_be32 (c0 + 4, 1);
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  world_free (w);

  store_be32 (c0 + 4, 3);
  store_be32 (c0 + at + 4, LEN);
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  world_free (w);

  w = new_world (PRESERVE_OFF);
  CHECK (preserve_guarded_len (w->p) == 0);
  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112");
  world_free (w);
}

/* ---- no room */

/* A client that puts the backing name right behind its list. */
static size_t
begin_without_room (void)
{
  size_t at = begin (3, 112, NULL);

  at = put (c0, at, FORMAT, "raw");
  put_name (c0, at + 8, "base");
  return at;
}

static void
test_no_room (void)
{
  struct world *w = new_world (PRESERVE_WARN);

  begin_without_room ();
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (memcmp (on_disk (w), c0, LEN) == 0);
  CHECK (nr_warnings == 1);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (nr_warnings == 1);

  /* Room for one. */
  begin (3, 112, NULL);
  put_name (c0, 112 + 16 + 8 + 15, "base");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello <base>");
  CHECK (nr_warnings == 2);

  /* When there is room again, all come back. */
  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  CHECK (nr_warnings == 2);
  reports_forget ();
  world_free (w);
}

static void
test_strict (void)
{
  struct world *w = new_world (PRESERVE_STRICT);
  uint8_t before[2 * LEN], after[2 * LEN];
  size_t at;

  CHECK (source_pread (w->src, before, sizeof before, 0) == 0);
  begin_without_room ();
  memset (c0 + LEN, 0xcc, LEN);
  CHECK_FAILS (client_write (w, c0, 2 * LEN, 0), EPERM);
  CHECK_FAILS (client_write (w, c0, LEN, 0), EPERM);
  CHECK (nr_errors == 2 && nr_warnings == 0);
  CHECK (w->nr_writes == 0);
  CHECK (source_pread (w->src, after, sizeof after, 0) == 0);
  CHECK (memcmp (before, after, sizeof before) == 0);

  /* One that keeps them passes; so does one that leaves room. */
  at = begin_without_room ();
  at = put (c0, at, X, "hello");
  at = put (c0, at, Y, "world!!!");
  put_name (c0, at + 8, "base");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (memcmp (on_disk (w), c0, LEN) == 0);
  begin (3, 112, NULL);
  put_name (c0, 112 + 16 + 16 + 8, "base");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!! <base>");
  put_name (c0, 112 + 16 + 16 + 7, "base");
  CHECK_FAILS (client_write (w, c0, LEN, 0), EPERM);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!! <base>");
  reports_forget ();
  world_free (w);
}

/* ---- unknown fields */

static struct world *
new_fields_world (enum preserve_mode mode)
{
  size_t at = begin (3, 128, "UNKNOWNF FIELD2");

  put (c0, at, FORMAT, "raw");
  return world_new (c0, LEN, FILE_LEN, mode, true);
}

static void
test_fields (void)
{
  struct world *w = new_fields_world (PRESERVE_STRICT);
  size_t at;

  /* The header became shorter: the list follows it. */
  at = begin (3, 112, NULL);
  at = put (c0, at, FORMAT, "qcow2");
  put (c0, at, NAMES, "names");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (w->nr_writes == 1);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 e2792aca:qcow2 6803f857:names");

  /* Only the later field lost; both zeroed. */
  at = begin (3, 120, "UNKNOWNF");
  put (c0, at, FORMAT, "raw");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 e2792aca:raw");
  at = begin (3, 136, NULL);
  put (c0, at, FORMAT, "raw");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 136 UNKNOWNF\\20FIELD2 e2792aca:raw");

  /* Changed by one who knows them. */
  client_read (w, c0, 136, 0);
  CHECK (client_write (w, "KNOWN", 5, 112) == 0);
  begin (3, 104, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 136 KNOWNWNF\\20FIELD2");
  client_read (w, c0, 136, 0);
  CHECK (client_zero (w, 24, 112) == 0);
  begin (3, 104, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 104");

  /* Version 2 has no place for them. */
  world_free (w);
  w = new_fields_world (PRESERVE_STRICT);
  begin (2, 72, NULL);
  CHECK_FAILS (client_write (w, c0, LEN, 0), EPERM);
  world_free (w);
  w = new_fields_world (PRESERVE_WARN);
  CHECK (nr_warnings == 0);
  begin (2, 72, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (nr_warnings == 1);
  EXPECT (w, "v2 72");
  reports_forget ();
  world_free (w);
}

/* Fields with a list that has no room, or more than a sector. */
static void
test_fields_room (void)
{
  struct world *w = new_fields_world (PRESERVE_WARN);
  char names[481] = { 0 };
  size_t at;

  memset (names, 'n', 384);
  at = begin (3, 112, NULL);
  at = put (c0, at, NAMES, names);
  CHECK (at + 8 == 512);
  CHECK (client_write (w, c0, 512, 0) == 0);
  CHECK (nr_warnings == 0 && w->nr_writes > 1);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 6803f857:384*n");

  /* The list is longer: only a write of all of it can take them. */
  memset (names, 'n', 480);
  put (c0, 112, NAMES, names);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (nr_warnings == 0);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 6803f857:480*n");
  client_read (w, c0, LEN, 0);
  at = begin (3, 112, NULL);
  put (c0, at, NAMES, names);
  CHECK (client_write (w, c0, 700, 0) == 0);
  CHECK (nr_warnings == 1);
  EXPECT (w, "v3 112 6803f857:480*n");

  put_name (c0, at + 488 + 8 + 15, "base");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 6803f857:480*n <base>");
  put_name (c0, at + 488 + 8 + 16, "base");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 6803f857:480*n <base>");
  reports_forget ();
  world_free (w);
}

/* The compression type is known, but not to one who knows 104 bytes. */
static void
test_compression_type (void)
{
  struct world *w;

  begin (3, 120, "UNKNOWNF");
  c0[104] = 1;
  c0[79] = 8;
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);
  begin (3, 104, NULL);
  c0[79] = 8;
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 120 UNKNOWNF");
  CHECK (on_disk (w)[104] == 1);
  c0[79] = 0;
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 120 UNKNOWNF");
  CHECK (on_disk (w)[104] == 0);
  world_free (w);
}

/* ---- whose change it is */

static void
test_changed_by_owner (void)
{
  struct world *w = new_world (PRESERVE_WARN);
  size_t at;

  /* In place, and by a rewrite; then both are lost. */
  CHECK (client_write (w, "HEL", 3, 112 + 16 + 8) == 0);
  EXPECT (w, "v3 112 e2792aca:raw 12345678:HELlo 23456789:world!!!");
  at = begin (3, 112, NULL);
  put (c0, at, Y, "a longer world");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 23456789:a\\20longer\\20world 12345678:HELlo");
  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:HELlo 23456789:a\\20longer\\20world");

  /* What only clobbers it is nobody's change. */
  client_read (w, c0, LEN, 0);
  CHECK (client_write (w, "clobber", 7, 112 + 8 + 3) == 0);
  CHECK (client_write (w, c0, 112, 0) == 0);
  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:HELlo 23456789:a\\20longer\\20world");
  world_free (w);
}

static void
test_duplicates (void)
{
  struct world *w;
  size_t at = begin (3, 112, NULL);

  at = put (c0, at, X, "one");
  at = put (c0, at, Y, "");
  at = put (c0, at, X, "two");
  put (c0, at, X, "one");
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);

  at = begin (3, 112, NULL);
  put (c0, at, X, "one");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:one 23456789: 12345678:two 12345678:one");

  /* Somebody who knows the type made one of them. */
  at = begin (3, 112, NULL);
  put (c0, at, X, "three");
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:three 23456789:");
  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 23456789: 12345678:three");
  world_free (w);
}

/* A client that reads builds on what was put back. */
static void
test_read_between (void)
{
  struct world *w = new_world (PRESERVE_STRICT);
  size_t at;

  begin (3, 112, NULL);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  client_read (w, c0, LEN, 0);
  at = put (c0, 112 + 32, FORMAT, "raw");
  CHECK (client_write (w, c0 + 144, at - 144, 144) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!! e2792aca:raw");
  world_free (w);
}

/* Rewrites in pieces of any size, forwards; the header alone first. */
static void
test_pieces (void)
{
  static const size_t pieces[] = { 1, 8, 13, 40, 104, 112, 128, 512 };
  size_t i, at, host;

  for (i = 0; i < sizeof pieces / sizeof pieces[0]; ++i) {
    struct world *w = new_world (PRESERVE_STRICT);

    at = begin (3, 112, NULL);
    at = put (c0, at, FORMAT, "qcow2");
    at = put (c0, at, NAMES, "some names of features") + 8;
    for (host = 0; host < at; host += pieces[i])
      CHECK (client_write (w, c0 + host, MIN (pieces[i], at - host),
                           host) == 0);
    EXPECT (w, "v3 112 e2792aca:qcow2 "
            "6803f857:some\\20names\\20of\\20features "
            "12345678:hello 23456789:world!!!");
    world_free (w);
  }

  /* An old one is still there when the new one is written. */
  struct world *twice = new_world (PRESERVE_STRICT);

  at = begin (3, 112, NULL);
  put (c0, at, X, "hello");
  CHECK (client_write (twice, c0, at + 16, 0) == 0);
  EXPECT (twice, "v3 112 12345678:hello 12345678:hello 23456789:world!!!");
  CHECK (client_write (twice, c0 + at + 16, LEN - at - 16, at + 16) == 0);
  EXPECT (twice, "v3 112 12345678:hello 23456789:world!!!");
  world_free (twice);

  /* A shorter header, then its list. */
  struct world *w = new_fields_world (PRESERVE_STRICT);

  at = begin (3, 104, NULL);
  put (c0, at, FORMAT, "qcow2");
  CHECK (client_write (w, c0, 104, 0) == 0);
  CHECK (client_write (w, c0 + 104, 24, 104) == 0);
  EXPECT (w, "v3 128 UNKNOWNF\\20FIELD2 e2792aca:qcow2");
  world_free (w);
}

/* ---- headers that are none, and other images */

static void
test_unsound_for_a_while (void)
{
  struct world *w = new_world (PRESERVE_STRICT);
  uint8_t before[LEN];

  memcpy (before, on_disk (w), LEN);
  CHECK (client_zero (w, 2 * LEN, 0) == 0);
  EXPECT (w, "unsound");
  CHECK (client_write (w, before, 112, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");

  /* The list is damaged, then mended. */
  client_read (w, c0, LEN, 0);
  store_be32 (c0 + 116, UINT32_MAX);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  EXPECT (w, "unsound");
  CHECK (memcmp (on_disk (w), c0, LEN) == 0);
  CHECK (client_zero (w, 8, 112) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");

  /* Patches while it is unsound do not matter. */
  begin (4, 112, NULL);
  CHECK (client_write (w, c0, 3, 0) == 0);
  CHECK (client_write (w, c0 + 4, 4, 4) == 0);
  CHECK (client_write (w, "\0\0\0\0\0\0\0\1", 8, 72) == 0);
  EXPECT (w, "unsound");
  CHECK (client_write (w, before, 8, 0) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  CHECK (load_be64 (on_disk (w) + 72) == 1);
  CHECK (preserve_guarded_len (w->p) == LEN);
  world_free (w);
}

struct other {
  uint64_t host;                /* of a field */
  uint32_t value;               /* four bytes of it */
  uint64_t host2;               /* of another, or 0 */
  size_t len;                   /* of the write */
  bool wiped;                   /* the first sector was zero before */
  bool another;                 /* is it another image? */
};

static const struct other others[] = {
  { 0, 0x51464900, 0, LEN, false, true },   /* magic */
  { 4, 1, 0, 8, false, true },              /* version 1 */
  { 4, 4, 0, LEN, false, true },            /* version 4 */
  { 20, 16, 0, LEN, false, true },          /* cluster size */
  { 20, 9, 0, 112, false, true },
  { 32, 1, 0, LEN, false, true },           /* encryption */
  { 36, 0, 0, LEN, false, true },           /* no L1 table */
  { 44, 0x5000, 52, LEN, false, true },     /* both tables elsewhere */
  { 44, 0x5000, 0, LEN, false, false },
  { 52, 0x5000, 0, LEN, false, false },
  { 24, 1, 0, LEN, false, false },          /* size of the disk */
  { 24, 1, 0, LEN, true, true },
  { 24, 1, 0, LEN + 512, false, true },
  { 44, 0x5000, 0, LEN, true, true },
  { 52, 0x5000, 0, 2 * LEN, false, true },
  { 60, 3, 0, LEN, true, true },            /* snapshots */
  { 64, 3, 0, LEN + 1, false, true },
  { 60, 3, 0, LEN, false, false },
  { 80, 7, 0, LEN, true, false },           /* features */
  { 80, 7, 0, 2 * LEN, false, false },
};

static void
test_another_image (void)
{
  size_t i;

  for (i = 0; i < sizeof others / sizeof others[0]; ++i) {
    const struct other *o = &others[i];
    struct world *w = new_world (PRESERVE_STRICT);
    uint8_t before[2 * LEN];

    if (o->wiped)
      CHECK (client_zero (w, 512, 0) == 0);
    CHECK (source_pread (w->src, before, sizeof before, 0) == 0);
    begin (3, 112, NULL);
    store_be32 (c0 + o->host, o->value);
    if (o->host2 != 0)
      store_be32 (c0 + o->host2, o->value + LEN);
    CHECK (client_write (w, c0, o->len, 0) == 0);
    memcpy (before, c0, o->len);
    CHECK ((preserve_guarded_len (w->p) == 0) == o->another);
    CHECK ((nr_warnings > 0) == o->another);
    CHECK ((memcmp (before, on_disk (w), LEN) == 0) == o->another);
    if (!o->another)
      EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
    reports_forget ();

    /* From then on nothing is done. */
    begin (3, 112, NULL);
    CHECK (client_write (w, c0, LEN, 0) == 0);
    CHECK ((memcmp (c0, on_disk (w), LEN) == 0) == o->another);
    world_free (w);
    reports_forget ();
  }
}

/* ---- strange geometry */

static void
test_hostile (void)
{
  static const char data[] = "0123456789";
  struct world *w;
  size_t at, i;
  unsigned bits;

  /* Loads of everything that a header could say: no harm, nothing kept or
   * something, but a client's header gets through.
   */
  for (i = 0; i < 112; ++i)
    for (bits = 0; bits < 256; bits += 15) {
      at = begin (3, 112, NULL);
      put (c0, at, X, data);
      c0[i] = bits;
      w = world_new (c0, LEN, FILE_LEN, PRESERVE_WARN, true);
      begin (3, 112, NULL);
      c0[i] = ~bits;
      CHECK (client_write (w, c0, LEN, 0) == 0);
      begin (3, 112, NULL);
      CHECK (client_write (w, c0, LEN, 0) == 0);
      world_free (w);
    }
  reports_forget ();

  /* A backing name in the header: the list is empty, and has no room. */
  w = new_world (PRESERVE_STRICT);
  begin (3, 112, NULL);
  store_be64 (c0 + 8, 8);
  CHECK_FAILS (client_write (w, c0, LEN, 0), EPERM);
  CHECK_FAILS (client_write (w, c0 + 8, 8, 8), EPERM);
  EXPECT (w, "v3 112 e2792aca:raw 12345678:hello 23456789:world!!!");
  world_free (w);
  w = new_world (PRESERVE_WARN);
  begin (3, 112, NULL);
  store_be64 (c0 + 8, 8);
  CHECK (client_write (w, c0, LEN, 0) == 0);
  CHECK (memcmp (on_disk (w), c0, LEN) == 0);
  CHECK (client_zero (w, 8, 8) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  reports_forget ();
  world_free (w);
}

/* The smallest and the largest cluster, full of extensions. */
static void
test_full (void)
{
  unsigned bits;

  for (bits = 9; bits <= 21; bits += 12) {
    size_t len = (size_t) 1 << bits, at, i;
    struct world *w;
    char *words;

    memset (c0, 0, sizeof c0);
    at = put_header (c0, 3, bits, 112, NULL);
    for (i = 0; at + 16 <= len; ++i)
      at = put (c0, at, (i & 1) ? X : (uint32_t) (i * 2654435761u) | 1, "");
    w = world_new (c0, len, len, PRESERVE_STRICT, true);
    words = describe (on_disk (w), len);
    memset (c0, 0, len);
    put_header (c0, 3, bits, 112, NULL);
    CHECK (client_write (w, c0, len, 0) == 0);
    EXPECT (w, words);
    /* The client needs the room. */
    at = put (c0, 112, FORMAT, "raw");
    CHECK_FAILS (client_write (w, c0, at, 0), EPERM);
    EXPECT (w, words);
    CHECK (client_zero (w, len - 112, 112) == 0);
    EXPECT (w, words);
    free (words);
    reports_forget ();
    world_free (w);
  }
}

/* A file that ends inside cluster 0. */
static void
test_short_file (void)
{
  struct world *w;
  size_t at = begin (2, 72, NULL);

  put (c0, at, X, "hello");
  w = world_new (c0, LEN, 100, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 100);
  begin (2, 72, NULL);
  CHECK (client_write (w, c0, 80, 0) == 0);
  EXPECT (w, "v2 72 12345678:hello");
  put (c0, 72, FORMAT, "");
  CHECK_FAILS (client_write (w, c0, 88, 0), EPERM);
  EXPECT (w, "v2 72 12345678:hello");
  world_free (w);

  w = world_new (c0, LEN, 72, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  world_free (w);
  w = world_new (c0, 1, 1, PRESERVE_STRICT, true);
  CHECK (preserve_guarded_len (w->p) == 0);
  reports_forget ();
  world_free (w);
}

int
main (void)
{
  test_whole_rewrite ();
  test_patches ();
  test_elsewhere ();
  test_nothing_to_keep ();
  test_no_room ();
  test_strict ();
  test_fields ();
  test_fields_room ();
  test_compression_type ();
  test_changed_by_owner ();
  test_duplicates ();
  test_read_between ();
  test_pieces ();
  test_unsound_for_a_while ();
  test_another_image ();
  test_hostile ();
  test_full ();
  test_short_file ();
  return EXIT_SUCCESS;
}
