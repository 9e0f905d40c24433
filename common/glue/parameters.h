/* The parameters common to all plugins.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_GLUE_PARAMETERS_H
#define NDF_GLUE_PARAMETERS_H

#include "chain/chain.h"
#include "glue/glue.h"
#include "glue/orders.h"

/* Understand one parameter.  -1, reported. */
extern int parameters_set (const struct glue_plugin *about, const char *key,
                           const char *value);

/* All have been given: check what goes together, and fill in 'set', which
 * borrows from here until parameters_free, and 'orders'.  -1, reported.
 */
extern int parameters_complete (const struct glue_plugin *about,
                                struct chain_settings *set,
                                struct orders *orders);
extern void parameters_free (void);

#endif /* NDF_GLUE_PARAMETERS_H */
