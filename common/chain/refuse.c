/* Messages about files that an image wants and does not get.
 *
 * So that the user is not led from one refusal to the next, the chain is
 * followed as far as it can be read and everything that it needs is told
 * at once.  Files looked at on the way were named by an image and nobody
 * has allowed them: only regular ones are opened, for reading, and nothing
 * is reported about them but their names.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chain/candidate.h"
#include "chain/probe.h"
#include "chain/refuse.h"
#include "include/cleanup.h"
#include "report/report.h"

/* Bytes of metadata cache for an image that is only looked at. */
#define GLANCE_CACHE 65536

struct needs {
  struct policy found;          /* real paths, each once */
};

static void
cleanup_needs (struct needs *needs)
{
  policy_free (&needs->found);
}

/* -1 for want of memory. */
static int
add_need (struct needs *needs, const char *real)
{
  size_t n = needs->found.nr_allowed;

  for (size_t i = 0; i < n; i++)
    if (strcmp (needs->found.allowed[i], real) == 0)
      return 0;
  return policy_allow (&needs->found, real);
}

/* Judge a name; note what it needs.  False where the way ends. */
static bool
judge_need (const struct chain *chain, const char *image,
            const char *recorded, enum policy_role role, struct needs *needs,
            struct policy_verdict *verdict)
{
  if (recorded == NULL ||
      policy_judge (&chain->settings->policy, image, recorded, role,
                    verdict) == -1)
    return false;
  if (policy_can_be_allowed (verdict->answer))
    return add_need (needs, verdict->real) == 0;
  return verdict->answer == POLICY_OK;
}

/* Open, for its header only, the backing image of a verdict.  NULL where
 * the way ends.
 */
static struct image *
glance (const struct chain *chain, const struct policy_verdict *verdict,
        const char *format_name)
{
  const struct format *const *formats = chain->settings->formats;
  const struct format *format = NULL;
  CLEANUP_SOURCE struct source *src = NULL;
  struct stat st;

  if (format_name)
    format = probe_find (formats, format_name);
  if (format == NULL || format->probe == NULL) /* unknown, or raw */
    return NULL;
  if (stat (verdict->real, &st) == -1 || !S_ISREG (st.st_mode))
    return NULL;
  src = source_file_open (verdict->real, false);
  if (src == NULL ||
      strcmp (probe_source (formats, src) ?: "", format->name) != 0)
    return NULL;
  return image_open (format, src, verdict->path, GLANCE_CACHE);
}

/* judge_need for the backing file of 'img', if it has one that is there. */
static bool
judge_base (const struct chain *chain, const char *path,
            const struct image *img, struct needs *needs,
            struct policy_verdict *verdict)
{
  CLEANUP_FREE char *name = NULL;

  if (!img->wants_backing)
    return false;
  name = candidate_choose (&chain->settings->policy, path, img);
  return name &&
    judge_need (chain, path, name, POLICY_BACKING, needs, verdict);
}

/* The next image below 'img', which glance opened, after its needs are
 * noted.
 */
static struct image *
step_down (const struct chain *chain, const struct image *img,
           struct needs *needs)
{
  const char *path = img->name;
  CLEANUP_VERDICT struct policy_verdict data = { .path = NULL };
  CLEANUP_VERDICT struct policy_verdict base = { .path = NULL };

  if (img->wants_data_file)
    judge_need (chain, path, img->data_file_name, POLICY_DATA, needs, &data);
  if (!judge_base (chain, path, img, needs, &base))
    return NULL;
  return glance (chain, &base, img->backing_format);
}

/* Everything from layer 'at' down. */
static void
collect_needs (const struct chain *chain, size_t at, struct needs *needs)
{
  const struct chain_settings *set = chain->settings;
  const struct layer *layer = &chain->layers[at];
  CLEANUP_VERDICT struct policy_verdict data = { .path = NULL };
  CLEANUP_VERDICT struct policy_verdict base = { .path = NULL };
  struct image *img = NULL;

  if (layer->image->wants_data_file && !(at == 0 && set->data_file))
    judge_need (chain, layer->path, layer->image->data_file_name,
                POLICY_DATA, needs, &data);
  if (!layer->image->wants_backing ||
      (at == 0 && set->backing == CHAIN_BACKING_NONE))
    return;
  if (at == 0 && set->backing == CHAIN_BACKING_PATH) {
    base.path = strdup (set->backing_path);
    base.real = realpath (set->backing_path, NULL);
  }
  else if (!judge_base (chain, layer->path, layer->image, needs, &base))
    return;
  if (base.path && base.real)
    img = glance (chain, &base, at == 0 && set->backing_format
                  ? set->backing_format : layer->image->backing_format);

  for (size_t depth = at; img && depth < CHAIN_MAX_DEPTH; depth++) {
    struct image *next = step_down (chain, img, needs);

    image_close (img);
    img = next;
  }
  image_close (img);
}

/* " allow-path=A allow-path=B", to be pasted.  NULL for want of memory. */
static char *
format_needs (const struct needs *needs)
{
  char *text = NULL;
  size_t len;
  FILE *fp = open_memstream (&text, &len);

  if (fp == NULL)
    return NULL;
  for (size_t i = 0; i < needs->found.nr_allowed; i++) {
    CLEANUP_FREE char *word = policy_quote (needs->found.allowed[i]);

    fprintf (fp, " allow-path=%s", word ? word : "?");
  }
  if (fclose (fp) == EOF) {
    free (text);
    return NULL;
  }
  return text;
}

static void
refuse_for_now (const struct chain *chain, size_t at, const char *what,
                const struct policy_verdict *verdict)
{
  __attribute__ ((cleanup (cleanup_needs))) struct needs needs = {
    .found.nr_allowed = 0
  };
  CLEANUP_FREE char *text = NULL;

  report_set_quiet (true);
  collect_needs (chain, at, &needs);
  report_set_quiet (false);
  text = format_needs (&needs);
  report_error ("%s: its %s %s %s, so it is not opened because an image "
                "says so; if you trust the image, add%s",
                chain->layers[at].name, what, verdict->real,
                policy_explain (verdict), text ? text : " allow-path=");
}

int
refuse_file (const struct chain *chain, size_t at, const char *recorded,
             enum policy_role role, const struct policy_verdict *verdict)
{
  const char *name = chain->layers[at].name;
  const char *what = role == POLICY_DATA ? "data file" : "backing file";
  const char *option = role == POLICY_DATA ? "data-file=" : "backing=";
  const char *shown = verdict->path ? verdict->path : recorded;
  int err = verdict->answer == POLICY_MISSING ? verdict->err : EPERM;

  if (verdict->answer == POLICY_EMPTY || verdict->answer == POLICY_CONTROL)
    shown = "";
  if (policy_can_be_allowed (verdict->answer))
    refuse_for_now (chain, at, what, verdict);
  else if (verdict->answer == POLICY_MISSING)
    report_error ("%s: cannot open its %s %s: %s", name, what, shown,
                  policy_explain (verdict));
  else if (at == 0)
    report_error ("%s: its %s %s%s%s; name the file with %sPATH", name, what,
                  shown, *shown ? " " : "", policy_explain (verdict), option);
  else
    report_error ("%s: its %s %s%s%s; record a plain file name in it "
                  "(%s)", name, what, shown, *shown ? " " : "",
                  policy_explain (verdict), role == POLICY_DATA
                  ? "qemu-img amend -o data_file=" : "qemu-img rebase -u");
  errno = err;
  return -1;
}
