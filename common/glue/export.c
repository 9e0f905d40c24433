/* Exports: the disk, its layers, its snapshots.
 *
 * The handle of the disk itself needs no memory.  Those of snapshots hold
 * an image, and are shared by all clients of one; as the server forgets
 * handles whose clients are connected when it ends, all are kept in a list.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "glue/export.h"
#include "include/cleanup.h"
#include "include/lock.h"

#define LAYER "layer:"
#define SNAPSHOT "snapshot:"

struct export {
  bool readonly;
  bool is_top;                  /* the image that the server began with */
  struct image *image;          /* for others */
  char *snapshot;               /* NULL, or its name: 'image' is owned */
  unsigned nr_clients;          /* guarded by the list's lock */
  struct export *prev, *next;   /* in the list; likewise */
};

static struct export reader = { .readonly = true, .is_top = true };
static struct export writer = { .readonly = false, .is_top = true };

static struct {
  struct lock lock;
  struct export *first;         /* guarded by lock */
} list = { .lock = LOCK_INITIALIZER };

/* Taken before all others: by whoever opens a snapshot. */
static struct lock opening = LOCK_INITIALIZER;

static struct export *
no_memory (void)
{
  nbdkit_error ("no memory for an export");
  errno = ENOMEM;
  return NULL;
}

/* ---- the list */

static struct export *
add_export (struct image *image, char *snapshot)
{
  struct export *e = calloc (1, sizeof *e);

  if (e == NULL)
    return no_memory ();
  *e = (struct export) {
    .readonly = true, .image = image, .snapshot = snapshot, .nr_clients = 1
  };
  LOCK_SCOPE (&list.lock);
  e->next = list.first;
  if (e->next)
    e->next->prev = e;
  list.first = e;
  return e;
}

/* The export of that snapshot for one more client, if it is open. */
static struct export *
find_export (const char *snapshot)
{
  LOCK_SCOPE (&list.lock);
  struct export *e = list.first;

  while (e && (e->snapshot == NULL || strcmp (e->snapshot, snapshot) != 0))
    e = e->next;
  if (e)
    e->nr_clients++;
  return e;
}

static void
free_export (struct export *e)
{
  if (e->snapshot)
    image_close (e->image);
  free (e->snapshot);
  free (e);
}

/* A client less. */
static void
drop_export (struct export *e)
{
  {
    LOCK_SCOPE (&list.lock);

    if (--e->nr_clients > 0)
      return;
    if (e->prev)
      e->prev->next = e->next;
    else
      list.first = e->next;
    if (e->next)
      e->next->prev = e->prev;
  }
  free_export (e);
}

void
export_close_all (void)
{
  struct export *e;

  while ((e = list.first) != NULL) {
    list.first = e->next;
    free_export (e);
  }
}

/* ---- opening */

static struct export *
open_snapshot (struct life *life, const char *name)
{
  LOCK_SCOPE (&opening);
  CLEANUP_FREE char *copy = NULL;
  struct export *e = find_export (name);
  struct image *image;

  if (e)
    return e;
  copy = strdup (name);
  if (copy == NULL)
    return no_memory ();
  image = life_open_snapshot (life, copy);
  if (image == NULL)
    return NULL;
  e = add_export (image, copy);
  if (e == NULL) {
    image_close (image);
    return NULL;
  }
  copy = NULL;                  /* the export's */
  return e;
}

/* A decimal number below 'nr', as export_list writes it. */
static bool
parse_layer (const char *text, size_t nr, size_t *n)
{
  const char *p = text;

  for (*n = 0; *p >= '0' && *p <= '9' && *n < nr; p++)
    *n = *n * 10 + (*p - '0');
  return p > text && *p == '\0' && *n < nr &&
    (text[0] != '0' || text[1] == '\0');
}

/* Layers below the top never change, so that theirs are simply there. */
static struct export *
open_layer (struct life *life, const char *number)
{
  CLEANUP_VISIT struct life_visit visit;
  struct image *image = life_enter (life, false, &visit);
  const size_t nr = life_chain (life)->nr_layers;
  size_t n;

  if (!parse_layer (number, nr, &n)) {
    nbdkit_error ("there is no export \"" LAYER "%s\": the chain has layers "
                  "0 to %zu", number, nr - 1);
    errno = ENOENT;
    return NULL;
  }
  if (n == 0)
    return &reader;
  while (n-- > 0)
    image = image->backing;
  return add_export (image, NULL);
}

static struct export *
open_other (struct life *life, const char *name)
{
  if (policy_has_control (name)) { /* a client's, and not fit for a log */
    nbdkit_error ("there is no export of the name that a client asked for, "
                  "which has control characters");
    errno = ENOENT;
    return NULL;
  }
  if (strncmp (name, LAYER, strlen (LAYER)) == 0)
    return open_layer (life, name + strlen (LAYER));
  if (strncmp (name, SNAPSHOT, strlen (SNAPSHOT)) == 0)
    return open_snapshot (life, name + strlen (SNAPSHOT));
  nbdkit_error ("there is no export \"%s\"; the disk's name is empty, others "
                "are " LAYER "N and " SNAPSHOT "NAME", name);
  errno = ENOENT;
  return NULL;
}

struct export *
export_open (struct life *life, const char *name, bool readonly)
{
  const bool is_disk = name == NULL || name[0] == '\0';
  struct export *e;

  if (life_connect (life, readonly || !is_disk) == -1)
    return NULL;
  if (is_disk)
    return readonly ? &reader : &writer;
  e = open_other (life, name);
  if (e == NULL)
    life_disconnect (life);
  return e;
}

void
export_close (struct life *life, struct export *e)
{
  if (!e->is_top)
    drop_export (e);
  life_disconnect (life);
}

struct image *
export_enter (struct life *life, struct export *e, bool for_change,
              struct life_visit *visit)
{
  struct image *top = life_enter (life, for_change, visit);

  return e->is_top ? top : e->image;
}

bool
export_can_write (const struct life *life, const struct export *e)
{
  return !e->readonly && life_can_write (life);
}

/* ---- telling of them */

/* " 10 GiB" in whole units; returns as snprintf. */
static int
format_len (char *text, size_t size, uint64_t len)
{
  static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
  size_t unit = 0;

  while (len > 0 && len % 1024 == 0 && unit < 5) {
    len /= 1024;
    unit++;
  }
  return snprintf (text, size, "%" PRIu64 " %.3s", len, units[unit]);
}

/* How many images there are from 'img' down, without it. */
static size_t
count_backing (const struct image *img)
{
  size_t n = 0;

  while ((img = img->backing) != NULL)
    n++;
  return n;
}

void
export_describe (struct life *life, struct export *e, const char *format,
                 char *text, size_t size)
{
  CLEANUP_VISIT struct life_visit visit;
  const struct image *img = export_enter (life, e ?: &reader, false, &visit);
  const size_t nr = count_backing (img);
  char len[32], base[64] = "";

  format_len (len, sizeof len, img->len);
  if (nr > 0)
    snprintf (base, sizeof base, ", %zu backing file%s", nr,
              nr > 1 ? "s" : "");
  snprintf (text, size, "%s, %s virtual size%s",
            e && !e->is_top ? img->format->name : format, len, base);
}

/* Of more snapshots the first ones are listed; all can be opened. */
#define MAX_LISTED 1000

/* Longer names cannot be told in the protocol. */
#define MAX_NAME_LEN 4000

struct snapshot {
  char *id, *name;              /* NULL: cannot be told; owned */
  uint64_t len, seconds;        /* as in struct snapshot_info */
};

struct listing {
  struct snapshot *all;         /* room for MAX_LISTED */
  size_t nr;
};

static void
free_listing (struct listing *l)
{
  for (size_t i = 0; i < l->nr; i++) {
    free (l->all[i].id);
    free (l->all[i].name);
  }
  free (l->all);
}

#define CLEANUP_LISTING __attribute__ ((cleanup (free_listing)))

/* A copy in *copy; NULL of what is empty, too long, or has control
 * characters.  -1: no memory.
 */
static int
copy_if_tellable (const char *text, char **copy)
{
  const unsigned char *p = (const unsigned char *) text;

  while (*p >= ' ' && *p != 127)
    p++;
  *copy = NULL;
  if (*p != '\0' || text[0] == '\0' || strlen (text) > MAX_NAME_LEN)
    return 0;
  *copy = strdup (text);
  return *copy ? 0 : -1;
}

static int
keep_snapshot (void *opaque, const struct snapshot_info *info)
{
  struct listing *l = opaque;
  struct snapshot *s = &l->all[l->nr];

  if (l->nr == MAX_LISTED) {
    nbdkit_debug ("exports: there are more than %d snapshots", MAX_LISTED);
    return 1;
  }
  *s = (struct snapshot) { .len = info->len, .seconds = info->seconds };
  l->nr++;
  if (copy_if_tellable (info->id, &s->id) == 0 &&
      copy_if_tellable (info->name, &s->name) == 0)
    return 0;
  no_memory ();
  return -1;
}

/* Is 's' what one gets by that id or name? */
static bool
is_found_by (const struct listing *l, const struct snapshot *s,
             const char *text)
{
  for (size_t i = 0; i < l->nr; i++)
    if (l->all[i].id && strcmp (l->all[i].id, text) == 0)
      return s == &l->all[i];
  for (size_t i = 0; i < l->nr; i++)
    if (l->all[i].name && strcmp (l->all[i].name, text) == 0)
      return s == &l->all[i];
  return false;
}

/* By its name, or by its id where the name leads to another one. */
static int
list_snapshot (const struct listing *l, const struct snapshot *s,
               struct nbdkit_exports *exports)
{
  CLEANUP_FREE char *name = NULL;
  char description[160], len[32], date[32] = "";
  const time_t seconds = s->seconds;
  const char *shown = s->name;
  struct tm tm;

  if (shown == NULL || !is_found_by (l, s, shown))
    shown = s->id;
  if (shown == NULL || !is_found_by (l, s, shown))
    return 0;
  if (asprintf (&name, SNAPSHOT "%s", shown) == -1) {
    name = NULL;
    no_memory ();
    return -1;
  }
  format_len (len, sizeof len, s->len);
  if (gmtime_r (&seconds, &tm))
    strftime (date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &tm);
  snprintf (description, sizeof description, "snapshot %.16s, %s virtual "
            "size, taken %s", s->id ?: "", len, date);
  return nbdkit_add_export (exports, name, description);
}

static int
list_snapshots (struct life *life, struct nbdkit_exports *exports)
{
  CLEANUP_LISTING struct listing l = { .nr = 0 };
  CLEANUP_VISIT struct life_visit visit;
  struct image *img = life_enter (life, false, &visit);

  if (img->format->snapshots == NULL || img->wishes.snapshot)
    return 0;
  l.all = calloc (MAX_LISTED, sizeof *l.all);
  if (l.all == NULL) {
    no_memory ();
    return -1;
  }
  if (img->format->snapshots (img, keep_snapshot, &l) == -1)
    return -1;
  for (size_t i = 0; i < l.nr; i++)
    if (list_snapshot (&l, &l.all[i], exports) == -1)
      return -1;
  return 0;
}

static int
list_layers (struct life *life, struct nbdkit_exports *exports)
{
  CLEANUP_VISIT struct life_visit visit;
  const struct image *img = life_enter (life, false, &visit);
  unsigned n = 0;

  if (img->backing == NULL)
    return 0;
  for (; img; img = img->backing, n++) {
    char name[32], description[128], len[32];

    format_len (len, sizeof len, img->len);
    snprintf (name, sizeof name, LAYER "%u", n);
    snprintf (description, sizeof description, "%s, %s virtual size",
              img->format->name, len);
    if (nbdkit_add_export (exports, name, description) == -1)
      return -1;
  }
  return 0;
}

static int
list_all (struct life *life, const char *format,
          struct nbdkit_exports *exports)
{
  char description[128];

  export_describe (life, NULL, format, description, sizeof description);
  if (nbdkit_add_export (exports, "", description) == -1 ||
      list_snapshots (life, exports) == -1)
    return -1;
  return list_layers (life, exports);
}

/* Who asks is a client, too, if perhaps the first one: what was read when
 * the server started need not be true any more.
 */
int
export_list (struct life *life, const char *format,
             struct nbdkit_exports *exports)
{
  int r;

  if (life_connect (life, true) == -1)
    return -1;
  r = list_all (life, format, exports);
  life_disconnect (life);
  return r;
}
