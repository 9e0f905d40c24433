/* Headers made and read by hand, and a memory to keep them alive in.
 *
 * The reader here shares no code with what it tests.  The end of 'report'
 * only counts; messages are printed when TEST_VERBOSE is set.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/byte-order.h"
#include "include/checked.h"
#include "include/testing.h"
#include "report/report.h"
#include "source/memory.h"

#include "test-preserve.h"

/* ---- reports */

unsigned nr_errors, nr_warnings;
static __thread bool is_quiet;

void
reports_forget (void)
{
  nr_errors = nr_warnings = 0;
}

static void __attribute__ ((format (printf, 1, 0)))
print (const char *fmt, va_list args)
{
  if (getenv ("TEST_VERBOSE") == NULL)
    return;
  vfprintf (stderr, fmt, args);
  fputc ('\n', stderr);
}

#define PRINT(fmt)                              \
  do {                                          \
    va_list args;                               \
    int err_ = errno;                           \
                                                \
    va_start (args, fmt);                       \
    print (fmt, args);                          \
    va_end (args);                              \
    errno = err_;                               \
  } while (0)

void
report_error (const char *fmt, ...)
{
  if (is_quiet)
    return;
  __atomic_fetch_add (&nr_errors, 1, __ATOMIC_RELAXED);
  PRINT (fmt);
}

void
report_warning (const char *fmt, ...)
{
  if (is_quiet)
    return;
  __atomic_fetch_add (&nr_warnings, 1, __ATOMIC_RELAXED);
  PRINT (fmt);
}

void
report_debug (const char *fmt, ...)
{
  PRINT (fmt);
}

void
report_set_quiet (bool quiet)
{
  is_quiet = quiet;
}

/* ---- headers */

size_t
put_header (uint8_t *b, unsigned version, unsigned bits, size_t header_len,
            const char *fields)
{
  uint64_t cluster_len = UINT64_C (1) << bits;

  memset (b, 0, header_len);
  store_be32 (b, 0x514649fb);
  store_be32 (b + 4, version);
  store_be32 (b + 20, bits);
  store_be64 (b + 24, 1 << 20);
  store_be32 (b + 36, 1);
  store_be64 (b + 40, 3 * cluster_len);
  store_be64 (b + 48, cluster_len);
  store_be32 (b + 56, 1);
  if (version == 2)
    return 72;
  store_be32 (b + 96, 4);
  store_be32 (b + 100, header_len);
  if (fields != NULL)
    memcpy (b + 112, fields, strlen (fields));
  return header_len;
}

size_t
put_bytes (uint8_t *b, size_t at, uint32_t type, const void *data,
           size_t len)
{
  size_t padded = (len + 7) / 8 * 8;

  store_be32 (b + at, type);
  store_be32 (b + at + 4, len);
  memset (b + at + 8, 0, padded);
  if (len > 0)
    memcpy (b + at + 8, data, len);
  return at + 8 + padded;
}

size_t
put (uint8_t *b, size_t at, uint32_t type, const char *text)
{
  return put_bytes (b, at, type, text, strlen (text));
}

void
put_name (uint8_t *b, size_t at, const char *name)
{
  memcpy (b + at, name, strlen (name));
  store_be64 (b + 8, at);
  store_be32 (b + 16, strlen (name));
}

static void
describe_data (FILE *fp, const uint8_t *data, size_t len)
{
  uint32_t sum = 1;
  size_t i;

  if (len <= 40) {
    for (i = 0; i < len; ++i)
      if (data[i] > ' ' && data[i] < 127)
        fputc (data[i], fp);
      else
        fprintf (fp, "\\%02x", data[i]);
    return;
  }
  for (i = 0; i < len; ++i)
    sum = sum * 16777619 + data[i];
  if (memcmp (data, data + 1, len - 1) == 0)
    fprintf (fp, "%zu*%c", len, data[0]);
  else
    fprintf (fp, "%zu#%08" PRIx32, len, sum);
}

static bool
describe_list (FILE *fp, const uint8_t *b, uint64_t at, uint64_t limit)
{
  while (at + 8 <= limit) {
    uint64_t len = load_be32 (b + at + 4);

    if (len > limit - at - 8)
      return false;
    if (load_be32 (b + at) == 0)
      return true;
    fprintf (fp, " %08" PRIx32 ":", load_be32 (b + at));
    describe_data (fp, b + at + 8, len);
    at += 8 + (len + 7) / 8 * 8;
  }
  return at >= limit;
}

char *
describe (const uint8_t *b, size_t cluster_len)
{
  uint32_t version = load_be32 (b + 4);
  uint32_t header_len = version == 2 ? 72 : load_be32 (b + 100);
  uint64_t name = load_be64 (b + 8);
  char *words;
  size_t words_len;
  FILE *fp = open_memstream (&words, &words_len);
  bool sound = load_be32 (b) == 0x514649fb &&
    (version == 2 || version == 3) &&
    UINT64_C (1) << load_be32 (b + 20) == cluster_len &&
    header_len <= cluster_len && (version == 2 || header_len >= 104) &&
    name <= cluster_len &&
    (name == 0 || load_be32 (b + 16) <= cluster_len - name);
  uint32_t end = header_len;

  CHECK (fp != NULL);
  if (sound) {
    fprintf (fp, "v%" PRIu32 " %" PRIu32, version, header_len);
    while (end > 105 && b[end - 1] == 0)
      --end;
    if (end > 105) {
      uint32_t first = end > 112 ? 112 : 105;

      fputc (' ', fp);
      describe_data (fp, b + first, end - first);
    }
    sound = describe_list (fp, b, header_len, name ? name : cluster_len);
  }
  if (sound && name != 0) {
    fprintf (fp, " <");
    describe_data (fp, b + name, load_be32 (b + 16));
    fprintf (fp, ">");
  }
  CHECK (fclose (fp) == 0);
  if (!sound) {
    free (words);
    words = strdup ("unsound");
    CHECK (words != NULL);
  }
  return words;
}

/* ---- the world below */

static int
below_pread (void *handle, void *buf, size_t len, uint64_t host)
{
  struct world *w = handle;

  __atomic_fetch_add (&w->nr_reads, 1, __ATOMIC_RELAXED);
  CHECK (host + len <= source_len (w->src));
  return source_pread (w->src, buf, len, host);
}

static int
below_pwrite (void *handle, const void *buf, size_t len, uint64_t host,
              bool fua)
{
  struct world *w = handle;

  __atomic_fetch_add (&w->nr_writes, 1, __ATOMIC_RELAXED);
  __atomic_store_n (&w->last_host, host, __ATOMIC_RELAXED);
  __atomic_store_n (&w->last_len, len, __ATOMIC_RELAXED);
  CHECK (len > 0 && host + len <= source_len (w->src));
  if (w->tears) {
    w->tears = false;
    CHECK (source_zero (w->src, MIN (len, 8), host, SOURCE_ZERO_KEEP) == 0);
    errno = EIO;
    return -1;
  }
  if (source_pwrite (w->src, buf, len, host) == -1)
    return -1;
  return fua ? source_sync (w->src) : 0;
}

static int
below_flush (void *handle)
{
  struct world *w = handle;

  __atomic_fetch_add (&w->nr_flushes, 1, __ATOMIC_RELAXED);
  return source_sync (w->src);
}

struct world *
world_new (const uint8_t *cluster, size_t cluster_len, uint64_t len,
           enum preserve_mode mode, bool load)
{
  struct world *w = calloc (1, sizeof *w);
  struct source *initial = source_memory ("initial", len, len);
  size_t have = cluster_len < len ? cluster_len : len;

  CHECK (w != NULL && initial != NULL);
  CHECK (source_pwrite (initial, cluster, have, 0) == 0);
  w->record = record_new ();
  CHECK (w->record != NULL);
  w->src = record_add (w->record, "image", initial, len);
  CHECK (w->src != NULL);
  source_put (initial);
  w->cluster = calloc (1, MAX_CLUSTER);
  w->cluster_len = cluster_len;
  w->p = preserve_new ("image", mode);
  CHECK (w->cluster != NULL && w->p != NULL);
  w->below = (struct preserve_below) {
    .handle = w, .pread = below_pread, .pwrite = below_pwrite,
    .flush = below_flush,
  };
  if (load)
    CHECK (preserve_load (w->p, &w->below, len) == 0);
  world_forget_counts (w);
  return w;
}

void
world_free (struct world *w)
{
  preserve_free (w->p);
  source_put (w->src);
  record_free (w->record);
  free (w->cluster);
  free (w);
}

void
world_forget_counts (struct world *w)
{
  w->nr_reads = w->nr_writes = w->nr_flushes = 0;
}

int
client_write (struct world *w, const void *buf, size_t len, uint64_t host)
{
  if (host < preserve_guarded_len (w->p))
    return preserve_pwrite (w->p, &w->below, buf, len, host, false);
  return below_pwrite (w, buf, len, host, false);
}

int
client_zero (struct world *w, uint64_t len, uint64_t host)
{
  uint64_t done = 0;

  if (host < preserve_guarded_len (w->p) &&
      preserve_zero (w->p, &w->below, len, host, false, &done) == -1)
    return -1;
  CHECK (done <= len);
  if (done == len)
    return 0;
  return source_zero (w->src, len - done, host + done, SOURCE_ZERO_KEEP);
}

void
client_read (struct world *w, void *buf, size_t len, uint64_t host)
{
  if (host < preserve_guarded_len (w->p))
    preserve_note_read (w->p);
  CHECK (source_pread (w->src, buf, len, host) == 0);
}

const uint8_t *
on_disk (struct world *w)
{
  CHECK (source_pread_padded (w->src, w->cluster, w->cluster_len, 0) == 0);
  return w->cluster;
}

void
expect (struct world *w, const char *expected, const char *file, int line)
{
  char *words = describe (on_disk (w), w->cluster_len);

  if (strcmp (words, expected) != 0) {
    fprintf (stderr, "%s:%d: expected: %s\n%s:%d: found:    %s\n",
             file, line, expected, file, line, words);
    exit (EXIT_FAILURE);
  }
  free (words);
}
