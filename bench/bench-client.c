/* The benchmark's NBD client: starts a server, does one kind of work with
 * it, prints how long that took, and ends it.
 *
 *   bench-client WORK [OPTION...] [-- SERVER ARGUMENT...]
 *
 * What WORK and the options are is in 'usage' below.  The output is one
 * line; for all but digest and ranges it is "SECONDS COUNT BYTES".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

/* How much 'digest' and 'fill' move at a time. */
#define CHUNK_LEN (1024 * 1024)

static const char usage[] =
  "usage: bench-client WORK [OPTION...] [-- SERVER ARGUMENT...]\n"
  "  requests  make requests (--op, --pattern, --block, --depth,\n"
  "            --connections, --requests, --seconds, --seed, --ranges,\n"
  "            --flush-every, --final-flush)\n"
  "  fill      write the ranges in the order of the list (--data, --seed)\n"
  "  digest    print numbers for the content and for the zero extents, how\n"
  "            many bytes are no zero extents, and the disk's size\n"
  "  map       ask for the extents of the whole disk\n"
  "  copy      run nbdcopy to null: (--connections)\n"
  "  start     start the server and read 4 KiB, --requests times; prints\n"
  "            the median\n"
  "  ranges    print a range list (--size, --block, --count, --share=K/N,\n"
  "            --seed); no server\n"
  "  --op=read|write|zero|trim\n"
  "  --pattern=sequential|random|permuted|directory\n"
  "  --data=noise|text\n"
  "Sizes take K, M, G and T.\n";

struct options {
  const char *work;
  enum request_op op;
  enum pattern pattern;
  bool noise, final_flush;
  uint64_t block, size, requests, count, seed;
  unsigned depth, connections, flush_every, share, shares;
  double seconds;
  const char *ranges;
  char **server;
};

struct work {
  const char *name;
  bool needs_map;
  void (*run) (const struct options *opt, struct server *srv);
};

void
fail (const char *fmt, ...)
{
  va_list args;

  fprintf (stderr, "bench-client: ");
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

void *
allocate (size_t nr, size_t len)
{
  void *p = calloc (nr, len);

  if (p == NULL)
    fail ("no memory for %zu times %zu bytes", nr, len);
  return p;
}

double
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec + ts.tv_nsec / 1e9;
}

static uint64_t
disk_size (struct nbd_handle *nbd)
{
  const int64_t size = nbd_get_size (nbd);

  if (size == -1)
    fail ("%s", nbd_get_error ());
  return size;
}

static void
print_result (double seconds, uint64_t count, uint64_t bytes)
{
  printf ("%.9f %" PRIu64 " %" PRIu64 "\n", seconds, count, bytes);
}

/* ---- requests ---- */

struct request_work {
  const struct options *opt;
  struct pattern_state pattern;
};

static bool
next_request (void *opaque, struct request *req)
{
  struct request_work *w = opaque;

  return pattern_next (&w->pattern, req);
}

static void
prepare_noise (void *opaque, void *buf, size_t len)
{
  struct request_work *w = opaque;

  content_fill (buf, len, 0, w->opt->seed, true);
}

static void
put_stamp (void *opaque, void *buf, const struct request *req)
{
  struct request_work *w = opaque;

  content_stamp (buf, req->len, req->guest, w->opt->seed);
}

static void
do_requests (const struct options *opt, struct server *srv)
{
  struct request_work w = { .opt = opt };
  struct ranges ranges;
  struct engine e = {
    .srv = srv,
    .depth = opt->depth,
    .max_len = opt->block,
    .max_requests = opt->requests,
    .max_seconds = opt->seconds,
    .final_flush = opt->final_flush,
    .next = next_request,
    .prepare = prepare_noise,
    .put = put_stamp,
    .opaque = &w,
  };
  const uint64_t size = disk_size (srv->nbd[0]);

  if (opt->op == OP_ZERO || opt->op == OP_TRIM)
    e.max_len = PAGE_LEN;
  else if (opt->pattern == PATTERN_DIRECTORY && e.max_len < CHUNK_LEN)
    e.max_len = CHUNK_LEN;
  ranges_load (&ranges, opt->ranges, size, opt->block);
  w.pattern = (struct pattern_state) {
    .op = opt->op,
    .pattern = opt->pattern,
    .ranges = &ranges,
    .disk_len = size,
    .seed = opt->seed,
    .flush_every = opt->flush_every,
  };
  pattern_init (&w.pattern);
  engine_run (&e);
  print_result (e.seconds, e.nr_requests, e.nr_bytes);
  pattern_free (&w.pattern);
  free (ranges.range);
}

/* ---- fill and digest: chunks of some areas, in order ---- */

struct area {
  uint64_t guest, len;
};

struct area_work {
  const struct options *opt;
  enum request_op op;
  struct area *area;
  size_t nr, i;
  uint64_t done;                /* of area[i] */
  uint64_t digest;
};

static bool
next_chunk (void *opaque, struct request *req)
{
  struct area_work *w = opaque;
  uint64_t left;

  while (w->i < w->nr && w->done == w->area[w->i].len) {
    w->i++;
    w->done = 0;
  }
  if (w->i == w->nr)
    return false;
  left = w->area[w->i].len - w->done;
  *req = (struct request) {
    .op = w->op,
    .guest = w->area[w->i].guest + w->done,
    .len = left < CHUNK_LEN ? left : CHUNK_LEN,
  };
  w->done += req->len;
  return true;
}

/* What is in a page depends on its place only, however it is written. */
static void
put_content (void *opaque, void *buf, const struct request *req)
{
  struct area_work *w = opaque;
  uint32_t i;

  for (i = 0; i < req->len; i += PAGE_LEN)
    content_fill ((char *) buf + i, PAGE_LEN, req->guest + i,
                  w->opt->seed, w->opt->noise);
}

static void
got_chunk (void *opaque, const void *buf, const struct request *req)
{
  struct area_work *w = opaque;

  w->digest += content_digest (buf, req->len, req->guest);
}

static void
run_areas (struct area_work *w, struct server *srv, struct engine *e)
{
  size_t i;

  for (i = 0; i < w->nr; i++)
    if (w->area[i].guest % PAGE_LEN != 0 || w->area[i].len % PAGE_LEN != 0)
      fail ("an extent or range is not in whole pages of %d bytes",
            PAGE_LEN);
  *e = (struct engine) {
    .srv = srv,
    .depth = w->opt->depth,
    .max_len = CHUNK_LEN,
    .final_flush = w->op == OP_WRITE,
    .next = next_chunk,
    .put = put_content,
    .got = got_chunk,
    .opaque = w,
  };
  engine_run (e);
}

static void
do_fill (const struct options *opt, struct server *srv)
{
  struct area_work w = { .opt = opt, .op = OP_WRITE };
  struct ranges r;
  struct engine e;

  ranges_load (&r, opt->ranges, disk_size (srv->nbd[0]), PAGE_LEN);
  w.area = allocate (r.nr, sizeof w.area[0]);
  for (w.nr = 0; w.nr < r.nr; w.nr++)
    w.area[w.nr] = (struct area) { r.range[w.nr].guest, r.range[w.nr].len };
  run_areas (&w, srv, &e);
  print_result (e.seconds, e.nr_requests, e.nr_bytes);
  free (w.area);
  free (r.range);
}

static void
do_digest (const struct options *opt, struct server *srv)
{
  struct area_work w = { .opt = opt, .op = OP_READ };
  struct map m;
  struct engine e;
  size_t i;

  map_load (&m, srv->nbd[0]);
  w.area = allocate (m.nr + 1, sizeof w.area[0]);
  for (i = 0; i < m.nr; i++)
    if (!(m.extent[i].flags & LIBNBD_STATE_ZERO))
      w.area[w.nr++] = (struct area) { m.extent[i].guest, m.extent[i].len };
  run_areas (&w, srv, &e);
  printf ("%016" PRIx64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
          w.digest, map_digest (&m), e.nr_bytes, disk_size (srv->nbd[0]));
  free (w.area);
  map_free (&m);
}

/* ---- map and copy ---- */

static void
do_map (const struct options *opt, struct server *srv)
{
  const double start = now ();
  struct map m;

  (void) opt;
  map_load (&m, srv->nbd[0]);
  print_result (now () - start, 1, m.nr);
  map_free (&m);
}

static void
do_copy (const struct options *opt, struct server *srv)
{
  char connections[64];
  char nbdcopy[] = "nbdcopy", null[] = "null:";
  char *argv[] = { nbdcopy, connections, srv->uri, null, NULL };
  double start;

  snprintf (connections, sizeof connections, "--connections=%u",
            opt->connections);
  start = now ();
  client_run (argv);
  print_result (now () - start, 1, disk_size (srv->nbd[0]));
}

/* ---- start ---- */

static int
compare_doubles (const void *a, const void *b)
{
  const double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static void
do_start (const struct options *opt)
{
  const uint64_t nr = opt->requests ? opt->requests : 1;
  double *seconds = allocate (nr, sizeof seconds[0]);
  char buf[PAGE_LEN];
  struct server srv;
  uint64_t i;

  for (i = 0; i < nr; i++) {
    const double start = now ();

    server_start (&srv, opt->server);
    server_connect (&srv, 1, false);
    if (nbd_pread (srv.nbd[0], buf, sizeof buf, 0, 0) == -1)
      fail ("%s", nbd_get_error ());
    seconds[i] = now () - start;
    server_stop (&srv);
  }
  qsort (seconds, nr, sizeof seconds[0], compare_doubles);
  print_result (seconds[nr / 2], 1, sizeof buf);
  free (seconds);
}

/* ---- the command line ---- */

static const struct work works[] = {
  { "requests", false, do_requests },
  { "fill", false, do_fill },
  { "digest", true, do_digest },
  { "map", true, do_map },
  { "copy", false, do_copy },
};

static uint64_t
parse_size (const char *s)
{
  static const char suffixes[] = "KMGT";
  char *end;
  uint64_t n;

  errno = 0;
  n = strtoull (s, &end, 10);
  if (end != s && errno == 0 && *end != '\0') {
    const char *suffix = strchr (suffixes, *end);
    const unsigned bits = suffix ? 10 * (suffix - suffixes + 1) : 0;

    if (suffix != NULL && n <= UINT64_MAX >> bits) {
      n <<= bits;
      end++;
    }
  }
  if (end == s || errno != 0 || *end != '\0' || *s == '-')
    fail ("%s is not a size or number", s);
  return n;
}

static unsigned
parse_number (const char *s, uint64_t min, uint64_t max)
{
  const uint64_t n = parse_size (s);

  if (n < min || n > max)
    fail ("%s is not between %" PRIu64 " and %" PRIu64, s, min, max);
  return n;
}

static double
parse_seconds (const char *s)
{
  char *end;
  const double d = strtod (s, &end);

  if (end == s || *end != '\0' || !(d >= 0 && d < 1e6))
    fail ("%s is not a number of seconds", s);
  return d;
}

/* The index of a word in a list that ends with NULL. */
static int
parse_word (const char *s, const char *const *words)
{
  int i;

  for (i = 0; words[i] != NULL; i++)
    if (strcmp (s, words[i]) == 0)
      return i;
  fail ("%s is not one of those that are known; see --help", s);
}

static void
parse_share (struct options *opt, const char *s)
{
  if (sscanf (s, "%u/%u", &opt->share, &opt->shares) != 2 ||
      opt->share >= opt->shares)
    fail ("--share=%s is not K/N with K less than N", s);
}

enum option_id {
  OPT_OP = 256, OPT_PATTERN, OPT_DATA, OPT_BLOCK, OPT_SIZE, OPT_REQUESTS,
  OPT_COUNT, OPT_SEED, OPT_DEPTH, OPT_CONNECTIONS, OPT_FLUSH_EVERY,
  OPT_SHARE, OPT_SECONDS, OPT_RANGES, OPT_FINAL_FLUSH, OPT_HELP,
};

static const struct option long_options[] = {
  { "op", required_argument, NULL, OPT_OP },
  { "pattern", required_argument, NULL, OPT_PATTERN },
  { "data", required_argument, NULL, OPT_DATA },
  { "block", required_argument, NULL, OPT_BLOCK },
  { "size", required_argument, NULL, OPT_SIZE },
  { "requests", required_argument, NULL, OPT_REQUESTS },
  { "count", required_argument, NULL, OPT_COUNT },
  { "seed", required_argument, NULL, OPT_SEED },
  { "depth", required_argument, NULL, OPT_DEPTH },
  { "connections", required_argument, NULL, OPT_CONNECTIONS },
  { "flush-every", required_argument, NULL, OPT_FLUSH_EVERY },
  { "share", required_argument, NULL, OPT_SHARE },
  { "seconds", required_argument, NULL, OPT_SECONDS },
  { "ranges", required_argument, NULL, OPT_RANGES },
  { "final-flush", no_argument, NULL, OPT_FINAL_FLUSH },
  { "help", no_argument, NULL, OPT_HELP },
  { NULL },
};

static void
parse_option (struct options *opt, int id)
{
  static const char *const ops[] = { "read", "write", "zero", "trim", NULL };
  static const char *const patterns[] = {
    "sequential", "random", "permuted", "directory", NULL
  };
  static const char *const data[] = { "text", "noise", NULL };

  switch (id) {
  case OPT_OP: opt->op = parse_word (optarg, ops); break;
  case OPT_PATTERN: opt->pattern = parse_word (optarg, patterns); break;
  case OPT_DATA: opt->noise = parse_word (optarg, data); break;
  case OPT_BLOCK:
    opt->block = parse_number (optarg, PAGE_LEN, UINT32_MAX);
    break;
  case OPT_SIZE: opt->size = parse_size (optarg); break;
  case OPT_REQUESTS: opt->requests = parse_size (optarg); break;
  case OPT_COUNT: opt->count = parse_size (optarg); break;
  case OPT_SEED: opt->seed = parse_size (optarg); break;
  case OPT_DEPTH: opt->depth = parse_number (optarg, 1, 1024); break;
  case OPT_CONNECTIONS:
    opt->connections = parse_number (optarg, 1, MAX_CONNECTIONS);
    break;
  case OPT_FLUSH_EVERY:
    opt->flush_every = parse_number (optarg, 0, UINT32_MAX);
    break;
  case OPT_SHARE: parse_share (opt, optarg); break;
  case OPT_SECONDS: opt->seconds = parse_seconds (optarg); break;
  case OPT_RANGES: opt->ranges = optarg; break;
  case OPT_FINAL_FLUSH: opt->final_flush = true; break;
  case OPT_HELP:
    fputs (usage, stdout);
    exit (EXIT_SUCCESS);
  default:
    exit (EXIT_FAILURE);        /* getopt has said why */
  }
}

static void
parse_command_line (struct options *opt, int argc, char **argv)
{
  int id;

  *opt = (struct options) {
    .noise = true, .block = PAGE_LEN, .depth = 16, .connections = 1,
    .shares = 1, .seed = 1,
  };
  while ((id = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    parse_option (opt, id);
  if (optind == argc)
    fail ("say what to do; see --help");
  opt->work = argv[optind++];
  opt->server = argv + optind;
  if (opt->block % PAGE_LEN != 0)
    fail ("--block must be a multiple of %d", PAGE_LEN);
}

static void
run_work (const struct options *opt)
{
  const struct work *work = NULL;
  struct server srv;
  size_t i;

  for (i = 0; i < sizeof works / sizeof works[0]; i++)
    if (strcmp (opt->work, works[i].name) == 0)
      work = &works[i];
  if (work == NULL)
    fail ("%s is no work that is known; see --help", opt->work);
  server_start (&srv, opt->server);
  server_connect (&srv, opt->connections, work->needs_map);
  work->run (opt, &srv);
  server_stop (&srv);
}

int
main (int argc, char *argv[])
{
  struct options opt;

  parse_command_line (&opt, argc, argv);
  if (strcmp (opt.work, "ranges") == 0) {
    ranges_print (opt.size, opt.block, opt.count, opt.share, opt.shares,
                  opt.seed);
    return EXIT_SUCCESS;
  }
  if (opt.server[0] == NULL)
    fail ("%s needs a server: give its command after --", opt.work);
  if (strcmp (opt.work, "start") == 0)
    do_start (&opt);
  else
    run_work (&opt);
  return EXIT_SUCCESS;
}
