/* Changing the length of a disk: what is the same for all formats.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "image/image.h"
#include "image/resize.h"
#include "image/write.h"
#include "include/checked.h"
#include "report/report.h"

/* Disks are made of sectors, as far as other programs are concerned. */
#define SECTOR_LEN 512

static int
refuse (int err)
{
  errno = err;
  return -1;
}

int
image_resize (struct image *img, uint64_t len, bool may_shrink)
{
  if (img->format->resize == NULL) {
    report_error ("%s: the size of %s images cannot be changed", img->name,
                  img->format->name);
    return refuse (ENOTSUP);
  }
  if (len > INT64_MAX - SECTOR_LEN) {
    report_error ("%s: a disk of %" PRIu64 " bytes is too large", img->name,
                  len);
    return refuse (EFBIG);
  }
  len = round_up (len, SECTOR_LEN);
  if (len == img->len)
    return 0;
  if (len < img->len && !may_shrink) {
    report_error ("%s: the disk has %" PRIu64 " bytes, and would lose those "
                  "behind %" PRIu64 "; if that is wanted say shrink=true",
                  img->name, img->len, len);
    return refuse (EINVAL);
  }
  if (image_begin_change (img) == -1)
    return -1;
  return img->format->resize (img, len);
}

/* Does the range [guest, guest+len) read as zeroes by its mapping? */
struct look {
  uint64_t len;                 /* of the run that begins there */
  bool is_zero;
};

static int
note_run (void *opaque, uint64_t guest, uint64_t len, unsigned flags)
{
  struct look *look = opaque;

  (void) guest;
  look->len = len;
  look->is_zero = flags & STATUS_ZERO;
  return 1;
}

/* A step is so long at most: it is work for a bounded time. */
#define STEP_LEN (UINT64_C (1) << 30)

int
image_zero_new_part (struct image *img, uint64_t from)
{
  while (from < img->len) {
    struct look look = { .len = 0 };

    if (image_status (img, img->len - from, from, true, note_run,
                      &look) == -1)
      return -1;
    if (!look.is_zero) {
      look.len = MIN (look.len, STEP_LEN);
      if (image_zero (img, look.len, from, true, false) == -1)
        return -1;
    }
    from += look.len;
  }
  return 0;
}
