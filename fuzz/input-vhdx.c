/* How the VHDX fuzzer's input becomes a file.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "input-vhdx.h"
#include "look.h"
#include "source/memory.h"

struct source *
input_vhdx_source (const uint8_t *data, size_t len)
{
  uint64_t file_len = 0;
  struct source *src;

  if (len >= INPUT_HEAD)
    file_len = MIN (load_le64 (data), INPUT_MAX_FILE_LEN);
  src = source_memory ("image", file_len, file_len);
  if (src == NULL)
    return NULL;
  for (size_t at = INPUT_HEAD; at + INPUT_RECORD <= len;
       at += INPUT_RECORD) {
    const uint64_t host = (uint64_t) load_le32 (data + at) * INPUT_PAGE;
    const uint64_t n = host < file_len
      ? MIN (file_len - host, (uint64_t) INPUT_PAGE) : 0;

    if (n > 0)
      PROMISE (source_pwrite (src, data + at + 4, n, host) == 0);
  }
  source_memory_set_readonly (src, true);
  return src;
}
