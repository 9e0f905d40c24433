/* Write the fuzzer's first qcow2 images into a directory.
 *
 *   make-corpus-qcow2 DIRECTORY
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "corpus-qcow2.h"

static int
write_image (const char *dir, unsigned i)
{
  struct test_image t;
  const char *what = corpus_qcow2_make (i, &t);
  char path[4096];
  FILE *f;
  int r = -1;

  snprintf (path, sizeof path, "%s/%s.qcow2", dir, what);
  f = fopen (path, "wb");
  if (f) {
    r = fwrite (t.bytes, 1, t.len, f) == t.len ? 0 : -1;
    if (fclose (f) != 0)
      r = -1;
  }
  if (r == -1)
    perror (path);
  test_image_free (&t);
  return r;
}

int
main (int argc, char *argv[])
{
  unsigned i;

  if (argc != 2) {
    fprintf (stderr, "usage: %s DIRECTORY\n", argv[0]);
    return EXIT_FAILURE;
  }
  for (i = 0; i < CORPUS_QCOW2_NR; ++i)
    if (write_image (argv[1], i) == -1)
      return EXIT_FAILURE;
  return EXIT_SUCCESS;
}
