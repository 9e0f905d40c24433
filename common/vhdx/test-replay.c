/* Test a file with pages laid over it, against a plain copy that is changed
 * in the same order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/testing.h"
#include "source/memory.h"
#include "vhdx/replay.h"

#define NR_PAGES 64
#define FILE_LEN (NR_PAGES * 4096 - 1000)
#define MODEL_LEN (NR_PAGES * 4096 + 8 * 4096)
#define MAX_PATCHES 200

static uint8_t file[FILE_LEN], model[MODEL_LEN], buf[MODEL_LEN];
static struct replay_patch patches[MAX_PATCHES];

static uint32_t
pick (uint32_t n)
{
  return rand () % n;
}

/* A patch at random, made in the model at once; what its page's content is
 * lies in some sector of the file.
 */
static void
make_patch (struct replay_patch *p)
{
  const bool is_data = pick (2);
  const uint64_t host = pick (NR_PAGES) * VHDX_PAGE_LEN;
  const uint64_t len = is_data ? VHDX_PAGE_LEN
    : (1 + pick (8)) * VHDX_PAGE_LEN;

  *p = (struct replay_patch) { .host = host, .len = len };
  if (!is_data) {
    memset (model + host, 0, len);
    return;
  }
  p->sector = (1 + pick (NR_PAGES - 2)) * VHDX_PAGE_LEN;
  memset (p->leading, pick (256), sizeof p->leading);
  memset (p->trailing, pick (256), sizeof p->trailing);
  memcpy (model + host, file + p->sector, VHDX_PAGE_LEN);
  memcpy (model + host, p->leading, 8);
  memcpy (model + host + VHDX_PAGE_LEN - 4, p->trailing, 4);
}

/* Extents cover the file, and holes are zero in the model. */
static void
check_extents (struct source *view)
{
  uint64_t at = 0;

  while (at < source_len (view)) {
    const struct source_extent e = source_extent (view, at,
                                                  source_len (view) - at);

    CHECK (e.len > 0 && e.len <= source_len (view) - at);
    for (uint64_t i = at; e.hole && i < at + e.len; ++i)
      CHECK (model[i] == 0);
    at += e.len;
  }
}

static void
check_view (struct source *view, uint64_t len)
{
  CHECK (source_len (view) == len);
  CHECK (!view->writable && !view->can_grow);
  CHECK (source_pread (view, buf, len, 0) == 0);
  CHECK (memcmp (buf, model, len) == 0);
  for (unsigned i = 0; i < 50; ++i) {
    const uint64_t at = pick (len), n = 1 + pick (len - at);

    CHECK (source_pread (view, buf, n, at) == 0);
    CHECK (memcmp (buf, model + at, n) == 0);
  }
  check_extents (view);
}

static void
test_random (unsigned seed, size_t nr, uint64_t wanted_len)
{
  struct source *src, *view;
  uint64_t len = MAX ((uint64_t) FILE_LEN, wanted_len);

  srand (seed);
  for (size_t i = 0; i < FILE_LEN; ++i)
    file[i] = pick (256);
  memset (model, 0, sizeof model);
  memcpy (model, file, FILE_LEN);
  src = source_memory_copy ("file", file, FILE_LEN, INT64_MAX);
  CHECK (src != NULL);
  for (size_t i = 0; i < nr; ++i) {
    make_patch (&patches[i]);
    len = MAX (len, patches[i].host + patches[i].len);
  }
  view = replay_new (src, "view", patches, nr, wanted_len);
  CHECK (view != NULL);
  check_view (view, len);
  CHECK (source_pread (src, buf, FILE_LEN, 0) == 0);
  CHECK (memcmp (buf, file, FILE_LEN) == 0);    /* untouched */
  source_put (view);
  source_put (src);
}

int
main (void)
{
  test_random (1, 0, 0);
  test_random (2, 0, MODEL_LEN);
  test_random (3, 1, 0);
  for (unsigned seed = 10; seed < 60; ++seed)
    test_random (seed, 1 + seed * 3, seed % 2 ? 0 : MODEL_LEN - 100);
  return 0;
}
