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

cat > program.py <<'END'
size = h.get_size ()
# What is not converted is an error where the header is believed.
assert error_of (h.pread, size, 0) in MAY_FAIL
status (0, size)
if h.can_flush ():
    h.flush ()
if h.can_cache ():
    h.cache (size, 0)
END
# may_fail IMAGE FIXUP
may_fail () {
  local errors=None
  case $1-$2 in
    tap*-off | torn-off | copied-off) errors="None, 'EIO'" ;;
  esac
  { echo "MAY_FAIL = ($errors,)"; cat program.py; } > use.py
}
unchanged () {
  test "$(digest *.qcow *.raw)" = "$before" || fail "$*: a file changed"
}
for image in "${images[@]}"; do
  for fixup in off memory write; do
    may_fail $image $fixup
    if [ $fixup != off ]; then
      echo 'assert h.is_read_only ()' >> use.py
      server_flags=(-r)
    else
      server_flags=()
    fi
    client use.py $image.qcow fixup=$fixup || fail "$image, fixup=$fixup"
  done
  may_fail $image memory
  server_flags=()
  client use.py $image.qcow || fail "$image"
  unchanged $image
done

# Not even where it is impossible to write, for one who is not root.
chmod a-w *.qcow *.raw
before="$(digest *.qcow *.raw)"
server_flags=()
client use.py over.qcow || fail "files without write permission"
unchanged files without write permission

# Nothing else appears beside the images either.
test -z "$(find . -name '*.lock' -o -name '*~' -o -name '*.tmp')"
