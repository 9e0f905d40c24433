/* An image with everything that it stands on: opened, checked, locked.
 *
 * From the top down: open the file, lock it, parse it, find out what it
 * refers to.  When all is open, the layers are connected from the bottom
 * up.  Each file is opened by its real path, which was judged, and checked
 * to be that file afterwards.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chain/candidate.h"
#include "chain/chain.h"
#include "chain/probe.h"
#include "chain/refuse.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "report/report.h"

/* Bytes of metadata cache for a layer below the top, until the number of
 * layers is known; and what each has at least.
 */
#define CACHE_MIN (UINT64_C (1) << 20)

/* What a layer refers to: a file, found and judged, or none. */
struct reference {
  char *path;                   /* absolute, as named; NULL: none */
  char *real;                   /* what to open; NULL: path, by the user */
};

static void
cleanup_reference (struct reference *ref)
{
  free (ref->path);
  free (ref->real);
}

#define CLEANUP_REFERENCE __attribute__ ((cleanup (cleanup_reference)))

static int
no_memory (const char *name)
{
  report_error ("%s: no memory to open it", name);
  errno = ENOMEM;
  return -1;
}

static enum source_lock_want
reading_lock (const struct chain *chain)
{
  return chain->settings->force_share ? SOURCE_LOCK_SHARED
                                      : SOURCE_LOCK_READ;
}

static int
lock_for_reading (const struct chain *chain, struct source *src)
{
  return source_file_lock (src, reading_lock (chain),
                           chain->settings->lock);
}

/* Is what was opened still what was judged?  Somebody may have put another
 * file, or a link, in its place meanwhile.
 */
static int
check_unchanged (const struct source *src, const char *real)
{
  CLEANUP_FREE char *again = realpath (real, NULL);
  struct stat opened, named;

  if (again && strcmp (again, real) == 0 && stat (real, &named) == 0 &&
      fstat (source_file_descriptor (src), &opened) == 0 &&
      opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
    return 0;
  report_error ("%s: was replaced while it was being opened; try again",
                real);
  errno = EBUSY;
  return -1;
}

/* Open a file that a layer refers to, for reading. */
static struct source *
open_reference (const struct chain *chain, const struct reference *ref)
{
  CLEANUP_SOURCE struct source *src =
    source_file_open (ref->real ? ref->real : ref->path, false);

  if (src == NULL || (ref->real && check_unchanged (src, ref->real) == -1))
    return NULL;
  if (lock_for_reading (chain, src) == -1)
    return NULL;
  return STEAL (src);
}

/* Find what layer 'at' refers to under the name 'recorded'. */
static int
find_reference (const struct chain *chain, size_t at, const char *recorded,
                enum policy_role role, struct reference *ref)
{
  const struct chain_settings *set = chain->settings;
  CLEANUP_VERDICT struct policy_verdict verdict = { .path = NULL };

  if (policy_judge (&set->policy, chain->layers[at].path,
                    recorded ? recorded : "", role, &verdict) == -1)
    return -1;
  if (set->trace)
    report_debug ("chain: judge layer=%zu name=%s file=%s: %s", at,
                  verdict.answer == POLICY_CONTROL ? "?" : recorded ?: "",
                  verdict.real ? verdict.real : "none",
                  policy_explain (&verdict));
  if (verdict.answer != POLICY_OK)
    return refuse_file (chain, at, recorded, role, &verdict);
  ref->path = STEAL (verdict.path);
  ref->real = STEAL (verdict.real);
  return 0;
}

static int
reference_by_user (const char *path, struct reference *ref)
{
  ref->path = strdup (path);
  return ref->path ? 0 : no_memory (path);
}

/* ---- data files */

/* Data files may be shared by readers, but never be an image of the chain
 * at the same time.
 */
static int
check_data_file (struct chain *chain, size_t at)
{
  struct layer *layer = &chain->layers[at];

  for (size_t i = 0; i < chain->nr_layers; i++) {
    struct layer *other = &chain->layers[i];

    if (source_file_same (layer->data, other->source)) {
      report_error ("%s: its data file %s is also an image of the chain: a "
                    "loop; name another with data-file=",
                    layer->name, layer->data->name);
      errno = EINVAL;
      return -1;
    }
    if (i != at && other->data &&
        source_file_same (layer->data, other->data)) {
      source_put (layer->data);
      layer->data = source_get (other->data);
      layer->shares_data = other->shares_data = true;
    }
  }
  return 0;
}

static int
open_data_file (struct chain *chain, size_t at)
{
  const struct chain_settings *set = chain->settings;
  struct layer *layer = &chain->layers[at];
  const char *by_user = at == 0 ? set->data_file : NULL;
  CLEANUP_REFERENCE struct reference ref = { .path = NULL };
  int r;

  if (!layer->image->wants_data_file) {
    if (by_user == NULL)
      return 0;
    report_error ("%s: data-file=%s: the image has no external data file",
                  layer->name, by_user);
    errno = EINVAL;
    return -1;
  }
  if (by_user)
    r = reference_by_user (by_user, &ref);
  else
    r = find_reference (chain, at, layer->image->data_file_name, POLICY_DATA,
                        &ref);
  if (r == -1)
    return -1;
  layer->data = open_reference (chain, &ref);
  if (layer->data == NULL) {
    report_error ("%s: cannot be served without its data file %s",
                  layer->name, ref.path);
    return -1;
  }
  return check_data_file (chain, at);
}

/* ---- images */

/* The layer's source must not be in the chain yet. */
static int
check_no_loop (const struct chain *chain, size_t at)
{
  const struct layer *layer = &chain->layers[at];

  for (size_t i = 0; i < at; i++) {
    const struct layer *other = &chain->layers[i];

    if (source_file_same (layer->source, other->source)) {
      report_error ("%s: its backing files are a loop: %s has %s below "
                    "itself", chain->layers[0].name, other->name,
                    layer->name);
      errno = ELOOP;
      return -1;
    }
    if (other->data && source_file_same (layer->source, other->data)) {
      report_error ("%s: its backing files are a loop: %s is the data file "
                    "of %s", chain->layers[0].name, layer->name,
                    other->name);
      errno = ELOOP;
      return -1;
    }
  }
  return 0;
}

/* "raw, qcow2": what can be read. */
static void
list_formats (const struct chain *chain, char *text, size_t size)
{
  const struct format *const *formats = chain->settings->formats;
  size_t used = 0;

  text[0] = '\0';
  for (size_t i = 0; formats[i] && used < size; i++)
    used += snprintf (text + used, size - used, "%s%s", i > 0 ? ", " : "",
                      formats[i]->name);
}

/* Nobody said what the base of layer 'at' is, and it looks like 'found'. */
static const struct format *
refuse_probed (const struct chain *chain, size_t at, const char *base,
               const char *found)
{
  const struct layer *layer = &chain->layers[at];
  const char *advice = "record it (qemu-img rebase -u -F)";

  if (at == 0)
    advice = "say so with backing-format=";
  else if (layer->format->cannot_record_backing_format)
    advice = at == 1 && layer->was_probed
      ? "name the format of the top image's own backing file with "
        "backing-format="
      : "convert the image to a format which can record that (qemu-img "
        "convert)";
  report_error ("%s: does not record the format of its backing file %s, "
                "which looks like %s; a disk's content can imitate that: if "
                "it is one, %s", layer->name, base, found, advice);
  errno = EINVAL;
  return NULL;
}

/* The format of the base of layer 'at', the file 'src', which nobody named.
 * Images that cannot record it are taken at what they look like, but not
 * below one for which that was done already.
 */
static const struct format *
probe_base (const struct chain *chain, size_t at, struct source *src,
            bool *was_probed)
{
  const struct format *const *formats = chain->settings->formats;
  const struct layer *layer = &chain->layers[at];
  const char *found = probe_source (formats, src);
  const struct format *format;

  if (found == NULL)
    return NULL;
  format = probe_find (formats, found);
  if (strcmp (found, "raw") == 0)
    return format;
  if (format == NULL || layer->was_probed ||
      !layer->format->cannot_record_backing_format)
    return refuse_probed (chain, at, src->name, found);
  *was_probed = true;
  return format;
}

/* The format of the base of layer 'at', which has been opened as 'src'. */
static const struct format *
choose_base_format (const struct chain *chain, size_t at, struct source *src,
                    bool *was_probed)
{
  const char *by_user = at == 0 ? chain->settings->backing_format : NULL;
  const char *wanted = by_user ?: chain->layers[at].image->backing_format;
  CLEANUP_FREE char *shown = NULL;
  const struct format *format;
  char known[128];

  if (wanted == NULL)
    return probe_base (chain, at, src, was_probed);
  format = probe_find (chain->settings->formats, wanted);
  if (format == NULL) {
    list_formats (chain, known, sizeof known);
    shown = policy_show (wanted);
    report_error ("%s: %s \"%s\" of its backing file %s is not known; "
                  "what can be read is %s", chain->layers[at].name,
                  by_user ? "the format (backing-format=)"
                  : "the recorded format", shown ?: "?", src->name, known);
    errno = ENOTSUP;
  }
  return format;
}

/* Layers below the top are never changed. */
static struct image *
open_layer (const struct chain *chain, size_t at, uint64_t cache_limit)
{
  const struct layer *layer = &chain->layers[at];
  struct image_wishes wishes = chain->settings->wishes;

  if (at > 0 && wishes.fixup == IMAGE_FIXUP_WRITE)
    wishes.fixup = IMAGE_FIXUP_MEMORY;
  if (at > 0) {
    wishes.snapshot = NULL;
    wishes.compress_level = 0;
  }
  return image_open_wishes (layer->format, layer->source, layer->name,
                            cache_limit, &wishes);
}

static int
parse_layer (struct chain *chain, size_t at, uint64_t cache_limit)
{
  struct layer *layer = &chain->layers[at];

  layer->image = open_layer (chain, at, cache_limit);
  if (layer->image == NULL)
    return -1;
  report_debug ("chain: open layer=%zu format=%s size=%" PRIu64 " file=%s",
                at, layer->format->name, layer->image->len, layer->name);
  return open_data_file (chain, at);
}

static int
open_top (struct chain *chain)
{
  const struct chain_settings *set = chain->settings;
  struct layer *layer = &chain->layers[0];
  char name[64];

  snprintf (name, sizeof name, "file descriptor %d", set->fd);
  layer->path = set->file ? strdup (set->file) : NULL;
  layer->name = strdup (set->file ? set->file : name);
  if (layer->name == NULL || (set->file && layer->path == NULL))
    return no_memory (set->file ? set->file : name);
  layer->format = set->format;
  layer->source = set->file ? source_file_open (set->file, false)
    : source_file_fd (set->fd, name, false);
  if (layer->source == NULL ||
      lock_for_reading (chain, layer->source) == -1)
    return -1;
  return parse_layer (chain, 0, set->cache_size);
}

static int
find_recorded_base (const struct chain *chain, size_t at,
                    struct reference *ref)
{
  CLEANUP_FREE char *name = candidate_choose (&chain->settings->policy,
                                              chain->layers[at].path,
                                              chain->layers[at].image);

  if (name == NULL)
    return -1;
  return find_reference (chain, at, name, POLICY_BACKING, ref);
}

/* What does layer 'at' stand on?  0, with ref->path NULL for nothing. */
static int
find_base (const struct chain *chain, size_t at, struct reference *ref)
{
  const struct chain_settings *set = chain->settings;
  const struct image *img = chain->layers[at].image;

  if (at == 0 && set->backing == CHAIN_BACKING_NONE)
    return 0;
  if (at == 0 && set->backing == CHAIN_BACKING_PATH)
    return reference_by_user (set->backing_path, ref);
  if (img->wants_backing)
    return find_recorded_base (chain, at, ref);
  if (at == 0 && set->backing_format) {
    report_error ("%s: backing-format=%s: the image has no backing file",
                  img->name, set->backing_format);
    errno = EINVAL;
    return -1;
  }
  return 0;
}

/* Give layer 'at' its place and its source, which is opened and locked. */
static int
add_base (struct chain *chain, size_t at, struct reference *ref)
{
  struct layer *layer = &chain->layers[at];

  layer->source = open_reference (chain, ref);
  if (layer->source == NULL)
    return -1;
  chain->nr_layers++;
  layer->path = STEAL (ref->path);
  layer->name = strdup (layer->path);
  if (layer->name == NULL)
    return no_memory (layer->path);
  if (check_no_loop (chain, at) == -1)
    return -1;
  if (!chain->layers[at - 1].image->wants_backing) {
    report_error ("%s: backing=%s: the image does not have a backing file",
                  chain->layers[at - 1].name, layer->path);
    errno = EINVAL;
    return -1;
  }
  layer->format = choose_base_format (chain, at - 1, layer->source,
                                      &layer->was_probed);
  return layer->format ? 0 : -1;
}

static int
check_depth (const struct chain *chain)
{
  if (chain->nr_layers < CHAIN_MAX_DEPTH)
    return 0;
  report_error ("%s: more than %d images in its chain of backing files; "
                "merge some (qemu-img commit, qemu-img rebase)",
                chain->layers[0].name, CHAIN_MAX_DEPTH);
  errno = EINVAL;
  return -1;
}

/* After a message about some other file: which image it spoils. */
static void
tell_top (const struct chain *chain, const char *backing)
{
  int err = errno;

  report_error ("%s: cannot be served without its backing file %s",
                chain->layers[0].name, backing);
  errno = err;
}

/* Open what the last layer stands on: 1, 0 for nothing, or -1. */
static int
open_next (struct chain *chain)
{
  size_t at = chain->nr_layers;
  CLEANUP_REFERENCE struct reference ref = { .path = NULL };
  CLEANUP_FREE char *path = NULL;

  if (find_base (chain, at - 1, &ref) == -1) {
    if (at > 1)
      tell_top (chain, chain->layers[at - 1].name);
    return -1;
  }
  if (ref.path == NULL)
    return 0;
  if (check_depth (chain) == -1)
    return -1;
  path = strdup (ref.path);
  if (add_base (chain, at, &ref) == 0 &&
      parse_layer (chain, at, CACHE_MIN) == 0)
    return 1;
  if (path && errno != ELOOP)
    tell_top (chain, path);
  return -1;
}

/* ---- sharing and connecting */

/* Half of the cache is for the top, the rest is shared out equally. */
static uint64_t
cache_share (const struct chain *chain, size_t at)
{
  uint64_t size = chain->settings->cache_size;
  uint64_t half = size / 2;

  if (chain->nr_layers == 1)
    return size;
  return at == 0 ? half : MAX (half / (chain->nr_layers - 1), UINT64_C (1));
}

/* Now that the number of layers is known. */
static void
share_cache (struct chain *chain)
{
  for (size_t i = 0; i < chain->nr_layers; i++)
    image_set_cache_limit (chain->layers[i].image, cache_share (chain, i));
}

static int
connect_layers (struct chain *chain)
{
  for (size_t i = chain->nr_layers; i-- > 0; ) {
    struct layer *layer = &chain->layers[i];
    struct image *backing = NULL;

    if (i + 1 < chain->nr_layers)
      backing = STEAL (chain->layers[i + 1].image);
    if (image_connect (layer->image, backing,
                       layer->data ? source_get (layer->data) : NULL) == -1)
      return -1;
  }
  return 0;
}

/* ---- public */

struct chain *
chain_open (const struct chain_settings *settings)
{
  struct chain *chain = calloc (1, sizeof *chain);
  int r, err;

  if (chain == NULL) {
    no_memory (settings->file ? settings->file : "the image");
    return NULL;
  }
  chain->settings = settings;
  chain->nr_layers = 1;
  r = open_top (chain) == 0 ? 1 : -1;
  while (r == 1)
    r = open_next (chain);
  if (r == 0) {
    share_cache (chain);
    r = connect_layers (chain);
  }
  if (r == 0)
    return chain;

  err = errno;
  chain_close (chain);
  errno = err;
  return NULL;
}

void
chain_close (struct chain *chain)
{
  if (chain == NULL)
    return;
  for (size_t i = 0; i < chain->nr_layers; i++) {
    struct layer *layer = &chain->layers[i];

    image_close (layer->image);
    source_put (layer->data);
    source_put (layer->source);
    free (layer->path);
    free (layer->name);
  }
  free (chain);
}

static bool
is_same_name (const char *a, const char *b)
{
  return a == b || (a && b && strcmp (a, b) == 0);
}

/* Does the image still refer to what it did? */
static bool
refers_to_same (const struct image *a, const struct image *b)
{
  return a->wants_backing == b->wants_backing &&
    a->wants_data_file == b->wants_data_file &&
    is_same_name (a->backing_name, b->backing_name) &&
    is_same_name (a->backing_format, b->backing_format) &&
    is_same_name (a->data_file_name, b->data_file_name);
}

int
chain_reopen_top (struct chain *chain, bool same_len)
{
  struct layer *layer = &chain->layers[0];
  struct image *old = layer->image, *img, *backing;

  if (source_file_refresh (layer->source) == -1 ||
      (layer->data && source_file_refresh (layer->data) == -1))
    return -1;
  img = open_layer (chain, 0, cache_share (chain, 0));
  if (img == NULL)
    return -1;
  if (!refers_to_same (old, img) || (same_len && old->len != img->len)) {
    report_error ("%s: another program has given it %s since this server "
                  "started; start it again", layer->name,
                  refers_to_same (old, img) ? "another size"
                  : "other backing or data files");
    image_close (img);
    errno = ESTALE;
    return -1;
  }
  backing = STEAL (old->backing);
  if (image_connect (img, backing,
                     layer->data ? source_get (layer->data) : NULL) == -1) {
    int err = errno;

    old->backing = STEAL (img->backing);
    image_close (img);
    errno = err;
    return -1;
  }
  image_close (old);
  layer->image = img;
  return 0;
}

struct image *
chain_open_snapshot (struct chain *chain, const char *snapshot)
{
  const struct layer *top = &chain->layers[0];
  struct image_wishes wishes = chain->settings->wishes;
  CLEANUP_FREE char *name = NULL;
  struct image *img;

  if (asprintf (&name, "%s, snapshot %s", top->name, snapshot) == -1) {
    name = NULL;
    no_memory (top->name);
    return NULL;
  }
  wishes.snapshot = snapshot;
  img = image_open_wishes (top->format, top->source, name,
                           MAX (cache_share (chain, 0) / 8, CACHE_MIN),
                           &wishes);
  if (img == NULL)
    return NULL;
  img->borrows_backing = true;
  if (image_connect (img, top->image->backing,
                     top->data ? source_get (top->data) : NULL) == 0)
    return img;
  image_close (img);
  return NULL;
}

int
chain_lock_top (struct chain *chain, enum source_lock_want want,
                enum source_lock_want held)
{
  struct layer *top = &chain->layers[0];
  enum source_lock_mode mode = chain->settings->lock;
  int err;

  if (source_file_lock (top->source, want, mode) == -1)
    return -1;
  if (top->data == NULL || source_file_lock (top->data, want, mode) == 0)
    return 0;
  err = errno;
  source_file_lock (top->source, held, mode);
  errno = err;
  return -1;
}

void
chain_unlock (struct chain *chain)
{
  for (size_t i = 0; i < chain->nr_layers; i++) {
    source_file_unlock (chain->layers[i].source);
    if (chain->layers[i].data)
      source_file_unlock (chain->layers[i].data);
  }
}
