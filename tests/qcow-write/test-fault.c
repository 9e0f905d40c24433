/* Each I/O and each allocation of writing a qcow image fails once.
 *
 * Usage: test-fault [long | FORM]
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
  prove_no_space ("fixed");
  prove_no_space ("fixed, small clusters");
  prove_faults (argc, argv);
  return EXIT_SUCCESS;
}
