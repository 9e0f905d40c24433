# The images: each a file in the row's format and the raw file that is its
# equivalent, made by QEMU and by nbdkit's file plugin, so that none of ours
# is judged by what it wrote itself.
#
# make_image NAME: make $where/NAME.$format and $where/NAME.raw, and for
# scattered images $where/NAME.ranges, unless they are there.  Images of the
# row before go, but for the full one, which others stand on.
#
# SPDX-License-Identifier: BSD-3-Clause

make_image () {
  local name=$1 other full=full

  [ "$format" = qcow2 ] || full=$format-full

  [ ! -e "$where/$name.done" ] || return 0
  for other in "$where"/*.done; do
    [ -e "$other" ] || continue
    other=$(basename "$other" .done)
    [ "$other" = "$full" ] ||
      rm -f "$where/$other".{done,raw,qcow2,qcow,vhdx,ranges} \
            "$where/$other"-layer-*
  done
  say "making the image $name"
  case $name in
    full ) image_full "$name" cluster_size=64k ;;
    qcow-full ) image_full "$name" ;;
    qcow-empty ) image_empty "$name" "$random_len" ;;
    qcow-empty-seq ) image_empty "$name" "$disk_len" ;;
    qcow-scattered ) image_scattered "$name" "$huge_len" \
                       "$huge_clusters" ;;
    qcow-sparse ) image_scattered "$name" "$sparse_len" \
                    "$sparse_clusters" ;;
    qcow-cow-512 | qcow-cow-4k ) image_qcow_cow "$name" ;;
    vhdx-full ) image_full "$name" ;;
    vhdx-sparse ) image_scattered "$name" "$sparse_len" \
                    "$sparse_clusters" ;;
    vhdx-start-* ) image_start "$name" "${name#vhdx-start-}" ;;
    empty-64k ) image_empty "$name" "$random_len" cluster_size=64k ;;
    empty-2m ) image_empty "$name" "$random_len" cluster_size=2M ;;
    empty-ext ) image_empty "$name" "$random_len" \
                  cluster_size=128k,extended_l2=on ;;
    empty-seq ) image_empty "$name" "$disk_len" cluster_size=64k ;;
    empty-flush ) image_empty "$name" "$flush_len" cluster_size=64k ;;
    empty-huge ) image_empty "$name" "$huge_len" cluster_size=64k ;;
    scattered ) image_scattered "$name" "$huge_len" "$huge_clusters" \
                  cluster_size=64k ;;
    sparse-64k ) image_scattered "$name" "$sparse_len" "$sparse_clusters" \
                  cluster_size=64k ;;
    sparse-2m ) image_scattered "$name" "$sparse_len" "$sparse_clusters" \
                  cluster_size=2M
                # What the guest never wrote is a hole, as it is after a
                # trim or where QEMU could use fallocate.
                fallocate --dig-holes "$where/$name.qcow2" ;;
    zlib | zstd ) image_packed "$name" ;;
    chain-* ) image_chain "$name" "${name#chain-}" ;;
    cow-64k ) image_cow "$name" cluster_size=64k ;;
    cow-ext ) image_cow "$name" cluster_size=128k,extended_l2=on ;;
    start-* ) image_start "$name" "${name#start-}" cluster_size=64k ;;
    * ) die "no image $name is known" ;;
  esac
  touch "$where/$name.done"
}

# fill KIND BASE OPTION...: write content to an image.
fill () {
  local kind=$1 base=$2

  shift 2
  set_server "$kind" "$base" rw
  "$client" fill --seed="$seed" --connections=1 "$@" \
    -- "${server[@]}" > "$work/fill.log"
}

# create FILE SIZE [OPTIONS]
create () {
  qemu-img create -q -f "$format" ${3:+-o "$3"} "$1" "$2" > /dev/null
}

# image_full NAME [OPTIONS]
image_full () {
  local base=$where/$1

  truncate -s "$disk_len" "$base.raw"
  fill file "$base" --data=noise
  qemu-img convert -f raw -O "$format" ${2:+-o "$2"} \
    "$base.raw" "$base.$format"
}

# image_empty NAME SIZE [OPTIONS]
image_empty () {
  local base=$where/$1

  truncate -s "$2" "$base.raw"
  create "$base.$format" "$2" "${3:-}"
}

# image_scattered NAME SIZE COUNT [OPTIONS]: pieces of 64 KiB in places and
# in an order drawn by lot.
image_scattered () {
  local base=$where/$1

  "$client" ranges --size="$2" --block=64K --count="$3" --seed="$seed" \
    > "$base.ranges"
  image_empty "$1" "$2" "${4:-}"
  fill file "$base" --ranges="$base.ranges"
  fill qemu "$base" --ranges="$base.ranges"
}

image_packed () {
  local base=$where/$1

  truncate -s "$text_len" "$base.raw"
  fill file "$base" --data=text
  qemu-img convert -c -f raw -O qcow2 \
    -o cluster_size=64k,compression_type="$1" "$base.raw" "$base.qcow2"
}

# $2 backing files below the image; every cluster is in one of the files,
# drawn by lot.  All names are relative, in one directory.
image_chain () {
  local base=$where/$1 n=$2 i layer options

  truncate -s "$chain_len" "$base.raw"
  fill file "$base"
  for ((i = 0; i <= n; i++)); do
    layer=$1-layer-$i
    [ "$i" -lt "$n" ] || layer=$1
    options=cluster_size=64k
    [ "$i" -eq 0 ] ||
      options+=",backing_file=$1-layer-$((i - 1)).qcow2,backing_fmt=qcow2"
    create "$where/$layer.qcow2" "$chain_len" "$options"
    "$client" ranges --size="$chain_len" --block=64K --seed="$seed" \
      --share="$i/$((n + 1))" > "$base.ranges"
    fill qemu "$where/$layer" --ranges="$base.ranges"
  done
  rm "$base.ranges"
}

image_cow () {
  local base=$where/$1

  create "$base.qcow2" "$disk_len" \
    "$2,backing_file=full.qcow2,backing_fmt=qcow2"
  copy_file "$where/full.raw" "$base.raw"
}

# Overlays of QEMU have clusters of 512 bytes.  In an empty one clusters of
# 4 KiB differ in two bytes of the header: an L1 entry stands for 2 MiB
# either way.
image_qcow_cow () {
  local base=$where/$1

  qemu-img create -q -f qcow -b qcow-full.qcow -F qcow \
    "$base.qcow" "$disk_len" > /dev/null
  [ "$1" != qcow-cow-4k ] ||
    printf '\14\11' |
      dd of="$base.qcow" bs=1 seek=32 conv=notrunc status=none
  copy_file "$where/qcow-full.raw" "$base.raw"
}

# image_start NAME SIZE [OPTIONS]
image_start () {
  local base=$where/$1

  echo 0 1048576 > "$base.ranges"
  image_empty "$1" "$2" "${3:-}"
  fill file "$base" --ranges="$base.ranges"
  fill qemu "$base" --ranges="$base.ranges"
}

copy_file () {
  cp --sparse=auto --reflink=auto "$1" "$2"
}
