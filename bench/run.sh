#!/bin/bash
# Measure the plugins against nbdkit's file plugin on the same disk as
# a raw file (1.00), and against qemu-nbd at its best.  See README here.
#
#   ./run bench/run.sh [OPTION...] [reading|writing|ROW...]
#
# ROW may be a pattern: 'chain-*'.  Without any, all rows are measured.
#
#   --rounds N         rounds for each row (default 7)
#   --seconds S        for rows that go on for a time (default 1)
#   --dir DIR          where the images are made (default /dev/shm if it is
#                      there, for no disk is to be measured; else $TMPDIR)
#   --flush-dir DIR    where those of the rows with flushes are made: on a
#                      file system where fdatasync costs (default: the build
#                      directory)
#   --servers "LIST"   of ours, file and qemu (default all; file is needed)
#   --results FILE     append every sample to FILE: row, round, server,
#                      seconds, requests, bytes
#   --build DIR        the build directory (default: that of the nbdkit in
#                      PATH, as ./run sets it)
#   --quick            small and short, to see that everything works
#   --list             print the rows' names
#
# The table goes to standard output, the rest to standard error.  Status 0:
# every row was verified and measured, whether it reached its goal or not.
#
# SPDX-License-Identifier: BSD-3-Clause

set -euo pipefail

bench_dir=$(dirname -- "$(readlink -f -- "$0")")
export LC_ALL=C

. "$bench_dir/settings.sh"
. "$bench_dir/images.sh"
. "$bench_dir/measure.sh"
. "$bench_dir/rows.sh"

say () {
  printf 'bench: %s\n' "$*" >&2
}

die () {
  say "$*"
  exit 1
}

usage () {
  sed -n '2,/^# SPDX/{/SPDX/d;s/^# \{0,1\}//;p;}' "$0"
}

dir=
flush_dir=
results=
build=
list=no
servers=(ours file qemu)
wanted=()
given_rounds=
given_seconds=
full_settings

parse_command_line () {
  while [ $# -gt 0 ]; do
    case $1 in
      --rounds | --seconds | --dir | --flush-dir | --servers | --results | \
      --build )
        [ $# -ge 2 ] || die "$1 needs an argument: see --help"
        parse_option "$1" "$2"
        shift ;;
      --*=* ) parse_option "${1%%=*}" "${1#*=}" ;;
      --quick ) quick_settings ;;
      --list ) list=yes ;;
      -h | --help ) usage; exit ;;
      -* ) die "unknown option $1: see --help" ;;
      * ) wanted+=("$1") ;;
    esac
    shift
  done
  rounds=${given_rounds:-$rounds}
  seconds=${given_seconds:-$seconds}
}

parse_option () {
  case $1 in
    --rounds )
      [[ $2 =~ ^[1-9][0-9]*$ ]] || die "--rounds: $2 is no number"
      given_rounds=$2 ;;
    --seconds )
      [[ $2 =~ ^[0-9]*\.?[0-9]+$ ]] || die "--seconds: $2 is no number"
      given_seconds=$2 ;;
    --dir ) dir=$2 ;;
    --flush-dir ) flush_dir=$2 ;;
    --servers ) read -ra servers <<< "$2" ;;
    --results ) results=$(realpath -m -- "$2") ;;
    --build ) build=$2 ;;
    * ) die "unknown option $1: see --help" ;;
  esac
}

has_server () {
  local kind

  for kind in "${servers[@]}"; do
    [ "$kind" != "$1" ] || return 0
  done
  return 1
}

# begin_row NAME GROUP DIRECTORY: is this row wanted?  Then it is begun.
begin_row () {
  local pattern matches=no

  [ ${#wanted[@]} -gt 0 ] || matches=yes
  for pattern in ${wanted[@]+"${wanted[@]}"}; do
    # shellcheck disable=SC2053 # it is a pattern
    if [[ $1 = $pattern ]] || [ "$2" = "$pattern" ]; then
      matches=yes
    fi
  done
  [ "$matches" = yes ] || return 1
  row=$1
  where=$3
  nr_rows=$((nr_rows + 1))
  if [ "$list" = yes ]; then
    echo "$row"
    return 1
  fi
  say "row $row"
}

# plugin_file FORMAT
plugin_file () {
  echo "$build/plugins/$1/.libs/nbdkit-$1-plugin.so"
}

# Find the build and the programs.  The wrapper beside the build is a shell
# script, which the rows about starting must not measure: the server itself
# is used, with the plugin's file name.
find_programs () {
  local path program

  if [ -z "$build" ]; then
    build=$(dirname -- "$(dirname -- "$(command -v nbdkit || echo ./x)")")
    [ -f "$build/config.status" ] || build=$bench_dir/../build
  fi
  build=$(realpath -m -- "$build")
  client=$build/bench/bench-client
  [ -x "$client" ] || die "$client is not there: run ./run --setup"
  for program in qcow2 qcow vhdx; do
    path=$(plugin_file "$program")
    ! has_server ours || [ -f "$path" ] || die "$path is not there"
  done
  path=$(tr : '\n' <<< "$PATH" | grep -v '/wrapper$' | paste -sd :)
  nbdkit=${NBDKIT_REAL:-$(PATH=$path command -v nbdkit || :)}
  [ -n "$nbdkit" ] || die "nbdkit is not installed"
  has_server file || die "--servers: file is what the others are held against"
  for program in qemu-img nbdcopy fallocate taskset numfmt; do
    command -v "$program" > /dev/null || die "$program is not installed"
  done
  command -v qemu-nbd > /dev/null || die "qemu-nbd is not installed"
  if grep -q "^preload='.\+'" "$build/wrapper/nbdkit" 2>/dev/null; then
    die "$build is built with sanitizers: its numbers would mean nothing"
  fi
}

prepare_directories () {
  if [ -z "$dir" ]; then
    dir=/dev/shm
    { [ -d "$dir" ] && [ -w "$dir" ]; } || dir=${TMPDIR:-/tmp}
  fi
  work=$(mktemp -d)
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  dir_work=$(mktemp -d "$(realpath -- "$dir")/bench.XXXXXX")
  flush_work=$(mktemp -d "$(realpath -- "${flush_dir:-$build}")/bench.XXXXXX")
  export TMPDIR=$work           # for the sockets
}

clean_up () {
  rm -rf "${work:?}" "${dir_work:-$work}" "${flush_work:-$work}"
}

# io_uring is not to be had in every container.
check_qemu () {
  has_server qemu || return 0
  qemu-img create -q -f qcow2 "$dir_work/probe.qcow2" 1M
  truncate -s 1M "$dir_work/probe.raw"
  set_server qemu "$dir_work/probe" rw
  if ! "$client" requests --op=write --requests=1 -- "${server[@]}" \
       > "$work/probe.log" 2>&1; then
    qemu_options[0]=--aio=threads
    say "qemu-nbd cannot use io_uring here: its best is not measured"
  fi
  rm "$dir_work"/probe.*
}

describe () {
  say "$("$nbdkit" --version), $(qemu-nbd --version | head -n 1)"
  say "images in $dir ($(stat -f -c %T "$dir")), with flushes in" \
      "${flush_dir:-$build} ($(stat -f -c %T "${flush_dir:-$build}"))"
  say "$rounds rounds, $seconds s, processors $cpus of $(nproc --all)," \
      "load $(cut -d' ' -f1 /proc/loadavg), ${qemu_options[*]}"
}

parse_command_line "$@"
row=
verified=
format=qcow2                    # of the row in hand
nr_rows=0
if [ "$list" = yes ]; then
  dir_work=
  flush_work=
else
  find_programs
  prepare_directories
  check_qemu
  taskset -p -c "$cpus" $$ > /dev/null 2>&1 ||
    say "cannot stay on processors $cpus"
  describe
  print_head
fi
reading_rows
writing_rows
qcow_rows
vhdx_rows
[ "$nr_rows" -gt 0 ] || die "no such row: ${wanted[*]}; see --list"
