/* What parts of a disk must read as: windows at some places, each of whose
 * sectors is known or not.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_SHADOW_H
#define NDF_FUZZ_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

#define SHADOW_SECTOR 512
#define SHADOW_SECTORS 32       /* in a window */
#define SHADOW_WINDOW (SHADOW_SECTORS * SHADOW_SECTOR)
#define SHADOW_NR_WINDOWS 4

struct shadow {
  uint64_t len;                 /* of the disk, bytes, whole sectors */
  struct {
    uint64_t guest;
    uint64_t len;
    bool known[SHADOW_SECTORS];
    uint8_t bytes[SHADOW_WINDOW];
  } windows[SHADOW_NR_WINDOWS];
};

/* Take down what the disk reads as; unknown is what cannot be read. */
extern void shadow_take (struct shadow *s, struct image *img);

/* Abort unless everything that is known reads so. */
extern void shadow_check (const struct shadow *s, struct image *img);

/* The range is full of 'byte' now; or with SHADOW_UNKNOWN of anything. */
#define SHADOW_UNKNOWN (-1)
extern void shadow_change (struct shadow *s, uint64_t guest, uint64_t len,
                           int byte);

#endif /* NDF_FUZZ_SHADOW_H */
