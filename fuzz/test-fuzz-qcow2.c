/* Run the qcow2 fuzz target without libFuzzer: over the corpus and a fixed
 * number of its mutants, the same ones each time.
 *
 *   test-fuzz-qcow2 [FILE...]     runs the target on these files instead
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "corpus-qcow2.h"
#include "fuzz.h"
#include "image/image.h"
#include "include/testing.h"
#include "qcow2/qcow2.h"
#include "source/memory.h"

#define NR_MUTANTS 400
#define MAX_FILE_LEN (16 * 1024 * 1024)

static unsigned mutate_seed;

/* libFuzzer's is not there: one byte is changed, or the end is cut. */
size_t
LLVMFuzzerMutate (uint8_t *data, size_t len, size_t max_len)
{
  unsigned r = mutate_seed = mutate_seed * 1103515245 + 12345;

  (void) max_len;
  if (len == 0)
    return 0;
  if (r % 16 == 0)
    return (r >> 8) % len;
  data[(r >> 4) % len] = r >> 24;
  return len;
}

/* Without mutation it must open, or the mutants show nothing. */
static void
check_opens (const struct test_image *t)
{
  CLEANUP_SOURCE struct source *src =
    source_memory_copy ("image", t->bytes, t->len, INT64_MAX);
  struct image *img;

  CHECK (src != NULL);
  img = image_open (&qcow2_format, src, "image", 65536);
  CHECK (img != NULL);
  image_close (img);
}

static void
test_image_and_mutants (unsigned i)
{
  struct test_image t;
  uint8_t *bytes;
  unsigned seed;

  corpus_qcow2_make (i, &t);
  check_opens (&t);
  LLVMFuzzerTestOneInput (t.bytes, t.len);
  bytes = malloc (t.len);
  CHECK (bytes != NULL);
  for (seed = 0; seed < NR_MUTANTS; ++seed) {
    size_t len = t.len;
    unsigned n;

    memcpy (bytes, t.bytes, len);
    mutate_seed = seed;
    for (n = 0; n <= seed % 3; ++n)
      len = LLVMFuzzerCustomMutator (bytes, len, t.len, seed * 4 + n);
    LLVMFuzzerTestOneInput (bytes, len);
  }
  free (bytes);
  test_image_free (&t);
}

static void
run_file (const char *path)
{
  FILE *f = fopen (path, "rb");
  uint8_t *bytes = malloc (MAX_FILE_LEN);
  size_t len;

  CHECK (f != NULL && bytes != NULL);
  len = fread (bytes, 1, MAX_FILE_LEN, f);
  CHECK (!ferror (f));
  fclose (f);
  LLVMFuzzerTestOneInput (bytes, len);
  free (bytes);
}

int
main (int argc, char *argv[])
{
  unsigned i;
  int arg;

  for (arg = 1; arg < argc; ++arg)
    run_file (argv[arg]);
  if (argc == 1)
    for (i = 0; i < CORPUS_QCOW2_NR; ++i)
      test_image_and_mutants (i);
  return EXIT_SUCCESS;
}
