/* Making new, empty images.
 *
 * First what there is must not be taken for an image any more, then the
 * builder (build.h) writes tables for no clusters, or with preallocation
 * for all.
 *
 * Format: docs/interop/qcow2.txt in QEMU 7.2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "qcow2/build.h"
#include "qcow2/create.h"
#include "qcow2/refuse.h"

/* Disks are made of sectors, as far as QEMU is concerned. */
#define SECTOR_LEN 512

/* A device that begins with so many zeroes has nothing on it. */
#define HEAD_LEN (1024 * 1024)

/* Zeroes are written in pieces of this length. */
#define PIECE_LEN (1024 * 1024)

/* ---- what makes no sense */

static int
check_numbers (const char *name, const struct qcow2_create_options *o)
{
  if (!is_power_of_2 (o->cluster_len) ||
      o->cluster_len < 1 << QCOW2_MIN_CLUSTER_BITS ||
      o->cluster_len > 1 << QCOW2_MAX_CLUSTER_BITS)
    return REFUSE (EINVAL, "%s: a cluster size of %" PRIu64 " bytes is not "
                   "possible, only powers of two from %d to %d", name,
                   o->cluster_len, 1 << QCOW2_MIN_CLUSTER_BITS,
                   1 << QCOW2_MAX_CLUSTER_BITS);
  if (!is_power_of_2 (o->refcount_bits) || o->refcount_bits > 64)
    return REFUSE (EINVAL, "%s: refcounts of %" PRIu64 " bits are not "
                   "possible, only of 1, 2, 4, 8, 16, 32 or 64", name,
                   o->refcount_bits);
  if (o->is_extended &&
      o->cluster_len < 1 << QCOW2_MIN_EXTENDED_CLUSTER_BITS)
    return REFUSE (EINVAL, "%s: extended L2 entries need a cluster size of "
                   "at least %d bytes", name,
                   1 << QCOW2_MIN_EXTENDED_CLUSTER_BITS);
  if (o->len > INT64_MAX - SECTOR_LEN)
    return REFUSE (EFBIG, "%s: a disk of %" PRIu64 " bytes is too large",
                   name, o->len);
  return 0;
}

/* Version 2 has none of the features. */
static int
check_version (const char *name, const struct qcow2_create_options *o)
{
  const char *what = NULL;

  if (o->version != 2 && o->version != 3)
    return REFUSE (EINVAL, "%s: there is no version %" PRIu32 " of the format",
                   name, o->version);
  if (o->version == 3)
    return 0;
  if (o->refcount_bits != 16)
    what = "refcounts of another width than 16 bits";
  else if (o->is_extended)
    what = "extended L2 entries";
  else if (o->wants_zstd)
    what = "the compression type zstd";
  else if (o->data_file_name)
    what = "an external data file";
  if (what)
    return REFUSE (EINVAL, "%s: version 2 (compat=0.10) cannot have %s",
                   name, what);
  return 0;
}

static int
check_files (const char *name, const struct qcow2_create_options *o)
{
  if (o->data_file_raw && !o->data_file_name)
    return REFUSE (EINVAL, "%s: only an external data file can be kept a raw "
                   "image; name one", name);
  if (o->data_file_raw && o->backing_name)
    return REFUSE (EINVAL, "%s: a raw external data file and a backing file "
                   "exclude each other", name);
  if (o->backing_format && !o->backing_name)
    return REFUSE (EINVAL, "%s: a backing format without a backing file makes "
                   "no sense", name);
  if (o->backing_name && !o->backing_format)
    return REFUSE (EINVAL, "%s: the format of the backing file must be given, "
                   "so that nobody has to guess it", name);
  if (o->backing_format &&
      strlen (o->backing_format) > EXTENSION_MAX_BACKING_FORMAT)
    return REFUSE (EINVAL, "%s: the name of the backing format is longer than "
                   "%d bytes", name, EXTENSION_MAX_BACKING_FORMAT);
  if (o->backing_name && strlen (o->backing_name) > QCOW2_MAX_BACKING_NAME)
    return REFUSE (EINVAL, "%s: the name of the backing file is longer than "
                   "%d bytes", name, QCOW2_MAX_BACKING_NAME);
  if (o->backing_name && o->preallocation != QCOW2_PREALLOCATE_OFF &&
      !o->is_extended)
    return REFUSE (EINVAL, "%s: preallocated clusters would hide the backing "
                   "file; that needs extended L2 entries", name);
  return 0;
}

int
qcow2_create_check (const char *name, const struct qcow2_create_options *o)
{
  if (check_numbers (name, o) == -1 || check_version (name, o) == -1)
    return -1;
  return check_files (name, o);
}

/* ---- the header */

/* Spec "Feature name table": so that programs which do not know a feature
 * can name it.
 */
struct feature_name {
  uint8_t class;                /* 0 incompatible, 1 compatible,
                                   2 autoclear */
  uint8_t bit;
  char name[46];
};

static const struct feature_name feature_names[] = {
  { 0, 0, "dirty bit" },
  { 0, 1, "corrupt bit" },
  { 0, 2, "external data file" },
  { 0, 3, "compression type" },
  { 0, 4, "extended L2 entries" },
  { 1, 0, "lazy refcounts" },
  { 2, 0, "bitmaps" },
  { 2, 1, "raw external data" },
};

_Static_assert (sizeof feature_names == 8 * 48,
                "the table has the format's layout");

/* The most clusters may have for QEMU to leave the table out. */
#define NO_NAMES_LEN 4096

static void
set_header (const struct qcow2_create_options *o, struct qcow2_header *h)
{
  *h = (struct qcow2_header) {
    .version = o->version,
    .cluster_bits = __builtin_ctzll (o->cluster_len),
    .disk_len = round_up (o->len, SECTOR_LEN),
    .refcount_order = __builtin_ctzll (o->refcount_bits),
    .header_len = o->version == 2 ? QCOW2_HEADER_V2_LEN
      : QCOW2_HEADER_KNOWN_LEN,
  };
  if (o->data_file_name)
    h->incompatible |= QCOW2_DATA_FILE;
  if (o->is_extended)
    h->incompatible |= QCOW2_EXTENDED_L2;
  if (o->wants_zstd) {
    h->incompatible |= QCOW2_COMPRESSION;
    h->compression_type = QCOW2_COMPRESSION_ZSTD;
  }
  if (o->data_file_raw)
    h->autoclear |= QCOW2_DATA_FILE_RAW;
}

/* At most three, in 'room'. */
static void
set_extensions (const struct qcow2_create_options *o,
                struct extension *room, struct extension_list *list)
{
  *list = (struct extension_list) { .extensions = room };
  if (o->backing_format)
    room[list->nr_extensions++] = (struct extension) {
      .type = EXTENSION_BACKING_FORMAT,
      .len = strlen (o->backing_format),
      .data = (const uint8_t *) o->backing_format,
    };
  if (o->data_file_name)
    room[list->nr_extensions++] = (struct extension) {
      .type = EXTENSION_DATA_FILE,
      .len = strlen (o->data_file_name),
      .data = (const uint8_t *) o->data_file_name,
    };
  if (o->version >= 3 && o->cluster_len > NO_NAMES_LEN)
    room[list->nr_extensions++] = (struct extension) {
      .type = EXTENSION_FEATURE_NAMES,
      .len = sizeof feature_names,
      .data = (const uint8_t *) feature_names,
    };
}

/* ---- preallocation */

/* All of the disk as one run. */
static int
next_of_all (void *opaque, uint64_t guest, struct build_run *run)
{
  const struct build_run *all = opaque;

  if (guest >= all->len)
    return 0;
  *run = *all;
  return 1;
}

static int
write_zeroes (struct source *src, uint64_t len, uint64_t host)
{
  CLEANUP_FREE uint8_t *zeroes = calloc (1, PIECE_LEN);
  uint64_t n;

  if (zeroes == NULL)
    return REFUSE (ENOMEM, "%s: no memory to preallocate it", src->name);
  for (; len > 0; len -= n, host += n) {
    n = MIN (len, (uint64_t) PIECE_LEN);
    if (source_pwrite (src, zeroes, n, host) == -1)
      return -1;
  }
  return 0;
}

/* Have [host, host+len) read as zeroes, its blocks being as they are
 * wished.
 */
static int
prepare_room (struct source *src, uint64_t len, uint64_t host,
              enum qcow2_preallocation preallocation)
{
  const bool reads_zero = src->can_grow && host >= source_len (src);

  if (len == 0)
    return 0;
  if (src->can_grow && source_grow (src, host + len) == -1)
    return -1;
  switch (preallocation) {
  case QCOW2_PREALLOCATE_FULL:
    return write_zeroes (src, len, host);
  case QCOW2_PREALLOCATE_FALLOC:
    return source_zero (src, len, host, SOURCE_ZERO_KEEP);
  default:
    return reads_zero ? 0 : source_zero (src, len, host, SOURCE_ZERO_PUNCH);
  }
}

/* ---- what there is */

static int
check_empty (struct source *src)
{
  const uint64_t head_len = MIN (source_len (src), (uint64_t) HEAD_LEN);
  CLEANUP_FREE uint8_t *head = NULL;
  uint64_t i;

  if (src->can_grow && source_len (src) == 0)
    return 0;
  if (src->can_grow)
    return REFUSE (EEXIST, "%s: there is something in it, %" PRIu64 " bytes, "
                   "which would be lost; name another file, or if it may be "
                   "lost say overwrite=true", src->name, source_len (src));
  head = malloc (HEAD_LEN);
  if (head == NULL)
    return REFUSE (ENOMEM, "%s: no memory to look at it", src->name);
  if (source_pread (src, head, head_len, 0) == -1)
    return -1;
  for (i = 0; i < head_len; ++i)
    if (head[i] != 0)
      return REFUSE (EEXIST, "%s: there is something on it, byte %" PRIu64
                     " is 0x%02x, which would be lost; if it may be lost say "
                     "overwrite=true", src->name, i, head[i]);
  return 0;
}

/* Have nothing there that could be taken for an image, durably. */
static int
make_blank (struct source *src)
{
  static const uint8_t zeroes[BUILD_SECTOR_LEN];

  if (src->can_grow) {
    if (source_len (src) == 0)
      return 0;
    if (source_truncate (src, 0) == -1)
      return -1;
  }
  else if (source_pwrite (src, zeroes, sizeof zeroes, 0) == -1)
    return -1;
  return source_sync (src);
}

/* It could not be made: give the space back that it took. */
static void
make_empty (struct source *src)
{
  const int err = errno;

  if (src->can_grow)
    source_truncate (src, 0);
  errno = err;
}

static int
check_data_file (struct source *data, const struct qcow2_create_options *o,
                 uint64_t len)
{
  if (!data->can_grow && source_len (data) < len)
    return REFUSE (ENOSPC, "%s: has %" PRIu64 " bytes, and the disk would "
                   "need %" PRIu64, data->name, source_len (data), len);
  return o->overwrite ? 0 : check_empty (data);
}

/* The data file, as long as the disk.  Clusters that are mapped must read
 * as zeroes.
 */
static int
make_data_file (struct source *data, uint64_t len,
                enum qcow2_preallocation preallocation)
{
  if (data->can_grow && source_truncate (data, 0) == -1)
    return -1;
  if (preallocation != QCOW2_PREALLOCATE_OFF) {
    if (prepare_room (data, len, 0, preallocation) == -1)
      return -1;
  }
  else if (data->can_grow && source_grow (data, len) == -1)
    return -1;
  return source_sync (data);
}

/* ---- all of it */

int
qcow2_create (struct source *src, struct source *data,
              const struct qcow2_create_options *o)
{
  enum qcow2_preallocation preallocation = o->preallocation;
  struct build_run all = { .kind = BUILD_DATA };
  struct extension room[3];
  struct extension_list extensions;
  struct build_plan plan;
  struct qcow2_build b = {
    .src = src,
    .extensions = &extensions,
    .backing_name = o->backing_name,
    .host = o->cluster_len,
  };

  if (qcow2_create_check (src->name, o) == -1)
    return -1;
  set_header (o, &b.header);
  set_extensions (o, room, &extensions);
  /* A reader of the raw image must find all that is written there. */
  if (o->data_file_raw && preallocation == QCOW2_PREALLOCATE_OFF)
    preallocation = QCOW2_PREALLOCATE_METADATA;
  if (preallocation != QCOW2_PREALLOCATE_OFF) {
    all.len = round_up (b.header.disk_len, o->cluster_len);
    if (o->backing_name)
      all.kind = BUILD_RESERVED;
    b.next = next_of_all;
    b.opaque = &all;
    if (data == NULL)
      b.data_len = all.len;
  }

  if (!o->overwrite && check_empty (src) == -1)
    return -1;
  if (data && check_data_file (data, o, b.header.disk_len) == -1)
    return -1;
  if (qcow2_build_plan (&b, &plan) == -1 || make_blank (src) == -1)
    return -1;
  plan.reads_zero = src->can_grow; /* it is empty now */
  if (data && make_data_file (data, b.header.disk_len, preallocation) == -1)
    return -1;
  all.host = data ? 0 : plan.data_host;
  if (prepare_room (src, b.data_len, plan.data_host, preallocation) == -1 ||
      qcow2_build_write (&b, &plan) == -1) {
    make_empty (src);
    return -1;
  }
  return qcow2_build_commit (&b, &plan);
}
