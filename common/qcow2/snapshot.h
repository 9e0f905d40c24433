/* The table of internal snapshots.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW2_SNAPSHOT_H
#define NDF_QCOW2_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "qcow2/state.h"

#define SNAPSHOT_MAX_NR UINT32_C (65536)
#define SNAPSHOT_MAX_EXTRA 1024
#define SNAPSHOT_MAX_TABLE_LEN (UINT64_C (64) << 20)

/* An entry of the table, spec "Snapshots".  Its length is that without the
 * padding behind it.
 */
struct snapshot {
  uint64_t l1_host;             /* bytes; unchecked */
  uint32_t l1_size;             /* entries; unchecked */
  uint32_t seconds, nanoseconds;        /* since the epoch */
  uint64_t vm_clock;            /* nanoseconds */
  uint64_t vm_state_len;
  bool has_disk_len;            /* else it is that of the active disk */
  uint64_t disk_len;
  uint32_t extra_len;
  uint64_t host;                /* where the entry begins in the file */
  uint64_t len;                 /* bytes */
  uint64_t id_host;             /* where the id begins; the name follows */
  uint16_t id_len, name_len;
};

/* Going through the table in order, with bounded memory. */
struct snapshot_reader {
  const struct image *img;
  uint32_t index, nr;           /* next entry, of so many */
  uint64_t start, next;         /* bytes; the table, the next entry */
  uint8_t *bytes;               /* a window of the file; owned */
  uint64_t window;              /* where it begins; bytes */
  bool is_filled;
};

/* -1, reported, errno ENOMEM; free it in either case. */
extern int snapshot_reader_start (struct snapshot_reader *reader,
                                  const struct image *img,
                                  const struct qcow2_header *h);

/* The next entry: 1; 0 at the end; -1, reported, errno EINVAL or EIO. */
extern int snapshot_reader_next (struct snapshot_reader *reader,
                                 struct snapshot *snapshot);

extern void snapshot_reader_free (struct snapshot_reader *reader);

/* Check what the header says of the table, and all of its entries; a bad
 * L1 table of a snapshot is a matter of that snapshot alone.
 * Returns 0; -1, reported, errno EINVAL, EIO or ENOMEM.
 */
extern int snapshot_table_check (const struct image *img,
                                 const struct qcow2_header *h);

#endif /* NDF_QCOW2_SNAPSHOT_H */
