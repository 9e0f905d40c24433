# What every Makefile.am shares: include it first.
# SPDX-License-Identifier: BSD-3-Clause
#
# Headers are included by their room: #include "image/format.h".
# Rooms depend only on rooms to their left (see HACKING); the *_LIBS
# below name a room with everything to its left, in link order, but
# for the end of 'report', which the final link chooses:
#
#   test_l2_LDADD = libqcow2.la $(IMAGE_LIBS) $(REPORT_STDERR)

SUFFIXES = .pod .1
CLEANFILES = *~ *.1 *.gcov

COMMON_CPPFLAGS = \
	-I$(top_builddir) \
	-I$(top_srcdir)/common \
	$(NBDKIT_CFLAGS) \
	$(ZLIB_CFLAGS) \
	$(ZSTD_CFLAGS) \
	$(NETTLE_CFLAGS) \
	$(UUID_CFLAGS) \
	$(NULL)

# For C programs that are NBD clients (tests, bench).
CLIENT_CPPFLAGS = $(COMMON_CPPFLAGS) $(LIBNBD_CFLAGS)

# -pthread, sanitizers and gcov are in CFLAGS, put there by configure.
AM_CFLAGS = $(WARNINGS_CFLAGS)
AM_CPPFLAGS = $(COMMON_CPPFLAGS)

# The ends of report: to standard error (tests, fuzzers, tools) or to
# nbdkit (plugins and filters).
REPORT_STDERR = $(top_builddir)/common/report/libreport-stderr.la
REPORT_NBDKIT = $(top_builddir)/common/report/libreport-nbdkit.la

# And one for unit tests that look at what was reported: last of all.
REPORT_TEST = $(top_builddir)/common/report/libreport-test.la

# The recording source of the crash and fault tests: before SOURCE_LIBS.
RECORD_LIB = $(top_builddir)/common/source/librecord.la
SOURCE_LIBS = $(top_builddir)/common/source/libsource.la

# nbdkit's next layer as a source, for filters: before SOURCE_LIBS.
NEXT_LIB = $(top_builddir)/common/source/libnext.la
CODEC_LIBS = $(ZLIB_LIBS) $(ZSTD_LIBS) $(NETTLE_LIBS)
IMAGE_LIBS = \
	$(top_builddir)/common/image/libimage.la \
	$(SOURCE_LIBS) \
	$(CODEC_LIBS)

# One per driver: the driver alone, to be followed by $(IMAGE_LIBS).
RAW_LIB = $(top_builddir)/common/raw/libraw.la
QCOW_LIB = $(top_builddir)/common/qcow/libqcow.la
QCOW2_LIB = $(top_builddir)/common/qcow2/libqcow2.la
VHDX_LIB = $(top_builddir)/common/vhdx/libvhdx.la
TOY_LIB = $(top_builddir)/common/toy/libtoy.la
DRIVER_LIBS = $(QCOW_LIB) $(QCOW2_LIB) $(VHDX_LIB) $(RAW_LIB)

CHAIN_LIBS = \
	$(top_builddir)/common/chain/libchain.la \
	$(DRIVER_LIBS) \
	$(IMAGE_LIBS)
GLUE_LIBS = \
	$(top_builddir)/common/glue/libglue.la \
	$(CHAIN_LIBS)

# A plugin or filter: -module, plus its version script (which must also
# be in foo_la_DEPENDENCIES or EXTRA_foo_la_DEPENDENCIES):
#   nbdkit_qcow2_plugin_la_LDFLAGS = $(MODULE_FLAGS) \
#       -Wl,--version-script=$(srcdir)/qcow2.syms
MODULE_FLAGS = -module -avoid-version -shared

# Manual pages: man_MANS = nbdkit-foo-plugin.1 under 'if HAVE_POD', the
# .pod in EXTRA_DIST.
.pod.1:
	$(AM_V_GEN)$(PODCHECKER) -warnings $< && \
	$(POD2MAN) --utf8 --stderr --section=1 \
	  --name=$$(basename $@ .1) \
	  --center='nbdkit disk formats' \
	  --release='$(PACKAGE_STRING)' $< > $@-t && \
	mv $@-t $@
