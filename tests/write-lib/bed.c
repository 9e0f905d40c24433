/* What the tests of writing stand on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "raw/raw.h"
#include "source/memory.h"
#include "bed.h"
#include "chance.h"

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
                            "%s/image-write-XXXXXX", tmp)
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

bool
bed_can_make (const struct form *form)
{
  return form->commands == NULL || bed_has_qemu ();
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
  char command[200];

  CHECK (kind.can_qemu_check);
  snprintf (command, sizeof command, "qemu-img check -f %s image >said 2>&1",
            kind.format->name);
  return run_command (command);
}

static uint8_t *
read_out (uint64_t len)
{
  CLEANUP_SOURCE struct source *out = load_file ("out.raw");

  CHECK (source_len (out) == len);
  return bed_bytes (out);
}

uint8_t *
bed_qemu_read (const char *options, uint64_t len)
{
  char command[200];

  snprintf (command, sizeof command,
            "qemu-img convert -f %s %s -O raw image out.raw",
            kind.format->name, options);
  bed_run (command);
  return read_out (len);
}

static bool
is_same (const uint8_t *a, const uint8_t *b, uint64_t len, const char *who,
         FILE *fp)
{
  uint64_t i = 0;

  if (memcmp (a, b, len) == 0)
    return true;
  while (a[i] == b[i])
    i++;
  if (fp)
    fprintf (fp, "%s reads %02x at %" PRIu64 ", not %02x\n", who, a[i], i,
             b[i]);
  return false;
}

bool
bed_reads_as (const struct bed *bed, bool ask_qemu, const uint8_t *buf,
              FILE *fp)
{
  if (kind.read) {
    CLEANUP_FREE uint8_t *ours = malloc (bed->len);

    CHECK (ours != NULL);
    kind.read (bed, ours);
    if (!is_same (ours, buf, bed->len, "our reader", fp))
      return false;
  }
  if (ask_qemu && bed_has_qemu ()) {
    CLEANUP_FREE uint8_t *theirs = NULL;

    bed_export (bed);
    theirs = bed_qemu_read ("", bed->len);
    if (!is_same (theirs, buf, bed->len, "qemu-img", fp))
      return false;
  }
  return true;
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
    kind.build (bed);
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

static struct source *
copy_source (struct source *src)
{
  CLEANUP_FREE uint8_t *bytes = bed_bytes (src);
  struct source *copy = source_memory_copy ("first", bytes, source_len (src),
                                            source_len (src));

  CHECK (copy != NULL);
  return copy;
}

void
bed_make (struct bed *bed, const struct form *form)
{
  *bed = (struct bed) { .form = form, .limit = NO_LIMIT };
  make_base (bed);
  make_sources (bed);
  if (form->populated)
    populate (bed);
  if (form->extras)
    kind.add_extras (bed);
  if (form->room) {
    bed->limit = round_up (source_len (bed->src), 512) + form->room;
    bed->src = fix_length (bed->src, bed->limit);
  }
  bed->first = copy_source (bed->src);
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
  img = image_open_wishes (kind.format, bed->src, "image",
                           bed->form->cache_limit ?: MIB,
                           &bed->form->wishes);
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
  source_put (bed->first);
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
