/* The registry of the files that this process has open, or on which a
 * sync has failed.
 *
 * It is the one place with state that belongs to the process: open file
 * descriptions and the kernel's treatment of failed write-back do, too.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "source/identity.h"

struct lock identity_registry_lock = LOCK_INITIALIZER;
static struct identity *registry; /* guarded by identity_registry_lock */

static struct identity *
find_locked (const struct stat *st)
{
  struct identity *id;

  assert_held (&identity_registry_lock);
  for (id = registry; id != NULL; id = id->next)
    if (id->dev == st->st_dev && id->ino == st->st_ino)
      break;
  return id;
}

/* Has a sync of this block device failed, under whatever name? */
static bool
device_has_failed_locked (dev_t device)
{
  assert_held (&identity_registry_lock);
  if (device == 0)
    return false;
  for (struct identity *id = registry; id != NULL; id = id->next)
    if (id->device == device && id->sync_failed)
      return true;
  return false;
}

static struct identity *
new_locked (const struct stat *st)
{
  struct identity *id = calloc (1, sizeof *id);

  assert_held (&identity_registry_lock);
  if (id == NULL)
    return NULL;
  id->dev = st->st_dev;
  id->ino = st->st_ino;
  id->device = S_ISBLK (st->st_mode) ? st->st_rdev : 0;
  id->pin = -1;
  id->lock_fd = -1;
  lock_init (&id->sync_lock);
  id->sync_failed = device_has_failed_locked (id->device);
  id->next = registry;
  registry = id;
  return id;
}

static void
remove_locked (struct identity *id)
{
  struct identity **p = &registry;

  assert_held (&identity_registry_lock);
  while (*p != id)
    p = &(*p)->next;
  *p = id->next;
  lock_destroy (&id->sync_lock);
  free (id);
}

/* A descriptor without any access to the file; better any than none. */
static int
pin_inode (int fd)
{
  char path[64];
  int pin;

  snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  pin = open (path, O_PATH | O_CLOEXEC);
  return pin >= 0 ? pin : fcntl (fd, F_DUPFD_CLOEXEC, 0);
}

struct identity *
identity_get (const struct stat *st)
{
  struct identity *id;

  LOCK_SCOPE (&identity_registry_lock);
  id = find_locked (st);
  if (id == NULL)
    id = new_locked (st);
  if (id != NULL)
    id->references++;
  return id;
}

void
identity_put (struct identity *id, int fd)
{
  LOCK_SCOPE (&identity_registry_lock);
  if (--id->references > 0)
    return;
  if (!id->sync_failed)
    remove_locked (id);
  else if (id->pin == -1)
    id->pin = pin_inode (fd);
}

void
identity_fail (struct identity *id)
{
  LOCK_SCOPE (&identity_registry_lock);
  id->sync_failed = true;
  if (id->device == 0)
    return;
  for (struct identity *other = registry; other != NULL; other = other->next)
    if (other->device == id->device)
      other->sync_failed = true;
}
