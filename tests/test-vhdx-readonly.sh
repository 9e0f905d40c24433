#!/usr/bin/env bash
# A server that reads leaves no trace in any file, with -r and without; and
# a client can not write.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Images that a writer would have reason to touch: a header, a region table
# that are damaged, a log that is not empty, a parent, a linkage that could
# be brought up to date.
make <<'END'
i = Image (4 * MIB)
i.fill ()
i.save ("clean.vhdx")
i = Image (4 * MIB)
i.fill ()
i.headers[0].wrong_crc = True
i.tables[0].wrong_crc = True
i.save ("damaged.vhdx")
i = disk ()
log = Log (i)
log.entry (log.steal (i.bat_at), last=64 * MIB)
dirty (i, "dirty", log)
i = disk ()
dirty (i, "empty-log", Log (i))
i = Image (5 * MIB, parent="dirty.vhdx",
           keys=[("relative_path", ".\\gone.vhdx"),
                 ("absolute_win32_path", "\\\\?\\c:\\dirty.vhdx")])
i.set (1, PARTIAL, own=[(3, 9)])
i.set (4)
i.build ()
log = Log (i)
log.entry (log.steal (i.bat_at) + log.steal (i.bitmaps[0]))
log.announce ()
i.save ("child.vhdx")
END
touch -d '2011-07-14 12:00:00' *.vhdx
before="$(digest *.vhdx)"

cat > use.py <<'END'
import os
assert h.is_read_only ()
size = h.get_size ()
h.pread (size, 0)
status (0, size)
if h.can_flush ():
    h.flush ()
if h.can_cache ():
    h.cache (size, 0)
h.set_strict_mode (0)
for call in (lambda: h.pwrite (bytes (512), 0), lambda: h.trim (512, 0),
             lambda: h.zero (512, 0)):
    assert error_of (call) is not None
END
for image in clean damaged dirty empty-log child; do
  server_flags=(-r)
  client use.py $image.vhdx 2> use.log || {
    cat use.log >&2
    fail "$image.vhdx"
  }
  client use.py $image.vhdx check=open 2> use.log || {
    cat use.log >&2
    fail "$image.vhdx, check=open"
  }
  # Without -r nothing happens until somebody writes.
  server_flags=()
  same $image.vhdx 2> use.log
  test "$(digest *.vhdx)" = "$before" || fail "$image.vhdx: a file changed"
done

# Not even where it is impossible to write, for one who is not root.
chmod a-w *.vhdx
before="$(digest *.vhdx)"
same child.vhdx 2> use.log
test "$(digest *.vhdx)" = "$before" || fail "a file changed"

# Nothing else appears beside the images either.
test -z "$(find . -name '*.lock' -o -name '*~' -o -name '*.tmp')"

# Who does not say -r is told once, in one line; who does, not at all.
for flag in '' -r; do
  nbdkit $flag -U - vhdx clean.vhdx 2> told.log --run '
    for i in 1 2 3; do nbdinfo --size "$uri"; done' > sizes
  [ "$(wc -l < sizes)" -eq 3 ] || fail "no three clients"
  if [ "$flag" = -r ]; then
    expect_no_text told.log .
  else
    expect_text told.log 'clean.vhdx: is served read-only: .*use nbdkit -r'
    [ "$(grep -c . told.log)" -eq 1 ] || fail "told in more than one line"
  fi
done
