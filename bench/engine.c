/* Many requests in flight, from one thread, over any number of
 * connections.
 *
 * A barrier is issued when nothing else is in flight, and nothing else is
 * before it has completed: what a file system does around its flushes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

struct slot {
  struct run *run;
  struct nbd_handle *nbd;
  struct slot *next_free;
  void *buf;
  struct request req;
};

struct run {
  struct engine *e;
  struct slot *slots, *free_slots;
  unsigned nr_in_flight;
  bool ended;                   /* no more requests are to be issued */
  bool barrier_in_flight;
  bool has_pending;             /* 'pending' waits for its turn */
  struct request pending;
  double start;
};

static int
complete (void *opaque, int *error)
{
  struct slot *slot = opaque;
  struct run *run = slot->run;
  struct engine *e = run->e;
  const struct request *req = &slot->req;

  if (*error != 0)
    fail ("a request (kind %d) of %u bytes at %llu failed: %s",
          (int) req->op, (unsigned) req->len,
          (unsigned long long) req->guest, strerror (*error));
  if (req->op == OP_READ && e->got)
    e->got (e->opaque, slot->buf, req);
  if (req->op != OP_FLUSH) {
    e->nr_requests++;
    e->nr_bytes += req->len;
  }
  run->nr_in_flight--;
  run->barrier_in_flight = false;
  slot->next_free = run->free_slots;
  run->free_slots = slot;
  return 1;                     /* the command may be forgotten */
}

static void
issue (struct run *run, const struct request *req)
{
  struct slot *slot = run->free_slots;
  nbd_completion_callback done = { .callback = complete, .user_data = slot };
  const uint32_t flags = req->fua ? LIBNBD_CMD_FLAG_FUA : 0;
  int64_t cookie = -1;

  run->free_slots = slot->next_free;
  run->nr_in_flight++;
  run->barrier_in_flight = req->barrier;
  slot->req = *req;
  switch (req->op) {
  case OP_READ:
    cookie = nbd_aio_pread (slot->nbd, slot->buf, req->len, req->guest,
                            done, flags);
    break;
  case OP_WRITE:
    run->e->put (run->e->opaque, slot->buf, req);
    cookie = nbd_aio_pwrite (slot->nbd, slot->buf, req->len, req->guest,
                             done, flags);
    break;
  case OP_ZERO:
    cookie = nbd_aio_zero (slot->nbd, req->len, req->guest, done, flags);
    break;
  case OP_TRIM:
    cookie = nbd_aio_trim (slot->nbd, req->len, req->guest, done, flags);
    break;
  case OP_FLUSH:
    cookie = nbd_aio_flush (slot->nbd, done, 0);
    break;
  }
  if (cookie == -1)
    fail ("%s", nbd_get_error ());
}

static bool
is_over (const struct run *run, uint64_t nr_issued)
{
  const struct engine *e = run->e;

  return (e->max_requests != 0 && nr_issued >= e->max_requests) ||
    (e->max_seconds != 0 && now () - run->start >= e->max_seconds);
}

/* Issue all that may be in flight now. */
static void
issue_more (struct run *run)
{
  struct engine *e = run->e;

  while (!run->ended && run->free_slots && !run->barrier_in_flight) {
    if (!run->has_pending) {
      if (is_over (run, e->nr_requests + run->nr_in_flight) ||
          !e->next (e->opaque, &run->pending)) {
        run->ended = true;
        return;
      }
      run->has_pending = true;
    }
    if (run->pending.barrier && run->nr_in_flight > 0)
      return;
    run->has_pending = false;
    issue (run, &run->pending);
  }
}

/* Wait until some connection can go on, and let it. */
static void
wait_for_some (struct server *srv)
{
  struct pollfd fds[MAX_CONNECTIONS];
  unsigned i;

  for (i = 0; i < srv->nr_connections; i++) {
    const unsigned dir = nbd_aio_get_direction (srv->nbd[i]);

    fds[i] = (struct pollfd) { .fd = nbd_aio_get_fd (srv->nbd[i]) };
    if (dir & LIBNBD_AIO_DIRECTION_READ)
      fds[i].events |= POLLIN;
    if (dir & LIBNBD_AIO_DIRECTION_WRITE)
      fds[i].events |= POLLOUT;
  }
  if (poll (fds, srv->nr_connections, -1) == -1 && errno != EINTR)
    fail ("poll: %s", strerror (errno));
  for (i = 0; i < srv->nr_connections; i++) {
    int r = 0;

    if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
      r = nbd_aio_notify_read (srv->nbd[i]);
    else if (fds[i].revents & POLLOUT)
      r = nbd_aio_notify_write (srv->nbd[i]);
    if (r == -1 || nbd_aio_is_dead (srv->nbd[i]))
      fail ("the connection is lost: %s", nbd_get_error ());
  }
}

static void
make_slots (struct run *run)
{
  struct engine *e = run->e;
  unsigned i;

  run->slots = allocate (e->depth, sizeof run->slots[0]);
  for (i = 0; i < e->depth; i++) {
    struct slot *slot = &run->slots[i];

    *slot = (struct slot) {
      .run = run,
      .nbd = e->srv->nbd[i % e->srv->nr_connections],
      .next_free = run->free_slots,
      .buf = allocate (1, e->max_len),
    };
    memset (slot->buf, 0, e->max_len);
    if (e->prepare)
      e->prepare (e->opaque, slot->buf, e->max_len);
    run->free_slots = slot;
  }
}

static void
drain (struct run *run)
{
  while (run->nr_in_flight > 0)
    wait_for_some (run->e->srv);
}

void
engine_run (struct engine *e)
{
  static const struct request flush = { .op = OP_FLUSH, .barrier = true };
  struct run run = { .e = e };
  unsigned i;

  e->nr_requests = e->nr_bytes = 0;
  make_slots (&run);
  run.start = now ();
  for (;;) {
    issue_more (&run);
    if (run.nr_in_flight == 0)
      break;
    wait_for_some (e->srv);
  }
  if (e->final_flush) {
    issue (&run, &flush);
    drain (&run);
  }
  e->seconds = now () - run.start;
  for (i = 0; i < e->depth; i++)
    free (run.slots[i].buf);
  free (run.slots);
}
