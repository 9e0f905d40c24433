# The nbdkit in wrapper/ finds our modules by short name among nbdkit's
# options, and leaves every other argument alone.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plain_build

wrapper=$top_builddir/wrapper/nbdkit
ours=$top_builddir/plugins/qcow2/.libs/nbdkit-qcow2-plugin.so
[ -f "$ours" ] || fail "$ours is missing"

# A server that only tells its arguments.
cat > server <<'END'
#!/bin/sh
for arg; do printf '<%s>' "$arg"; done
echo
END
chmod +x server
export NBDKIT_REAL=$tmpdir/server

# becomes ARG... -- ARG...: the first make the second, where OURS stands
# for the path of our qcow2 plugin.
becomes () {
  local in=() out='' arg found

  while [ "$1" != == ]; do
    in+=("$1")
    shift
  done
  shift
  for arg; do
    out+="<${arg/#OURS/$ours}>"
  done
  found=$("$wrapper" ${in[@]+"${in[@]}"})
  [ "$found" = "$out" ] ||
    fail "nbdkit ${in[*]} became $found instead of $out"
}

becomes qcow2 a.img == OURS a.img
becomes qcow2 qcow2 == OURS qcow2
becomes -r qcow2 file=qcow2 == -r OURS file=qcow2
becomes -U - qcow2 == -U - OURS
becomes -U qcow2 qcow2 == -U qcow2 OURS
becomes -e qcow2 qcow2 == -e qcow2 OURS
becomes -fvP qcow2 qcow2 == -fvP qcow2 OURS
becomes -fvPqcow2 qcow2 == -fvPqcow2 OURS
becomes -rU- qcow2 x == -rU- OURS x
becomes -i 127.0.0.1 -p 0 -g qcow2 -u qcow2 -t 4 -D qcow2.x=1 qcow2 == \
        -i 127.0.0.1 -p 0 -g qcow2 -u qcow2 -t 4 -D qcow2.x=1 OURS
becomes -4 -6 -n -o -s -v -V qcow2 == -4 -6 -n -o -s -v -V OURS
for option in debug export export-name exportname group ip-addr ipaddr log \
              mask-handshake pid-file pidfile port run selinux-label \
              threads tls tls-certificates tls-psk unix user; do
  becomes "--$option" qcow2 qcow2 b == "--$option" qcow2 OURS b
  becomes "--$option=qcow2" qcow2 b == "--$option=qcow2" OURS b
done
for option in dump-plugin exit-with-parent foreground help ipv4-only \
              newstyle no-sr oldstyle readonly single stdin swap \
              tls-verify-peer verbose version vsock; do
  becomes "--$option" qcow2 qcow2 == "--$option" OURS qcow2
done
becomes --pidf qcow2 qcow2 == --pidf qcow2 OURS
becomes --filter cow --filter=log qcow2 == --filter cow --filter=log OURS
becomes --filter qcow2 qcow2 == --filter qcow2 OURS
becomes qcow2 -U - x --run 'nbdinfo "$uri"' == \
        OURS -U - x --run 'nbdinfo "$uri"'
becomes -r -- qcow2 -r qcow2 == -r -- OURS -r qcow2
becomes qcow2 -- qcow2 == OURS -- qcow2
becomes ./qcow2 qcow2 == ./qcow2 qcow2
becomes "$ours" == "$ours"
becomes memory 1G == memory 1G
becomes memory '' 'a  b' $'c\nd' '*' == memory '' 'a  b' $'c\nd' '*'
becomes --dump-config == --dump-config
becomes ==
becomes -U == -U

# Exit status and signals are nbdkit's own.
cat > server <<'END'
#!/bin/sh
exit 42
END
expect_fail log "$wrapper" qcow2
[ "$status" -eq 42 ] || fail "status $status instead of 42"
cat > server <<'END'
#!/bin/sh
echo $$
END
[ "$(sh -c 'echo $$; exec "$0" null' "$wrapper" | uniq | wc -l)" -eq 1 ] ||
  fail "the wrapper is not replaced by nbdkit"
