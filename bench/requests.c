/* Which request comes next: patterns over the blocks of the ranges.
 *
 * PATTERN_DIRECTORY writes as ext4 does in its ordered mode when files are
 * made in a directory: data of small files, one after the other in a block
 * group; then the journal's blocks, a flush, and the commit block with
 * FUA; every few transactions the metadata at their places.  The disk is
 * in block groups of 128 MiB, the journal in the middle.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "bench.h"

#define GROUP_LEN        (UINT64_C (128) << 20)
#define GROUP_DATA       (UINT64_C (4) << 20)   /* metadata before it */
#define JOURNAL_LEN      (UINT64_C (64) << 20)
#define JOURNAL_BLOCKS   7                      /* and one for the commit */
#define FILES            8                      /* in one transaction */
#define MAX_FILE_BLOCKS  16
#define CHECKPOINT_EVERY 8
#define TRANSACTIONS_IN_GROUP 16
#define VISIT_LEN \
  ((uint64_t) TRANSACTIONS_IN_GROUP * FILES * MAX_FILE_BLOCKS * PAGE_LEN)

static void
make_permutation (struct pattern_state *p)
{
  const uint64_t nr = p->ranges->nr_blocks;
  uint64_t i;

  if (nr > UINT64_C (1) << 26)
    fail ("too many blocks to permute; give ranges or a larger block");
  p->permutation = allocate (nr, sizeof p->permutation[0]);
  for (i = 0; i < nr; i++)
    p->permutation[i] = i;
  for (i = nr - 1; i > 0; i--) {
    const uint64_t j = random_next (&p->seed) % (i + 1);
    const uint32_t t = p->permutation[i];

    p->permutation[i] = p->permutation[j];
    p->permutation[j] = t;
  }
}

void
pattern_init (struct pattern_state *p)
{
  if (p->pattern == PATTERN_PERMUTED)
    make_permutation (p);
  if (p->pattern == PATTERN_DIRECTORY && p->disk_len < 4 * GROUP_LEN)
    fail ("a disk of at least 512 MiB is needed for this pattern");
}

void
pattern_free (struct pattern_state *p)
{
  free (p->permutation);
}

static struct request *
enqueue (struct pattern_state *p, uint64_t guest, uint32_t len)
{
  struct request *req = &p->queue[p->queue_len++];

  *req = (struct request) { .op = OP_WRITE, .guest = guest, .len = len };
  return req;
}

/* Small files, one after the other; each visit to a group begins at a
 * place of its own, which has room for the largest that may come.
 */
static void
enqueue_files (struct pattern_state *p, uint64_t group, uint64_t round)
{
  unsigned i;

  if (p->nr_transactions % TRANSACTIONS_IN_GROUP == 0)
    p->file = group + GROUP_DATA +
      round * VISIT_LEN % ((GROUP_LEN - GROUP_DATA) / VISIT_LEN * VISIT_LEN);
  for (i = 0; i < FILES; i++) {
    const uint32_t blocks = 1 + random_next (&p->seed) % MAX_FILE_BLOCKS;

    enqueue (p, p->file, blocks * PAGE_LEN);
    p->file += blocks * PAGE_LEN;
  }
}

static void
enqueue_journal (struct pattern_state *p)
{
  const uint64_t len = (JOURNAL_BLOCKS + 1) * PAGE_LEN;
  uint64_t guest = p->disk_len / 2 / GROUP_LEN * GROUP_LEN + GROUP_DATA;
  struct request *req;

  guest += p->nr_transactions * len % JOURNAL_LEN;
  enqueue (p, guest, JOURNAL_BLOCKS * PAGE_LEN);
  p->queue[p->queue_len++] = (struct request) { .op = OP_FLUSH,
                                                .barrier = true };
  req = enqueue (p, guest + JOURNAL_BLOCKS * PAGE_LEN, PAGE_LEN);
  req->fua = req->barrier = true;
}

/* Bitmaps, descriptors and inodes, at their places. */
static void
enqueue_checkpoint (struct pattern_state *p, uint64_t group)
{
  const uint64_t inodes = group + 16 * PAGE_LEN;
  const uint64_t first = p->nr_transactions / CHECKPOINT_EVERY % 256;

  enqueue (p, PAGE_LEN, PAGE_LEN);
  enqueue (p, group + 4 * PAGE_LEN, PAGE_LEN);
  enqueue (p, group + 5 * PAGE_LEN, PAGE_LEN);
  enqueue (p, inodes + 2 * first * PAGE_LEN, PAGE_LEN);
  enqueue (p, inodes + (2 * first + 1) * PAGE_LEN, PAGE_LEN);
}

static void
make_transaction (struct pattern_state *p)
{
  const uint64_t nr_groups = p->disk_len / GROUP_LEN;
  const uint64_t visit = p->nr_transactions / TRANSACTIONS_IN_GROUP;
  uint64_t group = visit % nr_groups;

  if (group == nr_groups / 2)
    group--;                    /* that one holds the journal */
  group *= GROUP_LEN;
  p->queue_len = p->queue_next = 0;
  enqueue_files (p, group, visit / nr_groups);
  enqueue_journal (p);
  p->nr_transactions++;
  if (p->nr_transactions % CHECKPOINT_EVERY == 0)
    enqueue_checkpoint (p, group);
}

static bool
next_of_directory (struct pattern_state *p, struct request *req)
{
  if (p->queue_next == p->queue_len)
    make_transaction (p);
  *req = p->queue[p->queue_next++];
  return true;
}

bool
pattern_next (struct pattern_state *p, struct request *req)
{
  const struct ranges *r = p->ranges;
  uint64_t n = p->nr_given;

  if (p->pattern == PATTERN_DIRECTORY)
    return next_of_directory (p, req);

  if (p->flush_every != 0 && p->since_flush == p->flush_every) {
    p->since_flush = 0;
    *req = (struct request) { .op = OP_FLUSH, .barrier = true };
    return true;
  }
  if (p->pattern == PATTERN_PERMUTED) {
    if (n >= r->nr_blocks)
      return false;
    n = p->permutation[n];
  }
  else if (p->pattern == PATTERN_RANDOM)
    n = random_next (&p->seed);
  *req = (struct request) {
    .op = p->op,
    .guest = ranges_place (r, n % r->nr_blocks),
    .len = r->block_len,
  };
  p->nr_given++;
  p->since_flush++;
  return true;
}
