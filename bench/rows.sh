# The rows, those of qcow2 first, then of qcow and VHDX.  Each names its
# group, its goal (our rate divided by that of nbdkit's file plugin on the
# raw equivalent), the best known for qemu-nbd (for comparison with what is
# measured here), and the work.
#
# SPDX-License-Identifier: BSD-3-Clause

# read_row NAME GOAL BEST IMAGE WORK...
read_row () {
  local name=$1 goal=$2 best=$3 image=$4

  shift 4
  begin_row "$name" reading "$dir_work" || return 0
  make_image "$image"
  verify_reading "$image"
  measure ro "$image" "$@"
  print_row "$goal" "$best"
}

# write_row NAME GOAL BEST IMAGE LIMIT WORK...: LIMIT is a number of
# requests, or 'time' for the row's --seconds; verification always goes by
# the number.
write_row () {
  local name=$1 goal=$2 best=$3 image=$4 limit=$5

  shift 5
  begin_row "$name" writing "${place:-$dir_work}" || return 0
  case $image in
    cow-* ) make_image full ;;
    qcow-cow-* ) make_image qcow-full ;;
  esac
  make_image "$image"
  if [ "$limit" = time ]; then
    verify_writing "$image" "$@" --requests="$verify_requests"
    measure rw "$image" "$@" --seconds="$seconds"
  else
    verify_writing "$image" "$@" --requests="$limit"
    measure rw "$image" "$@" --requests="$limit"
  fi
  if [ "$goal" = ms ]; then
    print_milliseconds
  else
    print_row "$goal" "$best"
  fi
}

# The same on a file system where fdatasync costs.
flush_row () {
  local place=$flush_work verify_requests=$verify_flush_requests

  write_row "$@"
}

reading_rows () {
  local random=(requests --op=read --pattern=random --block=4K
                --connections="$connections" --seconds="$seconds")
  local sequential=(requests --op=read --pattern=sequential
                    --block="$seq_block" --depth="$seq_depth"
                    --connections="$connections" --seconds="$seconds")
  local copy=(copy --connections="$copy_connections")
  local size

  read_row seq-read 0.98 0.66 full "${sequential[@]}"
  read_row random-1 0.97 0.57 full "${random[@]}" --depth=1
  read_row random-16 0.97 0.66 full "${random[@]}" --depth=16
  read_row random-64 0.97 0.72 full "${random[@]}" --depth=64
  read_row random-1t 0.85 0.25 scattered "${random[@]}" --depth="$depth" \
    RANGES
  read_row extents-1t 1.30 0.09 scattered map
  chain_rows 1 0.63
  chain_rows 4 0.65
  chain_rows 10 0.54
  read_row sparse-copy-64k 2.0 1.07 sparse-64k "${copy[@]}"
  read_row sparse-copy-2m 0.90 0.15 sparse-2m "${copy[@]}"
  read_row zlib-seq 0.22 0.17 zlib "${sequential[@]}"
  read_row zstd-seq 0.50 0.39 zstd "${sequential[@]}"
  for size in "${start_sizes[@]}"; do
    read_row "start-${size,,}" 0.95 0.73 "start-$size" \
      start --requests="$start_times"
  done
}

# chain_rows BACKING-FILES BEST
chain_rows () {
  local d

  for d in 1 16 64; do
    read_row "chain-$1-$d" 0.95 "$2" "chain-$1" "${random[@]}" --depth="$d"
  done
}

writing_rows () {
  local write=(requests --op=write --connections="$connections"
               --final-flush)
  local sequential=("${write[@]}" --pattern=sequential
                    --block="$seq_block" --depth="$seq_depth")
  local random=("${write[@]}" --pattern=random --block=4K
                --depth="$depth")
  local permuted=("${write[@]}" --pattern=permuted --block=4K
                  --depth="$depth")

  write_row seq-write-empty 0.95 0.76 empty-seq "$(blocks_in_disk)" \
    "${sequential[@]}"
  write_row seq-overwrite 0.97 0.72 full time "${sequential[@]}"
  write_row random-overwrite 0.95 0.34 full time "${random[@]}"
  write_row random-empty-64k 0.80 0.13 empty-64k "$random_requests" \
    "${permuted[@]}"
  write_row random-empty-2m 0.80 0.09 empty-2m "$random_requests" \
    "${permuted[@]}"
  write_row random-empty-ext 0.80 0.32 empty-ext "$random_requests" \
    "${permuted[@]}"
  write_row cow-64k 0.30 0.16 cow-64k "$cow_requests" "${permuted[@]}"
  write_row cow-ext 0.85 0.40 cow-ext "$cow_requests" "${permuted[@]}"
  flush_row flush-every-1 0.50 0.27 empty-flush time "${permuted[@]}" \
    --flush-every=1
  flush_row flush-every-32 0.60 0.13 empty-flush time "${permuted[@]}" \
    --flush-every=32
  flush_row directory 0.60 0.31 empty-flush time "${write[@]}" \
    --pattern=directory --depth="$depth"
  whole_disk_rows zero
  whole_disk_rows trim
}

# whole_disk_rows zero|trim: 2 GiB at a time.
whole_disk_rows () {
  local all=$(($(bytes "$huge_len") >> 31)) image
  local command=(requests --op="$1" --pattern=sequential --block=2G
                 --depth="$depth" --connections="$connections"
                 --final-flush)

  write_row "$1-1t-empty" ms - empty-huge "$all" "${command[@]}"
  write_row "$1-1t-clusters" ms - scattered "$all" "${command[@]}"
}

# qcow version 1, as QEMU makes it: clusters of 4 KiB, overlays of 512.
qcow_rows () {
  local format=qcow
  local random=(requests --pattern=random --block=4K --depth="$depth"
                --connections="$connections" --seconds="$seconds")
  local sequential=(requests --pattern=sequential --block="$seq_block"
                    --depth="$seq_depth" --connections="$connections")
  local permuted=(requests --op=write --pattern=permuted --block=4K
                  --depth="$depth" --connections="$connections"
                  --final-flush)

  read_row qcow-seq-read 0.95 - qcow-full "${sequential[@]}" --op=read \
    --seconds="$seconds"
  read_row qcow-random-16 0.95 - qcow-full "${random[@]}" --op=read
  read_row qcow-extents-1t 1.5 - qcow-scattered map
  read_row qcow-sparse-copy 1.5 - qcow-sparse copy \
    --connections="$copy_connections"
  write_row qcow-seq-write-empty 0.90 - qcow-empty-seq \
    "$(blocks_in_disk)" "${sequential[@]}" --op=write --final-flush
  write_row qcow-random-empty 0.60 - qcow-empty "$random_requests" \
    "${permuted[@]}"
  write_row qcow-cow-512 0.60 - qcow-cow-512 "$cow_requests" \
    "${permuted[@]}"
  write_row qcow-cow-4k 0.60 - qcow-cow-4k "$cow_requests" \
    "${permuted[@]}"
}

# VHDX, as QEMU makes it: blocks of 8 to 64 MiB, by the size of the disk.
vhdx_rows () {
  local format=vhdx
  local random=(requests --op=read --pattern=random --block=4K
                --connections="$connections" --seconds="$seconds")

  read_row vhdx-seq-read 0.98 - vhdx-full requests --op=read \
    --pattern=sequential --block="$seq_block" --depth="$seq_depth" \
    --connections="$connections" --seconds="$seconds"
  read_row vhdx-random-1 0.95 - vhdx-full "${random[@]}" --depth=1
  read_row vhdx-random-16 0.95 - vhdx-full "${random[@]}" --depth=16
  read_row vhdx-random-64 0.95 - vhdx-full "${random[@]}" --depth=64
  without_qemu read_row vhdx-sparse-copy 0.90 - vhdx-sparse copy \
    --connections="$copy_connections"
  without_qemu read_row vhdx-start-1t 0.90 - vhdx-start-1T start \
    --requests="$start_times"
}

# without_qemu COMMAND...: QEMU calls all of a VHDX image data, so that to
# compare one of 1 TiB it would read all that.
without_qemu () {
  local kind all=("${servers[@]}")
  local servers=()

  for kind in "${all[@]}"; do
    [ "$kind" = qemu ] || servers+=("$kind")
  done
  "$@"
}

# bytes SIZE: a size with a suffix as a number.
bytes () {
  numfmt --from=iec "$1"
}

blocks_in_disk () {
  echo $(($(bytes "$disk_len") / $(bytes "$seq_block")))
}
