/* What an open qcow2 image is made of: img->state.
 *
 * Private to this room.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_STATE_H
#define NDF_QCOW2_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "image/codec.h"
#include "image/image.h"
#include "image/damage.h"
#include "qcow2/entry.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"

struct qcow2_writer;

/* The top table of the disk; entries past the disk's end (they hold the
 * state of a virtual machine) are none of our business.
 */
struct l1_table {
  uint64_t host;                /* bytes, a multiple of the cluster size */
  uint64_t nr_entries;          /* that the disk needs */
};

/* All constant since open, but for what says otherwise. */
struct qcow2 {
  struct qcow2_header header;
  struct extension_list extensions;

  struct entry_rules rules;
  uint32_t cluster_len;
  unsigned entry_bits;          /* log2 of the bytes of an L2 entry */
  unsigned l2_bits;             /* log2 of the entries of an L2 table */
  unsigned subcluster_bits;     /* log2 of their bytes; cluster_bits when
                                   there are none */
  enum codec codec;
  struct l1_table l1;

  struct damage_log damage;     /* has its own lock */
  _Atomic bool has_warned_of_end;

  struct qcow2_writer *writer;  /* NULL: not open for writing; owned */
};

static inline struct qcow2 *
qcow2_state (const struct image *img)
{
  return img->state;
}

#endif /* NDF_QCOW2_STATE_H */
