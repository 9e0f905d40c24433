# A module shows nbdkit its entry, its debug flags and its marker, nothing
# else: all modules share one name space with nbdkit.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nm --version

# How the filter qcow-fixup finds our plugins.
marker=ndf_fixup_door_1

# Print the names that module $1, with entry $2, should not export; they
# may be $3_debug_FLAG and, in plugins, the marker.
surplus () {
  local known="$2|$3_debug_[a-z0-9_]+"

  nm -D --defined-only "$1" | awk '{ print $NF }' | sed 's/@.*//' > names
  grep -qx "$2" names || echo "$2 is missing"
  if [ "$2" = plugin_init ]; then
    grep -qx "$marker" names || echo "$marker is missing"
    known="$known|$marker"
  fi
  grep -Evx "$known" names || :
}

for p in $PLUGINS; do
  surplus "$top_builddir/plugins/$p/.libs/nbdkit-$p-plugin.so" \
    plugin_init "$p" > found
  [ ! -s found ] || fail "$p: $(tr '\n' ' ' < found)"
done
for f in $FILTERS; do
  surplus "$top_builddir/filters/$f/.libs/nbdkit-$f-filter.so" \
    filter_init "${f//-/_}" > found
  [ ! -s found ] || fail "$f: $(tr '\n' ' ' < found)"
done

# A module without a version script must not pass: the planted one has an
# entry, but does not export what its "qcow2" namesake would.
surplus "$builddir/.libs/nbdkit-planted-plugin.so" filter_init x > found
grep -q 'filter_init is missing' found && grep -q plugin_init found ||
  fail "a wrong entry was not noticed"
