/* Extents of a whole disk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* The most that one question may ask for, in whole MiB. */
#define MAX_QUESTION ((UINT64_C (4) << 30) - (UINT64_C (1) << 20))

struct answer {
  struct map *m;
  uint64_t guest, end;
};

static void
add_extent (struct map *m, uint64_t guest, uint64_t len, uint32_t flags)
{
  struct map_extent *last = m->nr > 0 ? &m->extent[m->nr - 1] : NULL;

  if (last && last->flags == flags && last->guest + last->len == guest) {
    last->len += len;
    return;
  }
  if (m->nr == m->allocated) {
    m->allocated = m->allocated ? 2 * m->allocated : 1024;
    m->extent = realloc (m->extent, m->allocated * sizeof m->extent[0]);
    if (m->extent == NULL)
      fail ("no memory for %zu extents", m->allocated);
  }
  m->extent[m->nr++] = (struct map_extent) { guest, len, flags };
}

static int
take_answer (void *opaque, const char *context, uint64_t guest,
             uint32_t *entries, size_t nr_entries, int *error)
{
  struct answer *a = opaque;
  size_t i;

  (void) guest;
  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  for (i = 0; i + 1 < nr_entries && a->guest < a->end; i += 2) {
    const uint64_t len = entries[i] < a->end - a->guest ? entries[i]
      : a->end - a->guest;

    add_extent (a->m, a->guest, len, entries[i + 1]);
    a->guest += len;
  }
  return 0;
}

void
map_load (struct map *m, struct nbd_handle *nbd)
{
  const int64_t size = nbd_get_size (nbd);
  nbd_extent_callback callback = { .callback = take_answer };
  struct answer a;

  *m = (struct map) { 0 };
  if (size == -1)
    fail ("%s", nbd_get_error ());
  if (nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
    fail ("the server tells no extents");
  a = (struct answer) { .m = m, .end = size };
  callback.user_data = &a;
  while (a.guest < a.end) {
    const uint64_t guest = a.guest;
    uint64_t len = a.end - guest;

    if (len > MAX_QUESTION)
      len = MAX_QUESTION;
    if (nbd_block_status (nbd, len, guest, callback, 0) == -1)
      fail ("%s", nbd_get_error ());
    if (a.guest == guest)
      fail ("no extents at %" PRIu64, guest);
    m->nr_calls++;
  }
}

void
map_free (struct map *m)
{
  free (m->extent);
}

uint64_t
map_digest (const struct map *m)
{
  uint64_t h = 0;
  uint32_t zero, before = 0;
  size_t i;

  for (i = 0; i < m->nr; i++) {
    zero = m->extent[i].flags & LIBNBD_STATE_ZERO;
    if (i == 0 || zero != before)
      h = random_mix (h ^ random_mix (m->extent[i].guest + 1) ^ zero);
    before = zero;
  }
  return h;
}
