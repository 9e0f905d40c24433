/* Small VHDX images for the fuzzer to begin with.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>

#include "corpus.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "input-vhdx.h"
#include "vhdx/test-image.h"
#include "vhdx/vhdx.h"

/* Before the pages without content are left away. */
#define MAX_LEN (8 * 1024 * 1024)

#define RING_PAGES 256

enum content {
  EMPTY,
  STATES,                       /* a block in each state */
  PARTIAL,                      /* and blocks that are partly there */
};

enum log {
  NO_LOG,
  LOG_ENTRY,                    /* one entry, of data and zeroes */
  LOG_WRAPPED,                  /* a run around the end of the ring */
  LOG_LOST,                     /* a first entry that is torn */
  LOG_GROWTH,                   /* a file that becomes longer */
};

struct form {
  const char *name;
  struct test_vhdx_spec spec;
  enum content content;
  enum log log;
  uint64_t file_len;            /* at least so long */
};

static const struct test_vhdx_key keys[] = {
  { "parent_linkage", "{83ed27e4-5a4a-4af3-9b44-91ae3d9e0f0b}" },
  { "relative_path", "..\\parent.vhdx" },
  { "absolute_win32_path", "\\\\?\\c:\\parent.vhdx" },
};

#define SMALL .disk_len = 8 * TEST_MIB
#define CHILD .has_parent = true, .keys = keys, .nr_keys = 3

static const struct form forms[] = {
  { "empty", { SMALL }, .content = EMPTY },
  { "states", { SMALL }, .content = STATES },
  { "fixed", { SMALL, .is_fixed = true }, .content = EMPTY },
  { "short-sectors-4k", { .disk_len = 5 * TEST_MIB + 4096,
                          .block_len = 2 * TEST_MIB, .sector_len = 4096 },
    .content = STATES },
  { "large", { .disk_len = UINT64_C (1) << 40,
               .block_len = 32 * TEST_MIB }, .content = STATES },
  { "child", { SMALL, CHILD }, .content = PARTIAL },
  { "child-256m", { .disk_len = 5 << 28, .block_len = 1 << 28, CHILD },
    .content = PARTIAL },
  { "log", { SMALL }, .content = STATES, .log = LOG_ENTRY },
  { "log-wrapped", { SMALL, CHILD }, .content = PARTIAL, .log = LOG_WRAPPED },
  { "log-lost", { SMALL }, .content = STATES, .log = LOG_LOST },
  { "log-growth", { SMALL }, .content = STATES, .log = LOG_GROWTH },
  /* Too long for its BAT to be looked through at open. */
  { "unchecked", { SMALL, CHILD }, .content = PARTIAL,
    .file_len = (UINT64_C (1) << 48) + TEST_MIB },
};

static void
add_content (struct test_vhdx *t, enum content content)
{
  if (content == EMPTY)
    return;
  test_vhdx_fill (t, test_vhdx_add_block (t, 0, 6), 4096, 'a');
  test_vhdx_set_block (t, 1, 2);
  test_vhdx_set_block (t, 2, 1);
  if (content == PARTIAL) {
    test_vhdx_add_bitmap (t, 0);
    test_vhdx_fill (t, test_vhdx_add_block (t, 3, 7), 8192, 'b');
    for (unsigned i = 0; i < 5; ++i)
      test_vhdx_set_bit (t, (3 * (uint64_t) t->spec.block_len >> 9) +
                         i * i);
  }
}

/* An entry that writes the BAT's first page again, with two more blocks. */
static uint64_t
add_entry (struct test_vhdx *t, uint64_t at, uint64_t sequence,
           uint64_t tail, uint64_t last_len)
{
  uint8_t page[TEST_VHDX_PAGE];
  struct test_log e;

  CHECK (source_pread (t->src, page, sizeof page, t->spec.bat_host) == 0);
  store_le64 (page + 32, 3);
  store_le64 (page + 40, last_len - TEST_MIB == source_len (t->src)
              ? source_len (t->src) | 6 : 2);
  test_log_begin (&e, t, sequence, tail);
  e.last_len = last_len;
  test_log_page (&e, t->spec.bat_host, page);
  test_log_zero (&e, t->spec.bat_host + 4096, 2 * 4096);
  return test_log_put (&e, t, at);
}

static void
add_log (struct test_vhdx *t, enum log log)
{
  const uint64_t len = source_len (t->src);
  const uint64_t start = (RING_PAGES - 3) * 4096;
  uint64_t at;

  if (log == NO_LOG)
    return;
  test_vhdx_use_log (t, 0x77);
  switch (log) {
  case LOG_WRAPPED:
    at = add_entry (t, start, 1, start, len);
    add_entry (t, add_entry (t, at, 2, start, len), 3, start, len);
    break;
  case LOG_LOST:
    add_entry (t, 4096, 1, 4096, len);
    test_vhdx_fill (t, t->spec.log_host + 2 * 4096, 4096, 0x55);
    break;
  case LOG_GROWTH:
    add_entry (t, 0, 1, 0, len + TEST_MIB);
    break;
  default:
    add_entry (t, 0, 1, 0, len);
    break;
  }
}

/* ---- the input */

static bool
is_empty (const uint8_t *page)
{
  for (unsigned i = 0; i < INPUT_PAGE; ++i)
    if (page[i])
      return false;
  return true;
}

static size_t
take_input (const struct test_vhdx *t, uint8_t *bytes)
{
  const uint64_t end = source_len (t->src);
  size_t len = INPUT_HEAD;
  struct source_extent ext;

  store_le64 (bytes, end);
  for (uint64_t host = 0; host < end; host += ext.len) {
    uint8_t *const page = bytes + len + 4;

    ext = source_extent (t->src, host, end - host);
    if (ext.hole)
      continue;
    ext.len = INPUT_PAGE;
    CHECK (len + INPUT_RECORD <= MAX_LEN);
    CHECK (source_pread_padded (t->src, page, INPUT_PAGE, host) == 0);
    if (is_empty (page))
      continue;
    store_le32 (bytes + len, host / INPUT_PAGE);
    len += INPUT_RECORD;
  }
  return len;
}

static const char *
make_input (unsigned i, uint8_t **bytes, size_t *len)
{
  const struct form *form = &forms[i];
  struct test_vhdx t;

  *bytes = malloc (MAX_LEN);
  CHECK (*bytes != NULL);
  test_vhdx_make (&t, &form->spec);
  add_content (&t, form->content);
  add_log (&t, form->log);
  CHECK (source_grow (t.src, form->file_len) == 0);
  *len = take_input (&t, *bytes);
  test_vhdx_free (&t);
  return form->name;
}

const struct corpus corpus = {
  .format = &vhdx_format,
  .suffix = "vhdx",
  .nr = sizeof forms / sizeof forms[0],
  .nr_mutants = 150,
  .make = make_input,
  .source = input_vhdx_source,
};
