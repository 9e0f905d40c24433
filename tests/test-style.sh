# What of the style (see HACKING) a script can check.  Planted violations
# prove that it does.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"

# Print the violations in source tree $1, one to a line.
violations () {
  (
    cd "$1"
    # Build directories inside the tree hold only generated files.
    { find common plugins filters tests bench fuzz -name '*.[ch]' \
        2>/dev/null || :; } | sort > "$tmpdir/files"
    while read -r file; do
      awk -v file="$file" '
        function bad(why) {
          print file ":" FNR ": " why
        }
        FNR == 1 && ! /^\/\* / { bad ("does not begin with a comment") }
        ! ended && /SPDX-License-Identifier: BSD-3-Clause/ { spdx = 1 }
        /\*\// { ended = 1 }
        length ($0) > 79 { bad ("longer than 79 columns") }
        /\t/ { bad ("tab") }
        /[ \t\r]$/ { bad ("space at the end of the line") }
        /^[ \t]*#[ \t]*include/ && ! included {
          included = 1
          if (file ~ /\.c$/ && ! /<config\.h>/)
            bad ("config.h is not included first")
        }
        /^[{]/ { start = FNR }
        /^[}]/ && start {
          if (FNR - start - 1 > 80)
            bad ("function of " FNR - start - 1 " lines")
          start = 0
        }
        END {
          if (! spdx)
            bad ("no SPDX-License-Identifier in the opening comment")
          if (FNR > 900)
            bad ("more than 900 lines")
        }' "$file"
    done < "$tmpdir/files"
  )
}

violations "$top_srcdir" > found
if [ -s found ]; then
  cat found >&2
  fail "style violations"
fi
[ -s files ] || fail "no sources: is $top_srcdir the source tree?"

good='/* A file without fault.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdio.h>

int
f (void)
{
  return 0;
}'

# plant WHAT TEXT [FILE]: the violation WHAT must be found in TEXT.
plant () {
  rm -rf tree
  mkdir -p tree/common/image
  printf '%s\n' "$2" > "tree/common/image/${3:-a.c}"
  violations tree > found
  grep -q "$1" found || fail "not noticed: $1"
}

lines () {
  awk -v n="$1" -v text="$2" 'BEGIN { while (n-- > 0) print text }'
}

long=$(printf '%080d' 0)
plant 'longer than 79' "$good
/* ${long:6} */"
plant 'tab' "$good
	int x;"
plant 'space at the end' "$good "
plant 'does not begin with a comment' "
$good"
plant 'no SPDX' "${good/SPDX/XDPS}"
plant 'no SPDX' "/* Nothing. */
/* SPDX-License-Identifier: BSD-3-Clause */"
plant 'no SPDX' "${good/SPDX/XDPS}" a.h
plant 'config.h is not' "${good/<config.h>/<stdlib.h>}"
plant 'more than 900' "$good
$(lines 900 '/* */')"
plant 'function of 81' "$good

int
g (void)
{
$(lines 81 '  f ();')
}"

rm -rf tree
mkdir -p tree/common/image
printf '%s\n' "$good
/* ${long:7} */

int
g (void)
{
$(lines 79 '  f ();')
}" > tree/common/image/a.c
violations tree > found
[ ! -s found ] || fail "wrongly refused: $(cat found)"
