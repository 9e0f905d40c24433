/* Write a fuzzer's first images into a directory.
 *
 *   make-corpus-FORMAT DIRECTORY
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "corpus.h"

static int
write_image (const char *dir, unsigned i)
{
  uint8_t *bytes;
  size_t len;
  const char *what = corpus.make (i, &bytes, &len);
  char path[4096];
  FILE *f;
  int r = -1;

  snprintf (path, sizeof path, "%s/%s.%s", dir, what, corpus.suffix);
  f = fopen (path, "wb");
  if (f) {
    r = fwrite (bytes, 1, len, f) == len ? 0 : -1;
    if (fclose (f) != 0)
      r = -1;
  }
  if (r == -1)
    perror (path);
  free (bytes);
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
  for (i = 0; i < corpus.nr; ++i)
    if (write_image (argv[1], i) == -1)
      return EXIT_FAILURE;
  return EXIT_SUCCESS;
}
