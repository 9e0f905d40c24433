/* One export of the plugin below.
 *
 * Invariants: 'mode' becomes EXPORT_PLAIN while somebody is connected, but
 * never anything else, so that requests may go through without a lock once
 * it is.  A view is only used, and replaced only, under 'gate'.
 *
 * Two names may stand for the same bytes, as many plugins ignore the name:
 * only one export is examined at a time, and after any conversion every
 * view is made anew before it is used.  For the same reason a failed flush
 * holds for all of them: what can be read then need not be on the disk, and
 * nobody can tell which bytes that is true of.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "include/lock.h"
#include "report/report.h"
#include "source/next.h"

/* Exports that are remembered though nobody is connected, so that what
 * was told is not told again.
 */
#define MAX_REMEMBERED 1000

/* A view may differ from what is there anywhere in blocks of this size:
 * the largest minimum block size that the protocol allows.
 */
#define EXTENT_UNIT UINT64_C (65536)

enum told {
  TOLD_UNKNOWN = 1,             /* image-bytes=true would be needed */
  TOLD_STRAY = 2,
  TOLD_READ_ONLY = 4,
};

struct export {
  struct export *following;     /* in the list */
  unsigned users;               /* guarded by list_lock */

  const struct export_settings *settings;
  char *name;
  char *label;                  /* for messages */

  _Atomic unsigned nr_entered;
  unsigned told;                /* guarded by examining, as: */
  struct preserve *preserve;    /* set anew only while nobody is in */

  _Atomic enum export_mode mode;
  pthread_rwlock_t gate;        /* requests share it, changes exclude;
                                   inside of examining.  Guards: */
  struct finding view;
  unsigned seen_conversions;    /* when the view was made */
};

static struct lock list_lock = LOCK_INITIALIZER;
static struct export *exports;  /* guarded by list_lock, as: */
static unsigned nr_exports;

static struct lock examining = LOCK_INITIALIZER;
static _Atomic unsigned nr_conversions; /* changes under examining */
static bool sync_failed;        /* sticky; guarded by examining */

/* ---- the list */

/* Names come from clients. */
static char *
make_label (const char *plugin, const char *name)
{
  char *label;
  int n;

  if (name[0] == '\0')
    n = asprintf (&label, "qcow-fixup: image from %s", plugin);
  else
    n = asprintf (&label, "qcow-fixup: image \"%s\" from %s", name, plugin);
  if (n == -1)
    return NULL;
  for (char *p = label; *p; p++)
    if ((unsigned char) *p < ' ' || *p == '\x7f')
      *p = '?';
  return label;
}

static void
free_export (struct export *e)
{
  finding_free (&e->view);
  preserve_free (e->preserve);
  lock_must (pthread_rwlock_destroy (&e->gate));
  free (e->name);
  free (e->label);
  free (e);
}

/* Who changes the view must not wait for readers for ever. */
static void
init_gate (pthread_rwlock_t *gate)
{
  pthread_rwlockattr_t attr;

  lock_must (pthread_rwlockattr_init (&attr));
  lock_must (pthread_rwlockattr_setkind_np
             (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
  lock_must (pthread_rwlock_init (gate, &attr));
  lock_must (pthread_rwlockattr_destroy (&attr));
}

static struct export *
new_export (const char *name, const struct export_settings *settings)
{
  struct export *e = calloc (1, sizeof *e);

  if (e == NULL)
    return NULL;
  init_gate (&e->gate);
  e->settings = settings;
  e->name = strdup (name);
  e->label = make_label (settings->plugin, name);
  if (e->name && e->label)
    return e;
  free_export (e);
  return NULL;
}

static struct export *
find_locked (const char *name)
{
  assert_held (&list_lock);
  for (struct export *e = exports; e; e = e->following)
    if (strcmp (e->name, name) == 0)
      return e;
  return NULL;
}

struct export *
export_get (const char *name, const struct export_settings *settings)
{
  LOCK_SCOPE (&list_lock);
  struct export *e = find_locked (name);

  if (e == NULL) {
    e = new_export (name, settings);
    if (e == NULL) {
      report_error ("qcow-fixup: %m");
      return NULL;
    }
    e->following = exports;
    exports = e;
    nr_exports++;
  }
  e->users++;
  return e;
}

void
export_put (struct export *e)
{
  struct export **link = &exports;
  LOCK_SCOPE (&list_lock);

  if (--e->users > 0)
    return;
  if (e->told && nr_exports <= MAX_REMEMBERED)
    return;
  while (*link != e)
    link = &(*link)->following;
  *link = e->following;
  nr_exports--;
  free_export (e);
}

void
export_forget_all (void)
{
  while (exports) {
    struct export *e = exports;

    exports = e->following;
    free_export (e);
  }
  nr_exports = 0;
}

struct preserve *
export_preserve (const struct export *e)
{
  return e->preserve;
}

const char *
export_label (const struct export *e)
{
  return e->label;
}

/* ---- what is below, for preserve.h */

static int
preserve_below_pread (void *handle, void *buf, size_t len, uint64_t host)
{
  return source_pread (handle, buf, len, host);
}

static int
preserve_below_flush (void *handle)
{
  return source_next_can_flush (handle) ? source_sync (handle) : 0;
}

static int
preserve_below_pwrite (void *handle, const void *buf, size_t len,
                       uint64_t host, bool fua)
{
  if (source_pwrite (handle, buf, len, host) == -1)
    return -1;
  return fua ? preserve_below_flush (handle) : 0;
}

struct preserve_below
export_preserve_below (struct source *src)
{
  return (struct preserve_below) {
    .handle = src,
    .pread = preserve_below_pread,
    .pwrite = preserve_below_pwrite,
    .flush = preserve_below_flush,
  };
}

/* ---- finding out */

/* True, once for each export. */
static bool
may_tell (struct export *e, enum told what)
{
  const bool is_new = !(e->told & what);

  assert_held (&examining);
  e->told |= what;
  return is_new;
}

/* What looks like an image may be what a guest wrote on its disk. */
static int
doubt (struct export *e, struct source *src, bool *is_image)
{
  enum found found;

  *is_image = e->settings->serves_bytes;
  if (*is_image || e->settings->is_left_alone)
    return 0;
  if (finding_glance (src, &found) == -1)
    return -1;
  if (found != FOUND_OTHER && may_tell (e, TOLD_UNKNOWN))
    report_warning ("%s: begins like a qcow%s image, but is passed on as it "
                    "is, because the %s plugin is not known to serve the "
                    "bytes of images and a guest could have written this on "
                    "its disk; if it is an image, say image-bytes=true",
                    e->label, found == FOUND_QCOW2 ? "2" : "",
                    e->settings->plugin);
  return 0;
}

static void
tell_stray (struct export *e, const struct qcow_stray *stray, bool repairs)
{
  if (!stray->is_found || !may_tell (e, TOLD_STRAY))
    return;
  report_warning ("%s: a stray header of Xen 3.3 or 3.4 at byte %" PRIu64
                  " has overwritten 64 entries of the L2 table at byte "
                  "%" PRIu64 " (L1 entry %" PRIu64 "); %s", e->label,
                  stray->host, stray->l2_host, stray->l1_index,
                  !stray->can_repair ? "they cannot be brought back" :
                  repairs ? "they are brought back" :
                  e->settings->repairs_stray ?
                  "they can be brought back once the image can be written" :
                  "stray-header=repair would bring them back");
}

/* Could this be what an earlier conversion left, which may be lost? */
static bool
is_suspect (const struct finding *f)
{
  assert_held (&examining);
  return sync_failed && f->header.xen != QCOW_XEN_NONE;
}

/* Why can this image not be changed now?  NULL: it can. */
static const char *
why_in_memory (const struct finding *f, bool readonly, nbdkit_next *next)
{
  if (f->plan.why_not)
    return f->plan.why_not;
  if (is_suspect (f))
    return "flushing a conversion failed before (stop the server and check "
      "the image)";
  if (qcow_header_why_read_only (&f->header))
    return qcow_header_why_read_only (&f->header);
  if (readonly)
    return "the connection is read-only";
  if (next->can_write (next) != 1)
    return "the plugin cannot write it";
  if (next->can_flush (next) != 1)
    return "the plugin cannot flush it";
  return NULL;
}

/* Damage is told of always, the rest if the client might have expected to
 * write.
 */
static void
tell_view (struct export *e, const struct finding *f, bool readonly,
           const char *why)
{
  if (readonly && !f->plan.why_not) {
    report_debug ("qcow: view name=%s: %s", e->label, why);
    return;
  }
  if (may_tell (e, TOLD_READ_ONLY))
    report_warning ("%s: has an L1 table that tapdisk wrote and is served "
                    "read-only, converted in memory, because %s", e->label,
                    why);
}

/* Repair and convert, durably; *f becomes what is there then.  Repair comes
 * first, since a sound table lets more of the header stay as it is.
 * -1: the image must be viewed, if *f is still FOUND_QCOW.
 */
static int
change (struct export *e, struct source *src, struct finding *f,
        bool repairs)
{
  int r = 0;

  if (repairs) {
    r = qcow_stray_repair (src, e->label, &f->header, &f->stray);
    if (r == 0) {
      finding_free (f);
      r = finding_make (src, e->label, f);
    }
  }
  if (r == 0 && f->plan.is_needed) {
    r = qcow_convert_fixed (src, e->label, &f->header, &f->verdict,
                            &f->plan);
    nr_conversions++;
    if (r == 0)
      report_debug ("qcow: converted name=%s", e->label);
  }
  sync_failed |= src->sync_failed;
  if (r == -1 && may_tell (e, TOLD_READ_ONLY))
    report_warning ("%s: is served read-only, converted in memory as far as "
                    "it could not be converted in place", e->label);
  return r;
}

/* From now on the export is as found; takes over *f. */
static void
publish (struct export *e, struct finding *f, enum export_mode mode)
{
  lock_must (pthread_rwlock_wrlock (&e->gate));
  finding_free (&e->view);
  e->view = *f;
  e->seen_conversions = nr_conversions;
  e->mode = mode;
  lock_must (pthread_rwlock_unlock (&e->gate));
  *f = (struct finding) { .found = FOUND_OTHER };
}

/* Change it if that is wanted and possible, and decide how to serve it.
 * While it is changed nobody reads, or he could see what only a power cut
 * should leave.  -1, reported: it could not be read any more.
 */
static int
decide (struct export *e, struct source *src, struct finding *f,
        bool readonly, nbdkit_next *next, enum export_mode *mode)
{
  const bool needs_view = finding_needs_view (f) || is_suspect (f);
  const char *why = why_in_memory (f, readonly, next);
  const bool repairs = !why && e->settings->repairs_stray &&
    f->stray.is_found && f->stray.can_repair;
  int r;

  tell_stray (e, &f->stray, repairs);
  if (why && needs_view)
    tell_view (e, f, readonly, why);
  *mode = why && needs_view ? EXPORT_VIEW : EXPORT_PLAIN;
  if (why || (!needs_view && !repairs))
    return 0;
  lock_must (pthread_rwlock_wrlock (&e->gate));
  r = change (e, src, f, repairs);
  lock_must (pthread_rwlock_unlock (&e->gate));
  if (r == -1)
    *mode = EXPORT_VIEW;
  return f->found == FOUND_QCOW ? 0 : -1;
}

/* For an image as found: begin to keep its header alive, or end that. */
static int
set_preserve (struct export *e, struct source *src, enum found found)
{
  const struct preserve_below below = export_preserve_below (src);

  if (e->nr_entered > 0)
    return 0;                   /* somebody uses it */
  preserve_free (e->preserve);
  e->preserve = NULL;
  if (found != FOUND_QCOW2 || e->settings->preserve == PRESERVE_OFF)
    return 0;
  e->preserve = preserve_new (e->label, e->settings->preserve);
  if (e->preserve == NULL)
    return -1;
  return preserve_load (e->preserve, &below, source_len (src));
}

/* Look at the bytes anew. */
static int
examine_locked (struct export *e, nbdkit_next *next, bool readonly)
{
  CLEANUP_SOURCE struct source *src = source_next (next, e->label, readonly);
  struct finding f = { .found = FOUND_OTHER };
  enum export_mode mode = EXPORT_PLAIN;
  bool is_image;

  assert_held (&examining);
  if (src == NULL || doubt (e, src, &is_image) == -1)
    return -1;
  if (is_image && finding_make (src, e->label, &f) == -1)
    return -1;
  if (set_preserve (e, src, f.found) == -1) {
    finding_free (&f);
    return -1;
  }
  if (f.found == FOUND_QCOW &&
      decide (e, src, &f, readonly, next, &mode) == -1)
    return -1;
  publish (e, &f, mode);
  return 0;
}

/* Would another look change anything? */
static bool
must_examine (const struct export *e, bool readonly)
{
  if (e->nr_entered == 0)
    return true;
  return e->mode == EXPORT_VIEW && !readonly && !e->view.plan.why_not;
}

int
export_enter (struct export *e, nbdkit_next *next, bool readonly)
{
  LOCK_SCOPE (&examining);

  if (must_examine (e, readonly) && examine_locked (e, next, readonly) == -1)
    return -1;
  e->nr_entered++;
  return (int) e->mode;
}

void
export_leave (struct export *e)
{
  e->nr_entered--;
}

/* ---- requests */

/* For a request in a view: 1 with the gate held, shared; 0 when there is no
 * view any more; -1, reported, with *err.
 */
static int
enter_view (struct export *e, nbdkit_next *next, int *err)
{
  while (e->mode == EXPORT_VIEW) {
    lock_must (pthread_rwlock_rdlock (&e->gate));
    if (e->mode == EXPORT_VIEW && e->seen_conversions == nr_conversions)
      return 1;
    lock_must (pthread_rwlock_unlock (&e->gate));

    LOCK_SCOPE (&examining);
    if (e->mode == EXPORT_VIEW && e->seen_conversions != nr_conversions &&
        examine_locked (e, next, true) == -1) {
      *err = EIO;
      return -1;
    }
  }
  return 0;
}

int
export_pread (struct export *e, nbdkit_next *next, void *buf,
              uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  const int viewed = enter_view (e, next, err);
  int r;

  if (viewed == -1)
    return -1;
  r = next->pread (next, buf, count, offset, flags, err);
  if (viewed) {
    if (r == 0)
      qcow_convert_view (&e->view.header, &e->view.verdict, &e->view.plan,
                         buf, count, offset);
    lock_must (pthread_rwlock_unlock (&e->gate));
  }
  return r;
}

/* Where the view may differ from what is there nothing is a hole. */
static int
add_extent (const struct finding *view, struct nbdkit_extents *extents,
            struct nbdkit_extent ext)
{
  while (ext.length > 0) {
    uint64_t start = 0, end = 0, len = ext.length;
    uint32_t type = ext.type;

    if (finding_next_range (view, ext.offset, EXTENT_UNIT, &start, &end)) {
      if (start <= ext.offset)
        type = 0;
      len = MIN (len, (start <= ext.offset ? end : start) - ext.offset);
    }
    if (nbdkit_add_extent (extents, ext.offset, len, type) == -1)
      return -1;
    ext.offset += len;
    ext.length -= len;
  }
  return 0;
}

static int
view_extents (struct export *e, nbdkit_next *next, uint32_t count,
              uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents, int *err)
{
  struct nbdkit_extents *list =
    nbdkit_extents_new (offset, (uint64_t) next->get_size (next));
  int r = -1;

  if (list == NULL)
    *err = errno;
  else
    r = next->extents (next, count, offset, flags, list, err);
  for (size_t i = 0; r == 0 && i < nbdkit_extents_count (list); i++) {
    r = add_extent (&e->view, extents, nbdkit_get_extent (list, i));
    if (r == -1)
      *err = errno;
  }
  if (list)
    nbdkit_extents_free (list);
  return r;
}

int
export_extents (struct export *e, nbdkit_next *next, uint32_t count,
                uint64_t offset, uint32_t flags,
                struct nbdkit_extents *extents, int *err)
{
  const int viewed = enter_view (e, next, err);
  int r;

  if (viewed == -1)
    return -1;
  if (!viewed)
    return next->extents (next, count, offset, flags, extents, err);
  r = view_extents (e, next, count, offset, flags, extents, err);
  lock_must (pthread_rwlock_unlock (&e->gate));
  return r;
}
