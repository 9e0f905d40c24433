/* Test the map of holes: what it answers, and how often it asks the host.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "include/checked.h"
#include "include/testing.h"
#include "source/hole-map.h"

/* A file of blocks, every second one, or every 'spacing'th, a hole. */
#define BLOCK 4096
static uint64_t spacing = 2;
static uint64_t first_hole;     /* block */
static unsigned nr_asked;

static bool
is_hole (uint64_t block)
{
  return block >= first_hole && (block - first_hole) % spacing == 0;
}

static struct source_extent
fake_extent (struct source *src, uint64_t host, uint64_t len)
{
  const bool hole = is_hole (host / BLOCK);
  uint64_t end = round_down (host, BLOCK) + BLOCK;

  (void) src;
  nr_asked++;
  while (end < host + len && is_hole (end / BLOCK) == hole)
    end += BLOCK;
  return (struct source_extent) {
    .len = MIN (end, host + len) - host, .hole = hole
  };
}

static const struct source_ops fake_ops = {
  .kind = "fake",
  .extent = fake_extent,
};
static struct source fake = { .ops = &fake_ops, .len = 64 * BLOCK };

/* Ask for 'nr' places all over the file, from the 'first' on; returns how
 * often the host was asked.
 */
static unsigned
ask_from (struct hole_map *map, unsigned first, unsigned nr)
{
  const unsigned before = nr_asked;

  for (unsigned i = first; i < first + nr; ++i) {
    const uint64_t host = (i * UINT64_C (7919) * 512 + 100) % fake.len;
    const uint64_t len = MIN (fake.len - host, UINT64_C (3) * BLOCK);
    const struct source_extent want = fake_extent (&fake, host, len);
    struct source_extent got;

    nr_asked--;                 /* that was us */
    got = hole_map_extent (map, &fake, host, len);
    CHECK (got.hole == want.hole && got.len == want.len);
  }
  return nr_asked - before;
}

static unsigned
ask (struct hole_map *map, unsigned nr)
{
  return ask_from (map, 0, nr);
}

static void
change (struct hole_map *map, uint64_t new_spacing, uint64_t new_first)
{
  hole_map_note_change (map);
  spacing = new_spacing;
  first_hole = new_first;
  hole_map_note_change (map);
}

/* The last answer is kept, as far as it goes. */
static void
test_last (void)
{
  const unsigned before = nr_asked;
  struct source_extent ext;
  struct hole_map map;

  hole_map_init (&map);
  change (&map, 64, 8);         /* one hole */
  ext = hole_map_extent (&map, &fake, 9 * BLOCK, 512);
  CHECK (!ext.hole && ext.len == 512 && nr_asked == before + 1);
  ext = hole_map_extent (&map, &fake, 40 * BLOCK + 77, 20 * BLOCK);
  CHECK (!ext.hole && ext.len == 20 * BLOCK && nr_asked == before + 1);
  ext = hole_map_extent (&map, &fake, 62 * BLOCK, 2 * BLOCK);
  CHECK (!ext.hole && ext.len == 2 * BLOCK && nr_asked == before + 1);
  ext = hole_map_extent (&map, &fake, 8 * BLOCK, 2 * BLOCK);
  CHECK (ext.hole && ext.len == BLOCK && nr_asked > before + 1);
  change (&map, 64, 9);
  ext = hole_map_extent (&map, &fake, 9 * BLOCK, 512);
  CHECK (ext.hole && ext.len == 512);
  hole_map_destroy (&map);
}

static void
test_answers (void)
{
  struct hole_map map;

  hole_map_init (&map);
  change (&map, 2, 0);
  CHECK (ask (&map, 1) == 1);
  CHECK (ask_from (&map, 1, 1) == 64);  /* now the whole file */
  CHECK (ask (&map, 500) == 0);

  /* What changes is asked for again. */
  change (&map, 3, 1);
  CHECK (ask (&map, 1) == 1);
  CHECK (ask_from (&map, 1, 1) > 10);
  CHECK (ask (&map, 500) == 0);
  change (&map, 5, 64);         /* no holes */
  ask (&map, 2);
  CHECK (ask (&map, 500) == 0);

  /* In the middle of a change nothing is kept. */
  hole_map_note_change (&map);
  CHECK (ask (&map, 1) == 1);
  hole_map_note_change (&map);
  CHECK (ask (&map, 1) == 1);
  hole_map_destroy (&map);
}

/* Maps that are lost before they pay get rarer; one that pays changes that. */
static void
test_patience (void)
{
  struct hole_map map;
  unsigned nr = 0;

  hole_map_init (&map);
  change (&map, 2, 0);
  for (unsigned i = 0; i < 100; ++i) {
    nr += ask (&map, 4);
    change (&map, 2, i % 2);
  }
  CHECK (nr < 100 * 4 + 3 * 64);
  ask (&map, 500);
  change (&map, 2, 0);
  CHECK (ask (&map, 1) == 1);
  CHECK (ask_from (&map, 1, 1) == 64);
  hole_map_destroy (&map);
}

/* A file with too many holes is asked place by place. */
static void
test_many_holes (void)
{
  struct hole_map map;

  hole_map_init (&map);
  fake.len = UINT64_C (40000) * BLOCK;
  change (&map, 2, 0);
  ask (&map, 2);
  CHECK (ask (&map, 50) == 50);
  fake.len = 64 * BLOCK;
  hole_map_destroy (&map);
}

int
main (void)
{
  test_last ();
  test_answers ();
  test_patience ();
  test_many_holes ();
  return EXIT_SUCCESS;
}
