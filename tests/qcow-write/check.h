/* Is a qcow (version 1) image sound?  A judge and a reader of our own,
 * written from the format's description and without any of the driver's
 * code.
 *
 * Format: block/qcow.c in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TEST_QCOW_CHECK_H
#define NDF_TEST_QCOW_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "source/source.h"
#include "bed.h"

/* Look through everything.  An error is what loses data, or what a correct
 * writer never makes: bytes that serve two purposes, but for streams that
 * several entries name; tables and clusters out of line, or not wholly in
 * the file; streams that do not decode; entries behind the disk's end.
 *
 * Entries that are as they were in 'first' (may be NULL) may be out of
 * line, reach beyond the end of the file, and name one cluster twice:
 * others may have written them so.
 *
 * Leaks are bytes that nothing refers to, in whole clusters.  What is found
 * is printed to 'fp' unless that is NULL.
 */
extern void check_image (struct source *src, struct source *first, FILE *fp,
                         struct report *report);

/* Where the last thing that something refers to ends.  The image is
 * sound.
 */
extern uint64_t check_end (struct source *src);

/* May a writer that began with 'first' have left the image like that?  The
 * header, what lies behind it, and the name are as they were; but
 * min_cluster_alloc of Xen's header is 1 before anything else is changed.
 */
extern bool check_kept (struct source *src, struct source *first, FILE *fp);

/* Read the whole disk; 'base' may be NULL.  The image is sound. */
extern void check_read (struct source *src, struct source *base,
                        uint8_t *buf, uint64_t len);

#endif /* NDF_TEST_QCOW_CHECK_H */
