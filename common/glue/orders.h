/* Orders of the command line that are done before anything is served.
 *
 * They run where the server has not gone into the background yet, so that
 * messages reach the terminal and a failure ends the server with status 1.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_GLUE_ORDERS_H
#define NDF_GLUE_ORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "chain/chain.h"
#include "glue/glue.h"

struct orders {
  bool create;
  int64_t size;                 /* bytes; -1: not said */
  bool overwrite;
  int64_t resize;               /* bytes; -1: no */
  bool shrink;
};

/* Do what was ordered, under write locks that are released afterwards.
 * 0; -1, reported.
 */
extern int orders_run (const struct glue_plugin *about,
                       const struct chain_settings *settings,
                       const struct orders *orders);

/* Its parts. */
extern int create_run (const struct glue_plugin *about,
                       const struct chain_settings *settings,
                       const struct orders *orders);
extern int resize_run (const struct chain_settings *settings,
                       const struct orders *orders);

#endif /* NDF_GLUE_ORDERS_H */
