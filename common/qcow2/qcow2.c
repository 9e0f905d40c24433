/* qcow2, versions 2 and 3, as a format: opening and closing.
 *
 * Opening reads cluster 0, which holds the header, its extensions and the
 * name of the backing file; the snapshot table; and the beginning of the L1
 * table.  Everything that these say is checked before it is used; every
 * later structure is checked when it is met.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "include/byte-order.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/bitmap.h"
#include "qcow2/feature.h"
#include "qcow2/lookup.h"
#include "qcow2/qcow2.h"
#include "qcow2/refcount.h"
#include "qcow2/refuse.h"
#include "qcow2/resize.h"
#include "qcow2/snapshot.h"
#include "qcow2/state.h"
#include "qcow2/table.h"
#include "qcow2/view.h"
#include "qcow2/writer.h"

/* Pages of the metadata cache are not larger than this. */
#define MAX_PAGE_LEN UINT32_C (4096)

/* Bytes of cluster 0 that are read at first. */
#define CLUSTER_0_START UINT32_C (4096)

/* ---- the header, its extensions, the names */

static bool
probe (const uint8_t *head, size_t head_len, uint64_t len)
{
  (void) len;
  return head_len >= 8 && load_be32 (head) == QCOW2_MAGIC &&
    load_be32 (head + 4) >= 2;
}

/* Is what cluster 0 is read for in its first 'len' bytes? */
static bool
is_enough (const uint8_t *cluster, const struct qcow2_header *h,
           uint32_t len)
{
  return extension_list_is_within (cluster, h, len) &&
    (h->backing_host == 0 || h->backing_host + h->backing_len <= len);
}

/* Read the header as far as it tells how long cluster 0 is, then that: most
 * of it is empty, so no more than header, extensions and backing name need.
 * NULL, reported.  The caller frees it.
 */
static uint8_t *
read_cluster_0 (struct image *img, struct qcow2_header *h)
{
  uint8_t head[QCOW2_HEADER_KNOWN_LEN];
  uint32_t cluster_len, len;
  uint8_t *cluster;

  if (source_pread_padded (img->source, head, sizeof head, 0) == -1)
    return NULL;
  qcow2_header_parse (head, h);
  if (qcow2_header_check_shape (img->name, head, h) == -1)
    return NULL;

  cluster_len = UINT32_C (1) << h->cluster_bits;
  cluster = malloc (cluster_len);
  if (cluster == NULL) {
    report_error ("%s: no memory for the header", img->name);
    errno = ENOMEM;
    return NULL;
  }
  len = MIN (cluster_len, CLUSTER_0_START);
  if (source_pread_padded (img->source, cluster, len, 0) == 0 &&
      (is_enough (cluster, h, len) ||
       source_pread_padded (img->source, cluster + len, cluster_len - len,
                            len) == 0))
    return cluster;
  free (cluster);
  return NULL;
}

static int
open_header (struct image *img, struct qcow2 *q, const uint8_t *cluster)
{
  struct qcow2_header *h = &q->header;

  if (qcow2_features_check (img->name, cluster, h) == -1 ||
      qcow2_header_check (img->name, h) == -1 ||
      qcow2_header_keep_rest (img->name, cluster, h) == -1)
    return -1;
  return extension_list_parse (img->name, cluster, h, &q->extensions);
}

static int
refuse_encrypted (const struct image *img, const struct qcow2 *q)
{
  switch (q->header.crypt_method) {
  case QCOW2_CRYPT_NONE:
    return 0;
  case QCOW2_CRYPT_LUKS:
    if (!extension_list_find (&q->extensions, EXTENSION_CRYPTO))
      return REFUSE (EINVAL, "%s: the image is said to be encrypted with "
                     "LUKS (header byte 32 is 2) but has no encryption "
                     "header extension 0x%08" PRIx32 "; " CHECK_A_COPY,
                     img->name, EXTENSION_CRYPTO);
    return REFUSE (ENOTSUP, "%s: the image is encrypted with LUKS (header "
                   "byte 32 is 2); support for LUKS encryption is not built",
                   img->name);
  default:
    return REFUSE (ENOTSUP, "%s: the image is encrypted with AES (header "
                   "byte 32 is 1); support for AES encryption is not built",
                   img->name);
  }
}

static int
no_memory (const struct image *img)
{
  return REFUSE (ENOMEM, "%s: no memory to open the image", img->name);
}

/* The files that the image refers to. */
static int
open_names (struct image *img, struct qcow2 *q, const uint8_t *cluster)
{
  const struct qcow2_header *h = &q->header;
  const char *backing = (const char *) cluster + h->backing_host;

  /* A NUL cuts the name; of length 0 it is none. */
  if (h->backing_host != 0 && h->backing_len != 0 && backing[0] != '\0') {
    img->wants_backing = true;
    img->backing_name = strndup (backing, h->backing_len);
    if (img->backing_name == NULL)
      return no_memory (img);
    if (extension_list_string (img->name, &q->extensions,
                               EXTENSION_BACKING_FORMAT,
                               &img->backing_format) == -1)
      return -1;
  }
  if (h->incompatible & QCOW2_DATA_FILE) {
    img->wants_data_file = true;
    if (extension_list_string (img->name, &q->extensions,
                               EXTENSION_DATA_FILE,
                               &img->data_file_name) == -1)
      return -1;
  }
  return 0;
}

/* ---- the tables */

static int
set_codec (const struct image *img, struct qcow2 *q)
{
  q->codec = q->header.compression_type == QCOW2_COMPRESSION_ZSTD
    ? CODEC_ZSTD : CODEC_DEFLATE;
  if (!codec_is_supported (q->codec))
    return REFUSE (ENOTSUP, "%s: the image's compression type %u (header "
                   "byte 104) is %s; support for it is not built",
                   img->name, q->header.compression_type,
                   codec_name (q->codec));
  return 0;
}

static void
set_geometry (struct image *img, struct qcow2 *q)
{
  const struct qcow2_header *h = &q->header;

  q->rules.cluster_bits = h->cluster_bits;
  q->rules.is_extended = h->incompatible & QCOW2_EXTENDED_L2;
  q->rules.has_zero_flag = h->version >= 3 && !q->rules.is_extended;
  q->rules.has_data_file = h->incompatible & QCOW2_DATA_FILE;
  q->cluster_len = UINT32_C (1) << h->cluster_bits;
  q->entry_bits = q->rules.is_extended ? 4 : 3;
  q->l2_bits = h->cluster_bits - q->entry_bits;
  q->subcluster_bits = h->cluster_bits -
    (q->rules.is_extended ? SUBCLUSTER_BITS : 0);

  img->len = h->disk_len;
  img->unit = q->cluster_len;
  img->zero_unit = UINT32_C (1) << q->subcluster_bits;
}

static int
open_tables (struct image *img, struct qcow2 *q)
{
  const struct qcow2_header *h = &q->header;

  if (refcount_table_check (img, h) == -1 ||
      snapshot_table_check (img, h) == -1 ||
      l1_table_open (img, q) == -1 ||
      bitmaps_extension_check (img, q) == -1)
    return -1;
  if (image_make_cache (img, MIN (q->cluster_len, MAX_PAGE_LEN)) == -1)
    return -1;
  if (!q->rules.has_data_file && image_make_packed (img) == -1)
    return -1;
  return l1_table_load (img, q);
}

static void
set_why_read_only (struct image *img, const struct qcow2 *q)
{
  if (img->wishes.snapshot) {
    img->why_read_only = "it is a snapshot";
    return;
  }
  img->why_read_only = qcow2_header_why_read_only (&q->header);
  if (img->why_read_only == NULL)
    img->why_read_only = refcount_table_why_read_only (img, &q->header);
}

/* ---- the life of an image */

static int
qcow2_open (struct image *img)
{
  struct qcow2 *q = calloc (1, sizeof *q);
  CLEANUP_FREE uint8_t *cluster = NULL;
  const struct qcow2_header *h;

  if (q == NULL)
    return no_memory (img);
  damage_log_init (&q->damage);
  img->state = q;               /* close frees it from here on */
  h = &q->header;

  cluster = read_cluster_0 (img, &q->header);
  if (cluster == NULL ||
      open_header (img, q, cluster) == -1 ||
      refuse_encrypted (img, q) == -1 ||
      set_codec (img, q) == -1 ||
      open_names (img, q, cluster) == -1)
    return -1;
  if (img->wishes.snapshot &&
      (snapshot_table_check (img, h) == -1 ||
       qcow2_choose_snapshot (img, &q->header) == -1))
    return -1;
  set_geometry (img, q);
  if (open_tables (img, q) == -1)
    return -1;
  set_why_read_only (img, q);
  report_debug ("qcow2: open version=%" PRIu32 " cluster=%" PRIu32
                " size=%" PRIu64 " incompatible=0x%" PRIx64
                " compatible=0x%" PRIx64 " autoclear=0x%" PRIx64
                " snapshots=%" PRIu32 " extensions=%zu file=%s",
                h->version, q->cluster_len, img->len, h->incompatible,
                h->compatible, h->autoclear, h->nr_snapshots,
                q->extensions.nr_extensions, img->name);
  return 0;
}

static int
check_data_file (const struct image *img, const struct qcow2 *q)
{
  uint64_t data_len;
  bool is_raw = q->header.autoclear & QCOW2_DATA_FILE_RAW;

  if (img->data_source == NULL || img->data_source == img->source)
    return REFUSE (EINVAL, "%s: the image keeps its data in an external "
                   "data file%s%s, which was not given; "
                   "give it with data-file=", img->name,
                   img->data_file_name ? ", " : "",
                   img->data_file_name ?: "");
  if (is_raw && img->backing)
    return REFUSE (EINVAL, "%s: a raw external data file (autoclear feature "
                   "bit 1, header byte 95) and a backing file exclude each "
                   "other; use backing=none", img->name);
  data_len = source_len (img->data_source);
  if (is_raw && data_len < img->len)
    report_warning ("%s: the raw external data file %s has %" PRIu64
                    " bytes, the disk %" PRIu64 "; what is missing reads as "
                    "zeroes", img->name, img->data_source->name, data_len,
                    img->len);
  return 0;
}

/* Whether a recorded backing file may be left out, or another put in its
 * place, is for the user to say, and not checked here.
 */
static int
qcow2_connected (struct image *img)
{
  const struct qcow2 *q = qcow2_state (img);

  if (q->rules.has_data_file)
    return check_data_file (img, q);
  if (img->data_source != NULL && img->data_source != img->source)
    return REFUSE (EINVAL, "%s: an external data file was given, %s, but "
                   "the image keeps its data in itself; "
                   "leave data-file= out",
                   img->name, img->data_source->name);
  return 0;
}

static void
qcow2_close (struct image *img)
{
  struct qcow2 *q = qcow2_state (img);

  if (q == NULL)
    return;
  qcow2_writer_free (q->writer);
  extension_list_free (&q->extensions);
  qcow2_header_free (&q->header);
  damage_log_destroy (&q->damage);
  free (q);
  img->state = NULL;
}

const struct format qcow2_format = {
  .name = "qcow2",
  .probe = probe,
  .open = qcow2_open,
  .snapshots = qcow2_snapshots,
  .connected = qcow2_connected,
  .lookup = qcow2_lookup,
  .begin_writing = qcow2_begin_writing,
  .prepare = qcow2_prepare,
  .reserve = qcow2_reserve,
  .link = qcow2_link,
  .abandon = qcow2_abandon,
  .unmap = qcow2_unmap,
  .durable = qcow2_durable,
  .is_metadata = qcow2_is_metadata,
  .mark_damaged = qcow2_mark_damaged,
  .resize = qcow2_resize,
  .finish = qcow2_finish,
  .close = qcow2_close,
};
