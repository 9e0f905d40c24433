#!/usr/bin/env bash
# A server that reads leaves no trace in any file, with -r and without.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-lib.sh"

# A list of images that a writer would have reason to touch.
source_file base.raw $((1024 * 1024))
cp base.raw new.raw
poke new.raw 300000 'something new'
create plain.qcow 1M
io plain.qcow 'write -P 1 0 100k'
plain base.raw packed.qcow --clusters packed
create over.qcow 1M -b base.raw -F raw
io over.qcow 'write -P 7 128k 64k'
plain base.raw trap.qcow --l2-bits 6 --data-at 4096
poke_be64 trap.qcow 48 $(stat -c %s trap.qcow)
tapdisk base.raw tapdisk.qcow
tapdisk base.raw flag.qcow --order big
tapdisk new.raw tapover.qcow --base base.raw
tapdisk base.raw torn.qcow --table alternate --l2-bits 6
tapdisk base.raw copied.qcow --growing copied
tapdisk base.raw switched.qcow --growing switched
tapdisk base.raw stray.qcow --order big --gap 512 --stray
images=(plain packed over trap tapdisk flag tapover torn copied switched
        stray)

# Times of modification that anything would change.
touch -d '2011-07-14 12:00:00' *.qcow *.raw
before="$(digest *.qcow *.raw)"

cat > use.py <<'END'
size = h.get_size ()
h.pread (size, 0)
status (0, size)
if h.can_flush ():
    h.flush ()
if h.can_cache ():
    h.cache (size, 0)
END
unchanged () {
  test "$(digest *.qcow *.raw)" = "$before" || fail "$*: a file changed"
}
for image in "${images[@]}"; do
  for fixup in off memory write; do
    server_flags=(-r)
    client use.py $image.qcow fixup=$fixup || fail "$image with -r"
    unchanged $image with -r fixup=$fixup
    nbdkit -r -U - qcow $image.qcow fixup=$fixup \
           --run 'nbdinfo --is readonly "$uri"' ||
      fail "$image: -r, and not read-only"
    test $fixup != write || continue
    server_flags=()
    client use.py $image.qcow fixup=$fixup || fail "$image without -r"
    unchanged $image without -r fixup=$fixup
  done
done

# Not even where it is impossible to write, for one who is not root.
chmod a-w *.qcow *.raw
before="$(digest *.qcow *.raw)"
server_flags=()
client use.py over.qcow || fail "files without write permission"
unchanged files without write permission

# Nothing else appears beside the images either.
test -z "$(find . -name '*.lock' -o -name '*~' -o -name '*.tmp')"
