/* Tests of exports: names, listing, and who may come at the same time.
 * nbdkit is played here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/export.h"
#include "include/checked.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "qcow2/test-image.h"
#include "raw/raw.h"

#define MIB UINT64_C (1048576)
#define BACKING_FORMAT 0xe2792aca       /* header extension */
#define ROUNDS 200
#define NR(array) (sizeof (array) / sizeof (array)[0])

/* ---- nbdkit */

struct nbdkit_exports {
  char text[4096];              /* "name=description\n" for each */
  unsigned room;                /* how many more may be added */
};

int
nbdkit_add_export (struct nbdkit_exports *exports, const char *name,
                   const char *description)
{
  const size_t used = strlen (exports->text);

  if (exports->room-- == 0)
    return -1;
  snprintf (exports->text + used, sizeof exports->text - used, "%s=%s\n",
            name, description);
  return 0;
}

void
nbdkit_debug (const char *fmt, ...)
{
  (void) fmt;
}

void __attribute__ ((format (printf, 1, 2)))
nbdkit_error (const char *fmt, ...)
{
  char text[1024];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  CHECK (!policy_has_control (text)); /* whatever clients asked for */
  fprintf (stderr, "%s\n", text);
}

/* ---- files */

static char dir[] = "/tmp/test-export-XXXXXX";
static char path[sizeof dir + 16];

static const struct format *const formats[] = {
  &raw_format, &qcow2_format, NULL
};

static const struct chain_settings settings = {
  .format = &qcow2_format, .formats = formats, .file = path, .fd = -1,
  .lock = SOURCE_LOCK_ON, .cache_size = MIB,
};

static void
put (const char *name, const void *bytes, size_t len)
{
  FILE *fp = fopen (name, "w");

  CHECK (fp != NULL && fwrite (bytes, 1, len, fp) == len);
  CHECK (fclose (fp) == 0);
}

/* Entry 'i' of the table of snapshots gets a copy of the L1 table. */
static void
give_l1_table (struct test_image *t, unsigned i)
{
  const uint64_t host = test_image_add (t, 1);
  const uint64_t entry_len = round_up (40 + 16 + 3, 8);

  memcpy (t->bytes + host, t->bytes + t->l1_host, t->cluster_len);
  test_image_poke (t, test_image_peek (t, 64, 8) + i * entry_len, 8, host);
}

/* A disk of 1 MiB that begins with 'T', over one with 'b', and a snapshot
 * of it.  There is another snapshot of the same id and name, which nobody
 * can ask for.
 */
static void
put_images (void)
{
  struct test_image t;

  test_image_init (&t, 3, 12, MIB, 0);
  test_image_add_extension (&t, BACKING_FORMAT, "raw", 3);
  test_image_set_backing (&t, "base");
  test_image_add_data (&t, 0, 'T');
  test_image_add_snapshots (&t, 2, 16);
  for (unsigned i = 0; i < 2; ++i)
    give_l1_table (&t, i);
  test_image_count (&t);
  put ("top", t.bytes, t.len);
  test_image_free (&t);
  put ("base", "base", 4);
}

static struct life *
start (void)
{
  struct life *life = life_start (&settings);

  CHECK (life != NULL);
  return life;
}

static void
end (struct life *life)
{
  CHECK (life_end (life) == 0);
  export_close_all ();
  life_free (life);
}

/* The first byte of what a client has. */
static int
first_byte (struct life *life, struct export *e)
{
  CLEANUP_VISIT struct life_visit visit;
  uint8_t byte;

  CHECK (image_read (export_enter (life, e, false, &visit), &byte, 1,
                     0) == 0);
  return byte;
}

/* ---- tests */

static void
test_names (void)
{
  static const char *const unknown[] = {
    "foo", "layer", "layer:", "layer:2", "layer:00", "layer:01", "layer:0x1",
    "layer:-1", "layer:+1", "layer: 1", "layer:1 ", "layer:4294967297",
    "layer:18446744073709551617", "Layer:1", "snapshot", "snapshot:",
    "snapshot:2", "snapshot:s", "snapshot:s11", " ", "foo\nFAKE",
    "snapshot:\033[31m", "layer:\a",
  };
  static const struct {
    const char *name;
    int byte;
    bool can_write;
  } known[] = {
    { "", 'T', true }, { NULL, 'T', true }, { "layer:0", 'T', false },
    { "layer:1", 'b', false }, { "snapshot:1", 'T', false },
    { "snapshot:s1", 'T', false },
  };
  struct life *life = start ();
  struct export *open[NR (known)];

  for (size_t i = 0; i < NR (unknown); ++i) {
    errno = 0;
    CHECK (export_open (life, unknown[i], false) == NULL);
    CHECK (errno == ENOENT);
  }
  for (size_t i = 0; i < NR (known); ++i) {
    open[i] = export_open (life, known[i].name, false);
    CHECK (open[i] != NULL);
    CHECK (first_byte (life, open[i]) == known[i].byte);
    CHECK (export_can_write (life, open[i]) == known[i].can_write);
  }
  for (size_t i = 0; i < NR (known); i += 2)
    export_close (life, open[i]);
  CHECK (first_byte (life, open[5]) == 'T');
  open[0] = export_open (life, "", true);
  CHECK (open[0] && !export_can_write (life, open[0]));
  end (life);                   /* with clients still there */
}

/* The image of a client. */
static const struct image *
image_of (struct life *life, struct export *e)
{
  CLEANUP_VISIT struct life_visit visit;

  return export_enter (life, e, false, &visit);
}

/* Clients of a snapshot share an image, until the last one goes. */
static void
test_shared (void)
{
  struct life *life = start ();
  struct export *a = export_open (life, "snapshot:s1", true);
  struct export *b = export_open (life, "snapshot:s1", true), *c, *d;

  CHECK (a && b && image_of (life, a) == image_of (life, b));
  c = export_open (life, "layer:1", true);
  d = export_open (life, "layer:1", true);
  CHECK (c && d && image_of (life, c) == image_of (life, d));
  CHECK (image_of (life, a)->backing == image_of (life, c));
  export_close (life, a);
  export_close (life, d);
  CHECK (first_byte (life, b) == 'T' && first_byte (life, c) == 'b');
  a = export_open (life, "snapshot:s1", true);
  CHECK (a && image_of (life, a) == image_of (life, b));
  export_close (life, b);
  CHECK (first_byte (life, a) == 'T');
  export_close (life, a);
  a = export_open (life, "snapshot:s1", true);
  CHECK (a && first_byte (life, a) == 'T');
  end (life);
}

static void
test_list (void)
{
  struct nbdkit_exports exports = { .room = 4 };
  struct life *life = start ();

  CHECK (export_list (life, "qcow2", &exports) == 0);
  CHECK (strcmp (exports.text,
                 "=qcow2, 1 MiB virtual size, 1 backing file\n"
                 "snapshot:s1=snapshot 1, 1 MiB virtual size, taken "
                 "1970-01-01 00:00:00 UTC\n"
                 "layer:0=qcow2, 1 MiB virtual size\n"
                 "layer:1=raw, 4 B virtual size\n") == 0);
  for (unsigned room = 0; room < 4; room++) {
    exports = (struct nbdkit_exports) { .room = room };
    CHECK (export_list (life, "qcow2", &exports) == -1);
  }
  end (life);
}

/* A writer comes, for whom the top image is opened anew, while others come
 * and go.
 */
struct visitors {
  struct life *life;
  pthread_barrier_t begin;
};

static void *
come_and_go (void *arg)
{
  static const char *const names[] = {
    "layer:1", "snapshot:1", "layer:0", "layer:1"
  };
  struct visitors *v = arg;

  pthread_barrier_wait (&v->begin);
  for (size_t i = 0; i < NR (names); ++i) {
    struct nbdkit_exports exports = { .room = 9 };
    struct export *e = export_open (v->life, names[i], false);

    CHECK (e != NULL);
    CHECK (first_byte (v->life, e) == (i % 3 == 0 ? 'b' : 'T'));
    CHECK (export_list (v->life, "qcow2", &exports) == 0);
    export_close (v->life, e);
  }
  return NULL;
}

static void
test_at_once (void)
{
  for (unsigned round = 0; round < ROUNDS; ++round) {
    struct visitors v = { .life = start () };
    pthread_t threads[2];
    struct export *e;

    CHECK (pthread_barrier_init (&v.begin, NULL, 3) == 0);
    for (unsigned i = 0; i < 2; ++i)
      CHECK (pthread_create (&threads[i], NULL, come_and_go, &v) == 0);
    pthread_barrier_wait (&v.begin);
    e = export_open (v.life, "", false);
    CHECK (e != NULL && export_can_write (v.life, e));
    for (unsigned i = 0; i < 2; ++i)
      CHECK (pthread_join (threads[i], NULL) == 0);
    export_close (v.life, e);
    end (v.life);
    pthread_barrier_destroy (&v.begin);
  }
}

int
main (void)
{
  char command[sizeof dir + 16];

  CHECK (mkdtemp (dir) != NULL && chdir (dir) == 0);
  snprintf (path, sizeof path, "%s/top", dir);
  put_images ();
  test_names ();
  test_shared ();
  test_list ();
  test_at_once ();
  snprintf (command, sizeof command, "rm -rf '%s'", dir);
  CHECK (chdir ("/") == 0 && system (command) == 0);
  return 0;
}
