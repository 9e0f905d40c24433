# The stray headers of Xen 3.3 and 3.4: told of, repaired on request.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"

disk disk.raw $((5 << 20))

# check FORM...: an image where a stray header lies on the first table.
check () {
  tapdisk disk.raw sound "$@"
  tapdisk disk.raw stray --stray "$@"
  if cmp -s sound stray; then
    fail "there is no stray header"
  fi
  cp stray original

  serve_fixup -r -- file stray stray-header=repair
  nbdinfo --size "$uri" > size
  nbdinfo --size "$uri" > size
  stop_fixup
  [ "$(grep -c 'stray header' log)" -eq 1 ] || fail "not told once"
  cmp stray original

  serve_fixup -- file stray
  nbdinfo --size "$uri" > size
  nbdinfo --size "$uri" > size
  stop_fixup
  [ "$(grep -c 'stray header' log)" -eq 1 ] || fail "not told once"
  expect_text log 'stray-header=repair would bring them back'
  # What does not follow tapdisk's formula must not be said to.
  if ! cmp -s stray original; then
    [ "$(tool get stray min-alloc)" = 1 ] || fail "min_cluster_alloc stays"
    tool set stray min-alloc "$(tool get stray.converted min-alloc)"
  fi
  same stray stray.converted

  for from in original stray.converted; do
    cp "$from" stray
    serve_fixup -- file stray stray-header=repair
    nbdinfo --size "$uri" > size
    stop_fixup
    expect_text log 'stray header of Xen.* are brought back'
    same stray sound.converted || fail "$from: not repaired"
    rm -f out.raw
    qemu-img convert -f qcow -O raw stray out.raw
    cmp disk.raw out.raw
    fingerprint stray > before
    serve_fixup -- file stray stray-header=repair
    nbdinfo --size "$uri" > size
    stop_fixup
    expect_no_text log 'stray header of'
    fingerprint stray | diff before -
  done
}
check --order big
check --order big --flag
check

# A stray header where no table lies does no harm: Xen 3.4's own images.
tapdisk disk.raw harmless --order big --gap 512 --stray
serve_fixup -- file harmless stray-header=repair
nbdinfo --size "$uri" > size
stop_fixup
expect_no_text log 'stray header of'
same harmless harmless.converted
