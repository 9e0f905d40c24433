/* Block devices.
 *
 * Space is never discarded: after BLKDISCARD a device may return anything.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "include/checked.h"
#include "source/device.h"

/* A number from the queue directory of a device or, for a partition, of
 * its disk.
 */
static uint64_t
queue_number (dev_t rdev, const char *property)
{
  static const char *const places[] = { "queue", "../queue" };

  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    unsigned long long v = 0;
    char path[128];
    FILE *fp;
    int n;

    snprintf (path, sizeof path, "/sys/dev/block/%u:%u/%s/%s",
              major (rdev), minor (rdev), places[i], property);
    fp = fopen (path, "re");
    if (fp == NULL)
      continue;
    n = fscanf (fp, "%llu", &v);
    fclose (fp);
    return n == 1 ? v : 0;
  }
  return 0;
}

int
device_measure (int fd, dev_t rdev, struct device *dev, uint64_t *len)
{
  unsigned physical = 0;
  int logical = 0;

  if (ioctl (fd, BLKGETSIZE64, len) == -1
      || ioctl (fd, BLKSSZGET, &logical) == -1)
    return -1;
  if (logical <= 0 || logical > DEVICE_BLOCK_MAX
      || !is_power_of_2 ((uint64_t) logical)) {
    errno = ENOTSUP;
    return -1;
  }
  dev->block_len = (uint32_t) logical;
  dev->alignment = MAX (dev->block_len, 512U);
  if (ioctl (fd, BLKPBSZGET, &physical) == 0 && is_power_of_2 (physical))
    dev->alignment = MAX (dev->alignment, physical);
  dev->zeroes_quickly = queue_number (rdev, "write_zeroes_max_bytes") > 0;
  return 0;
}

int
device_zero (int fd, const struct device *dev, uint64_t len, uint64_t host)
{
  uint64_t range[2] = { host, len };
  int r;

  if (!dev->zeroes_quickly) {
    errno = ENOTSUP;
    return -1;
  }
  do
    r = ioctl (fd, BLKZEROOUT, range);
  while (r == -1 && errno == EINTR);
  if (r == -1 && (errno == ENOTTY || errno == EOPNOTSUPP))
    errno = ENOTSUP;
  return r;
}

bool
device_is_rotational (dev_t rdev)
{
  return queue_number (rdev, "rotational") == 1;
}
