/* Exports: the disk, its layers, its snapshots.
 *
 *   ""               the disk that the image holds
 *   "layer:N"        what is seen from the Nth image of the chain down;
 *                    layer 0 is the disk
 *   "snapshot:NAME"  an internal snapshot, by its id or else its name
 *
 * Only the first can be written.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_GLUE_EXPORT_H
#define NDF_GLUE_EXPORT_H

#include <stdbool.h>

#include <nbdkit-plugin.h>

#include "chain/life.h"

/* nbdkit's handle: a client's export. */
struct export;

/* Open the export of that name for a client.  NULL, reported, errno ENOENT
 * for an unknown one.  Threads: any.
 */
extern struct export *export_open (struct life *life, const char *name,
                                   bool readonly);
extern void export_close (struct life *life, struct export *e);

/* Close what clients have left open; no request is in flight. */
extern void export_close_all (void);

/* Around a request: the export's image until life_leave, as life_enter. */
extern struct image *export_enter (struct life *life, struct export *e,
                                   bool for_change,
                                   struct life_visit *visit);

/* May its client write? */
extern bool export_can_write (const struct life *life,
                              const struct export *e);

/* List all there are.  -1, reported. */
extern int export_list (struct life *life, const char *format,
                        struct nbdkit_exports *exports);

/* "qcow2, 10 GiB virtual size, 2 backing files". */
extern void export_describe (struct life *life, struct export *e,
                             const char *format, char *text, size_t size);

#endif /* NDF_GLUE_EXPORT_H */
