/* Which of several names a backing file has.
 *
 * Some formats record where a file was under more than one name, of a
 * system whose file names know no case.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CANDIDATE_H
#define NDF_CANDIDATE_H

#include "chain/policy.h"
#include "image/image.h"

/* The name to be judged for the backing file of 'img', whose own absolute
 * name is 'path' (or NULL): what it recorded, or of img->backing_candidates
 * the first that exists; where case does not count, as it is written in
 * the file system.  Owned by the caller.
 *
 * NULL: reported, errno ENOENT (none exists; tells what was recorded and
 * looked for), ENOMEM.
 */
extern char *candidate_choose (const struct policy *policy, const char *path,
                               const struct image *img);

#endif /* NDF_CANDIDATE_H */
