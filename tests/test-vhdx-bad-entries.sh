#!/usr/bin/env bash
# Entries of the BAT that lie, and parent locators: refused at once, naming
# the entry and what is wrong with it.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Each line: a fault of vhdx-image.py, and what the message must match.
# (bat-child-X is the same as bat-X in a differencing disk.)
cat > rows <<'END'
bat-state-4             entry 2 of the BAT.*state
bat-state-5             entry 2 of the BAT.*state
bat-reserved-low        entry 3 of the BAT.*bits
bat-reserved-high       entry 3 of the BAT.*bits
bat-reserved-absent     entry 5 of the BAT.*bits
bat-partial             entry 3 of the BAT.*parent
bat-at-zero             entry 3 of the BAT.*header section
bat-past-end            entry 3 of the BAT.*beyond the end
bat-across-end          entry 3 of the BAT.*beyond the end
bat-huge                entry 3 of the BAT.*beyond the end
bat-overflow            entry 3 of the BAT.*beyond the end
bat-on-log              entry 3 of the BAT.*log
bat-on-metadata         entry 3 of the BAT.*region
bat-on-bat              entry 3 of the BAT.*region
bat-on-region           entry 3 of the BAT.*region
bat-same                entry [03] of the BAT.*overlap
bat-half                entry [03] of the BAT.*overlap
bat-anchor              entry [35] of the BAT.*overlap
bat-anchor-undefined    entry [05] of the BAT.*overlap
bat-anchor-in-log       entry 5 of the BAT.*log
bat-anchor-past-end     entry 5 of the BAT.*beyond the end
bat-no-bitmap           entry 0 of the BAT.*no sector bitmap
bat-bitmap-without-parent entry 16 of the BAT.*parent
bat-bitmap-state-1      entry 2048 of the BAT.*state
bat-bitmap-state-2      entry 2048 of the BAT.*state
bat-bitmap-state-3      entry 2048 of the BAT.*state
bat-bitmap-state-4      entry 2048 of the BAT.*state
bat-bitmap-state-5      entry 2048 of the BAT.*state
bat-bitmap-state-7      entry 2048 of the BAT.*state
bat-bitmap-reserved     entry 2048 of the BAT.*bits
bat-bitmap-at-zero      entry 2048 of the BAT.*header section
bat-bitmap-past-end     entry 2048 of the BAT.*beyond the end
bat-bitmap-on-metadata  entry 2048 of the BAT.*region
bat-bitmap-same         entry (3|2048) of the BAT.*overlap
bat-bitmap-half         entry (0|2048) of the BAT.*overlap
locator-missing         lack.*parent locator
locator-short           parent locator.*18 bytes
locator-long-count      parent locator.*40 bytes
locator-kind            parent locator.*03030303-0303-
locator-no-keys         parent locator.* 0 entries
locator-many-keys       parent locator.* 257 entries
locator-no-linkage      parent locator.*parent_linkage
locator-bad-linkage     parent locator.*parent_linkage.*GUID
locator-no-path         records no path.*backing=
locator-twice           parent locator.* 1 and 2
locator-linkage-twice   parent locator.* 0 and 1
locator-bounds          parent locator.*entry 1.*value
locator-key-bounds      parent locator.*entry 1.*key
locator-across-end      parent locator.*entry 1.*value
locator-odd             parent locator.*entry 1.*value.*odd
locator-odd-key         parent locator.*entry 1.*key.*odd
locator-empty           parent locator.*entry 1.*value
locator-empty-key       parent locator.*entry 1.*key
locator-zero-place      parent locator.*entry 1.*value
locator-nul             parent locator.*entry 1.*(UTF-16|NUL)
locator-surrogate       parent locator.*entry 1.*UTF-16
locator-surrogate-low   parent locator.*entry 1.*UTF-16
END
"$PYTHON" "$srcdir/vhdx-image.py" faults > all
while read -r name regex; do
  if grep -qx "bat-child-${name#bat-}" all; then
    echo "bat-child-${name#bat-} $regex"
  fi
done < rows > children
cat children >> rows

# The parent is there, and would be taken.
make <<'END'
i = Image (64 * MIB)
i.set (0)
i.save ("base.vhdx")
END
mapfile -t names < <(cut -d ' ' -f 1 rows)
faults "${names[@]}"
before="$(digest *.vhdx)"
while read -r name regex; do
  refused "$regex" $name.vhdx < /dev/null
  test "$(grep -c 'error:' refused.log)" -eq 1 || {
    cat refused.log >&2
    fail "$name: not one message"
  }
done < rows
test "$(digest *.vhdx)" = "$before" || fail "an image changed"

# Every fault of this kind was tried.
grep -E '^(bat|locator)-' all | grep -v '^bat-small' > all-entries
cut -d ' ' -f 1 rows | sort | diff all-entries - ||
  fail "faults and rows differ"

# What may stand there without a meaning.
make <<'END'
# A locator in a disk without a parent; keys that nobody knows.
i = Image (3 * MIB, parent="base.vhdx",
           keys=[("relative_path", ".\\base.vhdx"), ("else", "x"),
                 ("Relative_Path", ".\\gone.vhdx")])
i.locator.gap = 10
i.set (1)
i.save ("keys.vhdx")
# Entries behind the last one that is needed.
i = Image (3 * MIB)
i.fill ()
for n in 3, 4, 5, 100, MIB // 8 - 1:
    i.raw_entries[n] = (1 << 64) - 1
i.save ("padding.vhdx")
# Places where the state has none: nobody may look at them.
i = Image (6 * MIB)
i.set (0)
i.set (4)
i.raw_entries[1] = i.blocks[0].at | NOT_PRESENT
i.raw_entries[2] = i.blocks[0].at | ZERO
i.raw_entries[3] = 1 << 60 | ZERO
i.raw_entries[5] = MIB | NOT_PRESENT
i.save ("places.vhdx")
END
for image in keys padding places; do
  quietly same $image.vhdx
done
