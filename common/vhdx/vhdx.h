/* VHDX as a format: see image/format.h.  Read-only so far.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_VHDX_H
#define NDF_VHDX_H

#include "image/format.h"

extern const struct format vhdx_format;

#endif /* NDF_VHDX_H */
