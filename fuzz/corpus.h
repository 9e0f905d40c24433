/* Small images for a fuzzer to begin with.
 *
 * There is one corpus-FORMAT.c for each format; make-corpus.c and
 * test-fuzz.c are linked with one of them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_CORPUS_H
#define NDF_FUZZ_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "image/format.h"
#include "source/source.h"

struct corpus {
  const struct format *format;
  const char *suffix;           /* of such files' names */
  unsigned nr;                  /* of inputs */
  unsigned nr_mutants;          /* of each that test-fuzz tries */

  /* Make input number 'i', less than nr, and say what it is.  The caller
   * frees *bytes.
   */
  const char *(*make) (unsigned i, uint8_t **bytes, size_t *len);

  /* The file that an input stands for; NULL: it is the file. */
  struct source *(*source) (const uint8_t *bytes, size_t len);
};

extern const struct corpus corpus;

#endif /* NDF_FUZZ_CORPUS_H */
