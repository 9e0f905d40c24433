/* A plugin with a fault of your choice, to prove that the tests, under
 * sanitizers or valgrind, notice it.  Test-only; never installed.
 *
 *   nbdkit planted fault=none|leak|server-leak|overflow|undefined|race|abort
 *
 * The fault happens when a client connects.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static const char *fault = "none";

/* The compiler must neither see through the faults nor drop them. */
static volatile int one = 1;
static volatile char sink;
static int shared;

static int
planted_config (const char *key, const char *value)
{
  if (strcmp (key, "fault") != 0) {
    nbdkit_error ("unknown parameter '%s'", key);
    return -1;
  }
  fault = value;
  return 0;
}

static void
plant_leak (void)
{
  void *volatile lost = malloc (1234);

  lost = NULL;
  (void) lost;
}

/* Memory that nbdkit allocated for us. */
static void
plant_server_leak (void)
{
  char *volatile lost = nbdkit_absolute_path ("lost");

  lost = NULL;
  (void) lost;
}

static void
plant_overflow (void)
{
  char *p = malloc (16);

  if (p != NULL) {
    memset (p, 0, 16);
    sink = p[15 + one];
  }
  free (p);
}

static void
plant_undefined (void)
{
  volatile int big = INT_MAX;

  sink = (char) (big + one);
}

static void *
add_without_lock (void *unused)
{
  int i;

  (void) unused;
  for (i = 0; i < 1000; i++)
    *(volatile int *) &shared += 1;
  return NULL;
}

static void
plant_race (void)
{
  pthread_t a, b;

  if (pthread_create (&a, NULL, add_without_lock, NULL) != 0)
    return;
  if (pthread_create (&b, NULL, add_without_lock, NULL) == 0)
    pthread_join (b, NULL);
  pthread_join (a, NULL);
}

static void *
planted_open (int readonly)
{
  (void) readonly;
  if (strcmp (fault, "leak") == 0)
    plant_leak ();
  else if (strcmp (fault, "server-leak") == 0)
    plant_server_leak ();
  else if (strcmp (fault, "overflow") == 0)
    plant_overflow ();
  else if (strcmp (fault, "undefined") == 0)
    plant_undefined ();
  else if (strcmp (fault, "race") == 0)
    plant_race ();
  else if (strcmp (fault, "abort") == 0)
    abort ();
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
planted_get_size (void *handle)
{
  (void) handle;
  return 0;
}

static int
planted_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
               uint32_t flags)
{
  (void) handle;
  (void) offset;
  (void) flags;
  memset (buf, 0, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "planted",
  .version = PACKAGE_VERSION,
  .config = planted_config,
  .open = planted_open,
  .get_size = planted_get_size,
  .pread = planted_pread,
};

NBDKIT_REGISTER_PLUGIN (plugin)
