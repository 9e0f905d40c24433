/* What the tests of the data path stand on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "include/checked.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "raw/raw.h"
#include "source/memory.h"
#include "toy/test-bed.h"
#include "toy/test-hook.h"

uint64_t
chance (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
chance_fill (uint64_t *state, uint8_t *buf, uint64_t len)
{
  uint64_t v = 0;

  for (uint64_t i = 0; i < len; ++i) {
    if (i % 8 == 0)
      v = chance (state);
    buf[i] = (v >> (i % 8 * 8)) | 1;
  }
}

void
chance_range (uint64_t *state, uint64_t start, uint64_t end,
              uint64_t *guest, uint64_t *len)
{
  static const uint64_t sizes[] = { 512, 2048, 4096, 16384, 200000 };
  static const uint64_t grains[] = { 1, 512, 512, 4096, 4096 };
  const uint64_t grain = grains[chance_below (state, 5)];
  const unsigned nr_sizes = end - start < 16 * TOY_UNIT ? 2 : 5;
  uint64_t n = 1 + chance_below (state,
                                 sizes[chance_below (state, nr_sizes)]);
  uint64_t at = start + chance_below (state, end - start);

  at = MAX (round_down (at, grain), start);
  n = MIN (round_up (n, grain), end - at);
  *guest = at;
  *len = n;
}

uint8_t
bed_base_byte (const struct bed_form *form, uint64_t guest)
{
  if (!(form->features & TOY_BACKING) || guest >= form->backing_len)
    return 0;
  /* Some of the base is zero. */
  if (guest / 8192 % 5 == 3)
    return 0;
  return 2 + guest / 512 * 7 % 251 + guest % 3;
}

static struct source *
make_base (const struct bed_form *form)
{
  CLEANUP_FREE uint8_t *bytes = malloc (form->backing_len);
  struct source *base;

  CHECK (bytes != NULL);
  for (uint64_t i = 0; i < form->backing_len; ++i)
    bytes[i] = bed_base_byte (form, i);
  base = source_memory_copy ("base", bytes, form->backing_len,
                             form->backing_len);
  CHECK (base != NULL);
  return base;
}

static void
yield (void *opaque, enum record_op op)
{
  (void) opaque;
  (void) op;
  sched_yield ();
}

/* Have the bed's sources yield. */
static void
hook_bed (struct bed *bed)
{
  const bool same = bed->data == bed->src;
  struct source *src = hook_source (bed->src, yield, NULL);
  struct source *data = same ? source_get (src)
    : hook_source (bed->data, yield, NULL);

  source_put (bed->src);
  source_put (bed->data);
  bed->src = src;
  bed->data = data;
}

void
bed_make (struct bed *bed, const struct bed_form *form)
{
  const uint64_t len = form->is_fixed ? form->host_len : 0;

  *bed = (struct bed) { .form = *form };
  bed->src = source_memory ("toy", len, form->host_len);
  CHECK (bed->src != NULL);
  if (form->features & TOY_DATA_FILE) {
    bed->data = source_memory ("toy-data", len, form->host_len);
    CHECK (bed->data != NULL);
  }
  else
    bed->data = source_get (bed->src);
  if (form->features & TOY_BACKING)
    bed->base = make_base (form);
  CHECK (toy_create (bed->src, form->len, form->host_len, form->features)
         == 0);
  if (form->yields)
    hook_bed (bed);
}

int
bed_try_open (struct bed *bed)
{
  CLEANUP_IMAGE struct image *base = NULL;
  CLEANUP_IMAGE struct image *img = NULL;

  if (bed->base) {
    base = image_open (&raw_format, bed->base, "base", 1 << 20);
    if (base == NULL || image_connect (base, NULL, NULL) == -1)
      return -1;
  }
  img = image_open (&toy_format, bed->src, "toy", bed->form.cache_limit);
  if (img == NULL)
    return -1;
  if (image_connect (img, STEAL (base), bed->data == bed->src ? NULL
                     : source_get (bed->data)) == -1)
    return -1;
  CHECK (image_why_read_only (img) == NULL);
  image_begin_writing (img);
  bed->img = STEAL (img);
  return 0;
}

void
bed_open (struct bed *bed)
{
  CHECK (bed_try_open (bed) == 0);
}

void
bed_close (struct bed *bed)
{
  image_close (bed->img);
  bed->img = NULL;
}

void
bed_free (struct bed *bed)
{
  bed_close (bed);
  source_put (bed->data);
  source_put (bed->src);
  source_put (bed->base);
}
