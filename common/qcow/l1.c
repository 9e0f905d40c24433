/* The L1 table of an image that was judged, entry by entry.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "qcow/l1.h"

void
qcow_l1_begin (struct qcow_l1_reader *r, struct source *src,
               const struct qcow_header *h, const struct qcow_verdict *v)
{
  r->src = src;
  r->h = h;
  r->v = v;
  r->first = r->nr = 0;
}

static int
read_piece (struct qcow_l1_reader *r, uint64_t index)
{
  const uint64_t nr = MIN (r->h->nr_l1 - index,
                           (uint64_t) sizeof r->bytes / 8);

  r->nr = 0;
  if (source_pread_padded (r->src, r->bytes, nr * 8,
                           r->h->l1_host + index * 8) == -1)
    return -1;
  r->first = index;
  r->nr = nr;
  return 0;
}

int
qcow_l1_word (struct qcow_l1_reader *r, uint64_t index, uint64_t *word)
{
  if ((index < r->first || index - r->first >= r->nr) &&
      read_piece (r, index) == -1)
    return -1;
  *word = load_be64 (r->bytes + (index - r->first) * 8);
  return 0;
}

int
qcow_l1_entry (struct qcow_l1_reader *r, uint64_t index, uint64_t *entry)
{
  if (r->v->table == NULL)
    return qcow_l1_word (r, index, entry);
  *entry = r->v->table[index];
  return 0;
}
