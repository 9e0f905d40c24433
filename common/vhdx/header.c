/* The file identifier and the two headers.
 *
 * A header is valid when signature and checksum are right.  The current
 * one is the valid one with the greater sequence number; whatever else is
 * wrong with it, the other is no substitute: it may describe a log whose
 * space has been used again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "report/refuse.h"
#include "vhdx/crc32c.h"
#include "vhdx/header.h"

#define SIGNATURE "head"

bool
vhdx_header_probe (const uint8_t *head, size_t head_len)
{
  return head_len >= VHDX_IDENTIFIER_LEN &&
    memcmp (head, VHDX_IDENTIFIER, VHDX_IDENTIFIER_LEN) == 0;
}

static void
parse (const uint8_t *p, unsigned index, struct vhdx_header *h)
{
  *h = (struct vhdx_header) {
    .index = index,
    .sequence = load_le64 (p + 8),
    .file_write = guid_load (p + 16),
    .data_write = guid_load (p + 32),
    .log = guid_load (p + 48),
    .log_version = load_le16 (p + 64),
    .version = load_le16 (p + 66),
    .log_len = load_le32 (p + 68),
    .log_host = load_le64 (p + 72),
  };
}

static bool
is_valid (const uint8_t *p)
{
  return memcmp (p, SIGNATURE, 4) == 0 &&
    load_le32 (p + 4) == crc32c_of_structure (p, VHDX_HEADER_LEN);
}

/* Which of the two is current?  -1, reported. */
static int
choose (const char *name, uint8_t p[2][VHDX_HEADER_LEN])
{
  const bool first = is_valid (p[0]), second = is_valid (p[1]);
  const uint64_t a = load_le64 (p[0] + 8), b = load_le64 (p[1] + 8);

  if (!first && !second)
    return REFUSE (EINVAL, "%s: neither of the headers at bytes %" PRIu64
                   " and %" PRIu64 " is valid (signature \"head\" and "
                   "checksum)", name, VHDX_HEADER_HOST (0),
                   VHDX_HEADER_HOST (1));
  if (!first || !second)
    return second;
  if (a != b)
    return b > a;
  if (memcmp (p[0], p[1], VHDX_HEADER_LEN) == 0)
    return 0;
  return REFUSE (EINVAL, "%s: both headers have sequence number %" PRIu64
                 " but differ, so that none is current", name, a);
}

static int
check_log_range (const char *name, const struct vhdx_header *h,
                 uint64_t file_len)
{
  if (h->log_host % VHDX_MIB != 0 || h->log_len % VHDX_MIB != 0)
    return REFUSE (EINVAL, "%s: the log at byte %" PRIu64 ", %" PRIu64
                   " bytes long, is not in units of 1 MiB (header %u, "
                   "bytes 68 and 72)", name, h->log_host, h->log_len,
                   h->index + 1);
  if (h->log_len == 0) {
    if (guid_is_zero (&h->log))
      return 0;
    return REFUSE (EINVAL, "%s: the log is in use but has no length (header "
                   "%u, bytes 48 and 68)", name, h->index + 1);
  }
  if (h->log_len > VHDX_MAX_LOG_LEN)
    return REFUSE (EINVAL, "%s: the log is %" PRIu64 " bytes long (header "
                   "%u, byte 68); at most 1 GiB is possible", name,
                   h->log_len, h->index + 1);
  if (h->log_host < VHDX_SECTION_LEN)
    return REFUSE (EINVAL, "%s: the log at byte %" PRIu64 " (header %u, "
                   "byte 72) lies in the header section", name, h->log_host,
                   h->index + 1);
  if (!range_is_inside (h->log_host, h->log_len, file_len))
    return REFUSE (EINVAL, "%s: the log at byte %" PRIu64 ", %" PRIu64
                   " bytes long (header %u, bytes 68 and 72), is not within "
                   "the file, which has %" PRIu64 " bytes", name,
                   h->log_host, h->log_len, h->index + 1, file_len);
  return 0;
}

static int
check (const char *name, const struct vhdx_header *h, uint64_t file_len)
{
  if (h->version != 1)
    return REFUSE (ENOTSUP, "%s: VHDX version %" PRIu16 " (header %u, byte "
                   "66) is not known", name, h->version, h->index + 1);
  if (h->log_version != 0 && !guid_is_zero (&h->log))
    return REFUSE (ENOTSUP, "%s: log version %" PRIu16 " (header %u, byte "
                   "64) is not known", name, h->log_version, h->index + 1);
  return check_log_range (name, h, file_len);
}

int
vhdx_header_read (struct source *src, const char *name,
                  struct vhdx_header *h)
{
  uint8_t p[2][VHDX_HEADER_LEN];
  int current;

  if (source_pread_padded (src, p[0], VHDX_IDENTIFIER_LEN, 0) == -1)
    return -1;
  if (!vhdx_header_probe (p[0], VHDX_IDENTIFIER_LEN))
    return REFUSE (EINVAL, "%s: is not a VHDX file: it does not begin with "
                   "\"" VHDX_IDENTIFIER "\"", name);
  for (unsigned i = 0; i < 2; ++i)
    if (source_pread_padded (src, p[i], VHDX_HEADER_LEN,
                             VHDX_HEADER_HOST (i)) == -1)
      return -1;
  current = choose (name, p);
  if (current == -1)
    return -1;
  parse (p[current], current, h);
  return check (name, h, source_len (src));
}
