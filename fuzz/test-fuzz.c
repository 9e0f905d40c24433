/* Run a fuzz target without libFuzzer: over its corpus and a fixed
 * number of its mutants, the same ones each time.
 *
 *   test-fuzz-FORMAT [FILE...]     runs the target on these files instead
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "corpus.h"
#include "fuzz.h"
#include "image/image.h"
#include "include/testing.h"
#include "source/memory.h"

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
check_opens (const uint8_t *bytes, size_t len)
{
  CLEANUP_SOURCE struct source *src = corpus.source
    ? corpus.source (bytes, len)
    : source_memory_copy ("image", bytes, len, INT64_MAX);
  struct image *img;

  CHECK (src != NULL);
  img = image_open (corpus.format, src, "image", 65536);
  CHECK (img != NULL);
  image_close (img);
}

static void
test_image_and_mutants (unsigned i)
{
  uint8_t *bytes, *mutant;
  unsigned seed;
  size_t len;

  corpus.make (i, &bytes, &len);
  check_opens (bytes, len);
  LLVMFuzzerTestOneInput (bytes, len);
  mutant = malloc (len);
  CHECK (mutant != NULL);
  for (seed = 0; seed < corpus.nr_mutants; ++seed) {
    size_t mutant_len = len;
    unsigned n;

    memcpy (mutant, bytes, len);
    mutate_seed = seed;
    for (n = 0; n <= seed % 3; ++n)
      mutant_len = LLVMFuzzerCustomMutator (mutant, mutant_len, len,
                                            seed * 4 + n);
    LLVMFuzzerTestOneInput (mutant, mutant_len);
  }
  free (mutant);
  free (bytes);
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
    for (i = 0; i < corpus.nr; ++i)
      test_image_and_mutants (i);
  return EXIT_SUCCESS;
}
