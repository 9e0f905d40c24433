/* Test rewrites of qcow2 headers that the power, the bytes below, or other
 * clients disturb.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/cleanup.h"
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
begin (void)
{
  memset (c0, 0, sizeof c0);
  return put_header (c0, 3, BITS, 112, NULL);
}

/* A list of the client's that ends in the first sector, and with what is
 * put back in the second one or third.  Every cut, whatever the order of
 * sectors, leaves the old list, the client's, or the client's with the
 * lost: never a part.
 */
static void
test_power_cuts (size_t x_len, size_t names_len, size_t write_len)
{
  struct world *w;
  char text[1500] = { 0 };
  CLEANUP_FREE char *old = NULL, *plain = NULL, *both = NULL;
  size_t at, position, seed;

  at = begin ();
  memset (text, 'x', x_len);
  put (c0, at, X, text);
  w = world_new (c0, LEN, FILE_LEN, PRESERVE_STRICT, true);
  old = describe (on_disk (w), LEN);

  at = begin ();
  memset (text, 'n', sizeof text);
  text[names_len] = '\0';
  put (c0, at, NAMES, text);
  plain = describe (c0, LEN);
  CHECK (client_write (w, c0, write_len, 0) == 0);
  both = describe (on_disk (w), LEN);
  CHECK (strstr (both, "12345678:") != NULL);
  CHECK (strstr (plain, "12345678:") == NULL);

  for (position = 0; position <= record_position (w->record); ++position)
    for (seed = 0; seed < 50; ++seed) {
      struct source *cut =
        record_crash_image (w->record, w->src, position, seed,
                            RECORD_RANDOM);
      uint8_t bytes[LEN];
      char *words;

      CHECK (cut != NULL);
      CHECK (source_pread (cut, bytes, LEN, 0) == 0);
      words = describe (bytes, LEN);
      if (strcmp (words, old) != 0 && strcmp (words, plain) != 0 &&
          strcmp (words, both) != 0) {
        fprintf (stderr, "cut at %zu, seed %zu: %s\n", position, seed,
                 words);
        exit (EXIT_FAILURE);
      }
      free (words);
      source_put (cut);
    }
  world_free (w);
}

/* Every call below fails once: the client is told, and the next rewrite
 * puts back what is missing.
 */
static void
test_faults (void)
{
  static const enum record_op ops[] = {
    RECORD_READ, RECORD_WRITE, RECORD_SYNC,
  };
  char names[400] = { 0 };
  size_t i, nth, at;

  memset (names, 'n', 380);
  for (i = 0; i < 3; ++i)
    for (nth = 1; ; ++nth) {
      struct world *w = new_world (PRESERVE_STRICT);
      int r;

      record_fail_at (w->record, ops[i], nth, EIO, false);
      at = begin ();
      put (c0, at, NAMES, names);
      r = client_write (w, c0, 512, 0);
      if (r == -1)
        CHECK (errno == EIO);
      record_fail_at (w->record, ops[i], 0, 0, false);
      if (ops[i] != RECORD_SYNC || r == 0) {
        CHECK (client_write (w, "\0\0\0\0\0\0\0\4", 8, 72) == 0);
        client_read (w, names, 0, 0);
        CHECK (client_write (w, c0, 512, 0) == 0);
        EXPECT (w, "v3 112 6803f857:380*n "
                "12345678:hello 23456789:world!!!");
      }
      else
        CHECK (preserve_guarded_len (w->p) == LEN);
      world_free (w);
      if (r == 0)
        break;
      CHECK (nth < 10);
    }

  struct world *w = new_world (PRESERVE_STRICT);
  struct preserve *p = preserve_new ("image", PRESERVE_WARN);

  record_fail_at (w->record, RECORD_READ, 2, EIO, false);
  CHECK_FAILS (preserve_load (p, &w->below, FILE_LEN), EIO);
  CHECK (preserve_guarded_len (p) == 0);
  CHECK (preserve_load (p, &w->below, FILE_LEN) == 0);
  CHECK (preserve_guarded_len (p) == LEN);
  CHECK (preserve_load (p, &w->below, FILE_LEN) == 0);
  preserve_free (p);
  preserve_free (NULL);
  reports_forget ();
  world_free (w);
}

/* What a failed write has done is found out before the next one. */
static void
test_torn (void)
{
  struct world *w = new_world (PRESERVE_STRICT);

  w->tears = true;
  CHECK_FAILS (client_write (w, c0 + 112, 8, 112), EIO);
  EXPECT (w, "v3 112");
  CHECK (client_write (w, c0 + 96, 8, 96) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  world_free (w);
}

/* ---- many at once */

static void *
hammer (void *arg)
{
  struct world *w = arg;
  uint8_t header[LEN] = { 0 }, buf[64];
  size_t i;

  put_header (header, 3, BITS, 112, NULL);
  for (i = 0; i < 300; ++i) {
    CHECK (client_write (w, header + 72, 8, 72) == 0);
    CHECK (client_write (w, header, i % 3 ? LEN : 200, 0) == 0);
    client_read (w, buf, sizeof buf, 112);
    CHECK (client_write (w, header, 64, 2 * LEN) == 0);
  }
  return NULL;
}

static void
test_threads (void)
{
  struct world *w = new_world (PRESERVE_STRICT);
  pthread_t threads[4];
  size_t i;

  for (i = 0; i < 4; ++i)
    CHECK (pthread_create (&threads[i], NULL, hammer, w) == 0);
  for (i = 0; i < 4; ++i)
    CHECK (pthread_join (threads[i], NULL) == 0);
  EXPECT (w, "v3 112 12345678:hello 23456789:world!!!");
  world_free (w);
}

int
main (void)
{
  test_power_cuts (5, 10, LEN);
  test_power_cuts (300, 300, LEN);
  test_power_cuts (300, 300, 512);
  test_power_cuts (390, 384, LEN);
  test_power_cuts (390, 384, 512);
  test_power_cuts (390, 376, 504);
  test_power_cuts (392, 0, 128);
  test_faults ();
  test_torn ();
  test_threads ();
  return EXIT_SUCCESS;
}
