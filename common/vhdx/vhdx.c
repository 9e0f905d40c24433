/* VHDX as a format: opening and closing.
 *
 * Opening reads the headers; judges the log, and if it is not empty goes on
 * with a view of the file as it is after the replay; then region table,
 * metadata, and the parent locator.  The BAT is looked through unless it
 * is very long.  Nothing is changed.
 *
 * Format: MS-VHDX, version 20240423.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "report/refuse.h"
#include "vhdx/bat.h"
#include "vhdx/log.h"
#include "vhdx/lookup.h"
#include "vhdx/state.h"
#include "vhdx/vhdx.h"

#define PAGE_LEN 4096

static bool
probe (const uint8_t *head, size_t head_len, uint64_t len)
{
  (void) len;
  return vhdx_header_probe (head, head_len);
}

static int
no_memory (const struct image *img)
{
  return REFUSE (ENOMEM, "%s: no memory to open the image", img->name);
}

/* From here on the file is seen as it is after its log was replayed. */
static int
open_log (struct image *img, struct vhdx *v)
{
  const enum vhdx_log_mode mode = img->wishes.strict_log
    ? VHDX_LOG_STRICT : VHDX_LOG_LENIENT;
  struct source *view = NULL;

  if (vhdx_log_open (img->source, img->name, &v->header, mode, &view) == -1)
    return -1;
  if (view == NULL)
    return 0;
  v->was_replayed = true;
  source_put (img->source);
  source_put (img->data_source);
  img->source = view;
  img->data_source = source_get (view);
  return 0;
}

static int
open_parent (struct image *img, struct vhdx *v)
{
  const struct vhdx_metadata *m = &v->metadata;

  if (!m->has_parent)
    return 0;
  if (vhdx_locator_parse (img->name, m->locator, m->locator_len,
                          &v->locator) == -1)
    return -1;
  img->wants_backing = true;
  /* Without any path only backing= can name it. */
  img->backing_name = vhdx_locator_text (img->name, &v->locator);
  if (img->backing_name == NULL)
    return -1;
  img->backing_candidates =
    vhdx_locator_candidates (img->name, &v->locator, img->wishes.maps,
                             img->wishes.nr_maps);
  if (img->backing_candidates == NULL)
    return -1;
  img->backing_ignores_case = true;
  img->backing_format = strdup ("vhdx");
  return img->backing_format ? 0 : no_memory (img);
}

static int
vhdx_open (struct image *img)
{
  struct vhdx *v = calloc (1, sizeof *v);
  const struct vhdx_metadata *m;

  if (v == NULL)
    return no_memory (img);
  damage_log_init (&v->damage);
  img->state = v;               /* close frees it from here on */
  m = &v->metadata;

  if (vhdx_header_read (img->source, img->name, &v->header) == -1 ||
      open_log (img, v) == -1 ||
      vhdx_regions_read (img->source, img->name, &v->header,
                         &v->regions) == -1 ||
      vhdx_metadata_read (img->source, img->name, &v->regions.metadata,
                          &v->metadata) == -1 ||
      open_parent (img, v) == -1 ||
      vhdx_bat_open (img, v) == -1)
    return -1;
  img->why_read_only = "writing VHDX images is not supported; use nbdkit -r";
  img->len = m->disk_len;
  img->unit = img->zero_unit = m->block_len;
  if (image_make_cache (img, PAGE_LEN) == -1 ||
      vhdx_bat_check (img, img->wishes.check_all) == -1)
    return -1;
  report_debug ("vhdx: open block=%" PRIu32 " sector=%" PRIu32 " size=%"
                PRIu64 " header=%u sequence=%" PRIu64 " replayed=%d fixed=%d "
                "parent=%d file=%s", m->block_len, m->sector_len,
                m->disk_len, v->header.index + 1, v->header.sequence,
                (int) v->was_replayed, (int) m->leaves_allocated,
                (int) m->has_parent, img->name);
  return 0;
}

/* ---- the parent */

/* Has the parent the identity that the locator recorded? */
static int
check_identity (struct image *img, const struct vhdx *v,
                const struct vhdx *parent)
{
  const struct vhdx_locator *l = &v->locator;
  const struct guid *is = &parent->header.data_write;
  char wanted[GUID_TEXT_LEN], found[GUID_TEXT_LEN];

  if (guid_is_equal (is, &l->linkage) ||
      (l->has_linkage2 && guid_is_equal (is, &l->linkage2)))
    return 0;
  guid_format (&l->linkage, wanted);
  guid_format (is, found);
  if (img->wishes.any_parent) {
    report_warning ("%s: the parent %s has been changed since this disk was "
                    "made, or is another one: its DataWriteGuid is %s, "
                    "recorded is %s; it is used as parent-mismatch=allow "
                    "asks for", img->name, img->backing->name, found,
                    wanted);
    return 0;
  }
  return REFUSE (EINVAL, "%s: the parent %s has been changed since this disk "
                 "was made, or is another one: its DataWriteGuid is %s, "
                 "recorded is %s; if the data are known to fit, "
                 "parent-mismatch=allow uses it", img->name,
                 img->backing->name, found, wanted);
}

static int
vhdx_connected (struct image *img)
{
  const struct vhdx *v = vhdx_state (img), *parent;

  if (img->data_source != img->source)
    return REFUSE (EINVAL, "%s: an external data file was given, %s, but "
                   "VHDX images keep their data in themselves; leave "
                   "data-file= out", img->name, img->data_source->name);
  if (img->backing == NULL || !v->metadata.has_parent)
    return 0;
  if (img->backing->format != &vhdx_format) {
    report_warning ("%s: the parent %s is no VHDX image, so that nothing "
                    "tells whether it is the right one", img->name,
                    img->backing->name);
    return 0;
  }
  parent = vhdx_state (img->backing);
  if (v->metadata.sector_len != parent->metadata.sector_len)
    return REFUSE (EINVAL, "%s: has logical sectors of %" PRIu32 " bytes, but "
                   "its parent %s has sectors of %" PRIu32, img->name,
                   v->metadata.sector_len, img->backing->name,
                   parent->metadata.sector_len);
  return check_identity (img, v, parent);
}

static void
vhdx_close (struct image *img)
{
  struct vhdx *v = vhdx_state (img);

  if (v == NULL)
    return;
  vhdx_locator_free (&v->locator);
  vhdx_metadata_free (&v->metadata);
  vhdx_regions_free (&v->regions);
  damage_log_destroy (&v->damage);
  free (v);
  img->state = NULL;
}

const struct format vhdx_format = {
  .name = "vhdx",
  .probe = probe,
  .open = vhdx_open,
  .connected = vhdx_connected,
  .lookup = vhdx_lookup,
  .close = vhdx_close,
};
