/* How the qcow fuzzer's input becomes a file.
 *
 * L1 entries that make sense in both byte orders are possible in files
 * beyond 4 GiB only.  So header byte 34, which the format leaves free,
 * says where the input from 4096 * byte 35 on lies: 2 to 25 times it.  0:
 * the file is the input.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_FUZZ_INPUT_QCOW_H
#define NDF_FUZZ_INPUT_QCOW_H

#define INPUT_AT_FAR 34
#define INPUT_FAR_BITS 25
#define INPUT_AT_CUT 35
#define INPUT_CUT_BITS 12

/* The file is so long if there is a far part: 16 GiB. */
#define INPUT_FAR_FILE_LEN (UINT64_C (1) << 34)

#endif /* NDF_FUZZ_INPUT_QCOW_H */
