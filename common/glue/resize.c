/* The order to change the size of the disk.
 *
 * The chain is opened, locked and parsed as for a client who writes, and
 * closed again: what is served afterwards is opened anew.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "glue/orders.h"
#include "image/resize.h"
#include "report/report.h"

static int
refuse (int err)
{
  errno = err;
  return -1;
}

/* The files of the top image are open for writing after this. */
static int
upgrade (struct layer *top)
{
  if (source_file_upgrade (top->source) == 0 &&
      (top->data == NULL || source_file_upgrade (top->data) == 0))
    return 0;
  report_error ("%s: cannot be opened for writing: %m", top->name);
  return -1;
}

/* Write locks, and tables that are true under them. */
static int
begin_writing (struct chain *chain)
{
  struct layer *top = &chain->layers[0];
  const char *why;

  if (top->shares_data) {
    report_error ("%s: a backing file uses its data file, too, so its size "
                  "cannot be changed", top->name);
    return refuse (EINVAL);
  }
  if (chain_lock_top (chain, SOURCE_LOCK_WRITE, SOURCE_LOCK_READ) == -1 ||
      upgrade (top) == -1 ||
      chain_reopen_top (chain, false) == -1)
    return -1;
  why = image_why_read_only (chain_top (chain));
  if (why) {
    report_error ("%s: its size cannot be changed: %s", top->name, why);
    return refuse (EROFS);
  }
  return image_begin_writing (chain_top (chain));
}

static int
change_size (struct chain *chain, const struct orders *orders)
{
  struct image *img;
  uint64_t old;

  if (begin_writing (chain) == -1)
    return -1;
  img = chain_top (chain);
  old = img->len;
  if (image_resize (img, (uint64_t) orders->resize, orders->shrink) == -1) {
    const int err = errno;

    /* What it did so far is sound; leave nothing half done. */
    image_finish (img);
    errno = err;
    return -1;
  }
  report_debug ("%s: resize from=%" PRIu64 " to=%" PRIu64, img->name, old,
                img->len);
  return image_finish (img);
}

int
resize_run (const struct chain_settings *settings,
            const struct orders *orders)
{
  struct chain *chain;
  int r, err;

  if (settings->force_share) {
    report_error ("resize= and force-share=true exclude each other");
    return refuse (EINVAL);
  }
  chain = chain_open (settings);
  if (chain == NULL)
    return -1;
  r = change_size (chain, orders);
  err = errno;
  chain_unlock (chain);
  chain_close (chain);
  errno = err;
  return r;
}
