/* How the VHDX fuzzer's input becomes a file.
 *
 * Such files have several MiB at least, nearly all of them zeroes.  So the
 * input is the length of the file, in le64, and then records: a page's
 * number in the file, in le32, and its bytes.  Of two for one page the
 * later one counts; a last record that is not whole does not.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_INPUT_VHDX_H
#define NDF_FUZZ_INPUT_VHDX_H

#include <stddef.h>
#include <stdint.h>

#include "source/source.h"

#define INPUT_PAGE 4096
#define INPUT_HEAD 8
#define INPUT_RECORD (4 + INPUT_PAGE)

/* Files are not made longer than this: 512 TiB. */
#define INPUT_MAX_FILE_LEN (UINT64_C (1) << 49)

/* The file, read-only; NULL with errno ENOMEM. */
extern struct source *input_vhdx_source (const uint8_t *data, size_t len);

#endif /* NDF_FUZZ_INPUT_VHDX_H */
