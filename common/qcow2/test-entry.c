/* Test the decoding of L2 entries.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/testing.h"
#include "qcow2/entry.h"
#include "qcow2/header.h"

#define GUEST UINT64_C (0x70000)
#define AT UINT64_C (0x50000)

static struct cluster
decode (const struct entry_rules *rules, uint64_t entry, uint64_t bitmap)
{
  struct cluster c;

  memset (&c, 0xa5, sizeof c);
  cluster_decode (rules, entry, bitmap, GUEST, &c);
  return c;
}

static void
test_standard (void)
{
  const struct entry_rules v3 = { .cluster_bits = 16,
                                  .has_zero_flag = true };
  const struct entry_rules v2 = { .cluster_bits = 16 };
  struct cluster c;

  c = decode (&v3, 0, 0);
  CHECK (c.kind == CLUSTER_BACKING && !c.allocated);
  c = decode (&v3, L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_BACKING && !c.allocated);
  c = decode (&v3, AT | L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_DATA && c.host == AT && c.copied && c.allocated);
  c = decode (&v3, AT, 0);
  CHECK (c.kind == CLUSTER_DATA && c.host == AT && !c.copied);
  c = decode (&v3, L2_ZERO, 0);
  CHECK (c.kind == CLUSTER_ZERO && !c.allocated);
  c = decode (&v3, AT | L2_ZERO | L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_ZERO && c.allocated && c.host == AT && c.copied);

  /* Reserved bits are masked. */
  c = decode (&v3, AT | L2_RESERVED, 0);
  CHECK (c.kind == CLUSTER_DATA && c.host == AT);
  c = decode (&v3, L2_RESERVED, 0);
  CHECK (c.kind == CLUSTER_BACKING);
  CHECK ((L2_COPIED | L2_PACKED | L2_HOST | L2_ZERO | L2_RESERVED)
         == UINT64_MAX);
  CHECK ((L1_COPIED | L1_HOST | L1_RESERVED) == UINT64_MAX);

  /* Unaligned, as data or as preallocated zeroes. */
  c = decode (&v3, AT + 512, 0);
  CHECK (c.kind == CLUSTER_DAMAGED && c.damage == DAMAGE_UNALIGNED);
  c = decode (&v3, (AT + 0x8000) | L2_ZERO, 0);
  CHECK (c.kind == CLUSTER_DAMAGED && c.damage == DAMAGE_UNALIGNED);
  c = decode (&v3, L2_HOST & ~UINT64_C (0xffff), 0);
  CHECK (c.kind == CLUSTER_DATA);

  c = decode (&v2, AT | L2_ZERO, 0);
  CHECK (c.kind == CLUSTER_DAMAGED && c.damage == DAMAGE_ZERO_IN_V2);
  c = decode (&v2, L2_ZERO, 0);
  CHECK (c.kind == CLUSTER_DAMAGED && c.damage == DAMAGE_ZERO_IN_V2);
  c = decode (&v2, AT | L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_DATA);
}

static void
test_data_file (void)
{
  const struct entry_rules rules = { .cluster_bits = 16,
                                     .has_zero_flag = true,
                                     .has_data_file = true };
  struct cluster c;

  c = decode (&rules, GUEST | L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_DATA && c.host == GUEST);
  c = decode (&rules, AT | L2_COPIED, 0);
  CHECK (c.damage == DAMAGE_DATA_FILE_HOST);
  c = decode (&rules, AT | L2_ZERO, 0);
  CHECK (c.damage == DAMAGE_DATA_FILE_HOST);
  c = decode (&rules, L2_COPIED, 0);
  CHECK (c.damage == DAMAGE_DATA_FILE_HOST);
  c = decode (&rules, 0, 0);
  CHECK (c.kind == CLUSTER_BACKING);
  c = decode (&rules, L2_ZERO, 0);
  CHECK (c.kind == CLUSTER_ZERO && !c.allocated);
  c = decode (&rules, AT | L2_PACKED, 0);
  CHECK (c.damage == DAMAGE_PACKED_IN_DATA_FILE);

  /* Guest cluster 0 lies at 0. */
  cluster_decode (&rules, L2_COPIED, 0, 0, &c);
  CHECK (c.kind == CLUSTER_DATA && c.host == 0 && c.allocated);
}

static void
test_extended (void)
{
  const struct entry_rules rules = { .cluster_bits = 16,
                                     .is_extended = true };
  const uint64_t all = UINT32_MAX;
  struct cluster c;
  enum cluster_kind kind;

  c = decode (&rules, AT | L2_COPIED, all);
  CHECK (c.kind == CLUSTER_DATA && c.host == AT);
  c = decode (&rules, AT, all << 32);
  CHECK (c.kind == CLUSTER_ZERO && c.allocated);
  c = decode (&rules, 0, all << 32);
  CHECK (c.kind == CLUSTER_ZERO && !c.allocated);
  c = decode (&rules, AT, 0);
  CHECK (c.kind == CLUSTER_BACKING && c.allocated);
  c = decode (&rules, 0, 0);
  CHECK (c.kind == CLUSTER_BACKING && !c.allocated);
  /* Bit 0 means nothing here. */
  c = decode (&rules, AT | L2_ZERO, all);
  CHECK (c.kind == CLUSTER_DATA);

  c = decode (&rules, AT, UINT64_C (1) << 40 | UINT64_C (1) << 8);
  CHECK (c.damage == DAMAGE_BOTH_BITS);
  c = decode (&rules, 0, 4);
  CHECK (c.damage == DAMAGE_ALLOCATED_NOWHERE);
  c = decode (&rules, 0, UINT64_C (1) << 33 | 4);
  CHECK (c.damage == DAMAGE_ALLOCATED_NOWHERE);
  c = decode (&rules, AT + 512, all);
  CHECK (c.damage == DAMAGE_UNALIGNED);
  /* The bitmap of a compressed cluster is ignored. */
  c = decode (&rules, AT | L2_PACKED, UINT64_MAX);
  CHECK (c.kind == CLUSTER_PACKED);

  /* Subclusters 0-1 data, 2 backing, 3-30 zero, 31 data. */
  c = decode (&rules, AT, UINT64_C (0x7ffffff8) << 32 | 0x80000003);
  CHECK (c.kind == CLUSTER_MIXED);
  CHECK (cluster_subcluster_run (&c, 0, &kind) == 2);
  CHECK (kind == CLUSTER_DATA);
  CHECK (cluster_subcluster_run (&c, 1, &kind) == 1);
  CHECK (cluster_subcluster_run (&c, 2, &kind) == 1);
  CHECK (kind == CLUSTER_BACKING);
  CHECK (cluster_subcluster_run (&c, 10, &kind) == 21);
  CHECK (kind == CLUSTER_ZERO);
  CHECK (cluster_subcluster_run (&c, 31, &kind) == 1);
  CHECK (kind == CLUSTER_DATA);
  c = decode (&rules, AT, 1);
  CHECK (cluster_subcluster_run (&c, 1, &kind) == 31);
  CHECK (kind == CLUSTER_BACKING);
}

/* For every cluster size: the field's edges by hand, then a round trip. */
static void
test_packed (uint32_t bits)
{
  const struct entry_rules rules = { .cluster_bits = bits,
                                     .has_zero_flag = true };
  unsigned x = 70 - bits;
  uint64_t cluster_len = UINT64_C (1) << bits;
  uint64_t top = UINT64_C (1) << x;
  uint64_t hosts[] = { 0, 1, 511, 512, cluster_len - 1, top - 1, top / 3 };
  uint64_t lens[] = { 1, 2, 511, 512, cluster_len - 1, cluster_len };
  struct cluster c;
  size_t i, j;

  c = decode (&rules, L2_PACKED, 0);
  CHECK (c.kind == CLUSTER_PACKED && c.host == 0 && c.packed_len == 512);
  c = decode (&rules, L2_PACKED | (top - 1), 0);
  CHECK (c.host == top - 1 && c.packed_len == 1);
  /* All count bits set: 2^(bits-8) sectors. */
  c = decode (&rules, UINT64_C (0x7fffffffffffffff), 0);
  CHECK (c.host == top - 1);
  CHECK (c.packed_len == (UINT64_C (1) << (bits - 8)) * 512 - 511);
  c = decode (&rules, L2_PACKED | L2_COPIED, 0);
  CHECK (c.kind == CLUSTER_DAMAGED && c.damage == DAMAGE_PACKED_COPIED);

  for (i = 0; i < sizeof hosts / sizeof hosts[0]; ++i) {
    for (j = 0; j < sizeof lens / sizeof lens[0]; ++j) {
      uint64_t end;

      if (hosts[i] + lens[j] > top)
        continue;
      c = decode (&rules, packed_entry (hosts[i], lens[j], bits), 0);
      CHECK (c.kind == CLUSTER_PACKED && c.host == hosts[i]);
      end = (hosts[i] + lens[j] + 511) / 512 * 512;
      CHECK (c.packed_len == end - hosts[i]);
    }
  }
}

int
main (void)
{
  uint32_t bits;

  test_standard ();
  test_data_file ();
  test_extended ();
  for (bits = QCOW2_MIN_CLUSTER_BITS; bits <= QCOW2_MAX_CLUSTER_BITS; ++bits)
    test_packed (bits);
  return EXIT_SUCCESS;
}
