/* What the parts of the benchmark's NBD client share.
 *
 * The client starts a server, makes requests that depend on nothing but
 * its options, and says how long that took: every server gets the very
 * same requests.  It is a single thread; any error ends the program with
 * a message and status 1, and the server ends with it.
 *
 * Offsets and lengths are bytes of the disk.  Times are seconds.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_BENCH_H
#define NDF_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <libnbd.h>

/* Everything is counted and filled in pages of this many bytes. */
#define PAGE_LEN 4096

/* Say what went wrong and end the program with status 1. */
extern void fail (const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 1, 2)));

/* malloc that cannot fail: it ends the program. */
extern void *allocate (size_t nr, size_t len);

/* Seconds from some fixed instant; never goes back. */
extern double now (void);

/* ---- random.c: numbers and content that depend on a seed only ---- */

/* The next number of the sequence that *state stands for. */
extern uint64_t random_next (uint64_t *state);

/* A number that depends on x alone and looks random. */
extern uint64_t random_mix (uint64_t x);

/* Fill 'len' bytes, a multiple of 8, of the disk at 'guest': 'noise' does
 * not compress, otherwise what comes out compresses as text does.
 */
extern void content_fill (void *buf, size_t len, uint64_t guest,
                          uint64_t seed, bool noise);

/* Mark each page of a buffer with its place: cheap enough to be done for
 * every request, and no two places of a disk get the same bytes.
 */
extern void content_stamp (void *buf, size_t len, uint64_t guest,
                           uint64_t seed);

/* A number for all the pages in a buffer, to be added up over a disk in
 * any order; pages of zeroes count nothing, so that it does not matter
 * whether a hole was read or skipped.  len is a multiple of PAGE_LEN.
 */
extern uint64_t content_digest (const void *buf, size_t len, uint64_t guest);

/* ---- ranges.c: which parts of a disk take part ---- */

struct range {
  uint64_t guest, len;
  uint64_t first_block;         /* blocks in the ranges before this one */
};

struct ranges {
  struct range *range;
  size_t nr;
  uint32_t block_len;
  uint64_t nr_blocks;           /* whole blocks in all ranges */
  uint64_t blocks_each;         /* in every range; 0: not all the same */
};

/* Read "offset length" lines from a file; without a name the ranges are
 * the whole disk.
 */
extern void ranges_load (struct ranges *r, const char *name,
                         uint64_t disk_len, uint32_t block_len);

/* Where on the disk block 'n' of the ranges is. */
extern uint64_t ranges_place (const struct ranges *r, uint64_t n);

/* Print a range list: 'nr' blocks (0: all), one at a random place in each
 * of 'nr' equal parts of the disk, in random order; of those only every
 * 'shares'th, beginning with 'share'.
 */
extern void ranges_print (uint64_t disk_len, uint32_t block_len, size_t nr,
                          unsigned share, unsigned shares, uint64_t seed);

/* ---- server.c: a server for the time of one measurement ---- */

#define MAX_CONNECTIONS 16

struct server {
  char dir[64];                 /* holds the socket */
  char uri[128];
  char socket[96];
  pid_t pid;
  struct nbd_handle *nbd[MAX_CONNECTIONS];
  unsigned nr_connections;
};

/* Start argv[0] (found in PATH) with a listening socket already made
 * (socket activation): nobody has to poll for the server to come up.
 */
extern void server_start (struct server *srv, char **argv);

/* Connect; with 'map', negotiate base:allocation. */
extern void server_connect (struct server *srv, unsigned nr_connections,
                            bool map);

/* Disconnect in an orderly way and end the server, which must exit with
 * status 0.
 */
extern void server_stop (struct server *srv);

/* Run another client, argv[0], to its end, which must be a good one. */
extern void client_run (char **argv);

/* ---- requests.c: which request comes next ---- */

enum request_op { OP_READ, OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH };

struct request {
  enum request_op op;
  bool fua;
  bool barrier;                 /* nothing else in flight beside it */
  uint64_t guest;
  uint32_t len;
};

enum pattern {
  PATTERN_SEQUENTIAL,           /* again from the start at the end */
  PATTERN_RANDOM,
  PATTERN_PERMUTED,             /* every block once, in random order */
  PATTERN_DIRECTORY,            /* as ext4 writes when files are made */
};

/* One transaction of PATTERN_DIRECTORY has at most this many requests. */
#define MAX_TRANSACTION 32

struct pattern_state {
  enum request_op op;
  enum pattern pattern;
  const struct ranges *ranges;
  uint64_t disk_len;
  uint64_t seed;                /* changes as numbers are taken */
  uint32_t *permutation;
  unsigned flush_every;         /* 0: never */

  uint64_t nr_given;            /* requests but flushes */
  unsigned since_flush;
  struct request queue[MAX_TRANSACTION];
  unsigned queue_len, queue_next;
  uint64_t nr_transactions;
  uint64_t file;                /* where the next small file goes */
};

extern void pattern_init (struct pattern_state *p);
extern void pattern_free (struct pattern_state *p);

/* Take the next request; false when a pattern has an end and it is
 * reached.
 */
extern bool pattern_next (struct pattern_state *p, struct request *req);

/* ---- engine.c: many requests in flight ---- */

struct engine {
  struct server *srv;
  unsigned depth;               /* requests in flight, over all connections */
  uint32_t max_len;             /* of one request */
  uint64_t max_requests;        /* 0: no such limit */
  double max_seconds;           /* 0: no such limit */
  bool final_flush;             /* at the end, inside the time measured */

  /* Where requests come from; false: no more. */
  bool (*next) (void *opaque, struct request *req);

  /* What is to be written; may be NULL when nothing is.  The first call
   * for a buffer is 'prepare', which is outside the time measured.
   */
  void (*prepare) (void *opaque, void *buf, size_t len);
  void (*put) (void *opaque, void *buf, const struct request *req);

  /* What was read; may be NULL. */
  void (*got) (void *opaque, const void *buf, const struct request *req);

  void *opaque;

  /* Results. */
  uint64_t nr_requests;         /* completed, but for flushes */
  uint64_t nr_bytes;
  double seconds;
};

extern void engine_run (struct engine *e);

/* ---- map.c: extents ---- */

struct map_extent {
  uint64_t guest, len;
  uint32_t flags;               /* LIBNBD_STATE_HOLE, LIBNBD_STATE_ZERO */
};

struct map {
  struct map_extent *extent;    /* joined: neighbours differ */
  size_t nr, allocated;
  uint64_t nr_calls;
};

/* Ask for the extents of the whole disk; needs server_connect with map. */
extern void map_load (struct map *m, struct nbd_handle *nbd);
extern void map_free (struct map *m);

/* A number for what is zero and what is not on the whole disk. */
extern uint64_t map_digest (const struct map *m);

#endif /* NDF_BENCH_H */
