/* Incompatible features: those we know, and names for those we do not.
 *
 * The names come from the image and go to a terminal: only printable ASCII
 * is let through.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2, "Feature name table".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qcow2/extension.h"
#include "qcow2/feature.h"
#include "qcow2/refuse.h"

/* An entry of the table: class, bit, name padded with zeroes. */
#define ENTRY_LEN 48
#define ENTRY_NAME 2
#define NAME_LEN (ENTRY_LEN - ENTRY_NAME)
#define CLASS_INCOMPATIBLE 0

/* Names of this many unknown features are told. */
#define MAX_NAMED 8

/* The name that the image gives incompatible bit 'bit', in 'out'. */
static void
find_name (const struct extension *table, unsigned bit,
           char out[NAME_LEN + 1])
{
  uint32_t at;
  size_t i;

  for (at = 0; table && at + ENTRY_LEN <= table->len; at += ENTRY_LEN) {
    const uint8_t *entry = table->data + at;

    if (entry[0] != CLASS_INCOMPATIBLE || entry[1] != bit ||
        entry[ENTRY_NAME] == '\0')
      continue;
    for (i = 0; i < NAME_LEN && entry[ENTRY_NAME + i] != '\0'; ++i) {
      uint8_t c = entry[ENTRY_NAME + i];

      out[i] = c >= ' ' && c < 0x7f ? c : '?';
    }
    out[i] = '\0';
    return;
  }
  out[0] = '\0';
}

/* The table of names, as far as the list before it can be read. */
static const struct extension *
find_table (const uint8_t *cluster, const struct qcow2_header *h,
            struct extension *ext)
{
  struct extension_walk walk;

  extension_walk_start (&walk, cluster, h);
  while (extension_walk_next (&walk, ext) == 1)
    if (ext->type == EXTENSION_FEATURE_NAMES)
      return ext;
  return NULL;
}

int
qcow2_features_check (const char *name, const uint8_t *cluster,
                      const struct qcow2_header *h)
{
  uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
  char list[MAX_NAMED * (NAME_LEN + 20) + 1] = "";
  const struct extension *table;
  struct extension ext;
  size_t len = 0;
  unsigned nr = 0;

  if (unknown == 0)
    return 0;
  table = find_table (cluster, h, &ext);
  for (; unknown != 0 && nr < MAX_NAMED; unknown &= unknown - 1, ++nr) {
    unsigned bit = __builtin_ctzll (unknown);
    char feature[NAME_LEN + 1];

    find_name (table, bit, feature);
    len += snprintf (list + len, sizeof list - len, "%sbit %u%s%s%s",
                     nr ? ", " : "", bit, feature[0] ? " (" : "", feature,
                     feature[0] ? ")" : "");
  }
  return REFUSE (ENOTSUP, "%s: the image needs features that are not "
                 "supported: incompatible feature %s%s (header byte 72); "
                 "convert it with the program that made it",
                 name, list, unknown ? ", ..." : "");
}
