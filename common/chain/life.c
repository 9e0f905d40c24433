/* The life of a chain in a server: looked at, read, written, closed.
 *
 * The gate is a read-write lock: requests share it, changes of the top
 * image exclude them.  A reader need not take it any more once 'is_settled'
 * is set, that is once the top image stays until the last client is gone.
 * Changers always do, so that the end can wait for them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chain/life.h"
#include "include/lock.h"
#include "report/report.h"

/* Seconds between background passes; after failures up to the maximum. */
#define PASS_INTERVAL 5
#define PASS_INTERVAL_MAX 80

enum stage {
  STAGE_LOOKED_AT,              /* byte 100 is held */
  STAGE_READ,                   /* read locks; may yet be written */
  STAGE_WRITTEN,
  STAGE_READ_ONLY,              /* read locks; for good */
  STAGE_ENDED,
};

struct life {
  struct chain *chain;
  const char *name;             /* of the top image; borrowed */
  pthread_rwlock_t gate;
  enum stage stage;             /* changed holding the gate exclusively */
  _Atomic bool is_settled;      /* set once, likewise */
  _Atomic bool can_write;       /* set once, likewise */
  _Atomic bool has_told;        /* why writers cannot write */
  _Atomic unsigned nr_clients;

  /* The background pass. */
  struct lock pass_lock;
  struct condition pass_wake;
  bool pass_stop;               /* guarded by pass_lock */
  bool has_thread;              /* guarded by the gate */
  pthread_t thread;
};

static void
open_gate (pthread_rwlock_t **gate)
{
  lock_must (pthread_rwlock_unlock (*gate));
}

/* Keep every request out, from here to the end of the block. */
#define CLOSE_GATE(life)                                                \
  __attribute__ ((cleanup (open_gate), unused))                         \
  pthread_rwlock_t *closed_gate = ({                                    \
    lock_must (pthread_rwlock_wrlock (&(life)->gate)); &(life)->gate; })

/* Why the image can never be written, or NULL. */
static const char *
why_never_written (const struct life *life)
{
  if (life->chain->settings->force_share)
    return "force-share=true lets others write it";
  if (life->chain->layers[0].shares_data)
    return "a backing file uses its data file, too";
  return image_why_read_only (chain_top (life->chain));
}

static void
tell_once (struct life *life, const char *why)
{
  if (!atomic_exchange (&life->has_told, true))
    report_error ("%s: is served read-only: %s", life->name, why);
}

static void
init_gate (struct life *life)
{
  pthread_rwlockattr_t attr;

  lock_must (pthread_rwlockattr_init (&attr));
  lock_must (pthread_rwlockattr_setkind_np
             (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
  lock_must (pthread_rwlock_init (&life->gate, &attr));
  lock_must (pthread_rwlockattr_destroy (&attr));
}

struct life *
life_start (const struct chain_settings *settings)
{
  struct life *life = calloc (1, sizeof *life);

  if (life == NULL) {
    report_error ("no memory to open the image");
    return NULL;
  }
  init_gate (life);
  lock_init (&life->pass_lock);
  condition_init (&life->pass_wake);
  life->stage = STAGE_READ_ONLY;
  life->chain = chain_open (settings);
  if (life->chain == NULL)
    goto error;
  life->name = life->chain->layers[0].name;
  if (why_never_written (life) != NULL)
    life->is_settled = true;
  else {
    life->stage = STAGE_LOOKED_AT;
    if (chain_lock_top (life->chain, SOURCE_LOCK_PROBE,
                        SOURCE_LOCK_READ) == -1)
      goto error;
  }
  return life;

 error:
  life_free (life);
  return NULL;
}

/* ---- the background pass */

/* One round; returns the seconds until the next. */
static int
pass_if_needed (struct life *life, int interval)
{
  struct life_visit visit;
  struct image *img = life_enter (life, false, &visit);
  int r = 0;

  if (pass_is_needed (img)) {
    r = pass_run (img);
    report_debug ("chain: background pass file=%s result=%d", life->name, r);
  }
  life_leave (&visit);
  if (r == 0)
    return PASS_INTERVAL;
  return interval < PASS_INTERVAL_MAX ? interval * 2 : interval;
}

static void *
pass_thread (void *arg)
{
  struct life *life = arg;
  int interval = PASS_INTERVAL;

  lock_take (&life->pass_lock);
  while (!life->pass_stop) {
    struct timespec deadline;

    clock_gettime (CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += interval;
    while (!life->pass_stop &&
           condition_wait_until (&life->pass_wake, &life->pass_lock,
                                 &deadline))
      ;
    if (life->pass_stop)
      break;
    lock_drop (&life->pass_lock);
    interval = pass_if_needed (life, interval);
    lock_take (&life->pass_lock);
  }
  lock_drop (&life->pass_lock);
  return NULL;
}

static void
stop_pass_thread (struct life *life)
{
  if (!life->has_thread)
    return;
  lock_take (&life->pass_lock);
  life->pass_stop = true;
  condition_wake_all (&life->pass_wake);
  lock_drop (&life->pass_lock);
  lock_must (pthread_join (life->thread, NULL));
  life->has_thread = false;
}

static int
start_pass_thread (struct life *life)
{
  int err = pthread_create (&life->thread, NULL, pass_thread, life);

  if (err == 0) {
    life->has_thread = true;
    return 0;
  }
  errno = err;
  report_error ("%s: cannot start a thread: %m", life->name);
  return -1;
}

/* ---- changes of stage; the gate is closed */

/* Read locks, and tables that are true under them. */
static int
begin_reading (struct life *life)
{
  if (life->stage != STAGE_LOOKED_AT)
    return 0;
  if (chain_lock_top (life->chain, SOURCE_LOCK_READ,
                      SOURCE_LOCK_PROBE) == -1)
    return -1;
  if (chain_reopen_top (life->chain, life->nr_clients > 0) == -1)
    return -1;
  life->stage = STAGE_READ;
  return 0;
}

/* The sources are open for writing after this, or errno says why not. */
static int
upgrade_sources (struct life *life)
{
  struct layer *top = &life->chain->layers[0];

  if (source_file_upgrade (top->source) == -1)
    return -1;
  return top->data ? source_file_upgrade (top->data) : 0;
}

/* Write locks, files open for writing, tables parsed under them.  False:
 * that cannot be had, and the log says why.
 */
static bool
acquire_writing (struct life *life)
{
  const char *why;

  if (chain_lock_top (life->chain, SOURCE_LOCK_WRITE,
                      SOURCE_LOCK_READ) == -1) {
    tell_once (life, "the write lock is not to be had");
    return false;
  }
  if (upgrade_sources (life) == -1) {
    tell_once (life, strerror (errno));
    return false;
  }
  if (chain_reopen_top (life->chain, life->nr_clients > 0) == -1) {
    tell_once (life, "it could not be read again");
    return false;
  }
  why = image_why_read_only (chain_top (life->chain));
  if (why) {
    tell_once (life, why);
    return false;
  }
  if (image_begin_writing (chain_top (life->chain)) == -1) {
    tell_once (life, "it could not be made ready for writing");
    return false;
  }
  return true;
}

static void
begin_writing (struct life *life)
{
  if (life->stage != STAGE_READ)
    return;
  if (acquire_writing (life) && start_pass_thread (life) == 0) {
    life->stage = STAGE_WRITTEN;
    life->can_write = true;
    report_debug ("chain: write file=%s", life->name);
  }
  else {
    chain_lock_top (life->chain, SOURCE_LOCK_READ, SOURCE_LOCK_READ);
    life->stage = STAGE_READ_ONLY;
  }
  life->is_settled = true;
}

/* ---- clients */

int
life_connect (struct life *life, bool readonly)
{
  if (!life->is_settled) {
    CLOSE_GATE (life);

    if (begin_reading (life) == -1)
      return -1;
    if (!readonly)
      begin_writing (life);
  }
  if (!readonly && !life->can_write) {
    const char *why = why_never_written (life);

    if (why)
      tell_once (life, why);
  }
  life->nr_clients++;
  return 0;
}

void
life_disconnect (struct life *life)
{
  life->nr_clients--;
}

bool
life_can_write (const struct life *life)
{
  return life->can_write;
}

struct image *
life_enter (struct life *life, bool for_change, struct life_visit *visit)
{
  *visit = (struct life_visit) { .held = NULL };
  if (for_change || !life->is_settled) {
    lock_must (pthread_rwlock_rdlock (&life->gate));
    visit->held = &life->gate;
  }
  if (for_change && life->stage == STAGE_ENDED) {
    report_error ("%s: the server is ending", life->name);
    errno = ESHUTDOWN;
    return NULL;
  }
  visit->image = chain_top (life->chain);
  return visit->image;
}

void
life_leave (struct life_visit *visit)
{
  if (visit->held)
    lock_must (pthread_rwlock_unlock (visit->held));
  visit->held = NULL;
}

struct image *
life_open_snapshot (struct life *life, const char *snapshot)
{
  CLOSE_GATE (life);

  /* No pass may be writing the header. */
  if (life->stage == STAGE_WRITTEN &&
      image_flush (chain_top (life->chain)) == -1)
    return NULL;
  return chain_open_snapshot (life->chain, snapshot);
}

int
life_end (struct life *life)
{
  int r = 0;

  stop_pass_thread (life);
  {
    CLOSE_GATE (life);

    if (life->stage == STAGE_WRITTEN)
      r = image_finish (chain_top (life->chain));
    life->stage = STAGE_ENDED;
    life->is_settled = true;
    chain_unlock (life->chain);
  }
  return r;
}

void
life_free (struct life *life)
{
  if (life == NULL)
    return;
  stop_pass_thread (life);
  chain_close (life->chain);
  condition_destroy (&life->pass_wake);
  lock_destroy (&life->pass_lock);
  lock_must (pthread_rwlock_destroy (&life->gate));
  free (life);
}

const struct chain *
life_chain (const struct life *life)
{
  return life->chain;
}
