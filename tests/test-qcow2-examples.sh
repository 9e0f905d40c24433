# Every example of the qcow2 plugin's manual page works, as it is printed.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
requires_plugin qcow2
. "$srcdir/examples-lib.sh"
requires_filter partition
requires sfdisk --version
extract_examples qcow2 9

# The files that they use.
make_samples () {
  qemu-img create -q -f qcow2 base.qcow2 4M
  qemu-io -f qcow2 -c 'write -P 1 0 1M' base.qcow2 > /dev/null
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2
  qemu-io -f qcow2 -c 'write -P 2 512k 1M' disk.qcow2 > /dev/null
  mkdir overlay
  qemu-img create -q -f qcow2 -b ../base.qcow2 -F qcow2 overlay/disk.qcow2
  qemu-img create -q -f qcow2 -o data_file=external.raw external.qcow2 2M
  qemu-io -f qcow2 -c 'write -P 3 0 1M' external.qcow2 > /dev/null
  truncate -s 4M partitioned.raw
  echo 'start=2048, size=1024, type=83' |
    sfdisk -q --no-reread --no-tell-kernel partitioned.raw > /dev/null
  qemu-img convert -f raw -O qcow2 partitioned.raw partitioned.qcow2
  truncate -s 1M raw.img
  printf 'some text' | dd of=raw.img bs=1 seek=100000 conv=notrunc status=none
  qemu-img create -q -f qcow2 grown.qcow2 4M
  cp base.qcow2 kept.qcow2
  qemu-img snapshot -c monday kept.qcow2
  qemu-io -f qcow2 -c 'write -P 4 0 2M' kept.qcow2 > /dev/null
}

# These no example changes.
samples="base.qcow2 disk.qcow2 overlay/disk.qcow2 external.qcow2 external.raw
         partitioned.qcow2 raw.img kept.qcow2"

for example in examples/*; do
  rm -rf work
  mkdir work
  cd work
  make_samples
  # shellcheck disable=SC2086
  fingerprint $samples > before
  cat "../$example"
  bash -euo pipefail "../$example" > output 2>&1 || {
    cat output >&2
    fail "this example does not work: $(cat "../$example")"
  }
  # shellcheck disable=SC2086
  fingerprint $samples > after
  cmp before after || fail "changed its files: $(cat "../$example")"

  # What was copied must be what QEMU reads.
  if grep -q out.raw "../$example"; then
    case $(cat "../$example") in
      *external.qcow2* ) image=external.qcow2 ;;
      *kept.qcow2* ) image=base.qcow2 ;;
      *partition=1* )
        image=expected.qcow2
        dd if=partitioned.raw of=part.raw bs=512 skip=2048 count=1024 \
          status=none
        qemu-img convert -f raw -O qcow2 part.raw "$image" ;;
      * ) image=disk.qcow2 ;;
    esac
    qemu-img compare -q -f qcow2 -F raw "$image" out.raw ||
      fail "copied something else: $(cat "../$example")"
  fi
  if grep -q layer.raw "../$example"; then
    qemu-img compare -q -f qcow2 -F raw base.qcow2 layer.raw ||
      fail "copied something else: $(cat "../$example")"
  fi
  if grep -q 'nbdinfo --list' "../$example"; then
    [ "$(grep -c '^export="layer:' output)" -eq 2 ] ||
      fail "listed are $(cat output)"
  fi
  if grep -q 'nbdinfo --size' "../$example"; then
    [ "$(cat output)" = 4194304 ] || fail "size is $(cat output)"
  fi
  # What was made or changed must be an image, and the right one.
  for image in new layer grown; do
    [ ! -e $image.qcow2 ] || qemu-img check -q -f qcow2 $image.qcow2
  done
  case $(cat "../$example") in
    *raw.img* ) qemu-img compare -q -f qcow2 -F raw new.qcow2 raw.img ;;
    *new.qcow2* ) qemu-img info new.qcow2 | grep -q '(10737418240 bytes)' ;;
    *layer.qcow2* )
      qemu-img compare -q -f qcow2 -F qcow2 layer.qcow2 base.qcow2 ;;
    *grown.qcow2* ) qemu-img info grown.qcow2 | grep -q '(21474836480 bytes)'
  esac || fail "made something else: $(cat "../$example")"
  cd ..
done
