/* What a base is, when the image that names it does not say.
 *
 * The content of a raw disk belongs to the guest that wrote it; one that
 * looks like an image may do so to make us open other files.  So a probe
 * only finds out whether "raw" is safe.  It decides for a format only
 * where images cannot say what their base is, and never for two images of
 * a chain in succession.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_PROBE_H
#define NDF_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "image/format.h"
#include "source/source.h"

/* The name of the format that the source looks like, among 'formats' (ends
 * with NULL) and those that other programs know; "raw" for none.
 *
 * NULL, reported, errno EIO, when it cannot be read.
 */
extern const char *probe_source (const struct format *const *formats,
                                 struct source *src);

/* The same for head[0..head_len-1] of a source of 'len' bytes. */
extern const char *probe_head (const struct format *const *formats,
                               const uint8_t *head, size_t head_len,
                               uint64_t len);

/* The format of that name, or NULL. */
extern const struct format *probe_find (const struct format *const *formats,
                                        const char *name);

#endif /* NDF_PROBE_H */
