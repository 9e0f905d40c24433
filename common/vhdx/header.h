/* The file identifier and the two headers, of which one is current.
 *
 * Format: MS-VHDX 2.2; QEMU and Disk2vhd write two equal headers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_HEADER_H
#define NDF_VHDX_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/source.h"
#include "vhdx/guid.h"

#define VHDX_MIB UINT64_C (1048576)

/* No offset in a file is beyond. */
#define VHDX_MAX_HOST INT64_MAX

#define VHDX_IDENTIFIER "vhdxfile"
#define VHDX_IDENTIFIER_LEN 8
#define VHDX_HEADER_LEN 4096
#define VHDX_HEADER_HOST(i) (UINT64_C (65536) << (i)) /* 64, 128 KiB */

/* Everything up to here is the header section. */
#define VHDX_SECTION_LEN VHDX_MIB

#define VHDX_MAX_LOG_LEN (UINT64_C (1) << 30)

/* The current header. */
struct vhdx_header {
  unsigned index;               /* which of the two: 0 or 1 */
  uint64_t sequence;
  struct guid file_write;
  struct guid data_write;       /* identifies the data; children know it */
  struct guid log;              /* zero: the log is empty */
  uint16_t log_version;
  uint16_t version;
  uint64_t log_len;             /* bytes, a multiple of 1 MiB */
  uint64_t log_host;            /* bytes, likewise */
};

/* Could this begin a VHDX file? */
extern bool vhdx_header_probe (const uint8_t *head, size_t head_len);

/* Read identifier and headers, find out which is current, and check it.
 * 'name' is for messages.  0; -1, reported, errno EINVAL, ENOTSUP (another
 * version), EIO.
 */
extern int vhdx_header_read (struct source *src, const char *name,
                             struct vhdx_header *h);

#endif /* NDF_VHDX_HEADER_H */
