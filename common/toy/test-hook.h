/* A source that calls its tester before each operation: to have threads
 * meet, or to hold one of them where it is.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_TOY_TEST_HOOK_H
#define NDF_TOY_TEST_HOOK_H

#include "source/record.h"
#include "source/source.h"

typedef void (*source_hook) (void *opaque, enum record_op op);

/* A source over 'below' (a reference is taken), of which it has the length
 * and the abilities.
 */
extern struct source *hook_source (struct source *below, source_hook hook,
                                   void *opaque);

#endif /* NDF_TOY_TEST_HOOK_H */
