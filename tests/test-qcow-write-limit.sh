#!/usr/bin/env bash
# A file that may not be longer: ENOSPC, up to the last cluster, and space
# that was given back is used again.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"
. "$srcdir/qcow-write-lib.sh"

meet_limit
