# Common parts of the tests of the examples in manual pages.
#
# Source it after functions.sh.
#
# SPDX-License-Identifier: BSD-3-Clause

requires_filter cow
requires qemu-img --version
requires qemu-io --version
requires nbdcopy --version
requires nbdinfo --version
requires_python

# nbdsh runs the first python3 in PATH, which need not have its module.
mkdir bin
ln -s "$PYTHON" bin/python3
PATH=$tmpdir/bin:$PATH
requires nbdsh -c 'print (1)'

# extract_examples PLUGIN NUMBER: the examples of its manual page, at least
# so many, to files examples/NN.
extract_examples () {
  local pod=$top_srcdir/plugins/$1/nbdkit-$1-plugin.pod count

  # They are the indented paragraphs of the section.
  mkdir examples
  sed -n '/^=head1 EXAMPLES/,/^=head1 EXPORTS/p' "$pod" > section
  awk '/^ / { if (!inside) n++; inside = 1
              print substr ($0, 2) > sprintf ("examples/%02d", n); next }
       { inside = 0 }' section
  count=$(find examples -type f | wc -l)
  [ "$count" -ge "$2" ] || fail "only $count examples found"
  [ "$count" -eq "$(grep -c '^ nbdkit' section)" ] ||
    fail "an example does not begin with nbdkit"
}
