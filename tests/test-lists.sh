# Every test file is in main-tests.am, once; every name there is a file.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"

sed -n 's/^\(MAIN\|HEAVY\|LONG\)_TESTS += \(.*\)/\2/p' "$srcdir/main-tests.am" |
  sort > listed
(cd "$srcdir" && ls test-*.sh) | sort > present

[ -s listed ] || fail "main-tests.am names no test"
uniq -d listed > twice
[ ! -s twice ] || fail "more than once in main-tests.am: $(tr '\n' ' ' <twice)"
diff -u listed present ||
  fail "main-tests.am (-) and the files test-*.sh (+) differ"

# Only names: a line with anything else on it escapes the list above.
if grep -Ev '^(#.*|(MAIN|HEAVY|LONG)_TESTS \+= test-[a-z0-9-]+\.sh|TEST_FILES \+= .*)?$' \
     "$srcdir/main-tests.am"; then
  fail "main-tests.am has a line of another form"
fi
