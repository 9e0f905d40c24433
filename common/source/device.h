/* What only block devices need: their size, their blocks, zeroing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_SOURCE_DEVICE_H
#define NDF_SOURCE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Devices with larger logical blocks are refused. */
#define DEVICE_BLOCK_MAX 65536

struct device {
  uint32_t block_len;           /* logical block, bytes; a power of 2 */
  uint32_t alignment;           /* physical block, >= block_len */
  bool zeroes_quickly;          /* without writing them itself */
};

/* Ask an open block device for its properties and its length in bytes.
 * -1 with errno, unreported.
 */
extern int device_measure (int fd, dev_t rdev, struct device *dev,
                           uint64_t *len);

/* Zero whole blocks; ENOTSUP, with nothing changed, where the kernel would
 * only write zeroes.
 */
extern int device_zero (int fd, const struct device *dev, uint64_t len,
                        uint64_t host);

/* Is the device, or the disk that a partition is on, rotational? */
extern bool device_is_rotational (dev_t rdev);

#endif /* NDF_SOURCE_DEVICE_H */
