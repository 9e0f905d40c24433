# How a row is verified and measured.
#
# A row is measured in rounds; in each, every server does the same work
# once, a fresh server each time and, where it writes, on a fresh copy of
# the image.  Which server begins changes from round to round.  The result
# of a round is the ratio of its rates; the result of the row their median.
#
# SPDX-License-Identifier: BSD-3-Clause

# set_server KIND BASE ro|rw: set $server to the command that serves
# BASE.raw (file) or BASE.$format (ours, qemu).
set_server () {
  local readonly=() plugin

  plugin=$(plugin_file "$format")

  [ "$3" = rw ] || readonly=(-r)
  case $1 in
    ours ) server=("$nbdkit" -t "$threads" "${readonly[@]}"
                   "$plugin" "file=$2.$format") ;;
    file ) server=("$nbdkit" -t "$threads" "${readonly[@]}"
                   file "$2.raw") ;;
    qemu ) server=(qemu-nbd -t --shared="$shared" "${qemu_options[@]}"
                   "${readonly[@]}" -f "$format" "$2.$format") ;;
  esac
}

# Which of the files of an image a server uses.
suffix_of () {
  if [ "$1" = file ]; then echo raw; else echo "$format"; fi
}

# ---- Verification ----

# Print "CONTENT ZEROES DATA-BYTES SIZE" as server $1 shows image
# $2 (see bench-client --help).
digest () {
  set_server "$1" "$2" ro
  "$client" digest --connections=1 -- "${server[@]}"
}

# same_disk RAW-BASE IMAGE-BASE: the content must be that of the raw file
# for all servers.  What is zero must be what QEMU says, unless we know more
# zeroes.  (Whether zeroes are a hole may differ: QEMU calls a subcluster a
# hole when its cluster has space for it, nbdkit's plugins do not.)
same_disk () {
  local content zeroes data size want_content want_size
  local qemu_zeroes qemu_data

  read -r want_content _ _ want_size < <(digest file "$1") ||
    die "$1.raw cannot be read"
  if has_server qemu; then
    read -r content qemu_zeroes qemu_data size \
      < <(digest qemu "$2") || die "$2.$format cannot be read by QEMU"
    [ "$content $size" = "$want_content $want_size" ] ||
      die "$2.$format, as QEMU reads it, is not $1.raw"
  fi
  has_server ours || return 0
  read -r content zeroes data size < <(digest ours "$2") ||
    die "$2.$format cannot be read"
  [ "$content $size" = "$want_content $want_size" ] ||
    die "$2.$format, as we read it, is not $1.raw"
  has_server qemu || return 0
  [ "$zeroes" = "$qemu_zeroes" ] || [ "$data" -lt "$qemu_data" ] ||
    die "$2.$format: our extents ($data bytes of data) are not QEMU's" \
        "($qemu_data)"
}

# QEMU cannot check qcow images.
check_image () {
  [ "$format" != qcow ] || return 0
  qemu-img check -q -f "$format" "$1" > "$work/check.log" 2>&1 || {
    cat "$work/check.log" >&2
    die "$1: qemu-img check is not content"
  }
}

# verify_reading IMAGE: once for each image, whichever rows read it.
verify_reading () {
  local file

  [ "$verified" != "$where/$1" ] || return 0
  for file in "$where/$1.$format" "$where/$1"-layer-*."$format"; do
    [ ! -e "$file" ] || check_image "$file"
  done
  same_disk "$where/$1" "$where/$1"
  verified=$where/$1
}

# verify_writing IMAGE WORK...: the same requests through each server must
# give the same disk and a good image.
verify_writing () {
  local image=$1 kind

  shift
  fresh_copy file "$image" reference
  work_with file reference rw "$@" > /dev/null
  for kind in ours qemu; do
    has_server "$kind" || continue
    fresh_copy "$kind" "$image" copy
    work_with "$kind" copy rw "$@" > /dev/null
    check_image "$where/copy.$format"
    same_disk "$where/reference" "$where/copy"
  done
  rm -f "$where/reference.raw" "$where/copy.$format"
}

# ---- Measurement ----

# fresh_copy KIND IMAGE NAME: what KIND serves of an image, anew and all of
# it on the disk: nothing is left to be written back meanwhile.
fresh_copy () {
  local suffix

  suffix=$(suffix_of "$1")
  rm -f "$where/$3.$suffix"
  copy_file "$where/$2.$suffix" "$where/$3.$suffix"
  sync "$where/$3.$suffix"
}

# work_with KIND IMAGE ro|rw WORK...: do some work with a fresh server.
# The word RANGES in WORK stands for the image's list of ranges.
work_with () {
  local kind=$1 image=$2 mode=$3 word words=()

  shift 3
  for word; do
    [ "$word" != RANGES ] || word=--ranges=$where/$image.ranges
    words+=("$word")
  done
  set_server "$kind" "$where/$image" "$mode"
  "$client" "${words[@]}" --seed="$seed" -- "${server[@]}" ||
    die "$row: no result from $kind: ${server[*]}"
}

# measure MODE IMAGE WORK...: fill $samples with "ROUND KIND SECONDS COUNT
# BYTES" lines.  MODE is ro, or rw with a fresh copy each time.
measure () {
  local mode=$1 image=$2 round i kind result serve n=${#servers[@]}

  shift 2
  samples=$work/samples
  : > "$samples"
  for ((round = 0; round < rounds; round++)); do
    for ((i = 0; i < n; i++)); do
      kind=${servers[(i + round) % n]}
      serve=$image
      if [ "$mode" = rw ]; then
        fresh_copy "$kind" "$image" copy
        serve=copy
      fi
      result=$(work_with "$kind" "$serve" "$mode" "$@")
      echo "$round $kind $result" >> "$samples"
    done
  done
  rm -f "$where"/copy.*
  if [ -n "$results" ]; then
    sed "s/^/$row /" "$samples" >> "$results"
  fi
}

# summary KIND: print "MEDIAN MIN MAX" of the ratios of a server to file,
# one for each round; with 'ms' as second argument of its milliseconds.
summary () {
  awk -v kind="$1" -v ms="${2:-}" '
    { rate[$1, $2] = $4 / $3; seconds[$1, $2] = $3; if ($1 > last) last = $1 }
    END {
      for (round = 0; round <= last; round++)
        if ((round, kind) in rate) {
          if (ms)
            print 1000 * seconds[round, kind]
          else
            print rate[round, kind] / rate[round, "file"]
        }
    }' "$samples" | sort -g | awk '
    { value[NR] = $1 }
    END {
      if (NR == 0)
        exit
      m = NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2
      print m, value[1], value[NR]
    }'
}

# ---- The table ----

table_format='%-20s %-17s %-17s %-5s %-5s %s\n'

print_head () {
  # shellcheck disable=SC2059 # the format is ours
  printf "$table_format" row ours/file qemu/file goal best verdict
}

cell () {
  local median min max

  if read -r median min max < <(summary "$@"); then
    printf '%.2f (%.2f-%.2f)' "$median" "$min" "$max"
  else
    printf -- -
  fi
}

verdict () {
  local median

  if ! read -r median _ < <(summary ours); then
    printf -- -
  elif awk -v m="$median" -v goal="$1" 'BEGIN { exit !(m >= goal) }'; then
    printf ok
  else
    printf below
  fi
}

# print_row GOAL BEST
print_row () {
  # shellcheck disable=SC2059
  printf "$table_format" "$row" "$(cell ours)" "$(cell qemu)" \
    "$1" "$2" "$(verdict "$1")"
}

# For rows without a goal: milliseconds of all.
print_milliseconds () {
  local kind words=()

  for kind in "${servers[@]}"; do
    words+=("$kind $(cell "$kind" ms) ms  ")
  done
  printf '%-20s %s\n' "$row" "${words[*]}"
}
