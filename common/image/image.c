/* Open images: from opening to closing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "include/checked.h"
#include "report/report.h"

static struct image *
image_new (const struct format *format, struct source *src, const char *name,
           uint64_t cache_limit)
{
  struct image *img = calloc (1, sizeof *img);

  if (img == NULL)
    goto no_memory;
  img->format = format;
  img->source = source_get (src);
  img->data_source = source_get (src);
  img->cache_limit = cache_limit;
  range_locks_init (&img->ranges);
  lock_init (&img->format_lock);
  lock_init (&img->prepare_lock);
  img->name = strdup (name);
  img->passes = passes_new ();
  if (img->name != NULL && img->passes != NULL)
    return img;
  image_close (img);

 no_memory:
  report_error ("%s: no memory to open it", name);
  errno = ENOMEM;
  return NULL;
}

static struct image *
open_image (const struct format *format, struct source *src,
            const char *name, uint64_t cache_limit,
            const struct image_wishes *wishes)
{
  struct image *img = image_new (format, src, name, cache_limit);
  int err;

  if (img == NULL)
    return NULL;
  img->wishes = *wishes;
  if (format->open (img) == -1) {
    err = errno;
    image_close (img);
    errno = err;
    return NULL;
  }
  assert (is_power_of_2 (img->unit) && is_power_of_2 (img->zero_unit));
  assert (img->zero_unit <= img->unit);
  return img;
}

struct image *
image_open (const struct format *format, struct source *src,
            const char *name, uint64_t cache_limit)
{
  return image_open_fixup (format, src, name, cache_limit,
                           IMAGE_FIXUP_MEMORY);
}

struct image *
image_open_fixup (const struct format *format, struct source *src,
                  const char *name, uint64_t cache_limit,
                  enum image_fixup fixup)
{
  const struct image_wishes wishes = { .fixup = fixup };

  return image_open_wishes (format, src, name, cache_limit, &wishes);
}

struct image *
image_open_wishes (const struct format *format, struct source *src,
                   const char *name, uint64_t cache_limit,
                   const struct image_wishes *wishes)
{
  if (wishes->snapshot && format->snapshots == NULL) {
    report_error ("%s: there are no snapshots in %s images, so none \"%s\"",
                  name, format->name, wishes->snapshot);
    errno = ENOENT;
    return NULL;
  }
  return open_image (format, src, name, cache_limit, wishes);
}

int
image_connect (struct image *img, struct image *backing,
               struct source *data_source)
{
  img->backing = backing;
  if (data_source) {
    source_put (img->data_source);
    img->data_source = data_source;
  }
  return img->format->connected ? img->format->connected (img) : 0;
}

/* Everything but the backing image. */
static void
close_layer (struct image *img)
{
  if (img->passes)
    passes_discard (img);
  if (img->format->close)
    img->format->close (img);
  packed_free (img->packed);
  cache_free (img->cache);
  passes_free (img->passes);
  lock_destroy (&img->prepare_lock);
  lock_destroy (&img->format_lock);
  range_locks_destroy (&img->ranges);
  source_put (img->data_source);
  source_put (img->source);
  for (char **c = img->backing_candidates; c && *c; ++c)
    free (*c);
  free (img->backing_candidates);
  free (img->backing_name);
  free (img->backing_format);
  free (img->data_file_name);
  free (img->name);
  free (img);
}

void
image_close (struct image *img)
{
  while (img) {
    struct image *backing = img->borrows_backing ? NULL : img->backing;

    close_layer (img);
    img = backing;
  }
}

int
image_make_cache (struct image *img, uint32_t page_len)
{
  img->cache = cache_new (img->source, page_len, img->cache_limit);
  if (img->cache)
    return 0;
  report_error ("%s: no memory for the metadata cache", img->name);
  errno = ENOMEM;
  return -1;
}

void
image_set_cache_limit (struct image *img, uint64_t limit)
{
  img->cache_limit = limit;
  if (img->cache)
    cache_set_limit (img->cache, limit);
}

int
image_make_packed (struct image *img)
{
  img->packed = packed_new (img->unit);
  if (img->packed)
    return 0;
  report_error ("%s: no memory to decode compressed clusters", img->name);
  errno = ENOMEM;
  return -1;
}

const char *
image_why_read_only (const struct image *img)
{
  if (img->format->reserve == NULL)
    return img->why_read_only ?: "writing this format is not supported";
  return img->why_read_only;
}

int
image_begin_writing (struct image *img)
{
  assert (image_why_read_only (img) == NULL);
  assert (img->source->writable && img->data_source->writable);
  if (img->format->begin_writing && img->format->begin_writing (img) == -1)
    return -1;
  img->is_writable = true;
  return 0;
}

int
image_finish (struct image *img)
{
  if (!img->is_writable)
    return 0;
  if (pass_run (img) == -1)
    return -1;
  if (img->is_prepared && !img->is_damaged && img->format->finish &&
      img->format->finish (img) == -1)
    return -1;
  return pass_run (img);
}

void
image_set_damaged (struct image *img)
{
  if (!atomic_exchange (&img->is_damaged, true) && img->is_writable)
    report_error ("%s: found damage, so nothing is changed any more; copy "
                  "the image and check the copy", img->name);
}

uint32_t
image_preferred_block (const struct image *img)
{
  return MAX (MIN (img->zero_unit, UINT32_C (65536)), UINT32_C (512));
}
