# Every example of the qcow plugin's manual page works, as it is printed, and
# those of README.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow
. "$srcdir/examples-lib.sh"
extract_examples qcow 12

# The files that they use.  In tapdisk.qcow the L1 table is little endian.
make_samples () {
  qemu-img create -q -f qcow base.qcow 4M
  qemu-io -f qcow -c 'write -P 1 0 1M' base.qcow > /dev/null
  cp base.qcow disk.qcow
  qemu-io -f qcow -c 'write -P 2 512k 1M' disk.qcow > /dev/null
  qemu-img create -q -f qcow -b base.qcow -F qcow overlay.qcow 2> /dev/null
  qemu-io -f qcow -c 'write -P 3 2M 1M' overlay.qcow > /dev/null
  truncate -s 1M raw.img
  printf 'some text' | dd of=raw.img bs=1 seek=100000 conv=notrunc status=none
  # A guest has put the header of an image on its raw disk.
  cp disk.qcow imitation.raw
  truncate -s 4M imitation.raw
  qemu-img create -q -f qcow -b imitation.raw -F raw overraw.qcow
  "$PYTHON" "$srcdir/qcow-image.py" tapdisk raw.img tapdisk.qcow
  qemu-img create -q -f qcow grown.qcow 4M
}

# These no example changes (but one that says so).
samples="base.qcow disk.qcow overlay.qcow overraw.qcow imitation.raw raw.img"

mkdir samples
(cd samples; make_samples)
for example in examples/*; do
  rm -rf work
  cp -a samples work
  cd work
  # shellcheck disable=SC2086
  fingerprint $samples tapdisk.qcow > before
  cat "../$example"
  bash -euo pipefail "../$example" > output 2> messages || {
    cat output messages >&2
    fail "this example does not work: $(cat "../$example")"
  }
  # shellcheck disable=SC2086
  fingerprint $samples tapdisk.qcow > after
  if grep -q 'fixup=write' "../$example"; then
    ! cmp -s before after || fail "nothing is converted"
    sed -i /tapdisk/d before after
    # Now QEMU sees what is in it, and nobody has to say anything.
    qemu-img compare -q -f qcow -F raw tapdisk.qcow raw.img ||
      fail "QEMU does not read the converted image"
    fingerprint tapdisk.qcow > converted
    if nbdkit -U - qcow tapdisk.qcow \
         --run 'nbdinfo --is read-only "$uri"'; then
      fail "what was converted is read-only"
    fi
    fingerprint tapdisk.qcow | diff converted -
  fi
  cmp before after || fail "changed its files: $(cat "../$example")"

  # What was copied must be what QEMU reads.
  if grep -q out.raw "../$example"; then
    case $(cat "../$example") in
      *tapdisk.qcow* ) cmp out.raw raw.img ;;
      *overraw.qcow* ) cmp out.raw imitation.raw ;;
      *overlay.qcow* )
        qemu-img compare -q -f qcow -F raw overlay.qcow out.raw ;;
      * ) qemu-img compare -q -f qcow -F raw disk.qcow out.raw
    esac || fail "copied something else: $(cat "../$example")"
  fi
  if grep -q 'nbdinfo --size' "../$example"; then
    case $(cat "../$example") in
      *tapdisk* ) size=1048576 ;;
      * ) size=4194304 ;;
    esac
    [ "$(cat output)" = $size ] || fail "size is $(cat output)"
  fi
  # What was made or changed must be the right image.
  case $(cat "../$example") in
    *packed.qcow* )
      qemu-img compare -q -f qcow -F raw packed.qcow raw.img &&
        "$PYTHON" "$srcdir/qcow-image.py" count packed.qcow |
          grep -q '^0 [1-9]' ;;
    *raw.img* ) qemu-img compare -q -f qcow -F raw new.qcow raw.img ;;
    *new.qcow* ) qemu-img info new.qcow | grep -q '(10737418240 bytes)' ;;
    *layer.qcow* )
      qemu-img compare -q -f qcow -F qcow layer.qcow base.qcow ;;
    *grown.qcow* ) qemu-img info grown.qcow | grep -q '(21474836480 bytes)'
  esac || fail "made something else: $(cat "../$example")"
  cd ..
done

# README: lines that a user types, from the one that makes old.qcow on.
mkdir readme
cd readme
qemu-img create -q -f qcow2 disk.qcow2 64M
qemu-io -f qcow2 -c 'write -q -P 0x55 0 1M' \
  -c 'write -q -P 0xaa 8M 1M' disk.qcow2
sed -n '/^ *\$ .*old\.qcow/s/^ *\$ //p' "$top_srcdir/README" |
  sed 's,^\./run ,,' > commands
[ "$(wc -l < commands)" -eq 2 ] || fail "README: $(cat commands)"
cat commands
bash -euo pipefail commands || fail "README: an example does not work"
qemu-img compare -q -f qcow2 -F raw disk.qcow2 old.raw ||
  fail "README: copied something else"
