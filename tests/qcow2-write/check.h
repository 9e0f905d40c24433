/* Is a qcow2 image sound?  A judge of our own, written from the format's
 * description and without any of the driver's code.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_QCOW2_CHECK_H
#define NDF_TEST_QCOW2_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "source/source.h"
#include "bed.h"

/* Look through everything.  An error is what can lose data: a count lower
 * than the number of references, COPIED in the active tables where the
 * count is not 1 or missing where it is, entries with reserved bits, out of
 * line or a cluster or more beyond the end of the file, unaligned or
 * missing refcount blocks.
 *
 * 'strict' adds what QEMU does not look for and a correct writer never
 * makes: a cluster that serves two purposes, one that a table names twice,
 * the zero flag in version 2, bit 0 in extended entries.
 *
 * What is found is printed to 'fp' unless that is NULL.
 */
extern void check_image (struct source *src, bool strict, FILE *fp,
                         struct report *report);

/* How often each cluster of the file is referred to; *nr of them, to be
 * freed.  Of a file whose counts do not matter.
 */
extern uint64_t *check_references (struct source *src, uint64_t *nr);

#endif /* NDF_TEST_QCOW2_CHECK_H */
