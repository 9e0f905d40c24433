/* Messages about files that an image wants and does not get.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_CHAIN_REFUSE_H
#define NDF_CHAIN_REFUSE_H

#include "chain/chain.h"

/* Report that layer 'at' may not have the file of the verdict, and what to
 * do: for want of allow-path=, with every such parameter that the chain
 * from here down needs.  Always returns -1, errno EPERM or what fits.
 */
extern int refuse_file (const struct chain *chain, size_t at,
                        const char *recorded, enum policy_role role,
                        const struct policy_verdict *verdict);

#endif /* NDF_CHAIN_REFUSE_H */
