# The manual pages: well formed, and with nbdkit's sections in order.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires podchecker
requires pod2man
[ -n "$PLUGINS" ] || fail "no plugins are built"

# Complain about manual page $1.
check_pod () {
  podchecker -warnings -warnings "$1" 2>podlog >&2 || { cat podlog; return; }
  grep -E 'WARNING|ERROR' podlog
  pod2man --stderr --utf8 "$1" 2>&1 >/dev/null
  if grep -q '	' "$1"; then
    echo "tabs"
  fi
  sed -n 's/^=head1 //p' "$1" > sections
  for section in NAME SYNOPSIS DESCRIPTION PARAMETERS EXAMPLES FILES \
                 VERSION 'SEE ALSO' AUTHORS COPYRIGHT; do
    grep -qx "$section" sections || grep -qx "${section%S}" sections ||
      echo "no section $section"
  done
  # NAME, SYNOPSIS and DESCRIPTION begin it, these end it.
  [ "$(head -n 3 sections | tr '\n' ,)" = NAME,SYNOPSIS,DESCRIPTION, ] ||
    echo "does not begin with NAME, SYNOPSIS, DESCRIPTION"
  [ "$(tail -n 5 sections | tr '\n' ,)" = \
    "FILES,VERSION,SEE ALSO,AUTHORS,COPYRIGHT," ] ||
    echo "does not end with FILES, VERSION, SEE ALSO, AUTHORS, COPYRIGHT"
}

modules=()
for p in $PLUGINS; do
  modules+=("plugins/$p/nbdkit-$p-plugin")
done
for f in $FILTERS; do
  modules+=("filters/$f/nbdkit-$f-filter")
done

for module in "${modules[@]}"; do
  pod=$top_srcdir/$module.pod
  [ -f "$pod" ] || fail "$pod is missing"
  check_pod "$pod" > complaints || :
  if [ -s complaints ]; then
    cat complaints >&2
    fail "$pod"
  fi
  grep -q "^${module##*/} - " "$pod" || fail "$pod: NAME line"
done

printf '=head1 NAME\n\nx - y\n\n=over\n\nno end\n' > bad.pod
check_pod bad.pod > complaints || :
grep -q ERROR complaints || fail "an unclosed list was not noticed"
printf '=head1 NAME\n\nx - y\n\n=cut\n' > bad.pod
check_pod bad.pod > complaints || :
grep -q 'no section COPYRIGHT' complaints ||
  fail "missing sections were not noticed"
