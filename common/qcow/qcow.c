/* qcow version 1 as a format: opening and closing.
 *
 * Opening reads the headers, the backing file's name, and the whole L1
 * table once, as far as it is no hole: to judge its byte order and to
 * learn where tables lie.  Everything is checked before it is used; L2
 * tables and their entries are checked when they are met.
 *
 * Format: block/qcow.c in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "qcow/convert.h"
#include "qcow/qcow.h"
#include "qcow/resize.h"
#include "qcow/state.h"
#include "qcow/writer.h"
#include "report/refuse.h"

/* Pages of the metadata cache are not larger than this. */
#define MAX_PAGE_LEN UINT32_C (4096)

static bool
probe (const uint8_t *head, size_t head_len, uint64_t len)
{
  (void) len;
  return qcow_header_probe (head, head_len);
}

static int
no_memory (const struct image *img)
{
  return REFUSE (ENOMEM, "%s: no memory to open the image", img->name);
}

static int
open_header (struct image *img, struct qcow *q)
{
  uint8_t head[QCOW_HEAD_LEN];

  if (source_pread_padded (img->source, head, sizeof head, 0) == -1)
    return -1;
  return qcow_header_check (img->name, head, source_len (img->source),
                            &q->header);
}

/* A NUL cuts the name; of length 0 it is none. */
static int
open_name (struct image *img, const struct qcow *q)
{
  const struct qcow_header *h = &q->header;
  char name[QCOW_MAX_BACKING_NAME + 1];

  if (h->backing_host == 0 || h->backing_len == 0)
    return 0;
  if (source_pread (img->source, name, h->backing_len,
                    h->backing_host) == -1)
    return -1;
  name[h->backing_len] = '\0';
  if (name[0] == '\0')
    return 0;
  img->wants_backing = true;
  img->backing_name = strdup (name);
  return img->backing_name ? 0 : no_memory (img);
}

/* Pages never reach over the end of a table that lies where all known
 * writers put it.
 */
static int
open_cache (struct image *img, const struct qcow *q)
{
  const uint32_t table_len = qcow_l2_len (&q->header);
  const uint32_t page_len = MIN (MIN (q->cluster_len, table_len),
                                 MAX_PAGE_LEN);

  if (image_make_cache (img, page_len) == -1)
    return -1;
  return image_make_packed (img);
}

/* Is the table not what it should be, but for a header that says less? */
static bool
is_strange (const struct qcow_verdict *v, const struct qcow_plan *plan)
{
  return v->nr_little > 0 || plan->must_finish;
}

/* Why the image cannot be written, as far as that is known now. */
static const char *
why_read_only (const struct image *img, const struct qcow *q,
               const struct qcow_plan *plan)
{
  const struct qcow_verdict *v = &q->verdict;

  if (v->nr_damaged > 0)
    return "entries of its L1 table are damaged";
  if (is_strange (v, plan) && plan->why_not)
    return plan->why_not;
  if (is_strange (v, plan) && img->wishes.fixup != IMAGE_FIXUP_WRITE)
    return plan->must_finish
      ? "an earlier conversion of its L1 table was interrupted; fixup=write "
      "or --filter=qcow-fixup finishes it when it is opened for writing"
      : "its L1 table is in the byte order of Xen's tapdisk; fixup=write or "
      "--filter=qcow-fixup converts it when it is opened for writing, after "
      "which old versions of tapdisk cannot open it any more";
  if (v->nr_fleeting > 0 && img->wishes.fixup != IMAGE_FIXUP_WRITE)
    return "entries of its L1 table make sense in both byte orders, and what "
      "tells them apart now would go with the first change";
  return qcow_header_why_read_only (&q->header);
}

/* In which byte order the table is, and what it means. */
static int
judge (struct image *img, struct qcow *q)
{
  struct qcow_plan plan = { .why_not = NULL };

  if (img->wishes.fixup != IMAGE_FIXUP_OFF &&
      (qcow_judge (img->source, img->name, &q->header, &q->verdict) == -1 ||
       qcow_convert_plan (img->source, img->name, &q->header, &q->verdict,
                          &plan) == -1))
    return -1;
  if (!is_strange (&q->verdict, &plan))
    qcow_verdict_use_disk (&q->verdict);
  img->why_read_only = why_read_only (img, q, &plan);
  return 0;
}

/* Can what is written be compressed, if that is wished? */
static int
check_compress (const struct image *img, const struct qcow *q)
{
  if (img->wishes.compress_level == 0 || qcow_max_packed_len (img) > 0)
    return 0;
  if (q->header.xen != QCOW_XEN_NONE)
    return REFUSE (EINVAL, "%s: has Xen's header, and tapdisk could not read "
                   "it with compressed clusters; leave compress= out",
                   img->name);
  return REFUSE (EINVAL, "%s: has clusters of %" PRIu32 " bytes, which do not "
                 "get smaller by compression, as whole sectors are used; "
                 "leave compress= out, or make the image with cluster-size= "
                 "1024 or more", img->name, q->cluster_len);
}

static int
qcow_open (struct image *img)
{
  struct qcow *q = calloc (1, sizeof *q);

  if (q == NULL)
    return no_memory (img);
  damage_log_init (&q->damage);
  img->state = q;               /* close frees it from here on */

  if (open_header (img, q) == -1 || open_name (img, q) == -1)
    return -1;
  q->cluster_len = qcow_cluster_len (&q->header);
  img->len = q->header.disk_len;
  img->unit = img->zero_unit = q->cluster_len;
  if (check_compress (img, q) == -1)
    return -1;
  if (judge (img, q) == -1 || open_cache (img, q) == -1)
    return -1;
  report_debug ("qcow: open cluster=%" PRIu32 " l2=%" PRIu32 " size=%" PRIu64
                " xen=%d flags=0x%" PRIx32 " l1=%" PRIu64 "+%" PRIu64
                " big=%" PRIu64 " little=%" PRIu64 " damaged=%" PRIu64
                " file=%s", q->cluster_len, qcow_l2_entries (&q->header),
                img->len, (int) q->header.xen, q->header.flags,
                q->header.l1_host, q->header.nr_l1, q->verdict.nr_big,
                q->verdict.nr_little, q->verdict.nr_damaged, img->name);
  return 0;
}

static int
qcow_connected (struct image *img)
{
  if (img->data_source != NULL && img->data_source != img->source)
    return REFUSE (EINVAL, "%s: an external data file was given, %s, but "
                   "qcow images keep their data in themselves; leave "
                   "data-file= out", img->name, img->data_source->name);
  return 0;
}

static void
qcow_close (struct image *img)
{
  struct qcow *q = qcow_state (img);

  if (q == NULL)
    return;
  qcow_writer_free (q->writer);
  qcow_verdict_free (&q->verdict);
  damage_log_destroy (&q->damage);
  free (q);
  img->state = NULL;
}

const struct format qcow_format = {
  .name = "qcow",
  .cannot_record_backing_format = true,
  .probe = probe,
  .open = qcow_open,
  .connected = qcow_connected,
  .lookup = qcow_lookup,
  .begin_writing = qcow_begin_writing,
  .prepare = qcow_prepare,
  .reserve = qcow_reserve,
  .max_packed_len = qcow_max_packed_len,
  .reserve_packed = qcow_reserve_packed,
  .link = qcow_link,
  .abandon = qcow_abandon,
  .unmap = qcow_unmap,
  .durable = qcow_durable,
  .is_metadata = qcow_is_metadata,
  .resize = qcow_resize,
  .finish = qcow_finish,
  .close = qcow_close,
};
