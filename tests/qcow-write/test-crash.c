/* The power may be cut at any moment while a qcow image is written.
 *
 * Usage: test-crash [PART NR_PARTS | long | FORM]
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "prove.h"

int
main (int argc, char **argv)
{
  bed_use_work_directory ();
  prove_end_of_file ("empty");
  prove_end_of_file ("base, empty");
  prove_crashes (argc, argv);
  return EXIT_SUCCESS;
}
