/* What a base is, when the image that names it does not say.
 *
 * Magic numbers: the probe functions of QEMU 7.2's block drivers, so that
 * what QEMU would open as something else is not taken for raw here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <string.h>

#include "chain/probe.h"
#include "include/checked.h"

static const struct magic {
  const char *format;
  size_t at;                    /* bytes from the start */
  size_t len;
  const char *bytes;
} magics[] = {
  { "qcow", 0, 4, "QFI\xfb" },
  { "qed", 0, 4, "QED\0" },
  { "vmdk", 0, 4, "KDMV" },
  { "vmdk", 0, 4, "COWD" },
  { "vmdk", 0, 21, "# Disk DescriptorFile" },
  { "vhdx", 0, 8, "vhdxfile" },
  { "vpc", 0, 8, "conectix" },
  { "vdi", 64, 4, "\x7f\x10\xda\xbe" },
  { "luks", 0, 6, "LUKS\xba\xbe" },
  { "parallels", 0, 16, "WithoutFreeSpace" },
  { "parallels", 0, 16, "WithouFreSpacExt" },
  { "bochs", 0, 22, "Bochs Virtual HD Image" },
  { "cloop", 0, 22, "#!/bin/sh\n#V2.0 Format" },
};

const char *
probe_head (const struct format *const *formats, const uint8_t *head,
            size_t head_len, uint64_t len)
{
  for (; *formats; formats++)
    if ((*formats)->probe && (*formats)->probe (head, head_len, len))
      return (*formats)->name;

  for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
    const struct magic *m = &magics[i];

    if (range_is_inside (m->at, m->len, head_len) &&
        memcmp (head + m->at, m->bytes, m->len) == 0)
      return m->format;
  }
  return "raw";
}

const char *
probe_source (const struct format *const *formats, struct source *src)
{
  uint8_t head[FORMAT_PROBE_LEN];
  uint64_t len = source_len (src);
  size_t head_len = MIN (len, (uint64_t) sizeof head);

  if (source_pread (src, head, head_len, 0) == -1)
    return NULL;
  return probe_head (formats, head, head_len, len);
}

const struct format *
probe_find (const struct format *const *formats, const char *name)
{
  for (; *formats; formats++)
    if (strcmp ((*formats)->name, name) == 0)
      return *formats;
  return NULL;
}
