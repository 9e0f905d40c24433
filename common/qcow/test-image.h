/* Hand-made qcow images in memory, for unit tests and fuzzers: as QEMU
 * makes them, and as every tapdisk did.
 *
 * The image is a source from the start, so that it may be far longer than
 * memory.  Everything that does not fit ends the test program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_TEST_IMAGE_H
#define NDF_QCOW_TEST_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcow/header.h"
#include "source/source.h"

enum test_qcow_xen {
  TEST_QCOW_PLAIN,              /* no extended header: QEMU's layout */
  TEST_QCOW_XEN_12,             /* of 2006: no flags, a name begins at 60 */
  TEST_QCOW_XEN_16,
  TEST_QCOW_XEN_20,             /* XenSource's of 2007 */
  TEST_QCOW_XEN_REVERSED,       /* 16 bytes, after the converter of 2008 */
};

enum test_qcow_order {
  TEST_QCOW_BIG,
  TEST_QCOW_LITTLE,
  TEST_QCOW_MIXED,              /* the first 'nr_big' entries are big */
  TEST_QCOW_ALTERNATE,          /* those with an odd index are */
};

enum test_qcow_cksum {
  TEST_QCOW_CKSUM_GOOD,         /* of the table before it was converted: all
                                   big for TEST_QCOW_BIG, else little */
  TEST_QCOW_CKSUM_BIG,          /* of the big endian table, whatever lies
                                   there */
  TEST_QCOW_CKSUM_CREATED,      /* of the empty table */
  TEST_QCOW_CKSUM_STALE,
};

/* What to make.  Zeroes everywhere but in disk_len are a sound choice. */
struct test_qcow_spec {
  uint64_t disk_len;            /* bytes */
  unsigned cluster_bits;        /* 0: 12, with a backing name 9 */
  unsigned l2_bits;             /* 0: 9, with a backing name 12 */
  const char *backing;          /* the name, or NULL */
  uint64_t backing_host;        /* 0: directly behind the header */
  uint64_t l1_host;             /* 0: as the creator chooses */
  enum test_qcow_xen xen;
  bool is_reserved;             /* tapdisk's file of full length */
  bool has_flags;               /* 'flags' counts; else they are sparse
                                   unless is_reserved, and big for
                                   TEST_QCOW_BIG */
  uint32_t flags;
  bool has_min_cluster_alloc;   /* likewise; else tapdisk's choice */
  uint32_t min_cluster_alloc;
  enum test_qcow_order order;
  uint64_t nr_big;
  enum test_qcow_cksum cksum;
  bool cksum_is_straight;       /* as a big endian host stored it */
  uint64_t gap;                 /* left free behind the L1 table's block:
                                   512 for Xen 3.4 */
  bool has_stray;               /* a native header behind that gap */
  uint64_t first_l2;            /* 0: where there is room; else there */
  uint64_t file_len;            /* at least so long */

  /* Which spans are allocated: the first, then every nth.  0: every span.
   * UINT64_MAX: only the first.
   */
  uint64_t every_nth;
  bool is_empty;                /* none is allocated */
  bool is_backwards;            /* the last span lies first in the file */

  /* So many clusters at the start of an allocated span hold data (0: 2).
   * Without a backing name all the others are there too, as holes in the
   * file: tapdisk allocates whole spans.
   */
  unsigned nr_data;
};

struct test_qcow {
  struct source *src;           /* owned; writable, can grow */
  struct test_qcow_spec spec;   /* with the choices made */
  uint64_t nr_l1;
  uint64_t *l1;                 /* what the entries mean; owned */
  uint64_t end;                 /* where the next extent would go */
};

extern void test_qcow_make (struct test_qcow *t,
                            const struct test_qcow_spec *spec);
extern void test_qcow_free (struct test_qcow *t);

/* The fields of the header, through qcow_header_check, which must agree. */
extern void test_qcow_header (const struct test_qcow *t,
                              struct qcow_header *h);

/* Store a number of 'width' bytes, big endian, or read it. */
extern void test_qcow_poke (struct test_qcow *t, uint64_t host,
                            unsigned width, uint64_t value);
extern uint64_t test_qcow_peek (const struct test_qcow *t, uint64_t host,
                                unsigned width);

/* Store an L1 entry in an order; t->l1 follows, the checksum does not. */
extern void test_qcow_set_l1 (struct test_qcow *t, uint64_t index,
                              uint64_t value, bool is_big);

/* Store the checksum of the table that t->l1 says, in that order. */
extern void test_qcow_set_cksum (struct test_qcow *t, bool is_big);

/* Is the guest's byte in a span that is allocated? */
extern bool test_qcow_has_span (const struct test_qcow *t, uint64_t guest);

/* Set the L2 entry for a guest offset as it is on disk; the table, an empty
 * one, is added when the span has none (its L1 entry in the order of the
 * spec, mixed ones in big endian).
 */
extern void test_qcow_set_l2 (struct test_qcow *t, uint64_t guest,
                              uint64_t entry);

/* Add a cluster full of 'byte' for the guest's; where it lies. */
extern uint64_t test_qcow_add_data (struct test_qcow *t, uint64_t guest,
                                    uint8_t byte);

/* The same, compressed. */
extern uint64_t test_qcow_add_packed (struct test_qcow *t, uint64_t guest,
                                      uint8_t byte);

/* What the sectors with data hold; no two are alike, none is zero. */
extern void test_qcow_sector (uint64_t guest_sector, uint8_t sector[512]);

/* What a guest reads: sectors of the data put there by test_qcow_make, and
 * zeroes.  'guest' and 'len' are multiples of 512; without a backing file.
 */
extern void test_qcow_expect (const struct test_qcow *t, void *buf,
                              size_t len, uint64_t guest);

#endif /* NDF_QCOW_TEST_IMAGE_H */
