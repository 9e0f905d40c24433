/* A file without fault.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdio.h>

int
f (void)
{
  return 0;
}
/* 0000000000000000000000000000000000000000000000000000000000000000000000000 */

int
g (void)
{
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
  f ();
}
