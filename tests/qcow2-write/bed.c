/* What the tests of writing qcow2 stand on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"
#include "source/memory.h"
#include "bed.h"

#define NO_LIMIT (UINT64_C (1) << 40)

/* ---- the working directory, and qemu-img */

static char work_directory[PATH_MAX];

static void
remove_work_directory (void)
{
  static const char *const names[] = {
    "image", "data", "base", "out.raw", "said",
  };

  for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i)
    unlink (names[i]);
  if (chdir ("/") == 0)
    rmdir (work_directory);
}

void
bed_use_work_directory (void)
{
  const char *tmp = getenv ("TMPDIR") ?: "/tmp";

  CHECK ((size_t) snprintf (work_directory, sizeof work_directory,
                            "%s/qcow2-write-XXXXXX", tmp)
         < sizeof work_directory);
  CHECK (mkdtemp (work_directory) != NULL);
  CHECK (chdir (work_directory) == 0);
  CHECK (atexit (remove_work_directory) == 0);
}

bool
bed_has_qemu (void)
{
  static int has = -1;

  if (has == -1) {
    has = system ("qemu-img --version >/dev/null 2>&1 && "
                  "qemu-io --version >/dev/null 2>&1") == 0;
    if (!has)
      fprintf (stderr, "no qemu-img: a part of this test is left out\n");
  }
  return has;
}

/* Run a command: its exit status. */
static int
run_command (const char *command)
{
  const int status = system (command);

  CHECK (status != -1 && WIFEXITED (status));
  return WEXITSTATUS (status);
}

void
bed_run (const char *command)
{
  if (run_command (command) != 0) {
    fprintf (stderr, "this failed:\n%s\n", command);
    exit (EXIT_FAILURE);
  }
}

static struct source *
load_file (const char *name)
{
  CLEANUP_CLOSE int fd = open (name, O_RDONLY | O_CLOEXEC);
  CLEANUP_FREE uint8_t *bytes = NULL;
  struct source *src;
  struct stat st;

  CHECK (fd != -1 && fstat (fd, &st) == 0);
  bytes = malloc (MAX (st.st_size, 1));
  CHECK (bytes != NULL);
  CHECK (read (fd, bytes, st.st_size) == st.st_size);
  src = source_memory_copy (name, bytes, st.st_size, NO_LIMIT);
  CHECK (src != NULL);
  return src;
}

static void
store_file (const char *name, const uint8_t *bytes, uint64_t len)
{
  CLEANUP_CLOSE int fd = open (name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                               0600);

  CHECK (fd != -1);
  CHECK (write (fd, bytes, len) == (ssize_t) len);
}

uint8_t *
bed_bytes (struct source *src)
{
  const uint64_t len = source_len (src);
  uint8_t *bytes = malloc (MAX (len, UINT64_C (1)));

  CHECK (bytes != NULL);
  CHECK (source_pread (src, bytes, len, 0) == 0);
  return bytes;
}

static void
export_source (struct source *src, const char *name)
{
  CLEANUP_FREE uint8_t *bytes = bed_bytes (src);

  store_file (name, bytes, source_len (src));
}

void
bed_export (const struct bed *bed)
{
  export_source (bed->src, "image");
  if (bed->data)
    export_source (bed->data, "data");
  if (bed->base)
    export_source (bed->base, "base");
}

int
bed_qemu_check (void)
{
  return run_command ("qemu-img check -f qcow2 image >said 2>&1");
}

static uint8_t *
read_out (uint64_t len)
{
  CLEANUP_SOURCE struct source *out = load_file ("out.raw");

  CHECK (source_len (out) == len);
  return bed_bytes (out);
}

uint8_t *
bed_qemu_read (uint64_t len)
{
  bed_run ("qemu-img convert -f qcow2 -O raw image out.raw");
  return read_out (len);
}

uint8_t *
bed_qemu_read_snapshot (const char *name, uint64_t len)
{
  char command[200];

  snprintf (command, sizeof command, "qemu-img convert -l snapshot.name=%s "
            "-f qcow2 -O raw image out.raw", name);
  bed_run (command);
  return read_out (len);
}

/* ---- chance */

uint64_t
chance (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
chance_fill (uint64_t *state, uint8_t *buf, uint64_t len)
{
  uint64_t v = 0;

  for (uint64_t i = 0; i < len; ++i) {
    if (i % 8 == 0)
      v = chance (state);
    buf[i] = (v >> (i % 8 * 8)) | 1;
  }
}

void
chance_range (uint64_t *state, uint64_t start, uint64_t end, uint64_t max,
              uint64_t *guest, uint64_t *len)
{
  static const uint64_t grains[] = { 1, 512, 512, 4096, 65536 };
  const uint64_t sizes[] = { 512, 4096, max / 4 + 1, max };
  const uint64_t grain = grains[chance_below (state, 5)];
  uint64_t n = 1 + chance_below (state, sizes[chance_below (state, 4)]);
  uint64_t at = start + chance_below (state, end - start);

  at = MAX (round_down (at, grain), start);
  n = MIN (round_up (n, MIN (grain, max)), end - at);
  *guest = at;
  *len = n;
}

/* ---- the bed */

uint8_t
bed_base_byte (const struct form *form, uint64_t guest)
{
  if (guest >= form->backing_len || guest / 8192 % 5 == 3)
    return 0;
  return 2 + guest / 512 * 7 % 251 + guest % 3;
}

static void
make_base (struct bed *bed)
{
  const uint64_t len = bed->form->backing_len;
  CLEANUP_FREE uint8_t *bytes = malloc (MAX (len, UINT64_C (1)));

  CHECK (bytes != NULL);
  if (len == 0)
    return;
  for (uint64_t i = 0; i < len; ++i)
    bytes[i] = bed_base_byte (bed->form, i);
  bed->base = source_memory_copy ("base", bytes, len, len);
  CHECK (bed->base != NULL);
}

/* In the order of the disk, with gaps of one in four pieces. */
static void
populate (struct bed *bed)
{
  const uint64_t piece = MAX (bed->form->populated / 16, UINT64_C (512));
  CLEANUP_FREE uint8_t *buf = malloc (piece);
  uint64_t state = 1, guest;

  CHECK (buf != NULL);
  bed_open (bed);
  for (guest = 0; guest + piece <= bed->form->populated; guest += piece) {
    if (guest / piece % 4 == 2)
      continue;
    chance_fill (&state, buf, piece);
    CHECK (image_write (bed->img, buf, piece, guest) == 0);
  }
  CHECK (image_finish (bed->img) == 0);
  bed_close (bed);
}

/* The source's bytes in one of fixed length, with some room. */
static struct source *
fix_length (struct source *src, uint64_t len)
{
  CLEANUP_FREE uint8_t *bytes = bed_bytes (src);
  struct source *fixed = source_memory (src->name, len, len);

  CHECK (fixed != NULL);
  CHECK (source_len (src) <= len);
  CHECK (source_pwrite (fixed, bytes, source_len (src), 0) == 0);
  source_put (src);
  return fixed;
}

static void
make_sources (struct bed *bed)
{
  const struct form *form = bed->form;

  if (form->commands == NULL) {
    bed->src = build_image (&form->shape);
    if (form->has_data) {
      bed->data = source_memory ("data", form->shape.features
                                 & SHAPE_RAW_DATA ? form->shape.len : 0,
                                 NO_LIMIT);
      CHECK (bed->data != NULL);
    }
    return;
  }
  CHECK (bed_has_qemu ());
  if (bed->base)
    export_source (bed->base, "base");
  bed_run (form->commands);
  bed->src = load_file ("image");
  if (form->has_data)
    bed->data = load_file ("data");
}

void
bed_make (struct bed *bed, const struct form *form)
{
  *bed = (struct bed) { .form = form, .limit = NO_LIMIT };
  make_base (bed);
  make_sources (bed);
  if (form->populated)
    populate (bed);
  if (form->has_snapshot)
    build_snapshot (bed->src, "one");
  if (form->has_autoclear)
    build_autoclear (bed->src);
  if (form->is_dirty)
    build_dirty (bed->src);
  if (form->room) {
    bed->limit = round_up (source_len (bed->src), 512) + form->room;
    bed->src = fix_length (bed->src, bed->limit);
  }
  bed_open (bed);
  bed->len = bed->img->len;
  bed_close (bed);
}

int
bed_try_open (struct bed *bed)
{
  CLEANUP_IMAGE struct image *base = NULL;
  CLEANUP_IMAGE struct image *img = NULL;

  if (bed->base) {
    base = image_open (&raw_format, bed->base, "base", MIB);
    if (base == NULL || image_connect (base, NULL, NULL) == -1)
      return -1;
  }
  img = image_open (&qcow2_format, bed->src, "image",
                    bed->form->cache_limit ?: MIB);
  if (img == NULL)
    return -1;
  if (image_connect (img, STEAL (base),
                     bed->data ? source_get (bed->data) : NULL) == -1)
    return -1;
  CHECK (image_why_read_only (img) == NULL);
  if (image_begin_writing (img) == -1)
    return -1;
  bed->img = STEAL (img);
  return 0;
}

void
bed_open (struct bed *bed)
{
  CHECK (bed_try_open (bed) == 0);
}

void
bed_close (struct bed *bed)
{
  image_close (bed->img);
  bed->img = NULL;
}

void
bed_free (struct bed *bed)
{
  bed_close (bed);
  source_put (bed->data);
  source_put (bed->src);
  source_put (bed->base);
}

const struct form *
bed_form (const char *name)
{
  for (size_t i = 0; i < bed_nr_forms; ++i)
    if (strcmp (bed_forms[i].name, name) == 0)
      return &bed_forms[i];
  fprintf (stderr, "no form is called %s\n", name);
  exit (EXIT_FAILURE);
}
