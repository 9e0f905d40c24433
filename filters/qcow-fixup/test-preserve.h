/* Headers made and read by hand, and a memory to keep them alive in: for
 * the tests of preserve.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_TEST_PRESERVE_H
#define NDF_QCOW_FIXUP_TEST_PRESERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/record.h"
#include "source/source.h"

#include "preserve.h"

#define MAX_CLUSTER (UINT32_C (1) << 21)

/* ---- headers */

/* A sound header of an image with disk, tables and cluster size; 'fields'
 * go to byte 112.  Returns its end, where extensions begin.
 */
extern size_t put_header (uint8_t *b, unsigned version, unsigned bits,
                          size_t header_len, const char *fields);

/* One extension at 'at'; returns its padded end. */
extern size_t put_bytes (uint8_t *b, size_t at, uint32_t type,
                         const void *data, size_t len);
extern size_t put (uint8_t *b, size_t at, uint32_t type, const char *text);

/* A backing name; the header then says so. */
extern void put_name (uint8_t *b, size_t at, const char *name);

/* What a reader finds in cluster 0, in words: "v3 120 FIELDS TYPE:DATA ...
 * <NAME>", or "unsound".  Data of more than 40 bytes are given as length and
 * byte, if all are the same, or checksum.  The caller frees it.
 */
extern char *describe (const uint8_t *b, size_t cluster_len);

/* ---- the world below */

struct world {
  struct record *record;
  struct source *src;
  struct preserve *p;
  struct preserve_below below;
  uint8_t *cluster;             /* scratch of MAX_CLUSTER bytes */
  size_t cluster_len;
  size_t nr_reads, nr_writes, nr_flushes;
  bool tears;                   /* the next write fails, but has made its
                                   first 8 bytes zero */
  uint64_t last_host;           /* of the last write */
  size_t last_len;
};

/* A file of 'len' bytes that begins with cluster 0; what is there is loaded
 * unless 'load' is false.
 */
extern struct world *world_new (const uint8_t *cluster, size_t cluster_len,
                                uint64_t len, enum preserve_mode mode,
                                bool load);
extern void world_free (struct world *w);
extern void world_forget_counts (struct world *w);

/* Requests as the filter makes them; 0 or -1 with errno. */
extern int client_write (struct world *w, const void *buf, size_t len,
                         uint64_t host);
extern int client_zero (struct world *w, uint64_t len, uint64_t host);
extern void client_read (struct world *w, void *buf, size_t len,
                         uint64_t host);

/* What lies there, without being seen by anybody. */
extern const uint8_t *on_disk (struct world *w);

/* End the program unless the file's header is, in words, 'expected'. */
#define EXPECT(w, expected) expect (w, expected, __FILE__, __LINE__)
extern void expect (struct world *w, const char *expected, const char *file,
                    int line);

/* Reports since the last call of reports_forget. */
extern unsigned nr_errors, nr_warnings;
extern void reports_forget (void);

#endif /* NDF_QCOW_FIXUP_TEST_PRESERVE_H */
