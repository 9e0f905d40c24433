# For the tests of writing a format: include it after common-rules.mk.
# SPDX-License-Identifier: BSD-3-Clause

WRITE_CPPFLAGS = -I$(top_srcdir)/tests/write-lib
WRITE_BUILD = $(top_builddir)/tests/write-lib

# In the LIBADD of the format's own part, each of which needs the other.
WRITE_LIB = $(WRITE_BUILD)/libwrite.la

# An end of report, for every program.
QUIET_LIB = $(WRITE_BUILD)/libquiet.la

# Tests with several threads: sources that take their time.
JITTER_LIB = $(WRITE_BUILD)/libjitter.la
JITTER_FLAGS = \
	-Wl,--wrap=source_pwrite \
	-Wl,--wrap=source_sync

# Tests of faults: allocations that fail, though not those of sources; and
# nobody forgets a page.
FAULT_LIB = $(WRITE_BUILD)/libfault.la
FAULT_FLAGS = \
	-Wl,--wrap=cache_create \
	-Wl,--wrap=cache_get \
	-Wl,--wrap=cache_put \
	-Wl,--wrap=source_grow \
	-Wl,--wrap=source_grow_ahead \
	-Wl,--wrap=source_pread \
	-Wl,--wrap=source_pread_padded \
	-Wl,--wrap=source_pwrite \
	-Wl,--wrap=source_sync \
	-Wl,--wrap=source_truncate \
	-Wl,--wrap=source_zero \
	-Wl,--wrap=source_zero_fast
