# --help of plugins and filters has one line for each parameter, in the form
# that completion looks for, and the manual page documents exactly these.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit null --version
[ -n "$PLUGINS" ] || fail "no plugins are built"

# The parameters in help text $1, which must all be well formed.
help_parameters () {
  # The last part is config_help, which follows the description.
  sed -n '/^\(\[[a-z0-9-]*=\]\|[a-z0-9-]*=\)/,$p' "$1" |
    sed -e '/^$/d' > lines
  [ -s lines ] || return 1
  if grep -Ev '^(\[file=\]|[-a-z0-9]+=)' lines >&2; then
    return 1
  fi
  sed 's/^\[\{0,1\}\([-a-z0-9]*\)=.*/\1/' lines | sort
}

# The parameters in the PARAMETERS section of manual page $1.
pod_parameters () {
  sed -n '/^=head1 PARAMETERS/,/^=head1 [^P]/p' "$1" |
    sed -n 's/^=item \[\{0,1\}B<\([-a-z0-9]*\)=.*/\1/p' | sort -u
}

# check NAME POD: the help of that module is in the file help.
check () {
  help_parameters help > in-help || fail "$1: malformed lines in --help"
  uniq -d in-help > twice
  [ ! -s twice ] || fail "$1: twice in --help: $(cat twice)"
  pod_parameters "$2" > in-pod
  [ -s in-pod ] || fail "$2: no parameters under PARAMETERS"
  diff -u in-help in-pod ||
    fail "$1: parameters in --help (-) and in the manual (+) differ"
}

for p in $PLUGINS; do
  nbdkit "$p" --help > help
  check "$p" "$top_srcdir/plugins/$p/nbdkit-$p-plugin.pod"
done
for f in $FILTERS; do
  nbdkit --filter="$f" null --help > all
  sed -n "/^filter: $f /,/^\$/p" all > help
  check "$f" "$top_srcdir/filters/$f/nbdkit-$f-filter.pod"
done

# These must not pass.
printf 'plugin: x (y)\n(/x.so)\n[file=]<F> a\n  more about a\n' > help
if help_parameters help > in-help 2>/dev/null; then
  fail "a continuation line was not noticed"
fi
printf 'plugin: x (y)\n(/x.so)\n[file=]<F> a\nSize=<N> b\n' > help
if help_parameters help > in-help 2>/dev/null; then
  fail "a parameter in capitals was not noticed"
fi
printf 'plugin: x (y)\n(/x.so)\nIt does things.\n[file=]<F> a\nb-c=<N> d\n' \
  > help
[ "$(help_parameters help | tr '\n' ' ')" = "b-c file " ] ||
  fail "the parameters were not found"
