/* One export of the plugin below: found out once, shared by connections.
 *
 * The first of several connections has it looked at; the first one that
 * may write has it converted, while all others wait.  What was found holds
 * as long as anybody is connected, except that a view gives way to a
 * conversion.
 *
 * Threads: any, in every call.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_EXPORT_H
#define NDF_QCOW_FIXUP_EXPORT_H

#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "finding.h"
#include "preserve.h"

/* What the user wants; fixed before the first connection. */
struct export_settings {
  const char *plugin;           /* its name, for messages */
  bool serves_bytes;            /* what looks like an image is one */
  bool is_left_alone;           /* ... is none, and nothing is said */
  bool repairs_stray;
  enum preserve_mode preserve;
};

enum export_mode {
  EXPORT_PLAIN,                 /* requests go through as they are */
  EXPORT_VIEW,                  /* reading gives the image converted;
                                   nobody may write */
};

struct export;

/* Begin to use the export of this name; NULL, reported.  To be put again. */
extern struct export *export_get (const char *name,
                                  const struct export_settings *settings);

/* A connection begins, who may write unless 'readonly': find out, convert.
 * To be left again before the export is put.
 *
 * The mode for this connection; -1, reported, when it cannot be served.
 */
extern int export_enter (struct export *e, nbdkit_next *next, bool readonly);
extern void export_leave (struct export *e);
extern void export_put (struct export *e);

/* For one who has entered: what keeps the header of the qcow2 image alive
 * that is there, or NULL; and the export's name for messages.
 */
extern struct preserve *export_preserve (const struct export *e);
extern const char *export_label (const struct export *e);

/* A source (see source/next.h) as what is below for preserve.h. */
extern struct preserve_below export_preserve_below (struct source *src);

/* Requests, in either mode. */
extern int export_pread (struct export *e, nbdkit_next *next, void *buf,
                         uint32_t count, uint64_t offset, uint32_t flags,
                         int *err);
extern int export_extents (struct export *e, nbdkit_next *next,
                           uint32_t count, uint64_t offset, uint32_t flags,
                           struct nbdkit_extents *extents, int *err);

/* At the end. */
extern void export_forget_all (void);

#endif /* NDF_QCOW_FIXUP_EXPORT_H */
