/* What parts of a disk must read as.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "include/checked.h"
#include "look.h"
#include "shadow.h"

void
shadow_take (struct shadow *s, struct image *img)
{
  const uint64_t last = img->len - MIN (img->len, (uint64_t) SHADOW_WINDOW);
  const uint64_t places[SHADOW_NR_WINDOWS] = {
    0, img->len / 3, img->len / 2, last,
  };
  unsigned i, j;

  s->len = img->len;
  for (i = 0; i < SHADOW_NR_WINDOWS; ++i) {
    const uint64_t guest = round_down (MIN (places[i], last), SHADOW_SECTOR);
    const uint64_t len = MIN (img->len - guest, (uint64_t) SHADOW_WINDOW);
    uint8_t *bytes = s->windows[i].bytes;
    const bool all = image_read (img, bytes, len, guest) == 0;

    s->windows[i].guest = guest;
    s->windows[i].len = len;
    for (j = 0; j < len / SHADOW_SECTOR; ++j)
      s->windows[i].known[j] = all ||
        image_read (img, bytes + j * SHADOW_SECTOR, SHADOW_SECTOR,
                    guest + j * SHADOW_SECTOR) == 0;
  }
}

void
shadow_check (const struct shadow *s, struct image *img)
{
  uint8_t buf[SHADOW_WINDOW];
  unsigned i, j;

  PROMISE (img->len == s->len);
  for (i = 0; i < SHADOW_NR_WINDOWS; ++i) {
    const uint64_t guest = s->windows[i].guest;
    const uint64_t len = s->windows[i].len;
    const bool all = image_read (img, buf, len, guest) == 0;

    for (j = 0; j < len / SHADOW_SECTOR; ++j) {
      const size_t at = j * SHADOW_SECTOR;

      if (!s->windows[i].known[j])
        continue;
      if (!all)
        PROMISE (image_read (img, buf + at, SHADOW_SECTOR, guest + at) == 0);
      PROMISE (memcmp (buf + at, s->windows[i].bytes + at,
                       SHADOW_SECTOR) == 0);
    }
  }
}

/* Bytes [from, to) of window 'i' changed. */
static void
change_window (struct shadow *s, unsigned i, uint64_t from, uint64_t to,
               int byte)
{
  uint64_t j;

  if (byte != SHADOW_UNKNOWN)
    memset (s->windows[i].bytes + from, byte, to - from);
  for (j = from / SHADOW_SECTOR; j * SHADOW_SECTOR < to; ++j) {
    const bool whole = from <= j * SHADOW_SECTOR &&
      (j + 1) * SHADOW_SECTOR <= to;

    if (byte == SHADOW_UNKNOWN)
      s->windows[i].known[j] = false;
    else if (whole)
      s->windows[i].known[j] = true;
  }
}

void
shadow_change (struct shadow *s, uint64_t guest, uint64_t len, int byte)
{
  unsigned i;

  for (i = 0; i < SHADOW_NR_WINDOWS; ++i) {
    const uint64_t start = s->windows[i].guest;
    const uint64_t from = MAX (guest, start);
    const uint64_t to = MIN (guest + len, start + s->windows[i].len);

    if (from < to)
      change_window (s, i, from - start, to - start, byte);
  }
}
