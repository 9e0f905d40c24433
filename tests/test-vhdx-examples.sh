#!/usr/bin/env bash
# Every example of the vhdx plugin's manual page works, as it is printed, and
# those of README.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin vhdx
. "$srcdir/examples-lib.sh"
extract_examples vhdx 14

# The files that they use, made once.  vm_ABC.avhdx is over vm_1.avhdx over
# disk.vhdx; vm_DEF.avhdx, in a directory of its own, is over disk.vhdx;
# moved.avhdx is, too, but knows it in another place.  The disks that must be
# read are the .raw beside them.
cat > make.py <<'END'
base = Image(4 * MIB)
base.set(0, seed=1)
base.set(2, seed=2)
base.save("disk.vhdx")

# Its identity has changed, and nothing else.
base.headers[0].data_write = base.headers[1].data_write = guid()
base.save("touched.vhdx", raw=False)

middle = Image(4 * MIB, parent="disk.vhdx")
middle.set(1, seed=3)
middle.save("vm_1.vhdx")
top = Image(4 * MIB, parent="vm_1.vhdx",
            keys=[("relative_path", ".\\vm_1.avhdx"),
                  ("absolute_win32_path", "\\\\?\\D:\\VMs\\vm_1.avhdx")])
top.set(2, PARTIAL, seed=4, own=[(8, 100)])
top.save("vm_ABC.vhdx")
other = Image(4 * MIB, parent="disk.vhdx",
              keys=[("relative_path", "..\\disk.vhdx")])
other.set(3, seed=5)
other.save("vm_DEF.vhdx")
moved = Image(4 * MIB, parent="disk.vhdx",
              keys=[("relative_path", "..\\Base\\Old.vhdx"),
                    ("absolute_win32_path", "\\\\?\\D:\\Base\\Old.vhdx")])
moved.set(3, seed=6)
moved.save("moved.vhdx")
END
mkdir samples
cd samples
"$PYTHON" "$srcdir/vhdx-image.py" run ../make.py
for vm in vm_1 vm_ABC moved; do mv $vm.vhdx $vm.avhdx; done
mkdir checkpoints drive-d drive-d/base
mv vm_DEF.vhdx checkpoints/vm_DEF.avhdx
cp disk.vhdx drive-d/base/old.vhdx
cp disk.raw base.raw
mkdir expected
mv disk.raw vm_1.raw vm_ABC.raw vm_DEF.raw moved.raw expected
cd ..
! cmp -s samples/disk.vhdx samples/touched.vhdx ||
  fail "touched.vhdx is no other file"

samples=$(cd samples && find . -name '*.*vhdx' | sort)
# shellcheck disable=SC2086
(cd samples && fingerprint $samples base.raw) > before

for example in examples/*; do
  rm -rf work
  cp -a samples work
  cd work
  cat "../$example"
  bash -euo pipefail "../$example" > output 2> messages || {
    cat output messages >&2
    fail "this example does not work: $(cat "../$example")"
  }
  # shellcheck disable=SC2086
  fingerprint $samples base.raw | diff ../before - ||
    fail "changed its files: $(cat "../$example")"

  # What was copied must be what was put there; by whom is in its name.
  image=$(grep -Eo '[a-zA-Z_]+\.a?vhdx' "../$example" | head -n 1)
  expected=expected/${image%.*}.raw
  case $(cat "../$example") in
    *'--run '*disk.raw* ) cmp disk.raw "$expected" ;;
    *rescued.raw* )
      cmp rescued.raw "$expected" &&
        grep -q 'warning: .*moved.avhdx: the parent .* has been changed' \
             messages
      ;;
    *vm.qcow2* ) qemu-img compare -q -f qcow2 -F raw vm.qcow2 "$expected" ;;
    *before.raw* ) cmp before.raw expected/vm_1.raw ;;
    *'nbdinfo --size'* ) [ "$(cat output)" = 4194304 ] ;;
    *'nbdinfo --map'* ) grep -q 'hole,zero' output ;;
    *pwrite* ) ;;
    * ) fail "nothing shows what it does: $(cat "../$example")"
  esac || {
    cat output messages >&2
    fail "did something else: $(cat "../$example")"
  }
  cd ..
done

# Without the words of the user, that is refused.
cd samples
expect_fail ../log nbdkit -r -U - vhdx checkpoints/vm_DEF.avhdx --run true
expect_text ../log 'vm_DEF.avhdx' 'allow-path='
expect_fail ../log nbdkit -r -U - vhdx moved.avhdx --run true
expect_text ../log 'moved.avhdx.*\.\.\\Base\\Old.vhdx'
expect_fail ../log nbdkit -r -U - vhdx moved.avhdx backing=touched.vhdx \
  --run true
expect_text ../log 'moved.avhdx.*touched.vhdx.*parent-mismatch=allow'
cd ..

# README: the lines that name a VHDX image, and the file that they make.
mkdir readme
cd readme
cp ../samples/*.avhdx ../samples/disk.vhdx .
sed -n '/^ *\$ .*avhdx/s/^ *\$ //p' "$top_srcdir/README" |
  sed 's,^\./run ,,' > commands
[ "$(wc -l < commands)" -eq 1 ] || fail "README: $(cat commands)"
cat commands
bash -euo pipefail commands || fail "README: an example does not work"
cmp vm.raw ../samples/expected/vm_ABC.raw ||
  fail "README: copied something else"
