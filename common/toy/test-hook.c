/* A source that calls its tester before each operation.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdlib.h>

#include "include/testing.h"
#include "toy/test-hook.h"

struct hooked {
  struct source src;
  struct source *below;
  source_hook hook;
  void *opaque;
};

/* The source below, when the tester has let the operation go on. */
static struct source *
pass_hook (struct source *src, enum record_op op)
{
  struct hooked *h = (struct hooked *) src;

  h->hook (h->opaque, op);
  return h->below;
}

static int
hooked_pread (struct source *src, void *buf, size_t len, uint64_t host)
{
  return source_pread (pass_hook (src, RECORD_READ), buf, len, host);
}

static int
hooked_pwrite (struct source *src, const void *buf, size_t len,
               uint64_t host)
{
  return source_pwrite (pass_hook (src, RECORD_WRITE), buf, len, host);
}

static int
hooked_zero (struct source *src, uint64_t len, uint64_t host,
             enum source_zero_mode mode)
{
  return source_zero_fast (pass_hook (src, RECORD_ZERO), len, host, mode);
}

static int
hooked_sync (struct source *src)
{
  return source_sync (pass_hook (src, RECORD_SYNC));
}

static int
hooked_truncate (struct source *src, uint64_t len)
{
  return source_truncate (pass_hook (src, RECORD_TRUNCATE), len);
}

static void
hooked_close (struct source *src)
{
  struct hooked *h = (struct hooked *) src;

  source_put (h->below);
  source_destroy (src);
  free (h);
}

static const struct source_ops hooked_ops = {
  .kind = "hooked",
  .pread = hooked_pread,
  .pwrite = hooked_pwrite,
  .zero = hooked_zero,
  .sync = hooked_sync,
  .truncate = hooked_truncate,
  .close = hooked_close,
};

struct source *
hook_source (struct source *below, source_hook hook, void *opaque)
{
  struct hooked *h = calloc (1, sizeof *h);

  CHECK (h != NULL);
  CHECK (source_init (&h->src, &hooked_ops, below->name) == 0);
  h->below = source_get (below);
  h->hook = hook;
  h->opaque = opaque;
  h->src.len = source_len (below);
  h->src.writable = below->writable;
  h->src.can_grow = below->can_grow;
  h->src.alignment = below->alignment;
  return &h->src;
}
