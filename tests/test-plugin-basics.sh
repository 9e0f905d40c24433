# Every plugin and filter tells about itself without any parameter.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires nbdkit null --version
[ -n "$PLUGINS" ] || fail "no plugins are built"

version=$(sed -n 's/^#define PACKAGE_VERSION "\(.*\)"/\1/p' \
            "$top_builddir/config.h")
[ -n "$version" ] || fail "config.h has no PACKAGE_VERSION"

for p in $PLUGINS; do
  [[ $p =~ ^[a-zA-Z0-9]+$ ]] || fail "$p: not a short name for completion"

  nbdkit "$p" --version > log
  expect_text log "^$p $version\$"

  nbdkit "$p" --help > log
  expect_text log "^plugin: $p \(nbdkit $p plugin\)" '^\[file=\]'
  expect_text log "/plugins/$p/.libs/nbdkit-$p-plugin.so"

  nbdkit "$p" --dump-plugin > log
  expect_text log "^name=$p\$" "^version=$version\$" \
    '^magic_config_key=file$' \
    '^max_thread_model=parallel$' '^thread_model=parallel$' \
    '^errno_is_preserved=1$' '^has_description=1$' '^has_longname=1$' \
    '^has_config_help=1$' '^has_dump_plugin=1$' '^has_list_exports=1$' \
    '^has_extents=1$' '^has_cache=1$' '^has_can_cache=1$' \
    '^has_block_size=1$' '^has_can_multi_conn=1$' "^${p}_[a-z0-9_]+="
  # Lines of our own: lower case, and with the plugin's name in front.
  if sed '1,/^has_/d' log | grep -Ev '^has_|^[a-z0-9_]+=' ; then
    fail "$p: odd lines in --dump-plugin"
  fi

  expect_fail log nbdkit -U - "$p" --run true
  expect_text log 'file'
  expect_fail log nbdkit -U - "$p" no-such-parameter=1 --run true
  expect_text log "unknown parameter '?no-such-parameter"
  expect_fail log nbdkit -U - "$p" "$tmpdir/no-such-file" --run true
  expect_text log "no-such-file.*No such file or directory"
done

for f in $FILTERS; do
  nbdkit --filter="$f" null --version > log
  expect_text log "^$f "
  nbdkit --filter="$f" null --help > log
  expect_text log "^filter: $f \(nbdkit $f filter\)"
  expect_text log "/filters/$f/.libs/nbdkit-$f-filter.so"
  expect_fail log nbdkit -U - --filter="$f" null no-such-parameter=1 \
    --run true
  expect_text log 'no-such-parameter'
done
