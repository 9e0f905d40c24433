/* What each sector of a disk has held, and when: what may be found after a
 * power cut.
 *
 * Sectors are written by one request at a time; requests on different
 * sectors may run at once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_TEST_HISTORY_H
#define NDF_TOY_TEST_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/lock.h"

#define HISTORY_SECTOR 512

struct history;

/* 'bytes', 'len' long (whole sectors), is what the disk holds, durably. */
extern struct history *history_new (const uint8_t *bytes, uint64_t len);
extern void history_free (struct history *h);

/* A request is about to write bytes[0..len-1] (NULL: zeroes); the log of
 * the record is at 'position'.  Until history_done it may or may not be
 * there.
 */
extern void history_begin (struct history *h, const uint8_t *bytes,
                           uint64_t len, uint64_t guest, size_t position);

/* It has been answered: well, or with a failure, after which it still may
 * be there or not.
 */
extern void history_done (struct history *h, uint64_t len, uint64_t guest,
                          bool failed);

/* A flush begins; the ticket tells what was answered before it. */
extern uint64_t history_flush_begin (struct history *h);

/* It was answered well, with the log at 'position'. */
extern void history_flush_done (struct history *h, uint64_t ticket,
                                size_t position);

/* May the sectors from 'guest' on hold bytes[0..len-1] after a power cut at
 * 'position'?  If not, the first bad byte's sector is put in *guest_bad.
 */
extern bool history_allows (struct history *h, const uint8_t *bytes,
                            uint64_t len, uint64_t guest, size_t position,
                            uint64_t *guest_bad);

/* Is it just what the disk held at first? */
extern bool history_is_first (struct history *h, const uint8_t *bytes,
                              uint64_t len, uint64_t guest);

/* What was read from a running disk must be the newest, or, after a
 * failed request, one of those since the last that went well; from now on
 * it is the newest.  False if it is none of them.
 */
extern bool history_adopt (struct history *h, const uint8_t *bytes,
                           uint64_t len, uint64_t guest, size_t position);

#endif /* NDF_TOY_TEST_HISTORY_H */
